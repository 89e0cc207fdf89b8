"""Tells observers what is served by our functions and gradients in the place of TensorFlow's."""

from typing import Any, Callable, List

from tf1xent._tf.process import kept_in_process

# Each is called with the function of TensorFlow's that is called, and None; or with the type of an
# op whose gradient is asked for, and the op.
OBSERVERS: List[Callable[[Any, Any], None]] = kept_in_process("observers", list)


def tell_observers(what: Any, op: Any = None) -> None:
    """Tells that ours takes the place of `what`, here and now."""
    for observe in OBSERVERS:
        observe(what, op)
