"""The mathematics: loss, gradient and Hessian products of softmax cross-entropy, as graph ops.

All functions take matrices, ``[batch_size, num_classes]``, of float32 or float64 logits. For one
row x of logits, with m = max_j x_j, e_j = exp(x_j - m) and Z = sum_j e_j:

    p_j = e_j / Z                                   the softmax
    sparse:  s = sum_{j != y} e_j                   the label's own term is left out ...
             loss = (m - x_y) + log1p(s + (e_y - 1))
             d loss / d x_y = -s / Z                ... so that nothing is absorbed or cancels
    dense:   k = argmax x,  s = sum_{j != k} e_j,  t = log1p(s),  S = sum_j l_j
             loss = sum_j l_j (m - x_j) + S t
             d loss / d x = S p - l                 entry k, if s < 1: (S - l_k) - S s / Z
             d loss / d l_j = t + (m - x_j)
    H(x) v = p (w - <p, w>),  w = v - v_k if s < 1 else v        the Hessian of both, for S = 1

The sparse loss leaves out the label's term instead of the largest; this saves an argmax. If y = k
the sums are the same. If not, the loss is at least log 2 and s at least 1, so an error of one
rounding in s or Z is one rounding of the result.

Each of these is a primitive, and its gradient, right below it, is made of the others. So
derivatives of every order are closed forms. With <p, v> = mean(x, v) and centre(x, v) = v - <p, v>,

    d/dx <u, H(x) v> = H(x) (centre(x, u) * centre(x, v)),    d/dx <p, v> = H(x) v.

A class with a logit of -inf has e_j = 0 and drops out of every sum.
"""

from typing import Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._math.labels import label_classes, where_valid
from tf1xent._math.matrix import (
    is_left_out,
    is_narrow,
    position_of_largest,
    put,
    row_sum,
    scale_rows,
    take,
)
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor

# --- Sparse labels ----------------------------------------------------------------------------


def _sparse_rows(
    logits: Tensor, labels: Tensor, invalid_value: Optional[Tensor]
) -> Tuple[Tensor, ...]:
    """(m - x_y, e_y, e without e_y, s, the labels' classes); s is NaN for invalid labels."""
    valid, classes = label_classes(logits, labels)
    largest = tf.reduce_max(logits, axis=1)
    exponentials = tf.exp(logits - largest[:, tf.newaxis])
    at_label = take(exponentials, classes)
    others = put(exponentials, classes, tf.zeros_like(at_label), -at_label)
    others_sum = where_valid(valid, row_sum(others), invalid_value)
    return largest - take(logits, classes), at_label, others, others_sum, classes


@_tf.primitive("Tf1xentSparseLoss")
def sparse_loss(
    logits: Tensor, labels: Tensor, *, invalid_value: Optional[Tensor] = None
) -> Computed:
    """Loss of integer labels [batch_size]: [batch_size], nats.

    The loss of an invalid label is computed from the scalar `invalid_value`, by default NaN. A
    given one must be NaN wherever a label is invalid.
    """
    gap, at_label, others, others_sum, classes = _sparse_rows(logits, labels, invalid_value)
    loss = gap + tf.log1p(others_sum + (at_label - 1))
    return loss, (others, others_sum, others_sum + at_label, classes)


@sparse_loss.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], residuals: Sequence[Tensor]) -> Gradients:
    logits, labels = inputs
    return [sparse_gradient(logits, labels, cotangent, rows=residuals), None]


@_tf.primitive("Tf1xentSparseGradient")
def sparse_gradient(
    logits: Tensor, labels: Tensor, scale: Tensor, *, rows: Optional[Sequence[Tensor]] = None
) -> Computed:
    """`scale` [batch_size] times the gradient of `sparse_loss`: [batch_size, num_classes]."""
    if rows is None:
        _, at_label, others, others_sum, classes = _sparse_rows(logits, labels, None)
        rows = others, others_sum, others_sum + at_label, classes
    others, others_sum, total, classes = rows
    return scale_rows(scale / total, put(others, classes, -others_sum, -others_sum)), ()


@sparse_gradient.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, labels, scale = inputs
    valid, classes = label_classes(logits, labels)
    relative = cotangent - take(cotangent, classes)[:, tf.newaxis]
    return [
        hessian_product(logits, cotangent, where_valid(valid, scale)),
        None,
        where_valid(valid, mean(logits, relative)),
    ]


@_tf.primitive("Tf1xentLabelGap")
def label_gap(logits: Tensor, labels: Tensor) -> Computed:
    """x_y - mean_j x_j: [batch_size], by differences; 0 where the label's own logit is -inf.

    The loss of a label smoothed by epsilon is the loss of the label plus epsilon times this.
    """
    at_label = take(logits, label_classes(logits, labels)[1])
    at_label = _tf.where(is_left_out(at_label), tf.zeros_like(at_label), at_label)
    num_classes = tf.cast(tf.shape(logits)[1], logits.dtype)
    return -row_sum(logits - at_label[:, tf.newaxis]) / num_classes, ()


@label_gap.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, labels = inputs
    return [label_gap_direction(logits, labels, cotangent), None]


@_tf.primitive("Tf1xentLabelGapDirection")
def label_gap_direction(logits: Tensor, labels: Tensor, scale: Tensor) -> Computed:
    """`scale` times the gradient of `label_gap`, which is constant: [batch_size, num_classes]."""
    share = scale / tf.cast(tf.shape(logits)[1], logits.dtype)
    shares = tf.zeros_like(logits) - share[:, tf.newaxis]
    return put(shares, label_classes(logits, labels)[1], scale - share, scale), ()


@label_gap_direction.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    return [None, None, label_gap(cotangent, inputs[1])]


# --- Dense labels -----------------------------------------------------------------------------


def _dense_rows(logits: Tensor) -> Tuple[Tensor, Tensor, Tuple[Tensor, ...]]:
    """(x - m, t); and for the gradient: e without the pivots' entries, s, the pivots.

    With few classes the pivots are a mask of 0 and 1, in which all ties are 1. Otherwise they are
    the position of one pivot for each row.
    """
    if is_narrow(logits):
        differences = logits - tf.reduce_max(logits, axis=1)[:, tf.newaxis]
        exponentials = tf.exp(differences)
        pivots = tf.cast(tf.equal(differences, 0), logits.dtype)
        at_pivots = tf.reduce_sum(pivots, axis=1)
        others = exponentials - pivots
    else:
        pivots = position_of_largest(logits)
        differences = logits - take(logits, pivots)[:, tf.newaxis]
        exponentials = tf.exp(differences)
        at_pivots = take(exponentials, pivots)
        others = put(exponentials, pivots, tf.zeros_like(at_pivots), -at_pivots)
    # at_pivots - 1 is 0, the number of further ties, or NaN where the largest logit is not finite.
    others_sum = row_sum(others) + (at_pivots - 1)
    return differences, tf.log1p(others_sum), (others, others_sum, pivots)


def _dense_loss_and_rows(logits: Tensor, labels: Tensor) -> Computed:
    differences, log_total, rows = _dense_rows(logits)
    gap = row_sum(_tf.multiply_no_nan(differences, labels))
    label_sum = row_sum(labels)
    return label_sum * log_total - gap, rows + (label_sum,)


@_tf.primitive("Tf1xentDenseLoss")
def dense_loss(logits: Tensor, labels: Tensor) -> Computed:
    """Loss of label distributions [batch_size, num_classes]: [batch_size], nats."""
    return _dense_loss_and_rows(logits, labels)


@dense_loss.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], residuals: Sequence[Tensor]) -> Gradients:
    logits, labels = inputs
    return [
        dense_gradient(logits, labels, cotangent, rows=residuals),
        label_gradient(logits, labels, cotangent),
    ]


@_tf.primitive("Tf1xentDenseLossOfLogits")
def dense_loss_of_logits(logits: Tensor, labels: Tensor) -> Computed:
    """`dense_loss` of labels that are constants: no gradient in them is built."""
    return _dense_loss_and_rows(logits, labels)


@dense_loss_of_logits.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], residuals: Sequence[Tensor]) -> Gradients:
    return [dense_gradient(*inputs, cotangent, rows=residuals), None]


def _without_masked(logits: Tensor, labels: Tensor, matrix: Tensor) -> Tensor:
    """`matrix` with 0 for the classes that are masked and have no label."""
    masked = tf.logical_and(tf.equal(labels, 0), is_left_out(logits))
    return _tf.where(masked, tf.zeros_like(matrix), matrix)


@_tf.primitive("Tf1xentDenseGradient")
def dense_gradient(
    logits: Tensor, labels: Tensor, scale: Tensor, *, rows: Optional[Sequence[Tensor]] = None
) -> Computed:
    """`scale` times the gradient of `dense_loss` in the logits: [batch_size, num_classes]."""
    if rows is None:
        rows = _dense_rows(logits)[2] + (row_sum(labels),)
    others, others_sum, pivots, label_sum = rows
    total = others_sum + 1
    confident = others_sum < 1  # then there is one pivot; its label is left out of the sum
    pivots_are_a_mask = pivots.dtype.is_floating
    if pivots_are_a_mask:
        own = pivots * tf.cast(confident, labels.dtype)[:, tf.newaxis]
        other_labels = labels - own * labels
    else:
        pivot_label = take(labels, pivots)
        kept_label = _tf.where(confident, tf.zeros_like(pivot_label), pivot_label)
        other_labels = put(labels, pivots, kept_label, kept_label - pivot_label)
    at_pivots = _tf.where(
        confident,
        row_sum(other_labels) - label_sum * (others_sum / total),
        label_sum / total,
    )
    gradient = scale_rows(label_sum / total, others) - other_labels
    if pivots_are_a_mask:
        gradient = gradient + scale_rows(at_pivots, pivots)
    else:
        gradient = put(gradient, pivots, at_pivots - kept_label, at_pivots)
    return scale_rows(scale, gradient), ()


@dense_gradient.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, labels, scale = inputs
    in_logits = hessian_product(logits, cotangent, scale * row_sum(labels))
    return [in_logits, *dense_gradient_in_labels_and_scale(cotangent, inputs)]


def dense_gradient_in_labels_and_scale(cotangent: Tensor, inputs: Sequence[Tensor]) -> Gradients:
    """The gradient of <`dense_gradient`, cotangent> in two of its inputs."""
    logits, labels, scale = inputs
    centred = centre(logits, cotangent)
    return [
        -scale_rows(scale, _without_masked(logits, labels, centred)),
        -row_sum(labels * centred),
    ]


@_tf.primitive("Tf1xentLabelGradient")
def label_gradient(logits: Tensor, labels: Tensor, scale: Tensor) -> Computed:
    """`scale` times the gradient of `dense_loss` in the labels: scale (t + m - x_j).

    A masked class (a logit of -inf) with label 0 adds nothing to the loss; its entry is 0.
    """
    differences, log_total, _ = _dense_rows(logits)
    surprisals = log_total[:, tf.newaxis] - differences
    return scale_rows(scale, _without_masked(logits, labels, surprisals)), ()


@label_gradient.gradient
def label_gradient_gradient(
    cotangent: Tensor, inputs: Sequence[Tensor], _residuals: Sequence[Tensor] = ()
) -> Gradients:
    """The gradient of <`label_gradient`, cotangent> in its inputs."""
    logits, labels, scale = inputs
    cotangent = _without_masked(logits, labels, cotangent)
    return [
        dense_gradient(logits, cotangent, scale),
        None,
        dense_loss(logits, cotangent),
    ]


# --- The softmax distribution: what second and higher derivatives are made of ------------------


def _distribution(logits: Tensor) -> Tuple[Tensor, ...]:
    """(e, Z, the pivot)."""
    pivots = position_of_largest(logits)
    exponentials = tf.exp(logits - take(logits, pivots)[:, tf.newaxis])
    return exponentials, row_sum(exponentials), pivots


def _centred(logits: Tensor, vectors: Tensor) -> Tuple[Tensor, ...]:
    """(e, Z, v - <p, v>); v is first shifted to 0 at a pivot with more than half of the mass."""
    exponentials, total, pivots = _distribution(logits)
    at_pivot = take(vectors, pivots)
    shift = _tf.where(total < 2, at_pivot, tf.zeros_like(at_pivot))
    shifted = vectors - shift[:, tf.newaxis]
    mean_shifted = row_sum(exponentials * shifted) / total
    return exponentials, total, shifted - mean_shifted[:, tf.newaxis]


@_tf.primitive("Tf1xentSoftmax")
def softmax(logits: Tensor) -> Computed:
    """p: [batch_size, num_classes]."""
    exponentials, total, _ = _distribution(logits)
    return scale_rows(1 / total, exponentials), ()


@softmax.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    (logits,) = inputs
    return [hessian_product(logits, cotangent, tf.ones_like(logits[:, 0]))]


@_tf.primitive("Tf1xentLogPartition")
def log_partition(logits: Tensor) -> Computed:
    """log sum_j exp(x_j): [batch_size]."""
    return tf.reduce_max(logits, axis=1) + _dense_rows(logits)[1], ()


@log_partition.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    (logits,) = inputs
    return [scale_rows(cotangent, softmax(logits))]


@_tf.primitive("Tf1xentSoftmaxMean")
def mean(logits: Tensor, vectors: Tensor) -> Computed:
    """<p, v>: [batch_size]."""
    exponentials, total, _ = _distribution(logits)
    return row_sum(exponentials * vectors) / total, ()


@mean.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, vectors = inputs
    return [
        hessian_product(logits, vectors, cotangent),
        scale_rows(cotangent, softmax(logits)),
    ]


@_tf.primitive("Tf1xentSoftmaxCentre")
def centre(logits: Tensor, vectors: Tensor) -> Computed:
    """v - <p, v>: [batch_size, num_classes]."""
    return _centred(logits, vectors)[2], ()


@centre.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, vectors = inputs
    cotangent_sum = row_sum(cotangent)
    return [
        -hessian_product(logits, vectors, cotangent_sum),
        cotangent - scale_rows(cotangent_sum, softmax(logits)),
    ]


@_tf.primitive("Tf1xentHessianProduct")
def hessian_product(logits: Tensor, vectors: Tensor, scale: Tensor) -> Computed:
    """`scale` times H(x) v: [batch_size, num_classes]."""
    exponentials, total, centred = _centred(logits, vectors)
    return scale_rows(scale / total, exponentials * centred), ()


@hessian_product.gradient
def hessian_product_gradient(
    cotangent: Tensor, inputs: Sequence[Tensor], _residuals: Sequence[Tensor] = ()
) -> Gradients:
    """The gradient of <`hessian_product`, cotangent> in its inputs."""
    logits, vectors, scale = inputs
    product = centre(logits, cotangent) * centre(logits, vectors)
    return [
        hessian_product(logits, product, scale),
        hessian_product(logits, cotangent, scale),
        mean(logits, product),
    ]
