"""The loss of a linear layer over a large vocabulary, without its whole matrix of logits."""

from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple, Union

from tf1xent import _tf
from tf1xent._loss import batch, option_checks
from tf1xent._loss.faces import with_options
from tf1xent._loss.implementation import KERNEL, check_implementation, uses_kernels
from tf1xent._loss.objective import PerExample
from tf1xent._loss.options import LinearOptions, with_defaults
from tf1xent._loss.sharded_objective import losses_of_shards
from tf1xent._loss.shards import (
    Shards,
    check_chunk_size,
    check_labels_dtype,
    check_strategy,
    cut,
    parts_of,
    parts_of_option,
    shards_of,
)
from tf1xent._math.labels import with_as_many_rows
from tf1xent._math.shard_structures import Given, Size
from tf1xent._tf import tf
from tf1xent._typing import Labels, Name, ReductionName, Tensor, TensorLike
from tf1xent.losses.reduction import Reduction, loss_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["linear_softmax_cross_entropy"]

_FUNCTION = "linear_softmax_cross_entropy"
_CHUNK_SIZE = 640  # of those measured, both memory and time keep a margin on TF 1.15 and 2.21


@_tf.not_converted
@with_options(LinearOptions, before="scope")
def linear_softmax_cross_entropy(
    labels: Labels,
    inputs: TensorLike,
    weights: Union[TensorLike, Sequence[TensorLike]],
    biases: Union[TensorLike, Sequence[TensorLike], None] = None,
    *,
    chunk_size: int = _CHUNK_SIZE,
    transpose_weights: bool = False,
    partition_strategy: str = "div",
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

    Weights may be in shards by class, on several devices or tasks. Then what touches a shard runs
    on the shard's own device, and between devices go inputs, labels and a few numbers by row: see
    `tf1xent.losses.sharded_softmax_cross_entropy`. Weights in one tensor are worked on wherever the
    loss is built. Only there the native ops (`implementation`) can compute the softmax of a chunk:
    another task need not have their library.

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`, values in `[0, num_classes)`.
      inputs: `Tensor` of half, bfloat16, float32 or float64, `[d_0, ..., d_{r-1}, dim]`. With half
        and bfloat16, logits are computed in float32.
      weights: of the inputs' dtype, `[dim, num_classes]`; or shards of them: a list, or a variable
        that is partitioned along the classes.
      biases: of the inputs' dtype, `[num_classes]`, or in shards like the weights; None: none.
      chunk_size: at most so many classes are computed at once, at least 1. Small ones save memory,
        large ones a little time.
      transpose_weights: whether weights are `[num_classes, dim]`, as those of
        tf.nn.sampled_softmax_loss.
      partition_strategy: which classes a shard has, as in tf.nn.embedding_lookup: "div" or "mod".
        tf.nn.sampled_softmax_loss takes "mod" by default.
      example_weights: a number for all rows, or by row: of the labels' rank, each size theirs or 1.
      **options: each by its name, as `tf1xent._loss.options.LinearOptions` lists them.
      scope: name scope of the operations.
      loss_collection: graph collection that the loss is added to; None: none.
      reduction: one of `tf1xent.losses.Reduction` or tf.losses.Reduction.

    Returns:
      `Tensor` of the inputs' dtype, in nats: a scalar, or of the labels' shape for
      `Reduction.NONE`. With nothing to count it is 0.

    **Derivatives**: of every order, also mixed, in inputs, weights, biases, example weights and
      options; each order computes the logits anew, chunk by chunk. Those of a shard stay beside it.

    Raises:
      ValueError: (graph build) an unknown reduction or partition strategy, a chunk size below 1,
        shapes that do not fit, weights of unknown rank, a variable partitioned along another axis
        than the classes, a constant option outside its range, the implementation "kernel" with
        weights in shards.
      KernelsError: (graph build) the implementation "kernel" without a built library.
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
      chunks are put together in `tf1xent._math.shard_statistics`.
    """
    Reduction.validate(reduction)
    check_chunk_size(_FUNCTION, chunk_size)
    check_strategy(_FUNCTION, partition_strategy)
    chosen = with_defaults(dict(options, weights=example_weights))
    option_checks.check_invalid_labels(_FUNCTION, chosen["invalid_labels"])
    check_implementation(_FUNCTION, chosen["implementation"])

    def per_example() -> PerExample:
        axis = 0 if transpose_weights else 1
        parts = parts_of(weights, _FUNCTION, "weights", axis)
        by_kernels = _uses_kernels(chosen["implementation"], parts)
        converted = _convert_labels_and_inputs(labels, inputs)
        tensors = [weights] if parts is None else parts
        shards = shards_of(
            _FUNCTION,
            _layers(converted[1], tensors, transpose_weights, parts is not None),
            axis,
            partition_strategy,
            is_placed=parts is not None,
            chunk_size=chunk_size,
        )
        shards = _with_biases(shards, biases, converted[1])
        shards = shards._replace(by_kernels=by_kernels)
        return _per_example(*converted, shards, chosen)

    values = [labels, inputs]
    return loss_of(per_example, reduction, scope, _FUNCTION, values, loss_collection)


# --- What is given ------------------------------------------------------------------------------


def _convert_labels_and_inputs(labels: Labels, inputs: TensorLike) -> Tuple[Tensor, Tensor]:
    labels, inputs = tf.convert_to_tensor(labels), tf.convert_to_tensor(inputs)
    batch.check_logits_dtype(_FUNCTION, labels, inputs, "inputs")
    check_labels_dtype(_FUNCTION, labels)
    if inputs.shape.ndims is None or inputs.shape.ndims < 1:
        raise ValueError(
            f"{_FUNCTION}: `inputs` must be of known rank, at least 1, got the shape "
            f"{inputs.shape}. Their last axis are the features: inputs.set_shape([None, dim])."
        )
    if not labels.shape.is_compatible_with(inputs.shape[:-1]):
        raise ValueError(
            f"{_FUNCTION}: `labels` must have the shape of `inputs` without its last axis, "
            f"{inputs.shape[:-1]}, got {labels.shape}. Give one integer per row."
        )
    return labels, inputs


def _converted(name: str, value: Any, inputs: Tensor, is_placed: bool) -> Tensor:
    """Weights or biases as a tensor of the inputs' dtype."""
    convert = _tf.converted_beside if is_placed else tf.convert_to_tensor
    tensor = convert(value, preferred_dtype=inputs.dtype.base_dtype)
    if tensor.dtype.base_dtype != inputs.dtype.base_dtype:
        raise TypeError(
            f"{_FUNCTION}: `{name}` must have the dtype of the inputs, {inputs.dtype.name}, "
            f"got {tensor.dtype.name}. Cast one: tf.cast({name}, inputs.dtype)."
        )
    return tensor


def _layers(
    inputs: Tensor, weights: Sequence[Any], transposed: bool, is_placed: bool
) -> List[Given]:
    """The weights of each shard."""
    dim = inputs.shape.as_list()[-1]
    wanted = [None, dim] if transposed else [dim, None]
    found = []
    for value in weights:
        tensor = _converted("weights", value, inputs, is_placed)
        if tensor.shape.ndims is None or not tensor.shape.is_compatible_with(wanted):
            layout = "[num_classes, dim]" if transposed else "[dim, num_classes]"
            raise ValueError(
                f"{_FUNCTION}: `weights` must be {layout} with dim {dim}, got the shape "
                f"{tensor.shape}. The other layout is taken with the other `transpose_weights`."
            )
        found.append({"transposed_weights" if transposed else "weights": tensor})
    return found


def _uses_kernels(implementation: Optional[str], parts: Optional[Sequence[Any]]) -> bool:
    """Whether native ops work on the chunks: not on shards, which may be another task's."""
    if parts is None:
        return uses_kernels(_FUNCTION, implementation)
    if implementation == KERNEL:
        raise ValueError(
            f'{_FUNCTION}: `implementation` must be "graph" or "auto" for weights in shards, got '
            f"{implementation!r}. Shards are worked on by stock ops, which every task has."
        )
    return False


def _with_biases(shards: Shards, biases: Any, inputs: Tensor) -> Shards:
    """The shards with their biases: of one vector of all classes, or of one for each shard."""
    if biases is None:
        return shards
    parts = parts_of_option(shards, "biases", biases)
    if parts is None:
        whole = _converted("biases", biases, inputs, is_placed=False)
        _check_biases(whole, shards.num_classes)
        pieces = cut(shards, whole, 0)
    else:
        pieces = []
        for number, part in enumerate(parts):
            pieces.append(_converted("biases", part, inputs, is_placed=True))
            _check_biases(pieces[-1], shards.sizes[number])
    operands = [dict(own, biases=piece) for own, piece in zip(shards.operands, pieces)]
    return shards._replace(operands=operands)


def _check_biases(biases: Tensor, size: Size) -> None:
    num_classes = size if isinstance(size, int) else None
    if not biases.shape.is_compatible_with([num_classes]):
        raise ValueError(
            f"{_FUNCTION}: `biases` must be [num_classes], {num_classes} numbers, got the shape "
            f"{biases.shape}. Leave them out for none."
        )


# --- The loss -----------------------------------------------------------------------------------


def _per_example(
    labels: Tensor, inputs: Tensor, shards: Shards, options: Mapping[str, Any]
) -> PerExample:
    shape = labels.shape.merge_with(inputs.shape[:-1])
    run_shape = tf.shape(labels)
    matrix, vector = batch.sparse_rows(batch.as_precise(inputs), labels)
    vector = with_as_many_rows(matrix, vector)
    examples = batch.in_shards(_FUNCTION, vector, shape, run_shape, inputs)
    return losses_of_shards(examples, shards, {"inputs": matrix}, options)
