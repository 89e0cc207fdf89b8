"""Losses in the functions of `tf.Defun`, which TensorFlow differentiates in C++."""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tf1xent._tf.registry import register_gradient

_GRADIENT = "Tf1xentTiedToFunctionInputs"


def tied_to_function_inputs(loss):
    """`loss`; in a Defun's body by an op that has the function's inputs as inputs too.

    The C++ code asks no gradient registry of Python, and has none for the ops that carry ours. It
    says so when it differentiates one. But TF 1.13 forgets a tensor of which a shape is taken, and
    all that it depends on: no error, and zeros for a gradient. Through this op each of the
    function's inputs has a path from the loss on which no shape is taken.
    """
    graph = tf.get_default_graph()
    if tf.executing_eagerly() or not isinstance(graph, function._FuncGraph):
        return loss
    with graph.gradient_override_map({"IdentityN": _GRADIENT}):
        return tf.identity_n([loss, *graph.inputs])[0]


def _of_the_loss_alone(op, cotangent, *_):
    return [cotangent] + [None] * (len(op.inputs) - 1)


register_gradient(_GRADIENT, _of_the_loss_alone)
