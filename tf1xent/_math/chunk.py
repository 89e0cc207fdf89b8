"""The statistics of one chunk of the classes, and their derivatives; see `shard_maps`.

Of each row of a chunk x of logits, [batch_size, chunk_size]:

    a = the label's logit, if the label lies in this chunk, else 0
    m = max_{j in chunk} x_j                          a constant of the derivatives
    r = log sum_{j in chunk, j != y} exp(x_j - m)     the smallest number if no class is left

m + r is the log-partition of the chunk without the label, and differences of m to a larger number
lose nothing, however large the logits are. If all logits are -inf, m is the smallest number.

Names of the arguments:

    inside: which labels lie in the chunk, [batch_size], bool.
    classes: the labels as classes of the chunk, [batch_size], int32; 0 for labels of other chunks.
    lone: which rows have no class in the chunk but their label.
"""

from typing import Callable, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._math import softmax
from tf1xent._math.matrix import Entries, column, row_sum, scale_rows, smallest
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor


class Labels:
    """The entries of a chunk at the labels that lie in it; for all matrices of one shape."""

    def __init__(
        self,
        matrix: Tensor,
        inside: Tensor,
        classes: Tensor,
        positions: Optional[Tensor] = None,
    ) -> None:
        """`positions` are those of other `Labels` of these classes."""
        self._inside = inside
        self._entries = Entries(matrix, classes, positions=positions)

    @property
    def positions(self) -> Tensor:
        return self._entries.positions

    def take(self, matrix: Tensor) -> Tensor:
        """The entries of `matrix` at the labels, 0 for labels of other chunks: [batch_size]."""
        values = self._entries.take(matrix)
        return _tf.where(self._inside, values, tf.zeros_like(values))

    def replace(
        self, matrix: Tensor, new_values: Callable[[Tensor], Tensor], *, is_exact: bool = False
    ) -> Tensor:
        """`matrix` with new values, a function of its own, at the labels that lie in the chunk.

        `is_exact`: the new values are 0, or its own are.
        """
        values = self._entries.take(matrix)
        new = new_values(values)
        increments = _tf.where(self._inside, new - values, tf.zeros_like(values))
        new = _tf.where(self._inside, new, values)
        return self._entries.replace(matrix, new, increments, is_exact=is_exact)


def _others(logits: Tensor, labels: Labels) -> Tuple[Tensor, Tensor, Tensor]:
    """(m, e without the label's, their sum) of each row: e = exp(x - m)."""
    largest = tf.reduce_max(logits, axis=1)
    largest = tf.maximum(largest, largest.dtype.min)
    exponentials = tf.exp(logits - column(largest))
    exponentials = labels.replace(exponentials, tf.zeros_like, is_exact=True)
    return largest, exponentials, row_sum(exponentials)


def values_of(at_label: Tensor, largest: Tensor, others_sum: Tensor) -> List[Tensor]:
    """(a, m, r) of each row, from a, m and the sum of the others' exponentials."""
    lone = tf.equal(others_sum, 0)
    log_sum = tf.log(_tf.where(lone, tf.ones_like(others_sum), others_sum))
    return [at_label, largest, _tf.where(lone, smallest(log_sum), log_sum)]


def shares_of(log_partitions: Tensor, others_sum: Tensor) -> Tensor:
    """`log_partitions` over the sum of the others' exponentials, 0 where there are no others."""
    lone = tf.equal(others_sum, 0)
    divisor = _tf.where(lone, tf.ones_like(others_sum), others_sum)
    return _tf.where(lone, tf.zeros_like(log_partitions), log_partitions / divisor)


@_tf.primitive_list("Tf1xentChunkStatistics", num_values=3)
def statistics(
    logits: Tensor, inside: Tensor, classes: Tensor
) -> Tuple[List[Tensor], Sequence[Tensor]]:
    """(a, m, r) of a chunk of logits: [batch_size] each."""
    labels = Labels(logits, inside, classes)
    largest, others, others_sum = _others(logits, labels)
    values = values_of(labels.take(logits), largest, others_sum)
    return values, (others, others_sum, labels.positions)


@statistics.gradient
def _(
    values: List[Tensor],
    cotangents: Sequence[Optional[Tensor]],
    inputs: Sequence[Tensor],
    residuals: Sequence[Tensor],
) -> Gradients:
    of_rows = cotangents_of_rows(values, cotangents)
    return [_chunk_gradient(*inputs, *of_rows, rows=residuals), None, None]


def cotangents_of_rows(
    values: List[Tensor], cotangents: Sequence[Optional[Tensor]]
) -> List[Tensor]:
    """The cotangents of a and r; zeros for those that are None."""
    return [
        _tf.with_static_shape(
            tf.zeros_like(values[i]) if cotangents[i] is None else cotangents[i], values[i].shape
        )
        for i in (0, 2)
    ]


@_tf.primitive("Tf1xentChunkGradient")
def _chunk_gradient(
    logits: Tensor,
    inside: Tensor,
    classes: Tensor,
    at_labels: Tensor,
    log_partitions: Tensor,
    *,
    rows: Optional[Sequence[Tensor]] = None,
) -> Computed:
    """Gradient of `at_labels` a + `log_partitions` (m + r) in the logits: [batch_size, chunk_size].

    That is the softmax of the others times d r, and at the label d a.
    """
    if rows is None:
        labels = Labels(logits, inside, classes)
        _, others, others_sum = _others(logits, labels)
    else:
        others, others_sum, positions = rows
        labels = Labels(logits, inside, classes, positions)
    gradient = scale_rows(shares_of(log_partitions, others_sum), others)
    return labels.replace(gradient, lambda _: at_labels, is_exact=True), ()


@_chunk_gradient.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, inside, classes, _, log_partitions = inputs
    others = without_labels(logits, inside, classes)
    lone = without_labels_and_lone(logits, inside, classes)[1]
    mean = softmax.mean(others, cotangent)
    zeros = tf.zeros_like(log_partitions)
    return [
        softmax.hessian_product(others, cotangent, _tf.where(lone, zeros, log_partitions)),
        None,
        None,
        Labels(cotangent, inside, classes).take(cotangent),
        _tf.where(lone, zeros, mean),
    ]


@_tf.primitive("Tf1xentChunkWithoutLabels")
def without_labels(logits: Tensor, inside: Tensor, classes: Tensor) -> Computed:
    """The logits with the smallest number at the labels; zeros in rows where no class is left."""
    others, lone = without_labels_and_lone(logits, inside, classes)
    return _tf.select_rows(lone, tf.zeros_like(others), others), ()


@without_labels.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    # What is computed from these logits has derivative 0 at the labels and in the rows of zeros.
    return [cotangent, None, None]


def without_labels_and_lone(
    logits: Tensor, inside: Tensor, classes: Tensor
) -> Tuple[Tensor, Tensor]:
    """The logits with the smallest number at the labels; which rows have no other, [batch_size]."""
    others = Labels(logits, inside, classes).replace(logits, smallest)
    return others, tf.reduce_max(others, axis=1) <= logits.dtype.min
