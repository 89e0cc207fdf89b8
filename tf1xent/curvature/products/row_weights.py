"""Weights of the examples of a sum or mean, as the Fisher products take them."""

from typing import Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike


def row_weights(
    function: str,
    weights: Optional[TensorLike],
    shape: Tensor,
    static: tf.TensorShape,
    dtype: tf.DType,
) -> Tensor:
    """Returns the weight of each example: of `shape`; by default 1 / number of examples."""
    if weights is None:
        # By float64: a half cannot count beyond 65504.
        count = tf.cast(tf.reduce_prod(shape), tf.float64)
        return tf.fill(shape, tf.cast(1 / count, dtype))
    found = tf.convert_to_tensor(weights, preferred_dtype=dtype)
    if not _broadcasts(found.shape, static):
        raise ValueError(
            f"{function}: `weights` must broadcast to one weight for each example, {static}, got "
            f"{found.shape}. Give a weight for each example, or one number."
        )
    return _tf.broadcast_to(tf.cast(found, dtype), shape)


def _broadcasts(shape: tf.TensorShape, to: tf.TensorShape) -> bool:
    """Whether a static shape may broadcast to another without changing that."""
    if shape.ndims is None or to.ndims is None:
        return True
    if shape.ndims > to.ndims:
        return False
    sizes = zip(reversed(shape.as_list()), reversed(to.as_list()))
    return all(size in (None, 1, other) or other is None for size, other in sizes)
