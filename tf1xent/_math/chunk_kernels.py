"""`tf1xent._math.chunk` by native ops: the same values and derivatives, in fewer sweeps.

The ops are those of the sparse loss, in their own meaning. A label that lies in another chunk is
given to them as class 0. Of the loss's statistics (m, s, Z), Z is the sum of exp(x_j - m) over all
classes of the chunk and s that over all but the label, so that

    r = log s       if the label lies in the chunk, else log Z
    d r / d x_j     = p_j Z / s, else p_j, in all entries but the label's

and p_j is what the loss's gradient is there. One entry of each row is then put right.
"""

from typing import List, Optional, Sequence, Tuple

from tf1xent import _tf, kernels
from tf1xent._math import chunk
from tf1xent._math.matrix import Entries, row_sum
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor


def _sums(logits: Tensor, inside: Tensor, classes: Tensor) -> Tuple[Tensor, ...]:
    """(the loss's statistics, m, the sum of exp(x - m) without the labels' terms, Z).

    Where all logits are -inf, the op takes differences from -inf, which are NaN. Here m is then the
    smallest number, the sum is 0, and Z, by which the gradient is divided, is 1.
    """
    found = kernels.library().tf1xent_kernel_sparse_loss(
        logits=logits, labels=classes, precise=logits.dtype.base_dtype
    )[1]
    largest, others_sum, total = tf.unstack(found, num=3)
    none_left = largest < largest.dtype.min
    largest = tf.maximum(largest, largest.dtype.min)
    zeros, ones = tf.zeros_like(largest), tf.ones_like(largest)
    others_sum = _tf.where(none_left, zeros, others_sum)
    without_label = _tf.where(tf.logical_or(inside, none_left), others_sum, total)
    total = _tf.where(none_left, ones, total)
    return tf.stack([largest, others_sum, total]), largest, without_label, total


@_tf.primitive_list("Tf1xentChunkKernelStatistics", num_values=3)
def statistics(
    logits: Tensor, inside: Tensor, classes: Tensor
) -> Tuple[List[Tensor], Sequence[Tensor]]:
    """(a, m, r) of a chunk of logits: [batch_size] each."""
    _, largest, others_sum, _ = _sums(logits, inside, classes)
    at_label = chunk.Labels(logits, inside, classes).take(logits)
    return chunk.values_of(at_label, largest, others_sum), ()


@statistics.gradient
def _(
    values: List[Tensor],
    cotangents: Sequence[Optional[Tensor]],
    inputs: Sequence[Tensor],
    _: Sequence[Tensor],
) -> Gradients:
    return [_chunk_gradient(*inputs, *chunk.cotangents_of_rows(values, cotangents)), None, None]


@_tf.primitive("Tf1xentChunkKernelGradient")
def _chunk_gradient(
    logits: Tensor,
    inside: Tensor,
    classes: Tensor,
    at_labels: Tensor,
    log_partitions: Tensor,
) -> Computed:
    """Gradient of `at_labels` a + `log_partitions` (m + r) in the logits: [batch_size, chunk_size].

    It is written over the logits, so nothing reads those afterwards.
    """
    found, largest, others_sum, total = _sums(logits, inside, classes)
    scale = chunk.shares_of(log_partitions, others_sum)
    labels = Entries(logits, classes)
    first = tf.exp(labels.take(logits) - largest)
    with tf.control_dependencies([first]):
        gradient = kernels.library().tf1xent_kernel_sparse_gradient(
            logits=logits, labels=classes, scale=scale * total, statistics=found
        )
    entries = _tf.where(inside, at_labels, scale * first)
    labels = Entries(gradient, classes, positions=labels.positions)
    return labels.replace(gradient, entries, entries - labels.take(gradient)), ()


@_chunk_gradient.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, inside, classes, _, log_partitions = inputs
    zeros = tf.zeros_like(log_partitions)
    others = chunk.without_labels(logits, inside, classes)
    lone = chunk.without_labels_and_lone(logits, inside, classes)[1]
    shares = _chunk_gradient(logits, inside, classes, zeros, tf.ones_like(zeros))
    product = kernels.library().tf1xent_kernel_sparse_hessian_product(
        logits=others,
        labels=tf.zeros_like(classes),
        vectors=cotangent,
        scale=_tf.where(lone, zeros, log_partitions),
    )
    in_log_partitions = _tf.where(lone, zeros, row_sum(shares * cotangent))
    in_labels = chunk.Labels(cotangent, inside, classes).take(cotangent)
    return [product, None, None, in_labels, in_log_partitions]
