"""Metrics of classifications in which masked examples are absent.

Each metric is a plain tensor, the metric of one batch, and with `streaming_` before its name a pair
(value, update_op) like those of `tf.metrics`, the metric of all batches so far. All means are
weighted means over the valid examples (tokens, pixels), which `mask` and `ignore_label` leave in.
Sums and counts are float64, so that counts stay exact past 2**24. Labels, masks and weights mean
the same as in `tf1xent.nn`.
"""

from tf1xent.metrics.accuracy import accuracy, streaming_accuracy
from tf1xent.metrics.brier_score import brier_score, streaming_brier_score
from tf1xent.metrics.expected_calibration_error import (
    expected_calibration_error,
    streaming_expected_calibration_error,
)
from tf1xent.metrics.negative_log_likelihood import (
    negative_log_likelihood,
    streaming_negative_log_likelihood,
)
from tf1xent.metrics.perplexity import perplexity, streaming_perplexity
from tf1xent.metrics.token_count import streaming_token_count, token_count
from tf1xent.metrics.top_k_accuracy import streaming_top_k_accuracy, top_k_accuracy

__all__ = ["accuracy", "streaming_accuracy"]
__all__ += ["brier_score", "streaming_brier_score"]
__all__ += ["expected_calibration_error", "streaming_expected_calibration_error"]
__all__ += ["negative_log_likelihood", "streaming_negative_log_likelihood"]
__all__ += ["perplexity", "streaming_perplexity"]
__all__ += ["token_count", "streaming_token_count"]
__all__ += ["top_k_accuracy", "streaming_top_k_accuracy"]
