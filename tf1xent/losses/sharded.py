"""The loss of logits whose classes are spread over devices or tasks."""

from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._loss import batch, option_checks
from tf1xent._loss.faces import with_options
from tf1xent._loss.objective import PerExample
from tf1xent._loss.options import ShardedOptions, with_defaults
from tf1xent._loss.sharded_objective import losses_of_shards
from tf1xent._loss.shards import (
    Shards,
    check_chunk_size,
    check_labels_dtype,
    check_strategy,
    parts_of,
    shards_of,
)
from tf1xent._tf import tf
from tf1xent._typing import Labels, Name, ReductionName, Tensor, TensorLike, TensorShape
from tf1xent.losses.reduction import Reduction, loss_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["sharded_softmax_cross_entropy"]

_FUNCTION = "sharded_softmax_cross_entropy"


@_tf.not_converted
@with_options(ShardedOptions, before="scope")
def sharded_softmax_cross_entropy(
    labels: Labels,
    logits_shards: Sequence[TensorLike],
    *,
    partition_strategy: str = "div",
    chunk_size: Optional[int] = None,
    example_weights: TensorLike = 1.0,
    scope: Name = None,
    loss_collection: Name = tf.GraphKeys.LOSSES,
    reduction: ReductionName = Reduction.SUM_BY_NONZERO_WEIGHTS,
    **options: "Unpack[ShardedOptions]",
) -> Tensor:
    """Cross-entropy of integer labels and logits whose classes are in shards, reduced.

    For a last layer so large that its classes are spread over devices or tasks. Where the shards
    are those of its weights, `tf1xent.losses.linear_softmax_cross_entropy` takes them, and no block
    of logits is ever in memory.

    The value is that of `tf1xent.losses.sparse_softmax_cross_entropy` of the shards, put together
    by class. But what touches a shard runs on the shard's own device, the one in its `.device`, in
    the value and in every derivative; device scopes in force do not matter. Between devices go the
    labels and a few numbers by row of each shard. With m_s the largest logit of shard s::

        r_s  = log sum_{j in s, j != y} exp(x_j - m_s),   M = max_s m_s
        loss = cross-entropy of the row [x_y - M, (m_1 - M) + r_1, ..., (m_S - M) + r_S], label 0

    Options by class are one vector for all classes, or one for each shard: a list of tensors or
    arrays, or a partitioned variable. Arrays are cut when the graph is built, and stay beside their
    shards. A tensor of all classes is cut where it is.

    Args:
      labels: `Tensor` of int32 or int64, `[d_0, ..., d_{r-1}]`, values in `[0, num_classes)`.
      logits_shards: list of `Tensor`, all half, bfloat16, float32 or float64, of the labels' shape
        and a last axis of classes, at least one each; or a variable that is partitioned along its
        last axis. Half and bfloat16 are computed in float32.
      partition_strategy: which classes a shard has, as in tf.nn.embedding_lookup. "div": those that
        follow on the shard before, as many as it has. "mod": of S shards, number s has the classes
        s, s + S, s + 2 S, ...
      chunk_size: at most so many classes of a shard are computed at once, at least 1; None: all. A
        shard that is itself too large takes less memory so, and more time.
      example_weights: a number for all rows, or by row: of the labels' rank, each size theirs or 1.
      **options: each by its name, as `tf1xent._loss.options.ShardedOptions` lists them.
      scope: name scope of the operations.
      loss_collection: graph collection that the loss is added to; None: none.
      reduction: one of `tf1xent.losses.Reduction` or tf.losses.Reduction.

    Returns:
      `Tensor` of the shards' dtype, in nats: a scalar, or of the labels' shape for
      `Reduction.NONE`. With nothing to count it is 0.

    **Derivatives**: of every order, also mixed, in the shards, example weights and options. Each
      stays beside its shard. TensorFlow places gradients of other ops, such as the matrix product
      that gives the shards, where tf.gradients is called; ``tf.gradients(...,
      colocate_gradients_with_ops=True)`` puts them beside the ops that they are gradients of.

    Raises:
      ValueError: (graph build) an unknown reduction or partition strategy, a chunk size below 1,
        shards of no classes or of numbers of them that "mod" does not give, shapes that do not fit,
        a variable partitioned along another axis, a constant option outside its range.
      TypeError: (graph build) shards that are no list, or not of one floating dtype, labels that
        are not int32 or int64.
      tf.errors.InvalidArgumentError: (session run) the same, where only the run can tell, and
        labels as `invalid_labels` says.

    Example: five classes on two devices. Here both are the same processor.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     with tf.device("/cpu:0"):
    ...         first = tf.constant([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    ...     with tf.device("/cpu:0"):
    ...         second = tf.constant([[0.0, 1.0], [1.0, 0.0]])
    ...     loss = tf1xent.losses.sharded_softmax_cross_entropy(
    ...         labels=[4, 1], logits_shards=[first, second], label_smoothing=0.1
    ...     )
    ...     gradients = tf.gradients(loss, [first, second])
    ...     value, (_, last) = session.run([loss, gradients])
    ...     print("{:.5f}".format(value), last.shape)
    ...     print(gradients[1].device)
    1.09344 (2, 2)
    /device:CPU:0

    See also: `tf1xent.losses.sparse_softmax_cross_entropy`, of logits in one place.

    Source: the formula and the options are written down in `tf1xent._loss.objective`, what a shard
      computes in `tf1xent._math.shard_statistics`.
    """
    Reduction.validate(reduction)
    if chunk_size is not None:
        check_chunk_size(_FUNCTION, chunk_size)
    check_strategy(_FUNCTION, partition_strategy)
    chosen = with_defaults(dict(options, weights=example_weights))
    option_checks.check_invalid_labels(_FUNCTION, chosen["invalid_labels"])

    def per_example() -> PerExample:
        vector, tensors = tf.convert_to_tensor(labels), _converted(logits_shards)
        check_labels_dtype(_FUNCTION, vector)
        shards = shards_of(
            _FUNCTION,
            [{"logits": tensor} for tensor in tensors],
            -1,
            partition_strategy,
            is_placed=True,
            chunk_size=chunk_size or 0,
        )
        return _per_example(vector, shards, chosen)

    return loss_of(per_example, reduction, scope, _FUNCTION, [labels], loss_collection)


def _converted(logits_shards: Sequence[TensorLike]) -> List[Tensor]:
    """The shards as tensors of one floating dtype and of known rank."""
    parts = parts_of(logits_shards, _FUNCTION, "logits_shards", -1)
    if parts is None:
        raise TypeError(
            f"{_FUNCTION}: `logits_shards` must be a list of tensors, one for each shard of the "
            f"classes, or a partitioned variable, got {type(logits_shards).__name__}. For logits "
            "in one place use sparse_softmax_cross_entropy."
        )
    tensors: List[Tensor] = []
    for part in parts:
        tensor = _tf.converted_beside(part)
        batch.check_logits_dtype(_FUNCTION, tensor, tensor, "logits_shards")
        if tensor.shape.ndims in (None, 0):
            raise ValueError(
                f"{_FUNCTION}: `logits_shards` must be of known rank, at least 1, got the shape "
                f"{tensor.shape}. Their last axis are classes: set_shape([None, None])."
            )
        if tensors and tensor.dtype.base_dtype != tensors[0].dtype.base_dtype:
            raise TypeError(
                f"{_FUNCTION}: `logits_shards` must be of one dtype, got "
                f"{tensors[0].dtype.name} and {tensor.dtype.name}. Cast them where they are."
            )
        tensors.append(tensor)
    return tensors


def _rows(labels: Tensor, shards: Shards) -> Tuple[Tensor, TensorShape]:
    """Labels that are as many as the rows of each shard, in the run too; their static shape."""
    shape, wanted = labels.shape, []
    for number in range(len(shards.operands)):
        tensor = shards.tensor(number)
        rows = tensor.shape[:-1]
        if not shape.is_compatible_with(rows):
            raise ValueError(
                f"{_FUNCTION}: `labels` must have the shape of each of `logits_shards` without "
                f"its last axis, {rows}, got {labels.shape}. Give one integer per row."
            )
        shape = shape.merge_with(rows)
        if not (rows.is_fully_defined() and labels.shape.is_fully_defined()):
            with shards.beside(number):
                wanted.append(tf.shape(tensor)[:-1])
    message = f"{_FUNCTION}: `labels` must have the shape of each of `logits_shards` but its last."
    checks = [tf.assert_equal(tf.shape(labels), rows, message=message) for rows in wanted]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(labels) if checks else labels, shape


def _per_example(labels: Tensor, shards: Shards, options: Mapping[str, Any]) -> PerExample:
    labels, shape = _rows(labels, shards)
    vector = _tf.set_static_shape(tf.reshape(labels, [-1]), [shape.num_elements()])
    examples = batch.in_shards(_FUNCTION, vector, shape, tf.shape(labels), shards.tensor(0))
    return losses_of_shards(examples, shards, {}, options)
