"""Metrics of all batches so far, as pairs (value, update_op) like those of `tf.metrics`."""

from typing import Any, Optional, Tuple

from tf1xent import _tf
from tf1xent.metrics import running, sums

__all__ = [
    "streaming_accuracy",
    "streaming_expected_calibration_error",
    "streaming_negative_log_likelihood",
    "streaming_perplexity",
    "streaming_token_count",
    "streaming_top_k_accuracy",
]


@_tf.not_converted
def streaming_accuracy(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: Optional[str] = None,
) -> Tuple[Any, Any]:
    """The `accuracy` of all batches so far.

    What counts, what is right, and how it is weighed, is as in `accuracy`. Run
    `tf.local_variables_initializer()` first; run it again to start anew.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      mask, ignore_label, weights, axis: as in `accuracy`.
      metrics_collections: names of the collections to which `value` is added, or None.
      updates_collections: names of the collections to which `update_op` is added, or None.
      name: name of the variable scope.

    Returns:
      `value`: scalar of the logits' dtype, at least float32; 0 before anything counts.
      `update_op`: adds the batch to the local variables `total` and `count`; the value with it.

    **Derivatives**: none: the variables stand between the batches and the value.

    Raises:
      RuntimeError: (graph build) eager execution is enabled.
      ValueError, TypeError: (graph build) as `accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `accuracy`; nothing is added then.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.placeholder(tf.int32, [None])
    ...     logits = tf.placeholder(tf.float32, [None, 2])
    ...     value, update_op = metrics.streaming_accuracy(labels, logits, ignore_label=-1)
    ...     session.run(tf.local_variables_initializer())
    ...     for batch in ([0, 1], [1, -1]):
    ...         _ = session.run(update_op, {labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]})
    ...     print("{:.4f}".format(session.run(value)))
    0.3333

    Source: the protocol of `tf.metrics.accuracy`.
    """
    return running.stream(
        sums.ACCURACY,
        "streaming_accuracy",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
        (metrics_collections, updates_collections),
    )


@_tf.not_converted
def streaming_top_k_accuracy(
    labels: Any,
    logits: Any,
    k: int,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: Optional[str] = None,
) -> Tuple[Any, Any]:
    """The `top_k_accuracy` of all batches so far.

    Ties, and what counts, are as in `top_k_accuracy`.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      k: a Python integer of at least 1.
      mask, ignore_label, weights, axis: as in `accuracy`.
      metrics_collections: names of the collections to which `value` is added, or None.
      updates_collections: names of the collections to which `update_op` is added, or None.
      name: name of the variable scope.

    Returns:
      `value`: scalar of the logits' dtype, at least float32; 0 before anything counts.
      `update_op`: adds the batch to the local variables `total` and `count`; the value with it.

    **Derivatives**: none: the variables stand between the batches and the value.

    Raises:
      RuntimeError: (graph build) eager execution is enabled.
      ValueError, TypeError: (graph build) as `top_k_accuracy`.
      tf.errors.InvalidArgumentError: (session run) as `top_k_accuracy`; nothing is added then.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.placeholder(tf.int32, [None])
    ...     logits = tf.placeholder(tf.float32, [None, 2])
    ...     value, update_op = metrics.streaming_top_k_accuracy(labels, logits, 1, ignore_label=-1)
    ...     session.run(tf.local_variables_initializer())
    ...     for batch in ([0, 1], [1, -1]):
    ...         _ = session.run(update_op, {labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]})
    ...     print("{:.4f}".format(session.run(value)))
    0.6667

    Source: the protocol of `tf.metrics`, the definition of `tf.nn.in_top_k`.
    """
    return running.stream(
        sums.top_k_accuracy("streaming_top_k_accuracy", k),
        "streaming_top_k_accuracy",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
        (metrics_collections, updates_collections),
    )


@_tf.not_converted
def streaming_negative_log_likelihood(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: Optional[str] = None,
) -> Tuple[Any, Any]:
    """The `negative_log_likelihood` of all batches so far.

    It is the mean over all tokens so far, not over the batches' means.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      mask, ignore_label, weights, axis: as in `accuracy`.
      metrics_collections: names of the collections to which `value` is added, or None.
      updates_collections: names of the collections to which `update_op` is added, or None.
      name: name of the variable scope.

    Returns:
      `value`: scalar of the logits' dtype, at least float32, in nats; 0 before anything counts.
      `update_op`: adds the batch to the local variables `total` and `count`; the value with it.

    **Derivatives**: none: the variables stand between the batches and the value.

    Raises:
      RuntimeError: (graph build) eager execution is enabled.
      ValueError, TypeError: (graph build) as `negative_log_likelihood`.
      tf.errors.InvalidArgumentError: (session run) as `negative_log_likelihood`; nothing is
        added then.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.placeholder(tf.int32, [None])
    ...     logits = tf.placeholder(tf.float32, [None, 2])
    ...     value, update_op = metrics.streaming_negative_log_likelihood(
    ...         labels, logits, ignore_label=-1
    ...     )
    ...     session.run(tf.local_variables_initializer())
    ...     for batch in ([0, 1], [1, -1]):
    ...         _ = session.run(update_op, {labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]})
    ...     print("{:.4f}".format(session.run(value)))
    0.7732

    Source: the protocol of `tf.metrics.mean`; the formula is derived in `tf1xent._math.softmax`.
    """
    return running.stream(
        sums.NEGATIVE_LOG_LIKELIHOOD,
        "streaming_negative_log_likelihood",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
        (metrics_collections, updates_collections),
    )


@_tf.not_converted
def streaming_perplexity(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: Optional[str] = None,
) -> Tuple[Any, Any]:
    """The `perplexity` of all batches so far.

    It is the exponential of the mean over all tokens so far, not a mean of perplexities.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      mask, ignore_label, weights, axis: as in `accuracy`.
      metrics_collections: names of the collections to which `value` is added, or None.
      updates_collections: names of the collections to which `update_op` is added, or None.
      name: name of the variable scope.

    Returns:
      `value`: scalar of the logits' dtype, at least float32; 1 before anything counts.
      `update_op`: adds the batch to the local variables `total` and `count`; the value with it.

    **Derivatives**: none: the variables stand between the batches and the value.

    Raises:
      RuntimeError: (graph build) eager execution is enabled.
      ValueError, TypeError: (graph build) as `perplexity`.
      tf.errors.InvalidArgumentError: (session run) as `perplexity`; nothing is added then.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.placeholder(tf.int32, [None])
    ...     logits = tf.placeholder(tf.float32, [None, 2])
    ...     value, update_op = metrics.streaming_perplexity(labels, logits, ignore_label=-1)
    ...     session.run(tf.local_variables_initializer())
    ...     for batch in ([0, 1], [1, -1]):
    ...         _ = session.run(update_op, {labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]})
    ...     print("{:.4f}".format(session.run(value)))
    2.1667

    Source: the protocol of `tf.metrics.mean`, the definition in use for language models.
    """
    return running.stream(
        sums.PERPLEXITY,
        "streaming_perplexity",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
        (metrics_collections, updates_collections),
    )


@_tf.not_converted
def streaming_expected_calibration_error(
    labels: Any,
    logits: Any,
    *,
    num_bins: int = 15,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: Optional[str] = None,
) -> Tuple[Any, Any]:
    """The `expected_calibration_error` of all batches so far.

    The sums of each bin go on from batch to batch, so that it is the error of all examples at once
    and not a mean of the batches' errors.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      num_bins: a Python integer of at least 1.
      mask, ignore_label, weights, axis: as in `accuracy`.
      metrics_collections: names of the collections to which `value` is added, or None.
      updates_collections: names of the collections to which `update_op` is added, or None.
      name: name of the variable scope.

    Returns:
      `value`: scalar of the logits' dtype, at least float32; 0 before anything counts.
      `update_op`: adds the batch to the local variables `total`, `[num_bins]`, and `count`; the
        value with it.

    **Derivatives**: none: the variables stand between the batches and the value.

    Raises:
      RuntimeError: (graph build) eager execution is enabled.
      ValueError, TypeError: (graph build) as `expected_calibration_error`.
      tf.errors.InvalidArgumentError: (session run) as `expected_calibration_error`; nothing is
        added then.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.placeholder(tf.int32, [None])
    ...     logits = tf.placeholder(tf.float32, [None, 2])
    ...     value, update_op = metrics.streaming_expected_calibration_error(
    ...         labels, logits, ignore_label=-1
    ...     )
    ...     session.run(tf.local_variables_initializer())
    ...     for batch in ([0, 1], [1, -1]):
    ...         _ = session.run(update_op, {labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]})
    ...     print("{:.4f}".format(session.run(value)))
    0.3207

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
    """
    return running.stream(
        sums.expected_calibration_error("streaming_expected_calibration_error", num_bins),
        "streaming_expected_calibration_error",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
        (metrics_collections, updates_collections),
    )


@_tf.not_converted
def streaming_token_count(
    labels: Any,
    logits: Any,
    *,
    mask: Any = None,
    ignore_label: Optional[int] = None,
    weights: Any = None,
    axis: int = -1,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: Optional[str] = None,
) -> Tuple[Any, Any]:
    """The `token_count` of all batches so far.

    It counts exactly up to 2**53.

    Args:
      labels: class numbers, or numbers by class, as in `accuracy`.
      logits: `Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats.
      mask, ignore_label, weights, axis: as in `accuracy`.
      metrics_collections: names of the collections to which `value` is added, or None.
      updates_collections: names of the collections to which `update_op` is added, or None.
      name: name of the variable scope.

    Returns:
      `value`: scalar of int64; with `weights` the sum of the weights, of float64;
        0 before anything counts.
      `update_op`: adds the batch to the local variable `total`; the value with it.

    **Derivatives**: none: the variables stand between the batches and the value.

    Raises:
      RuntimeError: (graph build) eager execution is enabled.
      ValueError, TypeError: (graph build) as `token_count`.
      tf.errors.InvalidArgumentError: (session run) as `token_count`; nothing is added then.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent import metrics
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     labels = tf.placeholder(tf.int32, [None])
    ...     logits = tf.placeholder(tf.float32, [None, 2])
    ...     value, update_op = metrics.streaming_token_count(labels, logits, ignore_label=-1)
    ...     session.run(tf.local_variables_initializer())
    ...     for batch in ([0, 1], [1, -1]):
    ...         _ = session.run(update_op, {labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]})
    ...     print(session.run(value))
    3

    Source: the protocol of `tf.metrics`.
    """
    return running.stream(
        sums.TOKEN_COUNT,
        "streaming_token_count",
        name,
        (labels, logits, mask, ignore_label, weights, axis),
        (metrics_collections, updates_collections),
    )
