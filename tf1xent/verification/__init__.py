"""Compares two losses by numbers: values, gradients and Hessian products on the same batches.

`compare_functions` compares two functions of this process. The names load on first use, and
nothing here needs TensorFlow before something is measured.
"""

from tf1xent.verification.comparing import compare_functions
from tf1xent.verification.report import Report

__all__ = ["Report", "compare_functions"]
