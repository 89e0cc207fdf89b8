"""Argument checks: what is wrong is said when the graph is built, wherever it can be known then.

Where TensorFlow's own function refuses the same arguments, its error is raised, in its wording.
What only the run can tell is left to small ops whose values the result depends on, so that no
optimisation drops them.
"""

from tf1xent import _tf
from tf1xent._tf import tf

LOGITS_DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)
LABEL_DTYPES = (tf.int32, tf.int64)


def _refuse(function, tensors, error, message, axis=-1):
    if _tf.is_stock_function(function):
        _tf.raise_as_stock(function, tensors, axis)
    raise error(f"{function}: {message}")


def check_logits_dtype(function, labels, logits, argument="logits"):
    """Logits, or what the function calls `argument`, are floating point."""
    if logits.dtype.base_dtype not in LOGITS_DTYPES:
        _refuse(
            function,
            {"labels": labels, "logits": logits},
            TypeError,
            f"`{argument}` must be half, bfloat16, float32 or float64, got {logits.dtype.name}. "
            f"Cast them: tf.cast({argument}, tf.float32).",
        )


def check_sparse(function, labels, logits, axis=-1):
    """Dtypes and static shapes of integer labels against logits; returns the merged shape.

    The class axis is the last of `logits`; `axis` is which it was.
    """
    tensors = {"labels": labels, "logits": logits}
    check_logits_dtype(function, labels, logits)
    if labels.dtype.base_dtype not in LABEL_DTYPES:
        _refuse(
            function,
            tensors,
            TypeError,
            f"`labels` must be int32 or int64, got {labels.dtype.name}. "
            "Cast them: tf.cast(labels, tf.int64).",
        )
    if logits.shape.ndims == 0:
        _refuse(function, tensors, ValueError, "`logits` must have a class axis, got a scalar.")
    rows = logits.shape[:-1]
    if not labels.shape.is_compatible_with(rows):
        _refuse(
            function,
            tensors,
            ValueError,
            f"`labels` must have the shape of `logits` without its class axis, {rows}, got "
            f"{labels.shape}. For one distribution per row use softmax_cross_entropy_with_logits.",
            axis=axis,
        )
    return labels.shape.merge_with(rows)


def shape_without_axis(function, logits, axis):
    """The static shape of `logits` without its class axis."""
    if logits.shape.ndims is None:
        return tf.TensorShape(None)
    if not -logits.shape.ndims <= axis < logits.shape.ndims:
        _refuse(
            function,
            {"labels": logits, "logits": logits},
            ValueError,
            f"`axis` must be one of the {logits.shape.ndims} axes of `logits`, got {axis}. The "
            "class axis is the last by default.",
            axis=axis,
        )
    sizes = logits.shape.as_list()
    del sizes[axis]
    return tf.TensorShape(sizes)


def check_class_axis(function, labels, logits, axis, soft_labels):
    """The logits, and soft labels too, have a class axis."""
    if logits.shape.ndims == 0 or (soft_labels and labels.shape.ndims == 0):
        _refuse(
            function,
            {"labels": labels, "logits": logits},
            ValueError,
            f"`{'labels' if logits.shape.ndims else 'logits'}` must have a class axis, got a "
            "scalar. Give a vector for one example.",
            axis=axis,
        )


def broadcast_static_shape(function, labels, logits, given):
    """The static shape to which both matrices broadcast.

    `given` is what an error names: labels and logits before they became matrices, and the axis.
    """
    try:
        return tf.broadcast_static_shape(logits.shape, labels.shape)
    except ValueError:
        labels, logits, axis = given
        _refuse(
            function,
            {"labels": labels, "logits": logits},
            ValueError,
            f"`labels` must broadcast to the shape of `logits`, {logits.shape}, got "
            f"{labels.shape}. Give one label distribution per row of logits, or one for all.",
            axis=axis,
        )


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
