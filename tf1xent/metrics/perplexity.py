"""The exponential of the mean cross-entropy."""

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.metrics import documentation
from tf1xent.metrics.definition import Plain, Streaming, define_metric
from tf1xent.metrics.rows import Rows
from tf1xent.metrics.sums import loss_sums, mean

__all__ = ["perplexity", "streaming_perplexity"]


def _value(rows: Rows, total: Tensor, count: Tensor) -> Tensor:
    return tf.cast(tf.exp(mean(total, count)), rows.logits.dtype)


perplexity: "Plain"
streaming_perplexity: "Streaming"
perplexity, streaming_perplexity = define_metric(
    "perplexity",
    __name__,
    loss_sums,
    _value,
    documentation.Metric(
        summary="The exponential of the mean cross-entropy of the valid examples (tokens).",
        text="""
        For a uniform prediction it is the number of classes::

            perplexity = exp(negative_log_likelihood)
        """,
        returns=documentation.DTYPE + "a number of classes; 1 where no example is valid. inf for "
        "infinitely many nats, and beyond what the dtype can hold.",
        derivatives="as `negative_log_likelihood`: exact, of every order, in logits, in soft "
        "labels and in `weights`.",
        run_errors=documentation.INVALID_LABELS,
        example="""
        ...     logits = tf.zeros([2, 3, 10])
        ...     mask = [[True, True, False], [True, False, False]]
        ...     value = metrics.perplexity([[3, 1, 0], [9, 0, 0]], logits, mask=mask)
        ...     print("{:.4f}".format(session.run(value)))
        10.0000
        """,
        streaming=("labels, logits, ignore_label=-1", "2.167"),
        streaming_text="It is the exponential of the mean over all tokens so far, not a mean of "
        "perplexities.",
        source="the definition in use for language models: per token, to the base e.",
    ),
)
