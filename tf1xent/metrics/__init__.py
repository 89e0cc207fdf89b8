"""Metrics of classifications, where what is masked is absent.

Each metric exists as a plain tensor, the metric of one batch, and with `streaming_` before its name
as a pair (value, update_op) like those of `tf.metrics`, the metric of all batches so far. Labels,
masks and weights are those of `tf1xent.nn`, and mean the same in all of them.
"""

from tf1xent.metrics.streaming import (
    streaming_accuracy,
    streaming_expected_calibration_error,
    streaming_negative_log_likelihood,
    streaming_perplexity,
    streaming_token_count,
    streaming_top_k_accuracy,
)
from tf1xent.metrics.values import (
    accuracy,
    expected_calibration_error,
    negative_log_likelihood,
    perplexity,
    token_count,
    top_k_accuracy,
)

__all__ = [
    "accuracy",
    "expected_calibration_error",
    "negative_log_likelihood",
    "perplexity",
    "streaming_accuracy",
    "streaming_expected_calibration_error",
    "streaming_negative_log_likelihood",
    "streaming_perplexity",
    "streaming_token_count",
    "streaming_top_k_accuracy",
    "token_count",
    "top_k_accuracy",
]
