"""Metrics as sums over examples, and as what becomes of the sums.

A batch and a stream of batches have the same metric: the plain functions take its value of the sums
of one batch, the streaming ones of the sums of all batches so far. All sums are float64.
"""

import collections
import numbers

from tf1xent import _tf, nn
from tf1xent._tf import tf

# sums(examples) returns the metric's sums, and value(examples, *sums) the metric. Of the examples,
# value looks only at what no batch changes: the dtype, and whether there are weights.
Metric = collections.namedtuple("Metric", ["sums", "value"])


def positive_integer(function, name, value):
    """`value`, a Python integer of at least 1."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < 1:
        raise ValueError(
            f"{function}: `{name}` must be a Python integer of at least 1, got {value!r}. "
            "It is fixed when the graph is built."
        )
    return int(value)


def _true_classes(examples):
    """The class of each row, int64; of soft labels the largest, the first of equal ones."""
    if examples.is_dense:
        return tf.argmax(examples.labels, axis=1)
    return tf.cast(examples.labels, tf.int64)


def _without_nan(logits):
    return tf.logical_not(tf.reduce_any(tf.math.is_nan(logits), axis=1))


def _are_right(examples):
    """Whether the first largest logit is that of the true class, by row."""
    logits = examples.logits
    right = tf.equal(tf.argmax(logits, axis=1), _true_classes(examples))
    judgeable = tf.logical_and(
        _without_nan(logits), tf.math.is_finite(tf.reduce_max(logits, axis=1))
    )
    return tf.logical_and(right, judgeable)


def _are_in_top(examples, k):
    """Whether fewer than `k` logits are larger than that of the true class, by row."""
    logits = examples.logits
    num_classes = tf.shape(logits, out_type=tf.int64)[1]
    classes = _true_classes(examples)
    valid = tf.logical_and(classes >= 0, classes < num_classes)
    somewhere = _tf.where(valid, classes, tf.zeros_like(classes))
    positions = tf.range(tf.shape(logits, out_type=tf.int64)[0])
    true_logits = tf.gather_nd(logits, tf.stack([positions, somewhere], axis=1))
    boundary = tf.nn.top_k(logits, tf.minimum(k, tf.shape(logits)[1])).values[:, -1]
    judgeable = tf.logical_and(_without_nan(logits), tf.math.is_finite(true_logits))
    in_top = tf.logical_and(true_logits >= boundary, judgeable)
    return tf.logical_and(in_top, valid)


def _weight_sums(examples, chosen):
    """(sum of the weights of the chosen rows, sum of all weights)."""
    weights = examples.weights
    kept = _tf.where(chosen, weights, tf.zeros_like(weights))
    return tf.reduce_sum(kept), tf.reduce_sum(weights)


def _loss_sums(examples):
    """(weighted sum of the losses, sum of the weights)."""
    loss = (
        nn.masked_softmax_cross_entropy_with_logits
        if examples.is_dense
        else nn.masked_sparse_softmax_cross_entropy_with_logits
    )
    losses = loss(examples.labels, examples.logits, mask=examples.counted)
    weighted = _tf.multiply_no_nan(tf.cast(losses, tf.float64), examples.weights)
    return tf.reduce_sum(weighted), tf.reduce_sum(examples.weights)


def _calibration_sums(examples, num_bins):
    """(in each bin the weighted sum of right - confidence, sum of the weights)."""
    # The loss of the class with the largest probability is -log of that: 1 - p loses nothing then.
    predicted = tf.argmax(examples.logits, axis=1)
    surprise = nn.sparse_softmax_cross_entropy_with_logits(
        labels=predicted, logits=tf.stop_gradient(examples.logits)
    )
    surprise = tf.cast(surprise, tf.float64)
    confidence = tf.exp(-surprise)
    gaps = _tf.where(_are_right(examples), -tf.expm1(-surprise), -confidence)
    # A bin holds its upper edge. NaN has no bin: it goes to the first, and makes that NaN.
    in_first = tf.logical_not(confidence > 1.0 / num_bins)
    bins = tf.cast(tf.math.ceil(confidence * num_bins), tf.int32) - 1
    bins = _tf.where(in_first, tf.zeros_like(bins), tf.minimum(bins, num_bins - 1))
    totals = tf.math.unsorted_segment_sum(
        _tf.multiply_no_nan(gaps, examples.weights), bins, num_bins
    )
    return totals, tf.reduce_sum(examples.weights)


def _mean(total, count):
    """total / count, and 0 where there is nothing to count."""
    nothing = tf.equal(count, 0)
    mean = total / _tf.where(nothing, tf.ones_like(count), count)
    return _tf.where(nothing, tf.zeros_like(mean), mean)


def _mean_value(examples, total, count):
    return tf.cast(_mean(total, count), examples.logits.dtype)


def _perplexity_value(examples, total, count):
    return tf.cast(tf.exp(_mean(total, count)), examples.logits.dtype)


def _calibration_value(examples, totals, count):
    return _mean_value(examples, tf.reduce_sum(tf.abs(totals)), count)


def _count_value(examples, count):
    return count if examples.has_weights else tf.cast(count, tf.int64)


ACCURACY = Metric(lambda examples: _weight_sums(examples, _are_right(examples)), _mean_value)
NEGATIVE_LOG_LIKELIHOOD = Metric(_loss_sums, _mean_value)
PERPLEXITY = Metric(_loss_sums, _perplexity_value)
TOKEN_COUNT = Metric(lambda examples: (tf.reduce_sum(examples.weights),), _count_value)


def top_k_accuracy(function, k):
    """The metric of that `k`."""
    k = positive_integer(function, "k", k)
    return Metric(lambda examples: _weight_sums(examples, _are_in_top(examples, k)), _mean_value)


def expected_calibration_error(function, num_bins):
    """The metric of that number of bins."""
    num_bins = positive_integer(function, "num_bins", num_bins)
    return Metric(lambda examples: _calibration_sums(examples, num_bins), _calibration_value)
