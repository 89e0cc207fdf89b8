"""The mean cross-entropy."""

from tf1xent.metrics import documentation
from tf1xent.metrics.definition import Plain, Streaming, define_metric
from tf1xent.metrics.sums import loss_sums, mean_value

__all__ = ["negative_log_likelihood", "streaming_negative_log_likelihood"]

negative_log_likelihood: "Plain"
streaming_negative_log_likelihood: "Streaming"
negative_log_likelihood, streaming_negative_log_likelihood = define_metric(
    "negative_log_likelihood",
    __name__,
    loss_sums,
    mean_value,
    documentation.Metric(
        summary="The mean cross-entropy of the valid examples (tokens), in nats.",
        text="""
        Over the valid examples i, with weights w_i, and the losses of
        `tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits` or, for soft labels, of
        `tf1xent.nn.masked_softmax_cross_entropy_with_logits`::

            negative_log_likelihood = sum_i w_i loss_i / sum_i w_i
        """,
        returns=documentation.DTYPE + "nats, relatively as accurate as the losses; 0 where no "
        "example is valid.",
        derivatives="those of the losses, exact, of every order, in logits, in soft labels and in "
        "`weights`.",
        run_errors=documentation.INVALID_LABELS,
        example="""
        ...     logits = [[[0.0, 0.0], [50.0, 0.0], [1.0, 2.0]]]
        ...     nats = metrics.negative_log_likelihood([[1, 0, 255]], logits, ignore_label=255)
        ...     confident = metrics.negative_log_likelihood([0], [[50.0, 0.0]])
        ...     print(["{:.6g}".format(value) for value in session.run([nats, confident])])
        ['0.346574', '1.92875e-22']
        """,
        streaming=("labels, logits, ignore_label=-1", "0.7732"),
        streaming_text="The mean is over all tokens so far, not over the batches' means.",
        source="the formula and its accuracy are derived in `tf1xent._math.softmax`.",
    ),
)
