"""Which implementation computes a loss: stock TensorFlow ops, or the native kernels."""

import os
from typing import Optional

from tf1xent import _tf, kernels
from tf1xent.kernels import op_names

IMPLEMENTATIONS = kernels.IMPLEMENTATIONS
GRAPH, KERNEL, AUTO = IMPLEMENTATIONS
# Sets the default `implementation` of a process.
ENVIRONMENT_VARIABLE = "TF1XENT_IMPLEMENTATION"


def check_implementation(function: str, implementation: Optional[str]) -> None:
    """Raises ValueError unless `implementation` is one, or None."""
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"{function}: `implementation` must be one of {', '.join(IMPLEMENTATIONS)}, got "
            f"{implementation!r}. Leave it out for the default: {ENVIRONMENT_VARIABLE}, else graph."
        )


def uses_kernels(function: str, implementation: Optional[str]) -> bool:
    """Whether the kernels compute the loss that is being built.

    Without a built library "kernel" raises `tf1xent.errors.KernelsError`, and "auto" means "graph".
    On devices without kernels (a GPU, or under XLA) both mean "graph". So does "auto" inside a
    function, because XLA may compile the function later.
    """
    check_implementation(function, implementation)
    asked_for = chosen_implementation(implementation)
    if asked_for == GRAPH or (asked_for == AUTO and _tf.in_function()):
        return False
    if asked_for == KERNEL:
        kernels.library()
    return _tf.runs_on_cpu(op_names.SPARSE_LOSS) and kernels.available()


def chosen_implementation(implementation: Optional[str]) -> str:
    """`implementation`, or the process's default where it is None."""
    if implementation is not None:
        return implementation
    default = os.environ.get(ENVIRONMENT_VARIABLE) or GRAPH
    if default not in IMPLEMENTATIONS:
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE} must be one of {', '.join(IMPLEMENTATIONS)}, got {default!r}."
        )
    return default
