"""The native library: built on the user's machine, found again, loaded, and reported.

The C++ sources (`ops/` of the repository, `tf1xent/ops/` of a wheel) are compiled once against the
TensorFlow at hand, tested, and kept in a folder of the user's cache. Only a build of the same
sources, for the same TensorFlow and machine, that has not changed since is loaded later.
"""

from tf1xent.kernels.building import build
from tf1xent.kernels.loading import KernelStatus, available, library, status

# How a loss may be computed; "auto" uses the kernels if they are built.
IMPLEMENTATIONS = ("graph", "kernel", "auto")

__all__ = ["IMPLEMENTATIONS", "KernelStatus", "available", "build", "library", "status"]
