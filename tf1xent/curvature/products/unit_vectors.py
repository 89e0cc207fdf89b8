"""Loops over the entries of a tensor, one product with a unit vector a turn."""

from typing import Callable, List, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import DType, Tensor


def require_graph(function: str, argument: str, tensors: Sequence[Tensor]) -> None:
    """Raises ValueError for variables of eager execution, used in a tf.function.

    Inside a loop `tf.gradients` returns None for them, as if nothing depended on them.
    """
    for tensor in tensors:
        if not tf.executing_eagerly() and _tf.tensor_of(tensor) is None:
            raise ValueError(
                f"{function}: `{argument}` must be of a graph, got `{tensor.name}`, a variable of "
                "eager execution. Give the tensor that the loss reads it by."
            )


def over_entries(
    tensor: Tensor, products: Callable[[Tensor], List[Tensor]], dtypes: Sequence[DType]
) -> List[Tensor]:
    """Stacks what `products(e_j)` returns, for all entries j of `tensor`, whose shape e_j has."""
    shape, size = tf.shape(tensor), tf.size(tensor)

    def unit_vector(j: Tensor) -> Tensor:
        vector = tf.reshape(tf.one_hot(j, size, dtype=tensor.dtype.base_dtype), shape)
        return _tf.set_static_shape(vector, tensor.shape)

    return stacked(size, lambda j: products(unit_vector(j)), dtypes)


def stacked(
    count: Tensor, rows: Callable[[Tensor], List[Tensor]], dtypes: Sequence[DType]
) -> List[Tensor]:
    """Stacks what `rows(j)` returns for j = 0 ... count - 1: each of them to one tensor."""
    # TensorFlow cannot stack no rows at all if their shape is unknown: there is at least one, and
    # it is cut off.
    turns = tf.maximum(count, 1)

    def turn(j: Tensor, *arrays: tf.TensorArray) -> List[Tensor]:
        return [j + 1] + [array.write(j, row) for array, row in zip(arrays, rows(j))]

    start = [tf.constant(0)] + [tf.TensorArray(dtype, turns) for dtype in dtypes]
    arrays = tf.while_loop(lambda j, *_: j < turns, turn, start)[1:]
    return [array.stack()[:count] for array in arrays]
