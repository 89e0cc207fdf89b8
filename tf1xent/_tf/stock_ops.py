"""Stock ops under their several names, and what TensorFlow is set to."""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import tensor_util
from tensorflow.python.ops import (
    gen_array_ops,
    gen_math_ops,
    gen_nn_ops,
)

from tf1xent._tf.modules import module_if_there
from tf1xent._tf.vectorization import taken_by_position, taken_by_row

_config = module_if_there("framework.config")  # 1.13 has none


def version():
    """Returns the version string of the TensorFlow in this process."""
    return tf.VERSION if hasattr(tf, "VERSION") else tf.version.VERSION


# tf.where of operands of one shape; 1.15 warns of its own tf.where, 1.13 has no other.
where = getattr(tf, "where_v2", None) or tf.where


def select_rows(row_condition, matrix, otherwise):
    """The rows of `matrix` where the vector `row_condition` holds, else those of `otherwise`."""
    # The op under the first tf.where: it takes a vector of conditions, on every version.
    return gen_math_ops.select(row_condition, matrix, otherwise)


# 1.13 has no gather by batch; 1.15's vectorizer takes one for a plain gather.
_GATHERS_BY_BATCH = not version().startswith("1.")


def take_by_row(matrix, columns):
    """The entries [i, columns[i]] of `matrix`: [batch_size]; `columns` are int32."""
    if _GATHERS_BY_BATCH:
        return taken_by_row(tf.gather(matrix, columns, axis=1, batch_dims=1))
    return tf.gather_nd(matrix, tf.stack([tf.range(tf.shape(matrix)[0]), columns], axis=1))


def take_by_position(vector, positions):
    """The entries of `vector` at `positions`, int32."""
    taken = tf.gather(vector, positions)
    return taken_by_position(taken) if _GATHERS_BY_BATCH else taken


# 1.13's vectorizer takes unsorted segments only where every iteration has segments of its own.
_AVOIDS_SEGMENTS = version().startswith("1.13.")


def broadcast_to(tensor, shape):
    """`tensor` broadcast to `shape`."""
    if _AVOIDS_SEGMENTS:  # by which 1.13 differentiates its op
        return tensor + tf.zeros(shape, tensor.dtype)
    return tf.broadcast_to(tensor, shape)


def sums_by_position(values, positions, size):
    """Zeros, [size], but for the sums of `values` at `positions`, [batch_size], int32."""
    if _AVOIDS_SEGMENTS:
        return tf.scatter_nd(positions[:, tf.newaxis], values, [size])
    return tf.unsorted_segment_sum(values, positions, size)


def put(matrix, positions, values, increments):
    """`matrix` with `values` at `positions`, [batch_size, 2]; `increments` are what it
    lacks of them there.

    Updated in place where TensorFlow may; 1.13's op for that fails where it changes every entry.
    """
    update = getattr(tf, "tensor_scatter_nd_update", None)
    if update is not None:
        return update(matrix, positions, values)
    return matrix + tf.scatter_nd(positions, increments, tf.shape(matrix))


def multiply_no_nan(values, weights):
    """`values * weights`, 0 wherever the weight is 0, whatever the value (1.13 has no such op)."""
    if hasattr(tf.math, "multiply_no_nan"):
        return tf.math.multiply_no_nan(values, weights)
    # Finite values are multiplied, so that the derivative in a weight of 0 is there.
    absent = tf.logical_and(tf.equal(weights, 0), tf.logical_not(tf.is_finite(values)))
    return where(absent, tf.zeros_like(values), values) * weights


def sum_to_shape(gradient, operand):
    """Sums `gradient` over the axes along which `operand` was broadcast to its shape."""
    known = operand.shape.is_fully_defined() and gradient.shape.is_fully_defined()
    if known and gradient.shape.as_list() == operand.shape.as_list():
        return gradient
    shape = tf.shape(operand)
    axes, _ = gen_array_ops.broadcast_gradient_args(shape, tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), shape)


def stock_sparse_op(logits, labels, name=None):
    """TensorFlow's own fused op, not differentiated: its loss, one number per row."""
    return gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, labels, name=name)[0]


def op_determinism_enabled():
    """Whether the user asked TensorFlow for deterministic ops (2.8 and later)."""
    enabled = getattr(_config, "is_op_determinism_enabled", None)
    return bool(enabled is not None and enabled())


def constant_value(tensor):
    """The value of `tensor` as an array where the graph tells it, else None."""
    return tensor_util.constant_value(tensor)


def in_plain_graph():
    """Whether what is built now is for a Session, neither eager nor part of a tf.function: there,
    no forward accumulator is about, and no op must be fit for XLA."""
    within = getattr(tf, "executing_eagerly_outside_functions", tf.executing_eagerly)
    return not within()


def buffer_like(tensor):
    """Zeros of the tensor's shape, for `put_slice` to overwrite; no optimisation makes a constant
    of them, which would have to be copied first."""
    if not hasattr(tf, "tensor_scatter_nd_update") or tensor.dtype.base_dtype == tf.bfloat16:
        return tf.zeros_like(tensor)  # 1.13 copies in any case; 2.4 makes no such bfloat16
    zeros = gen_array_ops.empty(tf.shape(tensor), tensor.dtype.base_dtype, init=True)
    if not tf.executing_eagerly():
        zeros.set_shape(tensor.shape)
    return zeros


def put_slice(matrix, piece, axis, first):
    """A vector or matrix with `piece` written from position `first` of `axis` on.

    Updated in place in graphs, where nothing else reads it; on 1.13 copied.
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
    if not tf.executing_eagerly():
        updated.set_shape(matrix.shape)
    return updated


def _scatter_slice(matrix, piece, axis, first):
    """`put_slice` where the op for slices does not do: 1.15's crashes when it overwrites its
    operand, and XLA takes none whose position only the run knows."""
    columns = axis == 1  # then every number has a position of its own, else every row
    shape = tf.shape(matrix)
    outer, inner = (shape[0], 1) if columns else (1, tf.size(matrix) // shape[0])
    inside = first + tf.range(tf.shape(piece)[axis])
    positions = tf.range(outer)[:, tf.newaxis] * shape[axis] + inside
    rows = tf.reshape(matrix, tf.stack([-1, inner]))
    new_rows = tf.reshape(piece, tf.stack([-1, inner]))
    updated = tf.tensor_scatter_nd_update(rows, tf.reshape(positions, [-1, 1]), new_rows)
    return tf.reshape(updated, shape)
