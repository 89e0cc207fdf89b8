"""The options of the losses and metrics: checked, and as numbers or tensors.

Constants are checked at construction (ValueError), tensors and variables in the run
(InvalidArgumentError), and at construction too where their value is known. Every message names the
function, the argument, what it must be, what it is, and what to do.
"""

import numbers

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf

INVALID_LABELS = ("raise", "nan", "ignore")


def _is_positive(value, limits):
    return (value >= limits.tiny) & (value <= limits.max)


def _is_not_negative(value, limits):
    return (value >= 0) & (value <= limits.max)


# What the numbers must be: in words, and as a test for arrays and tensors alike. `limits` are those
# of the computing dtype: TensorFlow computes with less than `tiny` as 0, and a constant of infinity
# would trip NaN detectors.
_REQUIREMENTS = {
    "label_smoothing": ("in [0, 1)", lambda value, _: (value >= 0) & (value < 1)),
    "temperature": ("above 0 and finite", _is_positive),
    "softcap": ("above 0 and finite", _is_positive),
    "focal_gamma": ("at least 0 and finite", _is_not_negative),
    "z_loss": ("at least 0 and finite", _is_not_negative),
    "epsilon": ("in (0, 1)", lambda value, limits: (value >= limits.tiny) & (value < 1)),
}

# With these numbers an option changes nothing.
_NEUTRAL = {"label_smoothing": 0, "temperature": 1, "focal_gamma": 0, "z_loss": 0}


def number(function, name, value, dtype):
    """A scalar option in `dtype`, or None where it changes nothing.

    Python and NumPy numbers are constants, returned as NumPy numbers. Everything else becomes a
    tensor that stays in the graph whatever its value is, because it may be differentiated.
    """
    if value is None:
        return None
    message = f"{function}: `{name}` must be a number {_REQUIREMENTS[name][0]}, got "
    if isinstance(value, (numbers.Number, np.generic, np.ndarray)):
        known = _checked_number(message, name, value, dtype)
        return None if known == _NEUTRAL.get(name) else known
    return _checked_scalar(message, name, value, dtype)


def _checked_number(message, name, value, dtype):
    """The constant `value` as a NumPy number of `dtype`; it is this that must be in range."""
    holds, numpy_dtype = _REQUIREMENTS[name][1], dtype.base_dtype.as_numpy_dtype
    try:
        exact = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{message}{value!r}. Give a Python number or a scalar.") from error
    if exact.ndim:
        raise ValueError(f"{message}{exact}. Give one such number for all examples.")
    limits = np.finfo(numpy_dtype)
    with np.errstate(over="ignore", under="ignore"):
        rounded = numpy_dtype(exact)
    if abs(rounded) < limits.tiny:
        rounded = numpy_dtype(0)
    if not holds(rounded, limits):
        is_lost = holds(exact, np.finfo(np.float64))
        shown = f"{exact}, which is {rounded} in {dtype.name}" if is_lost else exact
        raise ValueError(f"{message}{shown}. Give one such number for all examples.")
    return rounded


def _checked_scalar(message, name, value, dtype):
    """The tensor or variable `value` as a scalar of `dtype`."""
    try:
        given = tf.convert_to_tensor(value, name=name)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{message}{value!r}. Give a Python number or a scalar.") from error
    if not (given.dtype.is_floating or given.dtype.is_integer):
        raise TypeError(f"{message}{given.dtype.name}. Give a Python number or a scalar.")
    shape = given.shape
    if shape.ndims not in (None, 0):
        raise ValueError(f"{message}the shape {shape}. Give one such number for all examples.")
    scalar, known = tf.cast(given, dtype), _tf.constant_value(given)
    if known is not None:
        _checked_number(message, name, known, dtype)
        return scalar
    holds = _REQUIREMENTS[name][1](scalar, np.finfo(dtype.base_dtype.as_numpy_dtype))
    if shape.ndims is None:
        holds = tf.logical_and(tf.equal(tf.rank(scalar), 0), tf.reduce_all(holds))
    scalar = _asserted(scalar, holds, message)
    if not tf.executing_eagerly():
        scalar.set_shape([])
    return scalar


def check_ignore_label(function, ignore_label, labels_dtype):
    """`ignore_label` is an integer that the labels can hold."""
    information = np.iinfo(labels_dtype.as_numpy_dtype)
    is_integer = isinstance(ignore_label, (int, np.integer)) and not isinstance(ignore_label, bool)
    if not is_integer:
        raise TypeError(
            f"{function}: `ignore_label` must be an integer, got {ignore_label!r}. For more than "
            "one label, or one known only in the run, give a mask: mask=tf.not_equal(labels, ...)."
        )
    if not information.min <= ignore_label <= information.max:
        raise ValueError(
            f"{function}: `ignore_label` must fit the labels' dtype, {labels_dtype.name}, got "
            f"{ignore_label}. Cast the labels: tf.cast(labels, tf.int64)."
        )


def refuse_for_soft_labels(function, ignore_label, invalid_labels):
    """Options that need integer labels are not given with distributions."""
    for name, value in (("ignore_label", ignore_label), ("invalid_labels", invalid_labels)):
        if value is not None:
            raise ValueError(
                f"{function}: `{name}` must be None with soft labels, got {value!r}. Say by a mask "
                "which rows count: mask=..., one boolean per row."
            )


def check_invalid_labels(function, invalid_labels):
    """The policy for labels outside `[0, num_classes)` is one of those that there are."""
    if invalid_labels not in (None,) + INVALID_LABELS:
        raise ValueError(
            f"{function}: `invalid_labels` must be None (as TensorFlow does), "
            f"{', '.join(map(repr, INVALID_LABELS))}, got {invalid_labels!r}. Give one of these."
        )


def mask_rows(function, mask, losses_shape, shape):
    """`mask`, by row, as a flat vector of bool; `shape` is the losses' shape in the run."""
    mask = tf.convert_to_tensor(mask, name="mask")
    if mask.dtype.base_dtype != tf.bool:
        if not (mask.dtype.is_floating or mask.dtype.is_integer):
            raise TypeError(
                f"{function}: `mask` must be bool, or 0 and 1 of a number dtype, got "
                f"{mask.dtype.name}. Compare: tf.not_equal(labels, ...)."
            )
        mask = tf.not_equal(mask, tf.zeros([], mask.dtype))
    if mask.shape.ndims == 0 and losses_shape.ndims != 0:
        raise ValueError(
            f"{function}: `mask` must have the rank of the losses, {_rank(losses_shape)}, got a "
            "scalar. Give one boolean per row."
        )
    # Not bool: 1.13 broadcasts numbers only, by multiplication.
    counts = _broadcast(function, "mask", tf.cast(mask, tf.int32), losses_shape, shape)
    return tf.cast(tf.reshape(counts, [-1]), tf.bool)


def weight_rows(function, weights, dtype, losses_shape, shape):
    """`weights` of `dtype`: a scalar, or by row as a flat vector; None for a plain 1."""
    if isinstance(weights, (int, float)) and weights == 1:
        return None
    weights = tf.convert_to_tensor(weights, name="weights", preferred_dtype=dtype)
    if not (weights.dtype.is_floating or weights.dtype.is_integer or weights.dtype == tf.bool):
        raise TypeError(
            f"{function}: `weights` must be numbers, got {weights.dtype.name}. Give one number per "
            "row, or one for all."
        )
    weights = tf.cast(weights, dtype)
    if weights.shape.ndims == 0:
        return weights
    return tf.reshape(_broadcast(function, "weights", weights, losses_shape, shape), [-1])


def class_weight_vector(function, class_weights, dtype, logits):
    """`class_weights` as a vector of `dtype`, one number for each class of the matrix `logits`."""
    message = f"{function}: `class_weights` must be one number at least 0 per class, got "
    # preferred_dtype: a list of Python numbers must not pass through float32.
    given = tf.convert_to_tensor(class_weights, name="class_weights", preferred_dtype=dtype)
    known = _tf.constant_value(given)
    weights = tf.cast(given, dtype)
    num_classes = None if logits.shape.ndims is None else logits.shape.as_list()[-1]
    if not weights.shape.is_compatible_with([num_classes]):
        raise ValueError(
            f"{message}the shape {weights.shape} for {_or_unknown(num_classes)} classes. Give a "
            "vector [num_classes]; for weights by row there is `weights`."
        )
    if known is not None and (np.isnan(known).any() or np.any(known < 0)):
        raise ValueError(f"{message}{known.tolist()}. Replace negative ones and NaN.")
    if num_classes is None or weights.shape.ndims is None or weights.shape.as_list() == [None]:
        is_vector = tf.equal(tf.rank(weights), 1)
        fits = tf.logical_and(is_vector, tf.equal(tf.size(weights), tf.shape(logits)[-1]))
        weights = _asserted(weights, fits, message)
    if known is None:
        weights = _asserted(weights, tf.reduce_all(weights >= 0), message)
    weights.set_shape([num_classes])
    return weights


def class_mask_rows(function, class_mask, logits, axis, axis_last):
    """`class_mask` as a matrix of bool that broadcasts to that of the logits.

    ``axis_last(tensor)`` moves the class axis of a tensor like `logits` to the end.
    """
    mask = tf.convert_to_tensor(class_mask, name="class_mask")
    if mask.dtype.base_dtype != tf.bool:
        raise TypeError(
            f"{function}: `class_mask` must be bool, True for the classes that take part, got "
            f"{mask.dtype.name}. Compare: tf.not_equal(class_mask, 0)."
        )
    rank, shape = mask.shape.ndims, logits.shape
    fits = rank is not None and (
        (rank == 1 and (shape.ndims is None or _fit(mask.shape, [shape.as_list()[axis]], False)))
        or shape.ndims is None
        or (rank == shape.ndims and _fit(mask.shape, shape.as_list(), True))
    )
    if not fits:
        raise ValueError(
            f"{function}: `class_mask` must have the shape [num_classes], or that of the logits, "
            f"{shape}, or 1 in place of any of its sizes, got {mask.shape}. Give one boolean per "
            "class."
        )
    known = _tf.constant_value(mask)
    if known is not None:
        if not np.any(known, axis=0 if rank == 1 else axis).all():
            raise ValueError(
                f"{function}: `class_mask` must leave at least one class in for every example, got "
                "none. True stands for a class that takes part."
            )
    if rank == 1:
        return mask[tf.newaxis, :]
    everywhere = tf.logical_or(mask, tf.zeros_like(logits, tf.bool))
    return axis_last(everywhere)


def _broadcast(function, name, tensor, losses_shape, shape):
    """`tensor` of the losses' shape, broadcast to it by the rule that tf.losses has for weights."""
    known, sizes = tensor.shape, losses_shape
    if known.ndims is not None and sizes.ndims is not None:
        if not _fit(known, sizes.as_list(), True):
            raise ValueError(
                f"{function}: `{name}` must have the shape of the losses, {sizes}, or 1 in place "
                f"of any of its sizes, got {known}. Reshape it: tf.reshape({name}, ...)."
            )
        if sizes.is_fully_defined() and known.as_list() == sizes.as_list():
            return tensor
    if not (known.is_fully_defined() and sizes.is_fully_defined()):
        message = (
            f"{function}: `{name}` must have the shape of the losses, or 1 in place of any of its "
            "sizes, got the shapes"
        )
        fits = _fit_in_the_run(tf.shape(tensor), shape, may_be_scalar=name == "weights")
        tensor = _asserted(tensor, fits, message, [tf.shape(tensor), shape])
    return tensor * tf.ones(shape, tensor.dtype)


def _fit_in_the_run(own_shape, shape, may_be_scalar):
    """As `_fit`, with sizes that may be 1, of shapes that only the run knows."""
    own_rank, rank = tf.size(own_shape), tf.size(shape)
    missing = tf.ones(tf.expand_dims(tf.maximum(rank - own_rank, 0), 0), tf.int32)
    padded = tf.concat([own_shape, missing], axis=0)[:rank]
    sizes_fit = tf.reduce_all(tf.logical_or(tf.equal(padded, shape), tf.equal(padded, 1)))
    rank_fits = tf.equal(own_rank, rank)
    if may_be_scalar:
        rank_fits = tf.logical_or(rank_fits, tf.equal(own_rank, 0))
    return tf.logical_and(rank_fits, sizes_fit)


def _fit(shape, sizes, may_be_one):
    """Whether a static shape has these sizes (None: unknown), or 1 in their place."""
    return shape.ndims == len(sizes) and all(
        own is None or size is None or own == size or (may_be_one and own == 1)
        for own, size in zip(shape.as_list(), sizes)
    )


def _asserted(tensor, holds, message, data=None):
    asserted = tf.Assert(holds, [message] + (data or [tensor]), name="check")
    with tf.control_dependencies([asserted] if asserted is not None else []):
        return tf.identity(tensor)


def _or_unknown(size):
    return "an unknown number of" if size is None else size


def _rank(shape):
    return "unknown" if shape.ndims is None else shape.ndims
