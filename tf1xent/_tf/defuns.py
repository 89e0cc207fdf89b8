"""Losses in the functions of `tf.Defun`, which TensorFlow differentiates in C++."""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tf1xent._tf.registry import register_gradient

_GRADIENT = "Tf1xentTiedToFunctionInputs"


def tied_to_function_inputs(loss):
    """`loss`; in a Defun's body, by an op that takes the function's inputs of unknown rank too.

    The C++ code looks for no gradient in Python, and has none for the ops that carry ours. It says
    so when it differentiates one. But TF 1.13 forgets a tensor of which a shape is taken, and all
    that it depends on: no error, and zeros for a gradient. Through this op the inputs have a path
    from the loss on which no shape is taken. Derivatives inside the body do not take it.
    """
    graph = tf.get_default_graph()
    if tf.executing_eagerly() or not isinstance(graph, function._FuncGraph):
        return loss
    inputs = [tensor for tensor in graph.inputs if tensor.dtype.is_floating]
    if all(tensor.shape.ndims is not None for tensor in inputs):
        return loss
    with graph.gradient_override_map({"IdentityN": _GRADIENT}):
        return tf.identity_n([loss, *inputs])[0]


def _of_the_loss_alone(op, cotangent, *_):
    return [cotangent] + [None] * (len(op.inputs) - 1)


register_gradient(_GRADIENT, _of_the_loss_alone)
