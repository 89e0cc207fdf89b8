"""Softmax cross-entropy for TensorFlow graphs: exact to every order, accurate, on TF 1.13 to 2.21.

``import tf1xent; tf1xent.patch()`` puts the functions of `tf1xent.nn` in the place of TensorFlow's;
``tf1xent.override_gradients()`` only puts right the derivatives of TensorFlow's own ops, also in
graphs that exist already; `tf1xent.graphs` reports on graphs in files and rewrites them. Importing
the package registers its gradient names and does nothing else.
"""

from tf1xent import errors, graphs, kernels, losses, metrics, nn
from tf1xent.gradients import override_gradients, restore_gradients
from tf1xent.patching import get_original, is_patched, patch, patched, status, unpatch

__version__ = "0.1.0"

__all__ = [
    "errors",
    "get_original",
    "graphs",
    "is_patched",
    "kernels",
    "losses",
    "metrics",
    "nn",
    "override_gradients",
    "patch",
    "patched",
    "restore_gradients",
    "status",
    "unpatch",
]
