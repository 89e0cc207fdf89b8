"""Integer labels: which are valid, and what an invalid one does to the loss in the run."""

from typing import Callable, Optional, Tuple, Union

from tf1xent import _tf
from tf1xent._math.matrix import Sizes, known_num_classes, nan_unless
from tf1xent._tf import tf
from tf1xent._typing import DType, Tensor

# Of classes: so many zeros take no time, nor do more of them beside so many rows of logits.
_SHORT_ROW = 1 << 14
_FEW_ROWS = 8

# --- Which labels are valid -------------------------------------------------------------------


def names_a_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Which labels are in [0, num_classes): [batch_size], bool."""
    return are_classes(labels, tf.shape(logits, out_type=labels.dtype)[1])


def are_classes(labels: Tensor, num_classes: Union[int, Tensor]) -> Tensor:
    """Which labels are in [0, num_classes), an integer or a scalar of their dtype: bool."""
    return tf.logical_and(labels >= 0, labels < num_classes)


def label_classes(logits: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
    """Which labels are valid, [batch_size], bool; the nearest classes, int32: valid labels' own."""
    known = known_num_classes(logits)
    last = tf.shape(logits, out_type=labels.dtype)[1] - 1 if known is None else known - 1
    nearest = _tf.clip(labels, 0, last)
    return tf.equal(nearest, labels), tf.cast(nearest, tf.int32)


def where_valid(valid: Tensor, row_values: Tensor, otherwise: Optional[Tensor] = None) -> Tensor:
    """`row_values` where the label is valid, else NaN.

    NaN comes from `otherwise`, one number, if it is given; it must be NaN if a label is invalid.
    """
    if otherwise is None:
        return row_values + nan_unless(valid, row_values)
    # A select that broadcasts is slow.
    return _tf.where(valid, row_values, row_values + otherwise)


# --- Checks in the run ------------------------------------------------------------------------


def checked_labels(logits: Tensor, labels: Tensor, sizes: Sizes) -> Tuple[Tensor, Optional[Tensor]]:
    """`labels`, [batch_size], after the run's checks; and the value of an invalid label's loss.

    Everything that reads the returned labels runs after the checks, so an invalid label raises the
    checks' error and no other. The loss is computed from the second result, so no optimisation can
    drop the checks; None stands for NaN.
    """
    gathered = _checked_by_gather_from_rows(logits, labels)
    if gathered is not None:
        return gathered, None
    if labels.shape.ndims == 1 and _tf.CHECKS_COME_FIRST:
        return _checked_by_op(logits, labels, sizes)
    return _checked_by_op(logits, with_as_many_rows(logits, labels))


def checked_label_values(logits: Tensor, labels: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
    """As `checked_labels`, for labels that are known to be one per row of `logits`."""
    gathered = _checked_by_gather_from_rows(logits, labels)
    if gathered is not None:
        return gathered, None
    return _checked_by_op(logits, labels)


def checked_label_range(
    labels: Tensor, num_classes: Union[int, Tensor], dtype: DType
) -> Tuple[Tensor, Optional[Tensor]]:
    """As `checked_label_values`, where logits of `dtype` are not at hand."""
    zero = tf.zeros([], dtype)
    gathered = checked_by_gather(labels, lambda: tf.gather(tf.fill([num_classes], zero), labels))
    if gathered is not None:
        return gathered, None
    suspect, num_zeros = _label_and_zeros(_suspect(labels), num_classes)
    row = _tf.zero_rows(tf.stack([1, num_zeros]), dtype)
    invalid_value = _tf.stock_sparse_op(row, suspect[tf.newaxis], name="labels")
    with tf.control_dependencies([invalid_value]):
        return tf.identity(labels), invalid_value


def checked_by_gather(labels: Tensor, gather: Callable[[], Tensor]) -> Optional[Tensor]:
    """`labels` that depend on the values of ``gather()``, a gather at them; None if not needed.

    With op determinism on, TensorFlow's function gathers instead of calling its fused op, and its
    error for an invalid label is that of the gather. Without, the result is None.
    """
    if not _tf.op_determinism_enabled():
        return None
    at_labels = gather()
    # Always 0. An optimisation that could tell would drop the gather.
    never = tf.logical_and(tf.is_nan(at_labels), at_labels > 0)
    return labels + tf.cast(never, labels.dtype)


def _checked_by_gather_from_rows(logits: Tensor, labels: Tensor) -> Optional[Tensor]:
    return checked_by_gather(labels, lambda: tf.gather(logits, labels, batch_dims=1))


def _checked_by_op(
    logits: Tensor, labels: Tensor, sizes: Optional[Sizes] = None
) -> Tuple[Tensor, Tensor]:
    """With `sizes` the op also checks that the labels are as many as rows of logits."""
    invalid_value = _invalid_label_value(logits, labels, sizes)
    with tf.control_dependencies([invalid_value]):
        return tf.identity(labels), invalid_value


def with_as_many_rows(logits: Tensor, labels: Tensor) -> Tensor:
    """`labels`; the run fails unless they are a vector with one entry per row of `logits`.

    TensorFlow's own op checks this on one class of zeros, where its loss is exactly 0. Its error
    shows the shapes that it got, so it gets all classes where it will raise.
    """
    if _rows_are_known(logits, labels):
        return labels
    shape = tf.shape(logits)
    fits = tf.reduce_all(tf.equal(tf.shape(labels), shape[:1]))
    one_class = tf.zeros(tf.stack([shape[0], _tf.where(fits, 1, shape[1])]), logits.dtype)
    # Not tf.zeros_like: an op of constants alone would be folded, and the check lost with it.
    zero_labels = tf.minimum(tf.maximum(labels, 0), 0)
    nothing = _tf.stock_sparse_op(one_class, zero_labels, name="shapes")
    return labels + tf.cast(nothing, labels.dtype)


def _rows_are_known(logits: Tensor, labels: Tensor) -> bool:
    return labels.shape.is_fully_defined() and logits.shape[:1].is_fully_defined()


def _invalid_label_value(logits: Tensor, labels: Tensor, sizes: Optional[Sizes]) -> Tensor:
    """The loss of an invalid label, [1]: NaN, or an error in the run, as TensorFlow's op has it.

    TensorFlow's own op is called on one row of zeros. On a CPU it raises; on a GPU and under XLA it
    returns NaN. Its label is an invalid one if there is any. With `sizes`, if there are not as many
    labels as rows, the op gets as many zeros as there are logits and labels, and raises.
    """
    num_classes = known_num_classes(logits)
    if sizes is None or _rows_are_known(logits, labels):
        suspect, size = _suspect(labels), num_classes
        if size is None:
            size = tf.shape(logits)[1]
        rows = logits.shape[:1].num_elements()
        if rows is not None and rows < _FEW_ROWS:
            suspect, size = _label_and_zeros(suspect, size)
        row = _tf.zero_rows([1, size], logits.dtype)
        return _tf.stock_sparse_op(row, suspect[tf.newaxis], name="labels")
    rows, columns = tf.unstack(sizes.shape, 2)
    one_row = tf.stack([sizes.one, columns]) if num_classes is None else [1, num_classes]
    labels_shape = tf.shape(labels)
    fits = tf.equal(rows, labels_shape)
    row = tf.fill(_tf.where(fits, one_row, sizes.shape), tf.zeros([], logits.dtype))
    label_shape = _tf.where(fits, sizes.one, labels_shape)
    suspect = tf.broadcast_to(_suspect(labels, sizes.zero), label_shape)
    return _tf.set_static_shape(_tf.stock_sparse_op(row, suspect, name="labels"), [1])


def _label_and_zeros(
    suspect: Tensor, num_classes: Union[int, Tensor]
) -> Tuple[Tensor, Union[int, Tensor]]:
    """What the op gets to check a label: the label, and of how many zeros the row is.

    The error tells the number of classes, so they are as many. That takes long beside few rows of
    many classes; so in graphs they are that many only for an invalid label, and for a valid one it
    is a single zero.
    """
    is_short = isinstance(num_classes, int) and num_classes <= _SHORT_ROW
    if is_short or not _tf.in_plain_graph():
        return suspect, num_classes
    is_valid = are_classes(suspect, tf.cast(num_classes, suspect.dtype))
    num_zeros = _tf.where(is_valid, 1, num_classes)
    return _tf.where(is_valid, tf.zeros_like(suspect), suspect), num_zeros


def _suspect(labels: Tensor, axis: Union[int, Tensor] = 0) -> Tensor:
    """One of the labels, an invalid one if there is any; of no labels 0. `axis` is 0."""
    # With the sign bit turned, numbers are in the order that they have without a sign.
    sign_bit = tf.constant(labels.dtype.min, labels.dtype)
    turned = tf.bitwise.bitwise_xor(labels, sign_bit)
    return tf.bitwise.bitwise_xor(tf.reduce_max(turned, axis=axis), sign_bit)


def assert_labels_valid(
    function: str, labels: Tensor, valid: Tensor, num_classes: Tensor
) -> Tensor:
    """`labels`; the run fails unless all are valid, on every device that runs assertions."""
    message = f"{function}: `labels` must be in [0, num_classes), got"
    asserted = tf.Assert(
        tf.reduce_all(valid), [message, labels, "for as many classes as", num_classes]
    )
    with tf.control_dependencies([asserted] if asserted is not None else []):
        return tf.identity(labels)
