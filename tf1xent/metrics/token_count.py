"""The number of valid examples, or the sum of their weights."""

from typing import Tuple

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.metrics import documentation
from tf1xent.metrics.definition import Plain, Streaming, define_metric
from tf1xent.metrics.rows import Rows

__all__ = ["streaming_token_count", "token_count"]


def _sums(rows: Rows) -> Tuple[Tensor]:
    return (tf.reduce_sum(rows.weights),)


def _value(rows: Rows, count: Tensor) -> Tensor:
    return count if rows.has_weights else tf.cast(count, tf.int64)


token_count: "Plain"
streaming_token_count: "Streaming"
token_count, streaming_token_count = define_metric(
    "token_count",
    __name__,
    _sums,
    _value,
    documentation.Metric(
        summary="The number of valid examples (tokens), or the sum of their weights.",
        text="""
        It is what the other metrics of the same arguments divide by. Of the logits only the shape
        matters.
        """,
        returns="Scalar: the number, of int64; with `weights` their sum, of float64. Exact up to "
        "2**53.",
        derivatives="in `weights`; none in labels and logits.",
        example="""
        ...     labels, logits = [[4, 7, -100], [2, -100, -100]], tf.zeros([2, 3, 10])
        ...     print(session.run(metrics.token_count(labels, logits, ignore_label=-100)))
        3
        """,
        streaming=("labels, logits, ignore_label=-1", "3"),
        variables="variable `total`",
        source="the definition of the valid tokens of `tf1xent.losses.Reduction`.",
    ),
)
