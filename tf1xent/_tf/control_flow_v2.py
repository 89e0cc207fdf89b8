"""The switch that makes TensorFlow build While and If ops instead of v1 loops and branches.

Only graphs have the choice: eager code runs Python's own loops, and a tf.function always builds
While and If ops.
"""

import functools
from typing import Any, Optional

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import control_flow_util

from tf1xent._tf.process import kept_in_process

_SWITCH = "ENABLE_CONTROL_FLOW_V2"


class _On(int):
    """A true value that TensorFlow's own switching, which sets True or False, never leaves."""

    def __repr__(self) -> str:
        return "True"


ON: Any = kept_in_process("control flow v2 on", lambda: _On(True))


def control_flow_v2() -> Any:
    """Returns the value of the switch: True, False or ON; False for a TensorFlow without one."""
    return getattr(control_flow_util, _SWITCH, False)


def set_control_flow_v2(value: Any) -> None:
    """Sets the switch, for all graphs built from now on."""
    setattr(control_flow_util, _SWITCH, value)


@functools.lru_cache(maxsize=None)
def control_flow_v2_refusal() -> Optional[str]:
    """Returns why v2 loops of this TensorFlow have no second derivative; None if they have.

    Found by building one, in a graph of its own, without a session.
    """
    if not hasattr(control_flow_util, _SWITCH):
        return "has no v2 control flow"
    before = control_flow_v2()
    set_control_flow_v2(True)
    try:
        with tf.Graph().as_default():
            x = tf.constant([1.0, 2.0])
            (gradient,) = tf.gradients(tf.map_fn(lambda row: row * row * row, x), x)
            (second,) = tf.gradients(gradient, x)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return f"cannot differentiate its v2 loops twice: {type(error).__name__}: {error}"
    finally:
        set_control_flow_v2(before)
    return None if second is not None else "has second derivatives of None in its v2 loops"
