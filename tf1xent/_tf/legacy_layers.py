"""The layers and cells of TF 1.x that TensorFlow itself still has where its Keras is Keras 3."""

from typing import Any

from tf1xent._tf.modules import module_if_there


def layers_without_keras() -> Any:
    """Returns a module with a part of `tf.layers`, or None. It has no batch normalization."""
    return module_if_there("layers.layers")


def rnn_cells_without_keras() -> Any:
    """Returns a module with the classes of `tf.nn.rnn_cell`, or None."""
    return module_if_there("ops.rnn_cell")
