"""Stock ops under their several names, and what TensorFlow is set to."""

from typing import Any, Callable, Optional, Union

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import tensor_util
from tensorflow.python.ops import (
    control_flow_util,
    gen_array_ops,
    gen_math_ops,
    gen_nn_ops,
)

from tf1xent._tf.modules import module_if_there
from tf1xent._tf.raw_ops import raw_op
from tf1xent._tf.static_shapes import set_static_shape
from tf1xent._tf.vectorization import clipped, filled, taken_by_position, taken_by_row
from tf1xent._typing import Name, Tensor

_config = module_if_there("framework.config")  # 1.13 has none


def version() -> str:
    """Returns the version string of the TensorFlow in this process."""
    return tf.VERSION if hasattr(tf, "VERSION") else tf.version.VERSION


# tf.where of operands of one shape; 1.15 warns of its own tf.where, 1.13 has no other.
where = getattr(tf, "where_v2", None) or tf.where


def clip(values: Tensor, smallest: Any, largest: Any) -> Tensor:
    """The nearest numbers in [`smallest`, `largest`], two scalars: one op, never differentiated."""
    return clipped(raw_op("ClipByValue")(t=values, clip_value_min=smallest, clip_value_max=largest))


def select_rows(row_condition: Tensor, matrix: Tensor, otherwise: Tensor) -> Tensor:
    """The rows of `matrix` where the vector `row_condition` holds, else those of `otherwise`."""
    # The op of the first tf.where takes a vector of conditions on every version.
    return gen_math_ops.select(row_condition, matrix, otherwise)


# Whether there is a gather with batch_dims. 1.13 has none; 1.15's vectorizer ignores batch_dims.
GATHERS_BY_ROW = not version().startswith("1.")


def take_by_row(matrix: Tensor, columns: Tensor, axis: Tensor) -> Tensor:
    """The entries [i, columns[i]] of `matrix`: [batch_size]; `columns` are int32, `axis` is 1.

    Only if `GATHERS_BY_ROW`.
    """
    return taken_by_row(gen_array_ops.gather_v2(matrix, columns, axis, batch_dims=1))


def take_by_position(vector: Tensor, positions: Tensor, axis: Tensor) -> Tensor:
    """The entries of `vector` at `positions`, int32; `axis` is 0."""
    taken = gen_array_ops.gather_v2(vector, positions, axis)
    return taken_by_position(taken) if GATHERS_BY_ROW else taken


def numbers(first: Tensor, end: Tensor, step: Union[int, Tensor]) -> Tensor:
    """int32 numbers from `first` to below `end`; tf.range casts first, and knows dtypes."""
    return raw_op("Range")(start=first, limit=end, delta=step)


# Whether what only waits for a check, and reads nothing of it, never raises before it. 1.13 and 2.4
# compute constants before the run, also where they have to wait.
CHECKS_COME_FIRST = not version().startswith(("1.13.", "2.4."))
# 1.13's vectorizer takes unsorted segments only if every iteration has its own segment numbers.
_AVOIDS_SEGMENTS = version().startswith("1.13.")


def broadcast_to(tensor: Tensor, shape: Tensor) -> Tensor:
    """`tensor` broadcast to `shape`."""
    if _AVOIDS_SEGMENTS:  # 1.13's gradient of BroadcastTo is made of them
        return tf.reshape(tensor + tf.zeros(shape, tensor.dtype), shape)
    return tf.broadcast_to(tensor, shape)


def sums_by_position(values: Tensor, positions: Tensor, size: Tensor) -> Tensor:
    """A vector, [size], of the sums of `values` at `positions`, [batch_size], int32; else 0."""
    if _AVOIDS_SEGMENTS:
        return tf.scatter_nd(positions[:, tf.newaxis], values, [size])
    return tf.unsorted_segment_sum(values, positions, size)


def put(
    matrix: Tensor,
    positions: Tensor,
    values: Callable[[], Tensor],
    increments: Callable[[], Tensor],
    *,
    is_exact: bool = False,
) -> Tensor:
    """`matrix` with `values()` at `positions`, [batch_size, 2].

    `increments()` = values() - matrix[positions], and `is_exact` says whether adding them gives the
    values without rounding. TensorFlow may update in place: 1.x with the op that writes, 2.x only
    with the one that adds, which XLA does not take. 1.13's op for that fails if it changes every
    entry, so there the increments are added.
    """
    if is_exact and not version().startswith("1.") and in_plain_graph():
        return raw_op("ScatterNdNonAliasingAdd")(
            input=matrix, indices=positions, updates=increments()
        )
    update = getattr(tf, "tensor_scatter_nd_update", None)
    if update is not None:
        return update(matrix, positions, values())
    return matrix + tf.scatter_nd(positions, increments(), tf.shape(matrix))


def multiply_no_nan(values: Tensor, weights: Tensor) -> Tensor:
    """`values * weights`, 0 wherever the weight is 0, whatever the value (1.13 has no such op)."""
    if hasattr(tf.math, "multiply_no_nan"):
        return tf.math.multiply_no_nan(values, weights)
    if str(values.shape) != str(weights.shape):
        values = values + tf.zeros_like(weights)  # broadcast, which 1.13's tf.where does not
    # Finite values are multiplied, so that the derivative in a weight of 0 is there.
    absent = tf.logical_and(tf.equal(weights, 0), tf.logical_not(tf.is_finite(values)))
    return where(absent, tf.zeros_like(values), values) * weights


def sum_to_shape(gradient: Tensor, operand: Tensor) -> Tensor:
    """Sums `gradient` over the axes along which `operand` was broadcast to its shape."""
    known = operand.shape.is_fully_defined() and gradient.shape.is_fully_defined()
    if known and gradient.shape.as_list() == operand.shape.as_list():
        return gradient
    shape = tf.shape(operand)
    axes, _ = gen_array_ops.broadcast_gradient_args(shape, tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), shape)


def stock_sparse_op(logits: Tensor, labels: Tensor, name: Name = None) -> Tensor:
    """The loss of TensorFlow's own fused op, [batch_size], which is never differentiated."""
    return gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, labels, name=name)[0]


def zero_rows(shape: Any, dtype: Any) -> Tensor:
    """Zeros; a vectorizer makes them as many in all iterations as they are in the largest."""
    if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
        return tf.zeros(shape, dtype)
    return filled(tf.fill(shape, tf.zeros([], dtype)))


def op_determinism_enabled() -> bool:
    """Whether the user asked TensorFlow for deterministic ops (possible from 2.8 on)."""
    enabled = getattr(_config, "is_op_determinism_enabled", None)
    return bool(enabled is not None and enabled())


def constant_value(tensor: Tensor) -> Optional[np.ndarray]:
    """The value of `tensor` as an array if the graph tells it, else None."""
    return tensor_util.constant_value(tensor)


def in_plain_graph() -> bool:
    """Whether ops built now are for a Session: not eager, not in a tf.function, not for XLA alone.

    Then there is no forward accumulator, and ops need not be fit for XLA.
    """
    within = getattr(tf, "executing_eagerly_outside_functions", tf.executing_eagerly)
    return not within() and not control_flow_util.InXlaContext(tf.get_default_graph())


def buffer_like(tensor: Tensor) -> Tensor:
    """Zeros of the tensor's shape, for `put_slice` to overwrite.

    They are no constant, nor folded into one, because a constant would be copied first.
    """
    if not hasattr(tf, "tensor_scatter_nd_update") or tensor.dtype.base_dtype == tf.bfloat16:
        return tf.zeros_like(tensor)  # 1.13 copies in any case; 2.4 makes no such bfloat16
    zeros = gen_array_ops.empty(tf.shape(tensor), tensor.dtype.base_dtype, init=True)
    return set_static_shape(zeros, tensor.shape)


def put_slice(matrix: Tensor, piece: Tensor, axis: int, first: Tensor) -> Tensor:
    """A vector or matrix with `piece` written from position `first` of `axis` on.

    In graphs it is updated in place if nothing else reads it; 1.13 copies.
    """
    if not hasattr(tf, "tensor_scatter_nd_update"):
        size = tf.shape(piece)[axis]
        sizes = tf.stack([first, size, tf.shape(matrix)[axis] - first - size])
        before, _, after = tf.split(matrix, sizes, axis=axis)
        updated = tf.concat([before, piece, after], axis=axis)
    elif version().startswith("1.") or not in_plain_graph():
        updated = _scatter_slice(matrix, piece, axis, first)
    else:
        end = first + tf.shape(piece)[axis]
        begin = [first if i == axis else 0 for i in range(matrix.shape.ndims)]
        beyond = [end if i == axis else 0 for i in range(matrix.shape.ndims)]
        others = sum(1 << i for i in range(matrix.shape.ndims) if i != axis)
        updated = gen_array_ops.tensor_strided_slice_update(
            matrix, begin, beyond, [1] * len(begin), piece, begin_mask=others, end_mask=others
        )
    return set_static_shape(updated, matrix.shape)


def _scatter_slice(matrix: Tensor, piece: Tensor, axis: int, first: Tensor) -> Tensor:
    """`put_slice` by an op that writes entries, where the op that writes slices does not work.

    1.15's crashes when it overwrites its operand. XLA takes none whose position is a tensor.
    """
    columns = axis == 1  # then every number has a position of its own, else every row
    shape = tf.shape(matrix)
    outer, inner = (shape[0], 1) if columns else (1, tf.size(matrix) // shape[0])
    inside = first + tf.range(tf.shape(piece)[axis])
    positions = tf.range(outer)[:, tf.newaxis] * shape[axis] + inside
    rows = tf.reshape(matrix, tf.stack([-1, inner]))
    new_rows = tf.reshape(piece, tf.stack([-1, inner]))
    updated = tf.tensor_scatter_nd_update(rows, tf.reshape(positions, [-1, 1]), new_rows)
    return tf.reshape(updated, shape)
