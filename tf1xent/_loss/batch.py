"""Tensors of any rank as matrices, one example a row: what all functions of `tf1xent.nn` share."""

from tf1xent import _tf
from tf1xent._loss import checks
from tf1xent._math.dtypes import is_half
from tf1xent._tf import tf


def as_precise(logits):
    """`logits`; half and bfloat16 as float32."""
    return tf.cast(logits, tf.float32) if is_half(logits) else logits


with_static_shape = _tf.set_static_shape


def sparse_rows(logits, labels):
    """`logits` as a matrix and `labels` as a vector, failing in the run if they do not fit."""
    if logits.shape.ndims == 2:
        return logits, labels
    if not (labels.shape.is_fully_defined() and logits.shape[:-1].is_fully_defined()):
        same = tf.assert_equal(tf.shape(labels), tf.shape(logits)[:-1])
        with tf.control_dependencies([same]):
            labels = tf.identity(labels)
    return as_matrix(logits), tf.reshape(labels, [-1])


def axis_last(tensor, axis):
    """`tensor` with `axis` moved to the end, and the order of the others kept."""
    known_rank = tensor.shape.ndims
    if axis in (-1, known_rank and known_rank - 1):
        return tensor
    if known_rank is not None:
        others = [position for position in range(known_rank) if position != axis % known_rank]
        return tf.transpose(tensor, others + [axis % known_rank])
    rank = tf.rank(tensor)
    position = axis if axis >= 0 else rank + axis
    others = [tf.range(position), tf.range(position + 1, rank)]
    return tf.transpose(tensor, tf.concat(others + [[position]], axis=0))


def broadcast(function, logits, labels, given):
    """Both as matrices of one shape; `given` are the tensors that an error names, and the axis."""
    if logits.shape.is_fully_defined() and logits.shape.as_list() == labels.shape.as_list():
        return logits, labels
    static = checks.broadcast_static_shape(function, labels, logits, given)
    shape = tf.broadcast_dynamic_shape(tf.shape(logits), tf.shape(labels))
    logits, labels = _tf.broadcast_to(logits, shape), _tf.broadcast_to(labels, shape)
    logits.set_shape(static)
    labels.set_shape(static)
    return logits, labels


def with_a_class(matrix, refuses_nothing=False):
    """`matrix`; if it has no classes, with one of zeros, so that losses are the empty sums, 0.

    With `refuses_nothing` a batch of no classes and no rows gets a row too, whose loss does not fit
    the result's shape: like stock's function, ours then fails in the run.
    """
    num_classes = matrix.shape.as_list()[1] if matrix.shape.ndims is not None else None
    if num_classes:
        return matrix
    is_empty = tf.cast(tf.equal(tf.shape(matrix), 0), tf.int32)
    row = is_empty[0] * is_empty[1] if refuses_nothing else 0
    padded = tf.pad(matrix, [[0, row], [0, is_empty[1]]])  # free where nothing is missing
    return with_static_shape(padded, [None, 1 if num_classes == 0 else None])


def as_matrix(tensor):
    """`tensor` with all axes but the last made one, [batch_size, num_classes]."""
    if tensor.shape.ndims == 2:
        return tensor
    num_classes = tf.shape(tensor)[-1]
    size = tf.reduce_prod(tf.shape(tensor)[:-1])
    matrix = tf.reshape(tensor, tf.stack([size, num_classes]))
    if tensor.shape.ndims is not None:
        matrix.set_shape([tensor.shape[:-1].num_elements(), tensor.shape.as_list()[-1]])
    return matrix
