"""What label smoothing adds to a loss: a label's logit less the mean of all logits."""

from typing import Sequence

from tf1xent import _tf
from tf1xent._math.labels import label_classes
from tf1xent._math.matrix import column, is_left_out, put, row_sum, take
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor


@_tf.primitive("Tf1xentLabelGap")
def label_gap(logits: Tensor, labels: Tensor) -> Computed:
    """x_y - mean_j x_j: [batch_size], by differences; 0 where the label's own logit is -inf.

    The loss of a label smoothed by epsilon is the loss of the label plus epsilon times this.
    """
    at_label = take(logits, label_classes(logits, labels)[1])
    at_label = _tf.where(is_left_out(at_label), tf.zeros_like(at_label), at_label)
    num_classes = tf.cast(tf.shape(logits)[1], logits.dtype)
    return -row_sum(logits - column(at_label)) / num_classes, ()


@label_gap.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, labels = inputs
    return [label_gap_direction(logits, labels, cotangent), None]


@_tf.primitive("Tf1xentLabelGapDirection")
def label_gap_direction(logits: Tensor, labels: Tensor, scale: Tensor) -> Computed:
    """`scale` times the gradient of `label_gap`, which is constant: [batch_size, num_classes]."""
    share = scale / tf.cast(tf.shape(logits)[1], logits.dtype)
    shares = tf.zeros_like(logits) - column(share)
    return put(shares, label_classes(logits, labels)[1], scale - share, scale), ()


@label_gap_direction.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    return [None, None, label_gap(cotangent, inputs[1])]
