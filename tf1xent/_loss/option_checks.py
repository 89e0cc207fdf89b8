"""Each option by itself: checked, and as a number or tensor of the rows and classes of a batch.

Constants are checked at construction (ValueError), tensors and variables at run time
(InvalidArgumentError), and at construction too where their value is known. Every message names the
function, the argument, what it must be, what it is, and what to do.
"""

import numbers
from typing import Any, List, Optional, Sequence

import numpy as np

from tf1xent import _tf
from tf1xent._loss.batch import Batch, as_matrix, axis_last
from tf1xent._loss.options import BY_NAME, INVALID_LABELS
from tf1xent._tf import tf
from tf1xent._typing import DType, Tensor, TensorLike, TensorShape

# --- Numbers ------------------------------------------------------------------------------------


def number(function: str, name: str, value: Any, dtype: DType) -> Any:
    """A scalar option in `dtype`, or None where it changes nothing.

    Python and NumPy numbers are constants, returned as NumPy numbers. Everything else becomes a
    tensor that stays in the graph whatever its value is, because it may be differentiated.
    """
    if value is None:
        return None
    message = f"{function}: `{name}` must be a number {BY_NAME[name].requirement}, got "
    if isinstance(value, (numbers.Number, np.generic, np.ndarray)):
        known = _checked_number(message, name, value, dtype)
        return None if known == BY_NAME[name].neutral else known
    return _checked_scalar(message, name, value, dtype)


def _holds(name: str, value: Any, limits: Any) -> Any:
    """Whether a number, or each entry of a tensor, is what the option requires."""
    holds = BY_NAME[name].holds
    assert holds is not None, f"{name} is no number"
    return holds(value, limits)


def _checked_number(message: str, name: str, value: Any, dtype: DType) -> Any:
    """The constant `value` as a NumPy number of `dtype`; it is this that must be in range."""
    numpy_dtype = dtype.base_dtype.as_numpy_dtype
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
    if not _holds(name, rounded, limits):
        is_lost = _holds(name, exact, np.finfo(np.float64))
        shown = f"{exact}, which is {rounded} in {dtype.name}" if is_lost else exact
        raise ValueError(f"{message}{shown}. Give one such number for all examples.")
    return rounded


def _checked_scalar(message: str, name: str, value: Any, dtype: DType) -> Tensor:
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
    holds = _holds(name, scalar, np.finfo(dtype.base_dtype.as_numpy_dtype))
    if shape.ndims is None:
        holds = tf.logical_and(tf.equal(tf.rank(scalar), 0), tf.reduce_all(holds))
    scalar = asserted(scalar, holds, message)
    if not tf.executing_eagerly():
        scalar.set_shape([])
    return scalar


# --- Rows ---------------------------------------------------------------------------------------


def ignored_labels(function: str, ignore_label: Any, labels_dtype: DType) -> Tensor:
    """`ignore_label` as a scalar or vector: constants of the labels' dtype, a tensor as int64."""
    if isinstance(ignore_label, (numbers.Number, np.generic, np.ndarray, Sequence)):
        return _constant_labels(function, ignore_label, labels_dtype)
    message = f"{function}: `ignore_label` must be an integer, or a vector of them, got "
    try:
        given = tf.convert_to_tensor(ignore_label, name="ignore_label")
    except (TypeError, ValueError) as error:
        raise TypeError(f"{message}{ignore_label!r}. Give numbers or a tensor.") from error
    if not given.dtype.is_integer or given.dtype.base_dtype == tf.uint64:
        raise TypeError(
            f"{message}a tensor of {given.dtype.name}. Cast it: tf.cast(ignore_label, tf.int64)."
        )
    if given.shape.ndims not in (None, 0, 1):
        raise ValueError(f"{message}the shape {given.shape}. Flatten it: tf.reshape(..., [-1]).")
    if given.shape.ndims is None:
        holds = tf.rank(given) <= 1
        given = tf.reshape(asserted(given, holds, message + "the shape", [tf.shape(given)]), [-1])
    # Not the labels' dtype, which may be smaller: a label would equal one modulo 2^32.
    return tf.cast(given, tf.int64)


def _constant_labels(function: str, ignore_label: Any, labels_dtype: DType) -> Tensor:
    """Known integers that the labels can hold."""
    information = np.iinfo(labels_dtype.as_numpy_dtype)
    try:
        is_text = isinstance(ignore_label, (str, bytes))
        known = np.asarray(None if is_text else ignore_label, object)
    except (TypeError, ValueError, NotImplementedError):  # of tensors, or of unequal lengths
        known = np.asarray(None)
    if any(
        isinstance(label, bool) or not isinstance(label, (int, np.integer))
        for label in known.ravel()
    ):
        raise TypeError(
            f"{function}: `ignore_label` must be an integer, or a vector of them, got "
            f"{ignore_label!r}. Give whole numbers, or one tensor."
        )
    if known.ndim > 1:
        raise ValueError(
            f"{function}: `ignore_label` must be an integer, or a vector of them, got the shape "
            f"{known.shape}. Flatten it: numpy.ravel(ignore_label)."
        )
    for label in known.ravel():
        if not information.min <= label <= information.max:
            raise ValueError(
                f"{function}: `ignore_label` must fit the labels' dtype, {labels_dtype.name}, got "
                f"{label}. Cast the labels: tf.cast(labels, tf.int64)."
            )
    return tf.constant(known.astype(labels_dtype.as_numpy_dtype))


def refuse_for_soft_labels(function: str, ignore_label: Any, invalid_labels: Any) -> None:
    """Options that need integer labels are not given with distributions."""
    for name, value in (("ignore_label", ignore_label), ("invalid_labels", invalid_labels)):
        if value is not None:
            raise ValueError(
                f"{function}: `{name}` must be None with soft labels, got {value!r}. Say by a mask "
                "which rows count: mask=..., one boolean per row."
            )


def check_invalid_labels(function: str, invalid_labels: Any) -> None:
    """The policy for labels outside `[0, num_classes)` is one of those that there are."""
    if invalid_labels not in (None,) + INVALID_LABELS:
        raise ValueError(
            f"{function}: `invalid_labels` must be None (as TensorFlow does), "
            f"{', '.join(map(repr, INVALID_LABELS))}, got {invalid_labels!r}. Give one of these."
        )


def mask_rows(batch: Batch, mask: TensorLike) -> Tensor:
    """`mask` by row: [batch_size], bool."""
    mask = tf.convert_to_tensor(mask, name="mask")
    if mask.dtype.base_dtype != tf.bool:
        if not (mask.dtype.is_floating or mask.dtype.is_integer):
            raise TypeError(
                f"{batch.function}: `mask` must be bool, or 0 and 1 of a number dtype, got "
                f"{mask.dtype.name}. Compare: tf.not_equal(labels, ...)."
            )
        mask = tf.not_equal(mask, tf.zeros([], mask.dtype))
    if mask.shape.ndims == 0 and batch.shape.ndims != 0:
        raise ValueError(
            f"{batch.function}: `mask` must have the rank of the losses, {_rank(batch.shape)}, got "
            "a scalar. Give one boolean per row."
        )
    # Not bool: 1.13 broadcasts numbers only, by multiplication.
    counts = _broadcast(batch, "mask", tf.cast(mask, tf.int32))
    return tf.cast(tf.reshape(counts, [-1]), tf.bool)


def weight_rows(batch: Batch, weights: TensorLike, dtype: DType) -> Optional[Tensor]:
    """`weights` of `dtype`: a scalar, or by row, [batch_size]; None for a plain 1."""
    if isinstance(weights, (int, float)) and weights == 1:
        return None
    weights = tf.convert_to_tensor(weights, name="weights", preferred_dtype=dtype)
    if not (weights.dtype.is_floating or weights.dtype.is_integer or weights.dtype == tf.bool):
        raise TypeError(
            f"{batch.function}: `weights` must be numbers, got {weights.dtype.name}. Give one "
            "number per row, or one for all."
        )
    weights = tf.cast(weights, dtype)
    if weights.shape.ndims == 0:
        return weights
    return tf.reshape(_broadcast(batch, "weights", weights), [-1])


# --- Classes ------------------------------------------------------------------------------------


def class_vector(batch: Batch, name: str, value: TensorLike) -> Tensor:
    """An option by class in the computing dtype: [num_classes]."""
    dtype, option = batch.matrix.dtype, BY_NAME[name]
    limits = np.finfo(dtype.base_dtype.as_numpy_dtype)
    message = f"{batch.function}: `{name}` must be one number {option.requirement} per class, got "
    # preferred_dtype: a list of Python numbers must not pass through float32.
    given = tf.convert_to_tensor(value, name=name, preferred_dtype=dtype)
    known = _tf.constant_value(given)
    vector = tf.cast(given, dtype)
    size = batch.num_classes
    num_classes = size if isinstance(size, int) else None
    if not vector.shape.is_compatible_with([num_classes]):
        raise ValueError(
            f"{message}the shape {vector.shape} for {_or_unknown(num_classes)} classes. Give a "
            f"vector [num_classes]. {option.hint}".rstrip()
        )
    if known is not None:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            holds = np.all(_holds(name, known.astype(limits.dtype), limits))
        if not holds:
            raise ValueError(f"{message}{known.tolist()}. Replace those that are not.")
    if num_classes is None or vector.shape.ndims is None or vector.shape.as_list() == [None]:
        is_vector = tf.equal(tf.rank(vector), 1)
        fits = tf.logical_and(is_vector, tf.equal(tf.size(vector), size))
        vector = asserted(vector, fits, message)
    if known is None:
        vector = asserted(vector, tf.reduce_all(_holds(name, vector, limits)), message)
    vector.set_shape([num_classes])
    return vector


def class_mask_rows(batch: Batch, class_mask: TensorLike) -> Tensor:
    """`class_mask` as a matrix of bool that broadcasts to [batch_size, num_classes]."""
    logits, axis = batch.given, batch.axis
    mask = _as_class_mask(batch.function, class_mask)
    rank, shape = mask.shape.ndims, logits.shape
    fits = rank is not None and (
        (rank == 1 and (shape.ndims is None or _fit(mask.shape, [shape.as_list()[axis]], False)))
        or shape.ndims is None
        or (rank == shape.ndims and _fit(mask.shape, shape.as_list(), True))
    )
    if not fits:
        raise ValueError(
            f"{batch.function}: `class_mask` must have the shape [num_classes], or that of the "
            f"logits, {shape}, or 1 in place of any of its sizes, got {mask.shape}. Give one "
            "boolean per class."
        )
    _check_a_class_is_left(batch.function, mask, 0 if rank == 1 else axis)
    if rank == 1:
        return mask[tf.newaxis, :]
    everywhere = tf.logical_or(mask, tf.zeros_like(logits, tf.bool))
    return as_matrix(axis_last(everywhere, axis))


def _as_class_mask(function: str, class_mask: TensorLike) -> Tensor:
    mask = tf.convert_to_tensor(class_mask, name="class_mask")
    if mask.dtype.base_dtype != tf.bool:
        raise TypeError(
            f"{function}: `class_mask` must be bool, True for the classes that take part, got "
            f"{mask.dtype.name}. Compare: tf.not_equal(class_mask, 0)."
        )
    return mask


def _check_a_class_is_left(function: str, mask: Tensor, axis: int) -> None:
    known = _tf.constant_value(mask)
    if known is not None and not np.any(known, axis=axis).all():
        raise ValueError(
            f"{function}: `class_mask` must leave at least one class in for every example, got "
            "none. True stands for a class that takes part."
        )


def class_mask_of_shards(batch: Batch, class_mask: TensorLike, is_whole: bool = True) -> Tensor:
    """`class_mask` as a matrix of bool, [1 or batch_size, num_classes], of a batch in shards.

    Where it is not whole, but of one shard, it may leave no class in.
    """
    mask = _as_class_mask(batch.function, class_mask)
    num_classes = batch.num_classes if isinstance(batch.num_classes, int) else None
    rank, sizes = mask.shape.ndims, batch.shape
    fits = rank is not None and mask.shape[-1:].is_compatible_with([num_classes])
    if fits and rank != 1:
        fits = sizes.ndims is None or _fit(mask.shape[:-1], sizes.as_list(), True)
    if not fits:
        raise ValueError(
            f"{batch.function}: `class_mask` must have the shape [num_classes], or that of the "
            f"labels, {sizes}, or 1 in place of any of its sizes, and num_classes, got "
            f"{mask.shape} for {_or_unknown(num_classes)} classes. Give one boolean per class."
        )
    if is_whole:
        _check_a_class_is_left(batch.function, mask, -1)
    if mask.shape[:-1].num_elements() == 1:
        return tf.reshape(mask, tf.stack([1, tf.shape(mask)[-1]]))
    if rank == 2:
        return mask
    everywhere = tf.zeros(tf.concat([batch.run_shape, [1]], axis=0), tf.bool)
    return as_matrix(tf.logical_or(mask, everywhere))


# --- Shapes -------------------------------------------------------------------------------------


def _broadcast(batch: Batch, name: str, tensor: Tensor) -> Tensor:
    """`tensor` of the losses' shape, broadcast to it by the rule that tf.losses has for weights."""
    known, sizes, shape = tensor.shape, batch.shape, batch.run_shape
    if known.ndims is not None and sizes.ndims is not None:
        if not _fit(known, sizes.as_list(), True):
            raise ValueError(
                f"{batch.function}: `{name}` must have the shape of the losses, {sizes}, or 1 in "
                f"place of any of its sizes, got {known}. Reshape it: tf.reshape({name}, ...)."
            )
        if sizes.is_fully_defined() and known.as_list() == sizes.as_list():
            return tensor
    if not (known.is_fully_defined() and sizes.is_fully_defined()):
        message = (
            f"{batch.function}: `{name}` must have the shape of the losses, or 1 in place of any "
            "of its sizes, got the shapes"
        )
        fits = _fit_in_the_run(tf.shape(tensor), shape, may_be_scalar=name == "weights")
        tensor = asserted(tensor, fits, message, [tf.shape(tensor), shape])
    return tensor * tf.ones(shape, tensor.dtype)


def _fit_in_the_run(own_shape: Tensor, shape: Tensor, may_be_scalar: bool) -> Tensor:
    """As `_fit`, with sizes that may be 1, of shapes that only the run knows."""
    own_rank, rank = tf.size(own_shape), tf.size(shape)
    missing = tf.ones(tf.expand_dims(tf.maximum(rank - own_rank, 0), 0), tf.int32)
    padded = tf.concat([own_shape, missing], axis=0)[:rank]
    sizes_fit = tf.reduce_all(tf.logical_or(tf.equal(padded, shape), tf.equal(padded, 1)))
    rank_fits = tf.equal(own_rank, rank)
    if may_be_scalar:
        rank_fits = tf.logical_or(rank_fits, tf.equal(own_rank, 0))
    return tf.logical_and(rank_fits, sizes_fit)


def _fit(shape: TensorShape, sizes: Sequence[Optional[int]], may_be_one: bool) -> bool:
    """Whether a static shape has these sizes (None: unknown), or 1 in their place."""
    return shape.ndims == len(sizes) and all(
        own is None or size is None or own == size or (may_be_one and own == 1)
        for own, size in zip(shape.as_list(), sizes)
    )


def asserted(
    tensor: Tensor, holds: Tensor, message: str, data: Optional[List[Tensor]] = None
) -> Tensor:
    """`tensor`, failing in the run with `message` and `data` unless `holds`."""
    asserted = tf.Assert(holds, [message] + (data or [tensor]), name="check")
    with tf.control_dependencies([asserted] if asserted is not None else []):
        return tf.identity(tensor)


def _or_unknown(size: Optional[int]) -> Any:
    return "an unknown number of" if size is None else size


def _rank(shape: TensorShape) -> Any:
    return "unknown" if shape.ndims is None else shape.ndims
