"""The share of right predictions."""

from typing import Tuple

from tf1xent._typing import Tensor
from tf1xent.metrics import documentation
from tf1xent.metrics.definition import Plain, Streaming, define_metric
from tf1xent.metrics.rows import Rows
from tf1xent.metrics.sums import are_right, mean_value, share_sums

__all__ = ["accuracy", "streaming_accuracy"]


def _sums(rows: Rows) -> Tuple[Tensor, Tensor]:
    return share_sums(rows, are_right(rows))


accuracy: "Plain"
streaming_accuracy: "Streaming"
accuracy, streaming_accuracy = define_metric(
    "accuracy",
    __name__,
    _sums,
    mean_value,
    documentation.Metric(
        summary="The share of the examples whose largest logit is that of the true class.",
        text="""
        Over the valid examples i, with weights w_i::

            accuracy = sum_i w_i [argmax_j x_ij = y_i] / sum_i w_i

        Of equal largest logits the first one is taken, as `tf.argmax` does. An example is wrong
        where its logits hold a NaN, its largest logit is infinite, or its label is no class.
        """,
        returns=documentation.DTYPE + "a share, from 0 to 1; 0 where no example is valid or the "
        "weights sum to 0.",
        example="""
        ...     labels = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        ...     logits = [[0.1, 2.0, 0.3], [5.0, 1.0, 1.0], [0.2, 0.1, 0.9], [0.0, 1.0, 3.0]]
        ...     print("{:.4f}".format(session.run(metrics.accuracy(labels, logits))))  # one missing
        0.6667
        """,
        streaming=("labels, logits, ignore_label=-1", "0.3333"),
        source="the definition of `tf.metrics.accuracy`; that of the accuracy with missing labels "
        "which Keras programs write by hand.",
    ),
)
