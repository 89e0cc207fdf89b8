"""The squared distance of the predicted from the true distribution."""

from typing import Tuple

from tf1xent import _tf
from tf1xent._math import softmax
from tf1xent._math.labels import checked_label_values, names_a_class, where_valid
from tf1xent._math.matrix import scale_rows
from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.metrics import documentation
from tf1xent.metrics.definition import Plain, Streaming, define_metric
from tf1xent.metrics.rows import Rows
from tf1xent.metrics.sums import mean_value, weighted_sums

__all__ = ["brier_score", "streaming_brier_score"]


def _sums(rows: Rows) -> Tuple[Tensor, Tensor]:
    logits, labels = rows.logits, rows.labels
    if rows.valid_rows is not None:
        # Replaced before anything is computed of them: neither value nor derivative sees a NaN.
        logits = _tf.select_rows(rows.valid_rows, logits, tf.zeros_like(logits))
        select = _tf.select_rows if rows.is_dense else _tf.where
        labels = select(rows.valid_rows, labels, tf.zeros_like(labels))
    return weighted_sums(rows, (_dense_scores if rows.is_dense else _sparse_scores)(logits, labels))


def _sparse_scores(logits: Tensor, labels: Tensor) -> Tensor:
    labels, invalid_value = checked_label_values(logits, labels)
    # p - l is the gradient of the loss, whose own term, p_y - 1, is minus the sum of the others.
    scores = _squared_lengths(softmax.sparse_gradient(logits, labels, tf.ones_like(logits[:, 0])))
    if invalid_value is not None:
        invalid_value = tf.cast(invalid_value, scores.dtype)
    return where_valid(names_a_class(logits, labels), scores, invalid_value)


def _dense_scores(logits: Tensor, labels: Tensor) -> Tensor:
    # The gradient of the loss is S p - l, where S is the sum of the labels.
    ones = tf.ones_like(logits[:, 0])
    gradient = softmax.dense_gradient(logits, labels, ones)
    deficit = 1 - tf.reduce_sum(labels, axis=1)
    return _squared_lengths(gradient + scale_rows(deficit, softmax.softmax(logits)))


def _squared_lengths(matrix: Tensor) -> Tensor:
    return tf.reduce_sum(tf.square(tf.cast(matrix, tf.float64)), axis=1)


brier_score: "Plain"
streaming_brier_score: "Streaming"
brier_score, streaming_brier_score = define_metric(
    "brier_score",
    __name__,
    _sums,
    mean_value,
    documentation.Metric(
        summary="The mean squared distance of the predicted distributions from the true ones.",
        text="""
        Over the valid examples i, with weights w_i, p_i = softmax(x_i) and l_i the labels, of an
        integer label its one-hot row::

            brier_score = sum_i w_i sum_j (p_ij - l_ij)^2 / sum_i w_i

        It is the score of all classes: for two classes it is twice the score of the one.
        """,
        returns=documentation.DTYPE + "from 0 to 2 for labels that are distributions; 0 where no "
        "example is valid. A label's own term, (1 - p)^2, is computed from the other classes' "
        "probabilities, so that a confident prediction keeps its digits.",
        derivatives="exact, of every order, in logits, in soft labels and in `weights`.",
        run_errors=documentation.INVALID_LABELS,
        example="""
        ...     logits = tf.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
        ...     score = metrics.brier_score([0, 1, -1], logits, ignore_label=-1)
        ...     confident = metrics.brier_score([0], [[30.0, 0.0]])
        ...     print(["{:.6g}".format(value) for value in session.run([score, confident])])
        ['0.8', '1.7513e-26']
        """,
        streaming=("labels, logits, ignore_label=-1", "0.5712"),
        source="Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly "
        "Weather Review 78 (1950); the derivation of p - l in `tf1xent._math.softmax`.",
    ),
)
