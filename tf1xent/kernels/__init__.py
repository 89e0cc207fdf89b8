"""The native library: built on the user's machine, found again, loaded, reported on.

The C++ sources (`ops/` of the repository, `tf1xent/ops/` of a wheel) are compiled once against the
TensorFlow at hand, tested, and kept in a folder of the user's cache. What is loaded later was built
from these very sources, for this very TensorFlow and machine, and is unchanged since.
"""

from tf1xent.kernels.building import build
from tf1xent.kernels.loading import KernelStatus, available, library, status

# What the functions of the package may be computed by; "auto" takes kernels where they are there.
IMPLEMENTATIONS = ("graph", "kernel", "auto")

__all__ = ["IMPLEMENTATIONS", "KernelStatus", "available", "build", "library", "status"]
