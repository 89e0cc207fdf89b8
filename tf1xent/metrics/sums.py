"""What several metrics are made of: sums over rows, and values of sums. All sums are float64."""

from typing import Tuple

from tf1xent import _tf, nn
from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.metrics.rows import Rows


def true_classes(rows: Rows) -> Tensor:
    """The class of each row, int64; of soft labels the largest, the first of equal ones."""
    if rows.is_dense:
        return tf.argmax(rows.labels, axis=1)
    return tf.cast(rows.labels, tf.int64)


def has_no_nan(logits: Tensor) -> Tensor:
    """Whether a row of logits holds no NaN: [batch_size]."""
    return tf.logical_not(tf.reduce_any(tf.math.is_nan(logits), axis=1))


def are_right(rows: Rows) -> Tensor:
    """Whether the first largest logit is that of the true class: [batch_size]."""
    logits = rows.logits
    right = tf.equal(tf.argmax(logits, axis=1), true_classes(rows))
    is_judgeable = tf.logical_and(
        has_no_nan(logits), tf.math.is_finite(tf.reduce_max(logits, axis=1))
    )
    return tf.logical_and(right, is_judgeable)


def share_sums(rows: Rows, chosen: Tensor) -> Tuple[Tensor, Tensor]:
    """(sum of the weights of the chosen rows, sum of all weights)."""
    weights = rows.weights
    kept = _tf.where(chosen, weights, tf.zeros_like(weights))
    return tf.reduce_sum(kept), tf.reduce_sum(weights)


def weighted_sums(rows: Rows, values: Tensor) -> Tuple[Tensor, Tensor]:
    """(sum of the rows' values by weight, sum of all weights); of weight 0, even NaN adds 0."""
    weighted = _tf.multiply_no_nan(tf.cast(values, tf.float64), rows.weights)
    return tf.reduce_sum(weighted), tf.reduce_sum(rows.weights)


def loss_sums(rows: Rows) -> Tuple[Tensor, Tensor]:
    """(weighted sum of the cross-entropies, sum of all weights)."""
    loss = (
        nn.masked_softmax_cross_entropy_with_logits
        if rows.is_dense
        else nn.masked_sparse_softmax_cross_entropy_with_logits
    )
    return weighted_sums(rows, loss(rows.labels, rows.logits, mask=rows.valid_rows))


def mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and 0 where the count is 0."""
    nothing = tf.equal(count, 0)
    quotient = total / _tf.where(nothing, tf.ones_like(count), count)
    return _tf.where(nothing, tf.zeros_like(quotient), quotient)


def mean_value(rows: Rows, total: Tensor, count: Tensor) -> Tensor:
    """The mean in the dtype of the logits."""
    return tf.cast(mean(total, count), rows.logits.dtype)
