"""Replaces TensorFlow's functions by ours in the whole process, and back."""

from tf1xent.patching.replacing import get_original, is_patched, patch, patched, unpatch
from tf1xent.patching.report import Status, status

__all__ = ["Status", "get_original", "is_patched", "patch", "patched", "status", "unpatch"]
