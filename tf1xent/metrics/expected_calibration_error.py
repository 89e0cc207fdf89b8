"""How far confidence is from accuracy."""

from typing import TYPE_CHECKING, Tuple

from tf1xent import _tf, nn
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Tensor
from tf1xent.metrics import documentation
from tf1xent.metrics.definition import define_metric
from tf1xent.metrics.rows import Rows
from tf1xent.metrics.sums import are_right, mean_value

__all__ = ["expected_calibration_error", "streaming_expected_calibration_error"]

if TYPE_CHECKING:
    from typing_extensions import Protocol, Unpack

    from tf1xent.metrics.definition import PlainOptions, StreamingOptions, ValueAndUpdate

    class Plain(Protocol):
        def __call__(
            self,
            labels: Labels,
            logits: Logits,
            *,
            num_bins: int = 15,
            **options: Unpack[PlainOptions],
        ) -> Tensor: ...

    class Streaming(Protocol):
        def __call__(
            self,
            labels: Labels,
            logits: Logits,
            *,
            num_bins: int = 15,
            **options: Unpack[StreamingOptions],
        ) -> ValueAndUpdate: ...


def _sums(rows: Rows, *, num_bins: int = 15) -> Tuple[Tensor, Tensor]:
    """(the weighted sum of right - confidence in each bin, sum of the weights)."""
    # The loss of the predicted class is -log of its probability p: 1 - p = -expm1(-loss) keeps
    # its digits where p is close to 1.
    predicted = tf.argmax(rows.logits, axis=1)
    surprisal = nn.sparse_softmax_cross_entropy_with_logits(
        labels=predicted, logits=tf.stop_gradient(rows.logits)
    )
    surprisal = tf.cast(surprisal, tf.float64)
    confidence = tf.exp(-surprisal)
    gaps = _tf.where(are_right(rows), -tf.expm1(-surprisal), -confidence)
    # A bin holds its upper edge. NaN has no bin: it goes to the first, whose sum becomes NaN.
    in_first = tf.logical_not(confidence > 1.0 / num_bins)
    bins = tf.cast(tf.math.ceil(confidence * num_bins), tf.int32) - 1
    bins = _tf.where(in_first, tf.zeros_like(bins), tf.minimum(bins, num_bins - 1))
    weighted = _tf.multiply_no_nan(gaps, rows.weights)
    totals = tf.math.unsorted_segment_sum(weighted, bins, num_bins)
    return totals, tf.reduce_sum(rows.weights)


def _value(rows: Rows, totals: Tensor, count: Tensor) -> Tensor:
    return mean_value(rows, tf.reduce_sum(tf.abs(totals)), count)


expected_calibration_error: "Plain"
streaming_expected_calibration_error: "Streaming"
expected_calibration_error, streaming_expected_calibration_error = define_metric(
    "expected_calibration_error",
    __name__,
    _sums,
    _value,
    documentation.Metric(
        summary="How far confidence is from accuracy, on average over bins of equal confidence.",
        text="""
        Example i, with weight w_i, has the confidence p_i = max_j softmax(x_i)_j. The valid
        examples with p_i in ((m - 1) / num_bins, m / num_bins] are bin m; r_i is 1 where `accuracy`
        takes i as right::

            error = sum_m |sum_{i in m} w_i (r_i - p_i)| / sum_i w_i
        """,
        arguments={"num_bins": "a Python integer of at least 1."},
        returns=documentation.DTYPE + "from 0 to 1 (for weights of at least 0); 0 where no example "
        "is valid, and NaN where a valid example has no largest probability. Confident and right "
        "predictions leave their 1 - p_i, however small.",
        derivatives="none in labels and logits, in which it jumps (`tf.gradients` returns None); "
        "in `weights`, of every order.",
        errors="a `num_bins` below 1; ",
        example="""
        ...     logits = tf.log([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
        ...     error = metrics.expected_calibration_error([0, 1, 1, -1], logits, ignore_label=-1)
        ...     print("{:.4f}".format(session.run(error)))
        0.3333
        """,
        streaming=("labels, logits, ignore_label=-1", "0.3207"),
        streaming_text="Each bin's sum goes on from batch to batch: the error is that of all "
        "examples at once, not a mean of the batches' errors.",
        variables="variables `total`, `[num_bins]`, and `count`",
        source="Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.",
    ),
)
