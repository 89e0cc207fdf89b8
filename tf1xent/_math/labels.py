"""Integer labels: which are valid, and what an invalid one does to the loss in the run."""

from tf1xent import _tf
from tf1xent._tf import tf


def checked_labels(logits, labels):
    """`labels`, [batch_size], after the run's checks; and what the loss of an invalid one becomes.

    Nothing that reads these labels runs before the checks, so that theirs is the error raised, and
    the loss depends on the second value, so that no optimisation drops them; None stands for NaN.
    With op determinism on TensorFlow's function gathers instead of calling its fused op, and its
    errors are the gather's.
    """
    if not _tf.op_determinism_enabled():
        labels = with_as_many_rows(logits, labels)
    return checked_label_values(logits, labels)


def checked_label_values(logits, labels):
    """As `checked_labels`, for as many labels as there are rows of `logits`."""
    if _tf.op_determinism_enabled():
        return gathered_labels(labels, tf.gather(logits, labels, batch_dims=1)), None
    invalid_value = _invalid_label_value(logits, labels)
    with tf.control_dependencies([invalid_value]):
        return tf.identity(labels), invalid_value


def gathered_labels(labels, at_labels):
    """`labels`, which depend on what was gathered at them: with op determinism on, the run's error
    for an invalid label is that of a gather."""
    # Always 0, but no optimisation knows: one that did would drop the gather.
    never = tf.logical_and(tf.is_nan(at_labels), at_labels > 0)
    return labels + tf.cast(never, labels.dtype)


def with_as_many_rows(logits, labels):
    """`labels`, failing in the run unless they are a vector with one entry per row of `logits`.

    TensorFlow's own op checks, on one class of zeros: its loss is then exactly 0. Its error shows
    the shapes that it got, so where it will raise, it gets all classes.
    """
    if labels.shape.is_fully_defined() and logits.shape[:1].is_fully_defined():
        return labels
    shape = tf.shape(logits)
    fits = tf.reduce_all(tf.equal(tf.shape(labels), shape[:1]))
    one_class = tf.zeros(tf.stack([shape[0], _tf.where(fits, 1, shape[1])]), logits.dtype)
    # Not tf.zeros_like: of constants alone the op would be folded, and the check with it.
    zero_labels = tf.minimum(tf.maximum(labels, 0), 0)
    nothing = _tf.stock_sparse_op(one_class, zero_labels, name="shapes")
    return labels + tf.cast(nothing, labels.dtype)


def _invalid_label_value(logits, labels):
    """The value that the loss of an invalid label takes: NaN, or the run's error, as TensorFlow's.

    TensorFlow's own op says which: on a CPU it raises, on a GPU and under XLA it returns NaN. It
    gets one row of zeros, and of the labels the one that is invalid, if any is.
    """
    zero = tf.zeros([], labels.dtype)
    smallest = tf.reduce_min(labels)
    largest = tf.maximum(tf.reduce_max(labels), zero)  # of no labels: the smallest integer
    suspect = _tf.where(smallest < zero, smallest, largest)
    row = tf.zeros(tf.stack([1, tf.shape(logits)[1]]), logits.dtype)
    return _tf.stock_sparse_op(row, suspect[tf.newaxis], name="labels")[0]


def assert_labels_valid(function, labels, valid, num_classes):
    """`labels`, failing in the run, on every device that runs assertions, unless all are valid."""
    message = f"{function}: `labels` must be in [0, num_classes), got"
    asserted = tf.Assert(
        tf.reduce_all(valid), [message, labels, "for as many classes as", num_classes]
    )
    with tf.control_dependencies([asserted] if asserted is not None else []):
        return tf.identity(labels)
