"""The share of examples whose true class is among those of the largest logits."""

from typing import TYPE_CHECKING, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Tensor
from tf1xent.metrics import documentation
from tf1xent.metrics.definition import define_metric
from tf1xent.metrics.rows import Rows
from tf1xent.metrics.sums import has_no_nan, mean_value, share_sums, true_classes

__all__ = ["streaming_top_k_accuracy", "top_k_accuracy"]

if TYPE_CHECKING:
    from typing_extensions import Protocol, Unpack

    from tf1xent.metrics.definition import PlainOptions, StreamingOptions, ValueAndUpdate

    class Plain(Protocol):
        def __call__(
            self, labels: Labels, logits: Logits, k: int, **options: Unpack[PlainOptions]
        ) -> Tensor: ...

    class Streaming(Protocol):
        def __call__(
            self, labels: Labels, logits: Logits, k: int, **options: Unpack[StreamingOptions]
        ) -> ValueAndUpdate: ...


def _are_in_top(rows: Rows, k: int) -> Tensor:
    """Whether fewer than `k` logits are larger than that of the true class: [batch_size]."""
    logits = rows.logits
    num_classes = tf.shape(logits, out_type=tf.int64)[1]
    classes = true_classes(rows)
    is_class = tf.logical_and(classes >= 0, classes < num_classes)
    columns = _tf.where(is_class, classes, tf.zeros_like(classes))
    positions = tf.range(tf.shape(logits, out_type=tf.int64)[0])
    true_logits = tf.gather_nd(logits, tf.stack([positions, columns], axis=1))
    boundary = tf.nn.top_k(logits, tf.minimum(k, tf.shape(logits)[1])).values[:, -1]
    is_judgeable = tf.logical_and(has_no_nan(logits), tf.math.is_finite(true_logits))
    in_top = tf.logical_and(true_logits >= boundary, is_judgeable)
    return tf.logical_and(in_top, is_class)


def _sums(rows: Rows, k: int) -> Tuple[Tensor, Tensor]:
    return share_sums(rows, _are_in_top(rows, k))


top_k_accuracy: "Plain"
streaming_top_k_accuracy: "Streaming"
top_k_accuracy, streaming_top_k_accuracy = define_metric(
    "top_k_accuracy",
    __name__,
    _sums,
    mean_value,
    documentation.Metric(
        summary="The share of the examples whose true class is among those with the `k` largest "
        "logits.",
        text="""
        Over the valid examples i, with weights w_i::

            top_k_accuracy = sum_i w_i [number of j with x_ij > x_iy is less than k] / sum_i w_i

        Classes that tie at the boundary are all in, as for `tf.nn.in_top_k`: with ``k=1`` and ties
        it may be more than `accuracy`. An example is wrong where its true logit is infinite, its
        logits hold a NaN, or its label is no class. A class left out by a logit of -inf is an
        ordinary loser (`tf.nn.in_top_k` takes the whole example as wrong).
        """,
        arguments={
            "k": "a Python integer of at least 1; from `num_classes` on, every class is in."
        },
        returns=documentation.DTYPE + "a share, from 0 to 1; 0 where no example is valid or the "
        "weights sum to 0.",
        errors="a `k` below 1; ",
        example="""
        ...     logits = [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
        ...     share = metrics.top_k_accuracy([1, 2, 0, -1], logits, 2, ignore_label=-1)
        ...     print("{:.4f}".format(session.run(share)))
        0.6667
        """,
        streaming=("labels, logits, 1, ignore_label=-1", "0.6667"),
        source="the definition of `tf.nn.in_top_k`.",
    ),
)
