"""Labels and logits of any rank as rows, and which of them count: what all metrics share."""

import collections

from tf1xent import _tf
from tf1xent._loss import batch, option_checks, resolve
from tf1xent._loss.options import with_defaults
from tf1xent._tf import tf

# logits: [batch_size, num_classes], float32 or float64
# labels: [batch_size] of integers, or [batch_size, num_classes] of the logits' dtype if is_dense
# counted: [batch_size] of bool, or None where every row counts
# weights: [batch_size] of float64, 0 for a row that does not count, whatever its weight was
# has_weights: whether the caller gave any
Examples = collections.namedtuple(
    "Examples", ["logits", "labels", "is_dense", "counted", "weights", "has_weights"]
)


def as_examples(function, labels, logits, mask, ignore_label, weights, axis):
    """Checks the arguments of a metric; its rows, their labels and their weights."""
    logits = tf.convert_to_tensor(logits, name="logits")
    labels = tf.convert_to_tensor(labels, name="labels")
    batch.check_logits_dtype(function, labels, logits)
    rows_shape = batch.shape_without_axis(function, logits, axis)
    is_dense = _are_dense(function, labels, logits)
    if is_dense:
        option_checks.refuse_for_soft_labels(function, ignore_label, None)
    _check_static_shape(function, labels, logits.shape if is_dense else rows_shape)

    precise = batch.axis_last(batch.as_precise(logits), axis)
    if is_dense:
        labels = batch.axis_last(tf.cast(labels, precise.dtype), axis)
    shape = tf.shape(precise)[:-1]
    labels = _with_shape(labels, tf.shape(precise) if is_dense else shape, precise.shape)
    matrix = batch.as_matrix(precise)
    labels = batch.as_matrix(labels) if is_dense else tf.reshape(labels, [-1])

    rows = batch.Batch(function, matrix, labels, is_dense, rows_shape, shape, logits, axis)
    options = {"mask": mask, "ignore_label": ignore_label, "skip_missing": True}
    counted = resolve.valid_rows(rows, with_defaults(options))
    # Every metric needs the weights, and so fails where the labels do not fit.
    with tf.control_dependencies([labels]):
        row_weights = tf.ones(tf.shape(matrix)[:1], tf.float64)
    if weights is not None:
        given = option_checks.weight_rows(rows, weights, tf.float64)
        row_weights = row_weights if given is None else given * row_weights
    if counted is not None:
        # Selected, not multiplied by 0: a weight that does not count may be NaN.
        row_weights = _tf.where(counted, row_weights, tf.zeros_like(row_weights))
    return Examples(matrix, labels, is_dense, counted, row_weights, weights is not None)


def _are_dense(function, labels, logits):
    """Whether labels are numbers by class; integers of an unknown rank are taken as classes."""
    dtype = labels.dtype.base_dtype
    if not (dtype.is_floating or dtype.is_integer or dtype == tf.bool):
        raise TypeError(
            f"{function}: `labels` must be class numbers or numbers by class, got {dtype.name}. "
            "Cast them: tf.cast(labels, tf.int64)."
        )
    ranks = labels.shape.ndims, logits.shape.ndims
    if None not in ranks and ranks[0] == ranks[1]:
        return True
    if dtype in batch.LABEL_DTYPES:
        return False
    if None not in ranks or not dtype.is_floating:
        raise TypeError(
            f"{function}: `labels` must be int32 or int64 of the shape of `logits` without the "
            f"class axis, or have the shape of `logits`, {logits.shape}, got {dtype.name} of shape "
            f"{labels.shape}. Cast class numbers: tf.cast(labels, tf.int64)."
        )
    return True


def _check_static_shape(function, labels, wanted):
    if not labels.shape.is_compatible_with(wanted):
        raise ValueError(
            f"{function}: `labels` must have the shape {wanted}, got {labels.shape}. Give one "
            "class number per example, or one number per class in the shape of `logits`."
        )


def _with_shape(labels, shape, logits_shape):
    """`labels`, failing in the run unless they have that shape; static shapes are checked."""
    if labels.shape.is_fully_defined() and logits_shape.is_fully_defined():
        return labels
    # The ranks first: shapes of unlike ranks would broadcast in the comparison.
    same_rank = tf.assert_equal(tf.size(tf.shape(labels)), tf.size(shape))
    with tf.control_dependencies([same_rank]):
        same_shape = tf.assert_equal(tf.shape(labels), shape)
    with tf.control_dependencies([same_shape]):
        return tf.identity(labels)
