"""Losses in the functions of `tf.Defun`, which TensorFlow differentiates in C++."""

from typing import List, Optional

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tf1xent._tf.registry import gradient_of
from tf1xent._typing import Operation, Tensor

TIED_GRADIENT = "Tf1xentTiedToFunctionInputs"


def in_defun() -> bool:
    """Whether ops built now are in the body of a Defun."""
    return not tf.executing_eagerly() and isinstance(tf.get_default_graph(), function._FuncGraph)


def tied_to_function_inputs(loss: Tensor) -> Tensor:
    """`loss`; in a Defun's body, through an op that reads the function's inputs of unknown rank.

    TensorFlow differentiates a Defun in C++, where gradients registered in Python are unknown. It
    raises when it meets an op that carries ours. But TF 1.13 skips a tensor whose shape is taken,
    and everything that it depends on, so the gradient is zero without an error. This op gives the
    inputs a path to the loss on which no shape is taken, so that the error is raised. Derivatives
    inside the body do not go through it.
    """
    if not in_defun():
        return loss
    graph = tf.get_default_graph()
    inputs = [tensor for tensor in graph.inputs if tensor.dtype.is_floating]
    if all(tensor.shape.ndims is not None for tensor in inputs):
        return loss
    with graph.gradient_override_map({"IdentityN": TIED_GRADIENT}):
        return tf.identity_n([loss, *inputs])[0]


@gradient_of(TIED_GRADIENT)
def _(op: Operation, cotangent: Tensor, *_: Optional[Tensor]) -> List[Optional[Tensor]]:
    return [cotangent] + [None] * (len(op.inputs) - 1)
