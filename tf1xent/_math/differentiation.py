"""Derivatives and loops inside functions that have a gradient of their own."""

from typing import Callable, List, Optional

from tf1xent._tf import tf
from tf1xent._typing import Tensor


def vector_jacobian(
    function: Callable[[List[Tensor]], List[Tensor]],
    operands: List[Tensor],
    cotangents: List[Tensor],
) -> List[Tensor]:
    """Gradients of <function(operands), cotangents> in the operands.

    Operands that are computed from one another are to be copied first, by `tf.identity`: else the
    gradient of one includes the path through the other.
    """
    if tf.executing_eagerly():
        with tf.GradientTape() as tape:
            tape.watch(operands)
            values = function(operands)
        gradients = tape.gradient(values, operands, output_gradients=cotangents)
    else:
        gradients = tf.gradients(function(operands), operands, grad_ys=cotangents)
    return [
        tf.zeros_like(operand) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, operand in zip(gradients, operands)
    ]


def loop_name(counter: Tensor) -> Optional[str]:
    """A name for a v1 loop that no other loop of the graph has, made from the name of an op.

    TensorFlow identifies v1 loops by name, but makes a loop's name unique only among the loops
    built in this process, not among those of an imported graph. Names of ops are always unique.
    """
    return None if tf.executing_eagerly() else counter.op.name.split("/")[-1] + "_loop"
