"""Metrics of one batch, as plain tensors.

All means are weighted means over the examples (tokens, pixels) that count; sums and counts are kept
in float64, so that none is lost past 2**24 of them.
"""

from typing import Any, Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.metrics import sums
from tf1xent.metrics.examples import as_examples

__all__ = [
    "accuracy",
    "expected_calibration_error",
    "negative_log_likelihood",
    "perplexity",
    "token_count",
    "top_k_accuracy",
]


def _value(metric, function, name, arguments):
    with tf.name_scope(name, function, arguments[:2]):
        examples = as_examples(function, *arguments)
        return metric.value(examples, *metric.sums(examples))


@_tf.not_converted
def accuracy(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    name: Optional[str] = None,
) -> Any:
    """The share of the examples whose largest logit is that of the true class.

    Over the examples i that count, with weights w_i::

        accuracy = sum_i w_i [argmax_j x_ij = y_i] / sum_i w_i

    Of equal largest logits the first one is taken, as `tf.argmax` does. An example whose logits
    hold a NaN, whose largest logit is infinite, or whose label is no class, is wrong.

    Args:
      labels: class numbers, `Tensor` of int32 or int64, of the shape of `logits` without the class
        axis; or numbers by class (one-hot or soft labels), `Tensor` of any numeric dtype and of the
        shape of `logits`, whose argmax is the true class. The rank tells which; where it is known
        only in the run, integers are class numbers and floating-point numbers are soft labels.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats. half
        and bfloat16 are computed in float32.
      mask: `Tensor` of bool, or of numbers of which 0 is False: the examples that count. Its shape
        is that of `logits` without the class axis, or has 1 in place of any size. Without a mask,
        an example whose labels by class are all zero is missing and does not count.
      ignore_label: an integer; examples with this class number do not count.
      weights: a number, or a `Tensor` that broadcasts as a mask does: the weight of each example.
      axis: the class axis of `logits`, and of labels by class.
      name: name of the operation.

    Returns:
      Scalar of the logits' dtype, float32 for half and bfloat16: a share, from 0 to 1; 0 where
      nothing counts or the weights sum to 0. Nothing of an example that does not count, be it NaN,
      reaches it.

    **Derivatives**: none in labels and logits, in which it is piecewise constant (`tf.gradients`
      returns None); in `weights`, of every order.

    Raises:
      ValueError: (graph build) shapes that do not fit, an axis that `logits` lacks, an
        `ignore_label` with labels by class or beyond the labels' dtype.
      TypeError: (graph build) dtypes other than the above.
      tf.errors.InvalidArgumentError: (session run) shapes that only the run could tell and that do
        not fit.

    Example, in which labels are missing:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> labels = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    >>> logits = [[0.1, 2.0, 0.3], [5.0, 1.0, 1.0], [0.2, 0.1, 0.9], [0.0, 1.0, 3.0]]
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     print("{:.4f}".format(session.run(metrics.accuracy(labels, logits))))
    0.6667

    Source: the definition of `tf.metrics.accuracy`, and that of the accuracy with missing labels
    which Keras programs write by hand.
    """
    return _value(
        sums.ACCURACY,
        "accuracy",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
    )


@_tf.not_converted
def top_k_accuracy(
    labels: Any,
    logits: Any,
    k: int,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    name: Optional[str] = None,
) -> Any:
    """The share of the examples whose true class is among those with the `k` largest logits.

    Over the examples i that count, with weights w_i::

        top_k_accuracy = sum_i w_i [number of j with x_ij > x_iy is less than k] / sum_i w_i

    Classes that tie at the boundary are all in, as for `tf.nn.in_top_k`: with ``k=1`` and ties it
    may be more than `accuracy`. An example whose true logit is infinite, whose logits hold a NaN,
    or whose label is no class, is wrong. A class left out by a logit of -inf is an ordinary loser
    (`tf.nn.in_top_k` takes the whole example as wrong).

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      k: a Python integer of at least 1; of `num_classes` and more, every class is in.
      mask: the examples that count, as in `accuracy`.
      ignore_label: an integer; examples with this class number do not count.
      weights: the weight of each example, as in `accuracy`.
      axis: the class axis of `logits`, and of labels by class.
      name: name of the operation.

    Returns:
      Scalar of the logits' dtype, float32 for half and bfloat16: a share, from 0 to 1; 0 where
      nothing counts.

    **Derivatives**: none in labels and logits (`tf.gradients` returns None); in `weights`, of every
      order.

    Raises:
      ValueError: (graph build) a `k` below 1; else as `accuracy`.
      TypeError: (graph build) as `accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `accuracy`.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> logits = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     share = metrics.top_k_accuracy([1, 2, 0, -1], logits, 2, ignore_label=-1)
    ...     print("{:.4f}".format(session.run(share)))
    0.6667

    Source: the definition of `tf.nn.in_top_k`.
    """
    return _value(
        sums.top_k_accuracy("top_k_accuracy", k),
        "top_k_accuracy",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
    )


@_tf.not_converted
def negative_log_likelihood(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    name: Optional[str] = None,
) -> Any:
    """The mean cross-entropy per example (token) that counts, in nats.

    Over the examples i that count, with weights w_i, and the losses of
    `tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits` or, for labels by class, of
    `tf1xent.nn.masked_softmax_cross_entropy_with_logits`::

        negative_log_likelihood = sum_i w_i loss_i / sum_i w_i

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      mask: the examples that count, as in `accuracy`.
      ignore_label: an integer; examples with this class number do not count.
      weights: the weight of each example, as in `accuracy`. One of weight 0 adds nothing, even
        where its loss is infinite.
      axis: the class axis of `logits`, and of labels by class.
      name: name of the operation.

    Returns:
      Scalar of the logits' dtype, float32 for half and bfloat16, in nats, as accurate relatively as
      the losses; 0 where nothing counts.

    **Derivatives**: those of the losses, exact, of every order, in logits, in labels by class and
      in `weights`.

    Raises:
      ValueError: (graph build) as `accuracy`.
      TypeError: (graph build) as `accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `accuracy`; on a CPU also a class number that
        counts and is outside `[0, num_classes)` (on a GPU and under XLA the result is NaN then).

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = [[[0.0, 0.0], [50.0, 0.0], [1.0, 2.0]]]
    ...     nats = metrics.negative_log_likelihood([[1, 0, 255]], logits, ignore_label=255)
    ...     confident = metrics.negative_log_likelihood([0], [[50.0, 0.0]])
    ...     print(["{:.6g}".format(value) for value in session.run([nats, confident])])
    ['0.346574', '1.92875e-22']

    Source: the formula and its accuracy are derived in `tf1xent._math.softmax`.
    """
    return _value(
        sums.NEGATIVE_LOG_LIKELIHOOD,
        "negative_log_likelihood",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
    )


@_tf.not_converted
def perplexity(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    name: Optional[str] = None,
) -> Any:
    """The exponential of the negative log-likelihood per example (token) that counts.

    For a uniform prediction it is the number of classes::

        perplexity = exp(negative_log_likelihood)

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      mask: the examples that count, as in `accuracy`.
      ignore_label: an integer; examples with this class number do not count.
      weights: the weight of each example, as in `accuracy`.
      axis: the class axis of `logits`, and of labels by class.
      name: name of the operation.

    Returns:
      Scalar of the logits' dtype, float32 for half and bfloat16: a number of classes; 1 where
      nothing counts. Of infinitely many nats, and of more than the dtype can hold, inf.

    **Derivatives**: as `negative_log_likelihood`, exact, of every order.

    Raises:
      ValueError: (graph build) as `accuracy`.
      TypeError: (graph build) as `accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `negative_log_likelihood`.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.zeros([2, 3, 10])
    ...     mask = [[True, True, False], [True, False, False]]
    ...     value = metrics.perplexity([[3, 1, 0], [9, 0, 0]], logits, mask=mask)
    ...     print("{:.4f}".format(session.run(value)))
    10.0000

    Source: the definition in use for language models: per token, to the base e.
    """
    return _value(
        sums.PERPLEXITY,
        "perplexity",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
    )


@_tf.not_converted
def expected_calibration_error(
    labels: Any,
    logits: Any,
    *,
    num_bins: int = 15,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    name: Optional[str] = None,
) -> Any:
    """How far confidence is from accuracy, on average over bins of equal confidence.

    Example i, with weight w_i, has the confidence p_i = max_j softmax(x_i)_j. Those with a p_i in
    ((m - 1) / num_bins, m / num_bins] are bin m; r_i is 1 where `accuracy` takes i as right::

        error = sum_m |sum_{i in m} w_i (r_i - p_i)| / sum_i w_i

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      num_bins: a Python integer of at least 1.
      mask: the examples that count, as in `accuracy`.
      ignore_label: an integer; examples with this class number do not count.
      weights: the weight of each example, at least 0, as in `accuracy`.
      axis: the class axis of `logits`, and of labels by class.
      name: name of the operation.

    Returns:
      Scalar of the logits' dtype, float32 for half and bfloat16, from 0 to 1; 0 where nothing
      counts, and NaN where an example that counts has no largest probability. Confident and right
      predictions leave their 1 - p_i, however small.

    **Derivatives**: none in labels and logits, in which it jumps (`tf.gradients` returns None); in
      `weights`, of every order.

    Raises:
      ValueError: (graph build) a `num_bins` below 1; else as `accuracy`.
      TypeError: (graph build) as `accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `accuracy`.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.log([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    ...     error = metrics.expected_calibration_error([0, 1, 1, -1], logits, ignore_label=-1)
    ...     print("{:.4f}".format(session.run(error)))
    0.3333

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
    """
    return _value(
        sums.expected_calibration_error("expected_calibration_error", num_bins),
        "expected_calibration_error",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
    )


@_tf.not_converted
def token_count(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    name: Optional[str] = None,
) -> Any:
    """The number of examples (tokens) that count, or the sum of their weights.

    It is what the other metrics of the same arguments divide by.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats; only
        their shape matters.
      mask: the examples that count, as in `accuracy`.
      ignore_label: an integer; examples with this class number do not count.
      weights: the weight of each example, as in `accuracy`.
      axis: the class axis of `logits`, and of labels by class.
      name: name of the operation.

    Returns:
      Scalar: the number, of int64; with `weights` their sum, of float64.

    **Derivatives**: in `weights`; none in labels and logits.

    Raises:
      ValueError: (graph build) as `accuracy`.
      TypeError: (graph build) as `accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `accuracy`.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels, logits = [[4, 7, -100], [2, -100, -100]], tf.zeros([2, 3, 10])
    ...     print(session.run(metrics.token_count(labels, logits, ignore_label=-100)))
    3

    Source: the definition of the valid tokens of `tf1xent.losses.Reduction`.
    """
    return _value(
        sums.TOKEN_COUNT,
        "token_count",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
    )
