"""Compares two losses by numbers: values, gradients and Hessian products on the same batches.

`compare` gives each a process of its own, which may be another Python; `compare_functions` compares
two functions of this process. Nothing here needs TensorFlow before something is measured.
"""

from tf1xent.verification.comparing import compare, compare_functions
from tf1xent.verification.report import Report

__all__ = ["Report", "compare", "compare_functions"]
