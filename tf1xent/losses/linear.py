"""The loss of a linear layer over a large vocabulary, without its whole matrix of logits."""

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

from tf1xent import _tf
from tf1xent._loss import batch, objective, option_checks, resolve
from tf1xent._loss.faces import with_options
from tf1xent._loss.options import LinearOptions, with_defaults
from tf1xent._math import chunked_linear, softmax
from tf1xent._math.dtypes import LABEL_DTYPES
from tf1xent._math.labels import (
    checked_by_gather,
    checked_label_values,
    names_a_class,
    with_as_many_rows,
)
from tf1xent._tf import tf
from tf1xent._typing import DType, Labels, Name, ReductionName, Tensor, TensorLike
from tf1xent.losses.reduction import Reduction, loss_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["linear_softmax_cross_entropy"]

_FUNCTION = "linear_softmax_cross_entropy"
_CHUNK_SIZE = 640  # of those measured, both memory and time keep a margin on TF 1.15 and 2.21


@with_options(LinearOptions, before="scope")
def linear_softmax_cross_entropy(
    labels: Labels,
    inputs: TensorLike,
    weights: TensorLike,
    biases: Optional[TensorLike] = None,
    *,
    chunk_size: int = _CHUNK_SIZE,
    transpose_weights: bool = False,
    example_weights: TensorLike = 1.0,
    scope: Name = None,
    loss_collection: Name = tf.GraphKeys.LOSSES,
    reduction: ReductionName = Reduction.SUM_BY_NONZERO_WEIGHTS,
    **options: "Unpack[LinearOptions]",
) -> Tensor:
    """Cross-entropy of integer labels and the logits ``inputs weights + biases``, reduced.

    For vocabularies so large that the matrix of logits does not fit, or costs the most memory.

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
      **options: each by its name, as `tf1xent._loss.options.LinearOptions` lists them.
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

    See also: `tf1xent.losses.sparse_softmax_cross_entropy`, of logits.

    Source: the formula and the options are written down in `tf1xent._loss.objective`, how the
      chunks are put together in `tf1xent._math.chunked_linear`.
    """
    Reduction.validate(reduction)
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(
            f"{_FUNCTION}: `chunk_size` must be an integer of at least 1, got {chunk_size!r}. "
            "It is the number of classes whose logits are held at once."
        )
    chosen = with_defaults(dict(options, weights=example_weights))

    def per_example() -> objective.PerExample:
        converted, operands = _converted(labels, inputs, weights, biases, transpose_weights)
        return _per_example(converted, operands, chunk_size, transpose_weights, chosen)

    values = [labels, inputs, weights]
    return loss_of(per_example, reduction, scope, _FUNCTION, values, loss_collection)


# --- What is given ------------------------------------------------------------------------------


def _converted(
    labels: Labels,
    inputs: TensorLike,
    weights: TensorLike,
    biases: Optional[TensorLike],
    transposed: bool,
) -> Tuple[Tensor, Dict[str, Tensor]]:
    """Labels, and inputs, weights and biases, as tensors of the right dtypes and static shapes."""
    labels, inputs = tf.convert_to_tensor(labels), tf.convert_to_tensor(inputs)
    batch.check_logits_dtype(_FUNCTION, labels, inputs, "inputs")
    if labels.dtype.base_dtype not in LABEL_DTYPES:
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


def _check_shapes(labels: Tensor, operands: Dict[str, Tensor], transposed: bool) -> None:
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


def _row_of_classes(weights: Tensor, transposed: bool, dtype: DType) -> Tensor:
    """Zeros, [1, num_classes]: for what asks a matrix of logits how many classes it has."""
    axis = 0 if transposed else 1
    row = tf.zeros(tf.stack([1, tf.shape(weights)[axis]]), dtype)
    return _tf.set_static_shape(row, [1, weights.shape.as_list()[axis]])


# --- The loss -----------------------------------------------------------------------------------


def _per_example(
    labels: Tensor,
    operands: Dict[str, Tensor],
    chunk_size: int,
    transposed: bool,
    options: Mapping[str, Any],
) -> objective.PerExample:
    """The `objective.PerExample` of the labels; options are resolved against one row of classes."""
    option_checks.check_invalid_labels(_FUNCTION, options["invalid_labels"])
    inputs, weights, biases = operands["inputs"], operands["weights"], operands.get("biases")
    shape = labels.shape.merge_with(inputs.shape[:-1])
    run_shape = tf.shape(labels)
    matrix, vector = batch.sparse_rows(batch.as_precise(inputs), labels)
    vector = with_as_many_rows(matrix, vector)
    classes = _row_of_classes(weights, transposed, matrix.dtype)
    examples = batch.Batch(_FUNCTION, classes, vector, False, shape, run_shape, inputs)
    resolved = resolve.of_integer_labels(examples, options, check_labels=_checked)
    if resolved.valid_rows is not None:
        matrix = _tf.select_rows(resolved.valid_rows, matrix, tf.zeros_like(matrix))

    at_label, others = chunked_linear.statistics(
        resolved.labels,
        matrix,
        weights,
        biases,
        chunk_size=chunk_size,
        transpose_weights=transposed,
    )
    logits = tf.concat([at_label[:, tf.newaxis], others], axis=1)  # the label, and the chunks
    valid = names_a_class(classes, resolved.labels)
    first = tf.zeros_like(resolved.labels)
    losses = softmax.sparse_loss(
        logits,
        _tf.where(valid, first, first - 1),
        invalid_value=resolved.invalid_value,
        name=_FUNCTION,
    )
    of_labels, class_weights = None, resolved.class_weights
    if class_weights is not None:
        of_labels = objective.weights_of_labels(class_weights, valid, resolved.labels)
        losses = losses * of_labels
    if resolved.label_smoothing is not None:
        if class_weights is None:
            class_weights = tf.ones_like(classes)[0]
        uniform = _class_terms(matrix, weights, biases, transposed, class_weights, logits)
        share = resolved.label_smoothing / tf.cast(tf.size(classes), matrix.dtype)
        losses = (1 - resolved.label_smoothing) * losses + share * uniform
    losses = objective.whole_loss(losses, logits, resolved)
    return objective.per_example(examples, resolved, losses, of_labels)


def _checked(classes: Tensor, labels: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
    """Labels after TensorFlow's checks, and the loss that an invalid one gets."""
    gathered = checked_by_gather(labels, lambda: tf.gather(classes[0], labels))
    if gathered is not None:
        return gathered, None
    return checked_label_values(classes, labels)


def _class_terms(
    inputs: Tensor,
    weights: Tensor,
    biases: Optional[Tensor],
    transposed: bool,
    class_weights: Tensor,
    logits: Tensor,
) -> Tensor:
    """sum_j c_j (z - x_j): [batch_size]. The sum of c_j x_j is linear and needs no logits."""
    column = class_weights[:, tf.newaxis]
    summed = tf.matmul(tf.cast(weights, inputs.dtype), column, transpose_a=transposed)
    total = tf.matmul(inputs, summed)[:, 0]
    if biases is not None:
        biases = tf.cast(biases, inputs.dtype)
        total = total + tf.reduce_sum(_tf.multiply_no_nan(biases, class_weights))
    return tf.reduce_sum(class_weights) * softmax.log_partition(logits) - total
