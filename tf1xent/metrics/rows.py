"""A metric's arguments as rows: labels and logits of any rank, valid rows, weights."""

from typing import NamedTuple, Optional

from tf1xent import _tf
from tf1xent._loss import batch, option_checks, resolve
from tf1xent._loss.options import with_defaults
from tf1xent._math.dtypes import LABEL_DTYPES
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Tensor, TensorLike, TensorShape


class Rows(NamedTuple):
    """One example a row.

    Attributes:
      logits: [batch_size, num_classes], float32 or float64.
      labels: integers, [batch_size]; or, if `is_dense`, soft labels of the shape and dtype of
        `logits`.
      is_dense: whether the labels are soft.
      valid_rows: [batch_size] of bool; None: every row is valid.
      weights: [batch_size] of float64; 0 for a row that is not valid, whatever its weight was.
      has_weights: whether the caller gave weights.
    """

    logits: Tensor
    labels: Tensor
    is_dense: bool
    valid_rows: Optional[Tensor]
    weights: Tensor
    has_weights: bool


def as_rows(
    function: str,
    labels: Labels,
    logits: Logits,
    mask: Optional[TensorLike],
    ignore_label: Optional[TensorLike],
    weights: Optional[TensorLike],
    axis: int,
) -> Rows:
    """Checks the arguments of `function`, a metric, and returns its rows."""
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
    valid_rows = resolve.valid_rows(rows, with_defaults(options))
    # Every metric needs the weights, and so fails at run time where the labels do not fit.
    with tf.control_dependencies([labels]):
        row_weights = tf.ones(tf.shape(matrix)[:1], tf.float64)
    if weights is not None:
        given = option_checks.weight_rows(rows, weights, tf.float64)
        row_weights = row_weights if given is None else given * row_weights
    if valid_rows is not None:
        # Selected, not multiplied by 0: the weight of an invalid row may be NaN.
        row_weights = _tf.where(valid_rows, row_weights, tf.zeros_like(row_weights))
    return Rows(matrix, labels, is_dense, valid_rows, row_weights, weights is not None)


def _are_dense(function: str, labels: Tensor, logits: Tensor) -> bool:
    """Whether labels are soft; integers of unknown rank are integer labels."""
    dtype = labels.dtype.base_dtype
    if not (dtype.is_floating or dtype.is_integer or dtype == tf.bool):
        raise TypeError(
            f"{function}: `labels` must be class numbers or numbers by class, got {dtype.name}. "
            "Cast them: tf.cast(labels, tf.int64)."
        )
    ranks = labels.shape.ndims, logits.shape.ndims
    if None not in ranks and ranks[0] == ranks[1]:
        return True
    if dtype in LABEL_DTYPES:
        return False
    if None not in ranks or not dtype.is_floating:
        raise TypeError(
            f"{function}: `labels` must be int32 or int64 of the shape of `logits` without the "
            f"class axis, or have the shape of `logits`, {logits.shape}, got {dtype.name} of shape "
            f"{labels.shape}. Cast class numbers: tf.cast(labels, tf.int64)."
        )
    return True


def _check_static_shape(function: str, labels: Tensor, expected: TensorShape) -> None:
    if not labels.shape.is_compatible_with(expected):
        raise ValueError(
            f"{function}: `labels` must have the shape {expected}, got {labels.shape}. Give one "
            "class number per example, or one number per class in the shape of `logits`."
        )


def _with_shape(labels: Tensor, shape: Tensor, logits_shape: TensorShape) -> Tensor:
    """`labels`, which fail at run time unless they have that shape; static shapes are checked."""
    if labels.shape.is_fully_defined() and logits_shape.is_fully_defined():
        return labels
    # The ranks first: shapes of different ranks would broadcast in the comparison.
    same_rank = tf.assert_equal(tf.size(tf.shape(labels)), tf.size(shape))
    with tf.control_dependencies([same_rank]):
        same_shape = tf.assert_equal(tf.shape(labels), shape)
    with tf.control_dependencies([same_shape]):
        return tf.identity(labels)
