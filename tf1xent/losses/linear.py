"""The loss of a linear layer over a large vocabulary, without its whole matrix of logits."""

from typing import Any, Optional

from tf1xent import _tf
from tf1xent._loss import batch, checks, objective, resolve
from tf1xent._math import chunked_linear, softmax
from tf1xent._math.labels import checked_by_gather, names_a_class, with_as_many_rows
from tf1xent._tf import tf
from tf1xent.losses.reduction import Reduction, reduced

__all__ = ["linear_softmax_cross_entropy"]

_FUNCTION = "linear_softmax_cross_entropy"
_CHUNK_SIZE = 640  # of those measured, both memory and time keep a margin on TF 1.15 and 2.21


def linear_softmax_cross_entropy(
    labels: Any,
    inputs: Any,
    weights: Any,
    biases: Any = None,
    *,
    chunk_size: int = _CHUNK_SIZE,
    transpose_weights: bool = False,
    example_weights: Any = 1.0,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    class_weights: Any = None,
    label_smoothing: Any = 0.0,
    z_loss: Any = 0.0,
    invalid_labels: Optional[str] = None,
    scope: Optional[str] = None,
    loss_collection: Optional[str] = tf.GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross-entropy of integer labels and the logits ``inputs weights + biases``, reduced.

    The value is that of `tf1xent.losses.sparse_softmax_cross_entropy` of these logits, but the
    logits, `[batch_size, num_classes]`, are made and dropped `chunk_size` classes at a time, in the
    value and again in each derivative. Beside what it returns and gradients of the weights' size, a
    derivative takes memory for a few `[batch_size, chunk_size]`, and the time of one more matrix
    product than the plain composition's three for value and gradient.

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`, values in `[0, num_classes)`.
      inputs: `Tensor` of half, bfloat16, float32 or float64, `[d_0, ..., d_{r-1}, dim]`. With half
        and bfloat16, logits are computed in float32.
      weights: of the inputs' dtype, `[dim, num_classes]`.
      biases: of the inputs' dtype, `[num_classes]`; None: none.
      chunk_size: at most so many classes are computed at once, at least 1. Small ones save memory,
        large ones a little time.
      transpose_weights: whether weights are `[num_classes, dim]`, as those of
        tf.nn.sampled_softmax_loss.
      example_weights: a number for all rows, or by row: of the labels' rank, each size theirs or 1.
      mask: True (or not 0) for the rows that count; of the labels' rank, each size theirs or 1.
      ignore_label: an integer; rows with this label do not count.
      class_weights: `[num_classes]`, at least 0.
      label_smoothing: in [0, 1).
      z_loss: factor of the square of the log-partition.
      invalid_labels: None, "raise", "nan" or "ignore"; like all other options as in
        `tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits`.
      scope: name scope of the operations.
      loss_collection: graph collection that the loss is added to; None: none.
      reduction: one of `tf1xent.losses.Reduction` or tf.losses.Reduction.

    Returns:
      `Tensor` of the inputs' dtype, in nats: a scalar, or of the labels' shape for
      `Reduction.NONE`. With nothing to count it is 0.

    **Derivatives**: of every order, also mixed, in inputs, weights, biases, example weights and
      class weights; each order computes the logits anew, chunk by chunk.

    Raises:
      ValueError: (graph build) an unknown reduction, a chunk size below 1, shapes that do not fit,
        weights of unknown rank, a constant option outside its range.
      TypeError: (graph build) labels that are not int32 or int64, inputs that are not floating
        point, weights or biases of another dtype than the inputs.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell, and
        labels as `invalid_labels` says.

    Example: two tokens, four features, a vocabulary of 1,000 in chunks of 256.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     inputs = tf.constant([[1.0, 0, 0, 0], [0, 0, 2.0, 0]])
    ...     weights = tf.reshape(tf.range(4000.0) / 4000.0, [4, 1000])
    ...     loss = tf1xent.losses.linear_softmax_cross_entropy(
    ...         labels=[999, 0], inputs=inputs, weights=weights, chunk_size=256
    ...     )
    ...     hessian = tf.hessians(loss, inputs)[0]
    ...     print("{:.5f}".format(session.run(loss)), session.run(hessian).shape)
    6.97669 (2, 4, 2, 4)

    Source: the formula and the options are written down in `tf1xent._loss.objective`, how the
      chunks are put together in `tf1xent._math.chunked_linear`.
    """
    Reduction.validate(reduction)
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(
            f"{_FUNCTION}: `chunk_size` must be an integer of at least 1, got {chunk_size!r}. "
            "It is the number of classes whose logits are held at once."
        )
    options = objective.Options(
        mask=mask,
        ignore_label=ignore_label,
        weights=example_weights,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        invalid_labels=invalid_labels,
    )
    with tf.name_scope(scope, _FUNCTION, [labels, inputs, weights]):
        labels, operands = _converted(labels, inputs, weights, biases, transpose_weights)
        per_example = _per_example(labels, operands, chunk_size, transpose_weights, options)
        loss = reduced(per_example, reduction)
    tf.losses.add_loss(loss, loss_collection)
    return loss


# --- What is given ------------------------------------------------------------------------------


def _converted(labels, inputs, weights, biases, transposed):
    """Labels, and inputs, weights and biases, as tensors of the right dtypes and static shapes."""
    labels, inputs = tf.convert_to_tensor(labels), tf.convert_to_tensor(inputs)
    checks.check_logits_dtype(_FUNCTION, labels, inputs, "inputs")
    if labels.dtype.base_dtype not in checks.LABEL_DTYPES:
        raise TypeError(
            f"{_FUNCTION}: `labels` must be int32 or int64, got {labels.dtype.name}. Cast them: "
            "tf.cast(labels, tf.int64)."
        )
    operands = {"inputs": inputs}
    for name, value in (("weights", weights), ("biases", biases)):
        if value is None:
            continue
        operands[name] = tf.convert_to_tensor(value, preferred_dtype=inputs.dtype.base_dtype)
        if operands[name].dtype.base_dtype != inputs.dtype.base_dtype:
            raise TypeError(
                f"{_FUNCTION}: `{name}` must have the dtype of the inputs, {inputs.dtype.name}, "
                f"got {operands[name].dtype.name}. Cast one: tf.cast({name}, inputs.dtype)."
            )
    _check_shapes(labels, operands, transposed)
    return labels, operands


def _check_shapes(labels, operands, transposed):
    inputs, weights = operands["inputs"].shape, operands["weights"].shape
    if inputs.ndims is None or inputs.ndims < 1:
        raise ValueError(
            f"{_FUNCTION}: `inputs` must be of known rank, at least 1, got the shape {inputs}. "
            "Their last axis are the features: inputs.set_shape([None, dim])."
        )
    if not labels.shape.is_compatible_with(inputs[:-1]):
        raise ValueError(
            f"{_FUNCTION}: `labels` must have the shape of `inputs` without its last axis, "
            f"{inputs[:-1]}, got {labels.shape}. Give one integer per row."
        )
    dim = inputs.as_list()[-1]
    wanted = [None, dim] if transposed else [dim, None]
    if weights.ndims is None or not weights.is_compatible_with(wanted):
        layout = "[num_classes, dim]" if transposed else "[dim, num_classes]"
        raise ValueError(
            f"{_FUNCTION}: `weights` must be {layout} with dim {dim}, got the shape {weights}. The "
            "other layout is taken with the other `transpose_weights`."
        )
    num_classes = weights.as_list()[0 if transposed else 1]
    biases = operands.get("biases")
    if biases is not None and not biases.shape.is_compatible_with([num_classes]):
        raise ValueError(
            f"{_FUNCTION}: `biases` must be [num_classes], {num_classes} numbers, got the shape "
            f"{biases.shape}. Leave them out for none."
        )


def _row_of_classes(weights, transposed, dtype):
    """Zeros, [1, num_classes]: for what asks a matrix of logits how many classes it has."""
    axis = 0 if transposed else 1
    row = tf.zeros(tf.stack([1, tf.shape(weights)[axis]]), dtype)
    return batch.with_static_shape(row, [1, weights.shape.as_list()[axis]])


# --- The loss -----------------------------------------------------------------------------------


def _per_example(labels, operands, chunk_size, transposed, options):
    """The `objective.PerExample` of the labels."""
    resolve.check_invalid_labels(_FUNCTION, options.invalid_labels)
    inputs, weights, biases = (operands.get(name) for name in ("inputs", "weights", "biases"))
    shape, run_shape = labels.shape.merge_with(inputs.shape[:-1]), tf.shape(labels)
    matrix, vector = batch.sparse_rows(batch.as_precise(inputs), labels)
    vector = with_as_many_rows(matrix, vector)
    classes = _row_of_classes(weights, transposed, matrix.dtype)
    counted = objective.counted_labels(_FUNCTION, vector, classes, options, shape, run_shape)
    if counted is not None:
        vector = _tf.where(counted, vector, tf.zeros_like(vector))
        matrix = _tf.select_rows(counted, matrix, tf.zeros_like(matrix))
    vector, invalid_value = _checked(classes, vector, options.invalid_labels)
    row_weights = objective.row_weights(_FUNCTION, options, matrix, counted, shape, run_shape)

    at_label, others = chunked_linear.statistics(
        vector, matrix, weights, biases, chunk_size=chunk_size, transpose_weights=transposed
    )
    logits = tf.concat([at_label[:, tf.newaxis], others], axis=1)  # the label, and the chunks
    valid = names_a_class(classes, vector)
    first = tf.zeros_like(vector)
    losses = softmax.sparse_loss(
        logits, _tf.where(valid, first, first - 1), invalid_value=invalid_value, name=_FUNCTION
    )
    of_labels, class_weights = None, None
    if options.class_weights is not None:
        class_weights = resolve.class_weight_vector(
            _FUNCTION, options.class_weights, matrix.dtype, classes
        )
        of_labels = objective.weights_of_labels(class_weights, valid, vector)
        losses = losses * of_labels
    smoothing = resolve.number(_FUNCTION, "label_smoothing", options.label_smoothing, matrix.dtype)
    if smoothing is not None:
        if class_weights is None:
            class_weights = tf.ones_like(classes)[0]
        uniform = _class_terms(matrix, weights, biases, transposed, class_weights, logits)
        share = smoothing / tf.cast(tf.size(classes), matrix.dtype)
        losses = (1 - smoothing) * losses + share * uniform
    losses = objective.whole_loss(_FUNCTION, losses, logits, row_weights, counted, options)
    parts = losses, row_weights, counted, of_labels
    return objective.per_example(parts, run_shape, shape, inputs.dtype.base_dtype)


def _checked(classes, labels, policy):
    """Labels after the run's checks, and the loss that an invalid one gets."""
    if policy is None:
        gathered = checked_by_gather(labels, lambda: tf.gather(classes[0], labels))
        if gathered is not None:
            return gathered, None
    return objective.checked(_FUNCTION, classes, labels, policy)


def _class_terms(inputs, weights, biases, transposed, class_weights, logits):
    """sum_j c_j (z - x_j): [batch_size]. The sum of c_j x_j is linear and needs no logits."""
    column = class_weights[:, tf.newaxis]
    summed = tf.matmul(tf.cast(weights, inputs.dtype), column, transpose_a=transposed)
    total = tf.matmul(inputs, summed)[:, 0]
    if biases is not None:
        biases = tf.cast(biases, inputs.dtype)
        total = total + tf.reduce_sum(_tf.multiply_no_nan(biases, class_weights))
    return tf.reduce_sum(class_weights) * softmax.log_partition(logits) - total
