"""What is known of shapes when a graph is built: eagerly all of it, and nothing is set."""

import tensorflow.compat.v1 as tf

from tf1xent._typing import Tensor, TensorShape


def set_static_shape(tensor: Tensor, shape: TensorShape) -> Tensor:
    """`tensor` itself, a new one that nothing else reads, now known to have the shape."""
    if not tf.executing_eagerly():
        tensor.set_shape(shape)
    return tensor


def with_static_shape(tensor: Tensor, shape: TensorShape) -> Tensor:
    """`tensor`, known to have the shape; somebody else's tensor, which is left as it is."""
    known = tensor.shape
    if tf.executing_eagerly() or shape.ndims is None:
        return tensor
    if known.ndims is not None and known.as_list() == known.merge_with(shape).as_list():
        return tensor
    return set_static_shape(tf.identity(tensor), shape)
