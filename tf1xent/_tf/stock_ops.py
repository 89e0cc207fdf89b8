"""Stock ops under their several names, and what TensorFlow is set to."""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import tensor_util
from tensorflow.python.ops import (
    gen_array_ops,
    gen_math_ops,
    gen_nn_ops,
    weights_broadcast_ops,
)

from tf1xent._tf.modules import module_if_there

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


def put(vector, positions, values, increments):
    """`vector` with `values` at `positions`; `increments` are what it lacks of them there.

    Updated in place where TensorFlow may; 1.13's op for that fails on a vector of one number.
    """
    update = getattr(tf, "tensor_scatter_nd_update", None)
    if update is not None:
        return update(vector, positions[:, tf.newaxis], values)
    shape = tf.shape(vector, out_type=positions.dtype)
    return vector + tf.scatter_nd(positions[:, tf.newaxis], increments, shape)


def multiply_no_nan(values, weights):
    """`values * weights`, 0 wherever the weight is 0, whatever the value (1.13 has no such op)."""
    if hasattr(tf.math, "multiply_no_nan"):
        return tf.math.multiply_no_nan(values, weights)
    return where(tf.equal(weights, 0), tf.zeros_like(values), values * weights)


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


def assert_weights_broadcastable(weights, values):
    """An op that fails unless `weights` broadcast to `values` by the rule of tf.losses."""
    return weights_broadcast_ops.assert_broadcastable(weights, values)
