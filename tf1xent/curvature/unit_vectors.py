"""Loops over the entries of a tensor, one product with a unit vector a turn."""

from typing import Callable

from tf1xent._tf import tf
from tf1xent._typing import Tensor


def over_entries(tensor: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
    """Stacks `product(e_j)` over all entries j of `tensor`; e_j has its shape and dtype."""
    shape, size = tf.shape(tensor), tf.size(tensor)

    def unit_vector(j: Tensor) -> Tensor:
        vector = tf.reshape(tf.one_hot(j, size, dtype=tensor.dtype.base_dtype), shape)
        vector.set_shape(tensor.shape)
        return vector

    return stacked(size, lambda j: product(unit_vector(j)), tensor.dtype.base_dtype)


def stacked(count: Tensor, row: Callable[[Tensor], Tensor], dtype: tf.DType) -> Tensor:
    """Stacks `row(j)` for j = 0 ... count - 1, computed in a loop."""
    # TensorFlow cannot stack no rows at all if their shape is unknown: there is at least one, and
    # it is cut off.
    turns = tf.maximum(count, 1)
    _, rows = tf.while_loop(
        lambda j, _: j < turns,
        lambda j, rows: (j + 1, rows.write(j, row(j))),
        (tf.constant(0), tf.TensorArray(dtype, turns)),
    )
    return rows.stack()[:count]
