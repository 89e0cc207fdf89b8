"""Argument checks: what is wrong is said when the graph is built, wherever it can be known then.

Where TensorFlow's own function refuses the same arguments, its error is raised, in its wording.
What only the run can tell is left to small ops whose values the result depends on, so that no
optimisation drops them.
"""

from tf1xent import _tf
from tf1xent._math.dtypes import LABEL_DTYPES, LOGITS_DTYPES
from tf1xent._tf import tf


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
