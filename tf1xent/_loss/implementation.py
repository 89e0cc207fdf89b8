"""Which implementation computes a loss: stock TensorFlow ops, or the native kernels."""

import os
from typing import Optional

from tf1xent import _tf, kernels
from tf1xent.kernels import op_names

IMPLEMENTATIONS = kernels.IMPLEMENTATIONS
GRAPH, KERNEL, AUTO = IMPLEMENTATIONS
# Says what an `implementation` of None means, for a whole process.
ENVIRONMENT_VARIABLE = "TF1XENT_IMPLEMENTATION"


def check_implementation(function: str, implementation: Optional[str]) -> None:
    """Raises ValueError unless `implementation` is one, or None."""
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"{function}: `implementation` must be one of {', '.join(IMPLEMENTATIONS)}, got "
            f"{implementation!r}. Leave it out for what {ENVIRONMENT_VARIABLE} says, or graph."
        )


def uses_kernels(function: str, implementation: Optional[str]) -> bool:
    """Whether the kernels compute what is built now.

    "kernel" raises `tf1xent.errors.KernelsError` where they are not there; "auto" then means
    "graph". On devices that have no kernels (a GPU, or what XLA compiles) both mean "graph". So
    does "auto" inside a function, which may be called in what XLA compiles later.
    """
    check_implementation(function, implementation)
    asked_for = chosen_implementation(implementation)
    if asked_for == GRAPH or (asked_for == AUTO and _tf.in_function()):
        return False
    if asked_for == KERNEL:
        kernels.library()
    return _tf.runs_on_cpu(op_names.SPARSE_LOSS) and kernels.available()


def chosen_implementation(implementation: Optional[str]) -> str:
    """`implementation`, or where that is None what the process's environment says."""
    if implementation is not None:
        return implementation
    of_process = os.environ.get(ENVIRONMENT_VARIABLE) or GRAPH
    if of_process not in IMPLEMENTATIONS:
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE} must be one of {', '.join(IMPLEMENTATIONS)}, got "
            f"{of_process!r}."
        )
    return of_process
