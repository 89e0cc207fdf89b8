"""What a mean is taken over: the denominators of reduced losses, each by its name."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._loss.objective import PerExample
from tf1xent._tf import tf
from tf1xent._typing import Name, ReductionName, Tensor

__all__ = ["Reduction"]


class Reduction:
    """What the sum of the weighted losses is divided by; the strings are those of tf.losses.

    With the losses l_i = weight_i loss_i of the rows that count (not masked, not ignored,
    with `top_k_examples` among the largest), and the class weight c_i of a row's label (for soft
    labels ``sum_j c_j l_ij``):

    ==========================  ==================================================================
    NONE                        no sum: the losses by row
    SUM                         1
    SUM_OVER_BATCH_SIZE         the number of rows, those that do not count too
    SUM_BY_NONZERO_WEIGHTS      the number of rows that count and whose weight is not 0
    SUM_OVER_NONZERO_WEIGHTS    TensorFlow's older name of the same
    MEAN                        the sum of the weights of the rows that count
    SUM_BY_CLASS_WEIGHTS        the sum of weight_i c_i over the rows that count
    SUM_BY_VALID_TOKENS         the number of rows that count, whatever their weight
    ==========================  ==================================================================

    What other libraries call their mean:

    ======================================================  ======================================
    tf.losses, by default                                   SUM_BY_NONZERO_WEIGHTS
    tf.losses, Reduction.MEAN                               MEAN
    tf.contrib.seq2seq.sequence_loss, by default            MEAN
    tf.reduce_mean of the losses by row                     SUM_OVER_BATCH_SIZE
    Keras losses, by default; Keras 3 "mean"                SUM_OVER_BATCH_SIZE
    Keras of TF 1.13, compiled loss with sample weights     MEAN
    Keras of TF 2.11 or later, with a mask or ignore_class  SUM_BY_VALID_TOKENS
    Keras 3 "mean_with_sample_weight"; Keras metrics        MEAN
    torch F.cross_entropy, class indices                    SUM_BY_CLASS_WEIGHTS
    torch F.cross_entropy, class probabilities              SUM_OVER_BATCH_SIZE
    optax, the losses' .mean()                              SUM_OVER_BATCH_SIZE
    optax, the losses' .mean(where=mask)                    SUM_BY_VALID_TOKENS
    ======================================================  ======================================

    Where the denominator is 0, the loss is 0 and so is its gradient.

    >>> import tf1xent
    >>> tf1xent.losses.Reduction.MEAN
    'weighted_mean'
    """

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS
    MEAN = "weighted_mean"
    SUM_BY_CLASS_WEIGHTS = "weighted_sum_by_class_weights"
    SUM_BY_VALID_TOKENS = "weighted_sum_by_valid_tokens"

    @classmethod
    def all(cls) -> Tuple[str, ...]:
        """All reductions, each once."""
        return (cls.NONE, cls.SUM) + tuple(_DENOMINATORS)

    @classmethod
    def validate(cls, key: Any) -> None:
        """Raises a ValueError unless `key` is a reduction."""
        if key not in cls.all():
            raise ValueError(
                f"`reduction` must be one of {', '.join(map(repr, cls.all()))}, got {key!r}. "
                "Take one from tf1xent.losses.Reduction."
            )


def loss_of(
    per_example: Callable[[], PerExample],
    reduction: ReductionName,
    scope: Name,
    default_name: str,
    values: List[Any],
    collection: Name,
) -> Tensor:
    """The losses that ``per_example()`` computes in the name scope, reduced; in the collection."""
    Reduction.validate(reduction)
    with tf.name_scope(scope, default_name, values):
        loss = _reduced(per_example(), reduction)
    tf.losses.add_loss(loss, collection)
    return loss


def _reduced(per_example: PerExample, reduction: ReductionName) -> Tensor:
    """The losses of a `PerExample`, reduced, in the logits' dtype."""
    _tf.note_loss_reduction(reduction)
    losses = per_example.losses
    if reduction == Reduction.NONE:
        loss = tf.identity(losses, name="Mul")  # the op that tf.losses ends with here
    else:
        loss = tf.reduce_sum(losses)
        if reduction != Reduction.SUM:
            denominator = _DENOMINATORS[reduction](per_example)
            # Of a loss of 0 over 0 the gradient is 0 too.
            loss = tf.div_no_nan(loss, tf.cast(denominator, loss.dtype), name="value")
    return tf.cast(loss, per_example.dtype)


def count_nonzero(values: Tensor, axis: Optional[Sequence[int]] = None) -> Tensor:
    """How many are not 0: int64, which counts past the 2^24 of float32."""
    return tf.reduce_sum(tf.cast(tf.not_equal(values, 0), tf.int64), axis=axis)


def row_weights(per_example: PerExample) -> Tensor:
    """The weights by row, 0 for rows that do not count."""
    ones = tf.ones_like(per_example.losses)
    weights = ones if per_example.weights is None else per_example.weights * ones
    if per_example.valid_rows is None:
        return weights
    return _tf.where(per_example.valid_rows, weights, tf.zeros_like(weights))


def _batch_size(per_example: PerExample) -> Tensor:
    return tf.size(per_example.losses)


def _nonzero_weights(per_example: PerExample) -> Tensor:
    if per_example.weights is None:
        return _valid_tokens(per_example)
    return count_nonzero(row_weights(per_example))


def _weights(per_example: PerExample) -> Tensor:
    return tf.reduce_sum(row_weights(per_example))


def _class_weights(per_example: PerExample) -> Tensor:
    weights = row_weights(per_example)
    if per_example.class_weights is not None:
        weights = weights * per_example.class_weights
    return tf.reduce_sum(weights)


def _valid_tokens(per_example: PerExample) -> Tensor:
    if per_example.valid_rows is None:
        return _batch_size(per_example)
    return tf.reduce_sum(tf.cast(per_example.valid_rows, tf.int64))


_DENOMINATORS: Dict[str, Callable[[PerExample], Tensor]] = {
    Reduction.SUM_OVER_BATCH_SIZE: _batch_size,
    Reduction.SUM_BY_NONZERO_WEIGHTS: _nonzero_weights,
    Reduction.MEAN: _weights,
    Reduction.SUM_BY_CLASS_WEIGHTS: _class_weights,
    Reduction.SUM_BY_VALID_TOKENS: _valid_tokens,
}
