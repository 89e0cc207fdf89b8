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
)
from tf1xent._tf import tf
from tf1xent._typing import Labels, Name, ReductionName, Tensor, TensorLike, TensorShape
from tf1xent.losses.reduction import Reduction, loss_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["sharded_softmax_cross_entropy"]

_FUNCTION = "sharded_softmax_cross_entropy"


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

    Args:
      **options: x
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
        shards = Shards(
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
        tensor = tf.convert_to_tensor(part)
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
