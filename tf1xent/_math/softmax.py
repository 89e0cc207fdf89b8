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
    Entries,
    Sizes,
    column,
    exponentials_after,
    is_left_out,
    is_narrow,
    position_of_largest,
    row_sum,
    scale_rows,
    take,
)
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor


def _less_largest(logits: Tensor, sizes: Sizes) -> Tensor:
    """x - m: by the same ops for every value, so that in a run of several it is computed once."""
    if _tf.in_defun():  # whose gradient, made in C++, fails with keepdims
        return logits - column(tf.reduce_max(logits, axis=sizes.one), sizes.one)
    return logits - tf.reduce_max(logits, axis=sizes.one, keepdims=True)


# --- Sparse labels ----------------------------------------------------------------------------


def _sparse_rows(
    logits: Tensor, labels: Tensor, invalid_value: Optional[Tensor], sizes: Optional[Sizes]
) -> Tuple[Tensor, Tuple[Tensor, ...]]:
    """x_y - m; e without e_y, s, e_y, the labels' classes and their positions.

    s is NaN for invalid labels.
    """
    valid, classes = label_classes(logits, labels)
    sizes = Sizes(logits) if sizes is None else sizes
    entries = Entries(logits, classes, sizes)
    differences = _less_largest(logits, sizes)
    label_difference = entries.take(differences)
    at_label = tf.exp(label_difference)
    others = entries.clear(exponentials_after(label_difference, differences), at_label)
    others_sum = where_valid(valid, row_sum(others, sizes.one), invalid_value)
    return label_difference, (others, others_sum, at_label, classes, entries.positions)


@_tf.primitive("Tf1xentSparseLoss")
def sparse_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    invalid_value: Optional[Tensor] = None,
    sizes: Optional[Sizes] = None,
) -> Computed:
    """Loss of integer labels [batch_size]: [batch_size], nats.

    The loss of an invalid label is computed from `invalid_value`, by default NaN. A given one must
    be NaN wherever a label is invalid. `sizes` are those of the logits.
    """
    label_difference, rows = _sparse_rows(logits, labels, invalid_value, sizes)
    return tf.log1p(rows[1] + tf.expm1(label_difference)) - label_difference, rows


@sparse_loss.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], residuals: Sequence[Tensor]) -> Gradients:
    logits, labels = inputs
    if len(residuals) == 4:  # older saved graphs have s + e_y, and no positions
        others, others_sum, total, classes = residuals
        positions = Entries(logits, classes).positions
        residuals = others, others_sum, total - others_sum, classes, positions
    return [sparse_gradient(logits, labels, cotangent, rows=residuals), None]


@_tf.primitive("Tf1xentSparseGradient")
def sparse_gradient(
    logits: Tensor, labels: Tensor, scale: Tensor, *, rows: Optional[Sequence[Tensor]] = None
) -> Computed:
    """`scale` [batch_size] times the gradient of `sparse_loss`: [batch_size, num_classes]."""
    rows = _sparse_rows(logits, labels, None, None)[1] if rows is None else rows
    others, others_sum, at_label, classes, positions = rows
    gradient = Entries(logits, classes, positions=positions).fill(others, others_sum, negative=True)
    return scale_rows(scale / (others_sum + at_label), gradient), ()


@sparse_gradient.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, labels, scale = inputs
    valid, classes = label_classes(logits, labels)
    relative = cotangent - column(take(cotangent, classes))
    return [
        hessian_product(logits, cotangent, where_valid(valid, scale)),
        None,
        where_valid(valid, mean(logits, relative)),
    ]


# --- Dense labels -----------------------------------------------------------------------------


def _dense_rows(
    logits: Tensor, sizes: Sizes, labels: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor, Tuple[Tensor, ...]]:
    """(x - m, or its sum with `labels`, t); and for the gradient: e without the pivots, s, pivots.

    With few classes the pivots are a mask of 0 and 1, in which all ties are 1. Otherwise they are
    one class for each row, and the positions of these entries.
    """
    one = sizes.one
    if is_narrow(logits):
        differences = _less_largest(logits, sizes)
        gap, exponentials = _label_sum(differences, labels, one), tf.exp(differences)
        mask = tf.floor(exponentials)  # of what is rounded to 1, too, which makes no difference
        at_pivots = tf.reduce_sum(mask, axis=one)
        others, pivots = exponentials - mask, [mask]
    else:
        entries = Entries(logits, position_of_largest(logits, one), sizes)
        differences = logits - column(entries.take(logits), one)
        gap = _label_sum(differences, labels, one)
        exponentials = exponentials_after(gap, differences)
        at_pivots = entries.take(exponentials)
        others = entries.clear(exponentials, at_pivots)
        pivots = [entries.classes, entries.positions]
    # at_pivots - 1 is 0, the number of further ties, or NaN where the largest logit is not finite.
    others_sum = row_sum(others, one) + (at_pivots - 1)
    return gap, tf.log1p(others_sum), (others, others_sum, *pivots)


def _label_sum(differences: Tensor, labels: Optional[Tensor], axis: Tensor) -> Tensor:
    product = None if labels is None else _tf.multiply_no_nan(differences, labels)
    return differences if product is None else row_sum(product, axis)


def _dense_loss_and_rows(logits: Tensor, labels: Tensor) -> Computed:
    sizes = Sizes(logits)
    gap, log_total, rows = _dense_rows(logits, sizes, labels)
    label_sum = row_sum(labels, sizes.one)
    # Older saved graphs have the first four, in this order, and no positions.
    return label_sum * log_total - gap, (*rows[:3], label_sum, *rows[3:])


@_tf.primitive("Tf1xentDenseLoss")
def dense_loss(logits: Tensor, labels: Tensor) -> Computed:
    """Loss of label distributions [batch_size, num_classes]: [batch_size], nats."""
    return _dense_loss_and_rows(logits, labels)


@dense_loss.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], residuals: Sequence[Tensor]) -> Gradients:
    logits, labels = inputs
    return [
        dense_gradient(logits, labels, cotangent, rows=residuals),
        label_gradient(logits, labels, cotangent, rows=residuals),
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
    return _tf.where(masked, tf.zeros_like(matrix, optimize=False), matrix)


@_tf.primitive("Tf1xentDenseGradient")
def dense_gradient(
    logits: Tensor, labels: Tensor, scale: Tensor, *, rows: Optional[Sequence[Tensor]] = None
) -> Computed:
    """`scale` times the gradient of `dense_loss` in the logits: [batch_size, num_classes]."""
    sizes = Sizes(logits)
    rows = _dense_loss_and_rows(logits, labels)[1] if rows is None else rows
    has_mask = rows[2].dtype.is_floating
    gradient = _by_mask(labels, rows, sizes) if has_mask else _by_pivot(labels, rows, sizes)
    return scale_rows(scale, gradient, sizes.one), ()


def _by_mask(labels: Tensor, rows: Sequence[Tensor], sizes: Sizes) -> Tensor:
    others, others_sum, pivots, label_sum = rows
    others_sum, label_sum = column(others_sum, sizes.one), column(label_sum, sizes.one)
    unit = tf.ones([], labels.dtype)
    factor = label_sum / (others_sum + unit)
    confident = others_sum < unit  # then there is one pivot; its label is left out of the sum
    own = pivots * tf.cast(confident, labels.dtype)
    other_labels = labels - own * labels
    others_labels_sum = tf.reduce_sum(other_labels, axis=sizes.one, keepdims=True)
    at_pivots = _tf.where(confident, others_labels_sum - factor * others_sum, factor)
    return factor * others - other_labels + at_pivots * pivots


def _by_pivot(labels: Tensor, rows: Sequence[Tensor], sizes: Sizes) -> Tensor:
    others, others_sum, pivots, label_sum, *positions = rows
    entries = Entries(labels, pivots, sizes, *positions)
    unit = tf.ones([], labels.dtype)
    factor = label_sum / (others_sum + unit)
    pivot_label = entries.take(labels)
    # Each step takes the place of the one before, and none copies the labels.
    gradient = scale_rows(factor, others, sizes.one) - labels
    gradient = entries.clear(gradient, -pivot_label)
    others_gradient = row_sum(gradient, sizes.one)
    confident = others_sum < unit  # then the pivot's entry is made of the others: all add up to 0
    at_pivots = _tf.where(confident, -others_gradient, factor - pivot_label)
    return entries.fill(gradient, at_pivots)


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
def label_gradient(
    logits: Tensor, labels: Tensor, scale: Tensor, *, rows: Optional[Sequence[Tensor]] = None
) -> Computed:
    """`scale` times the gradient of `dense_loss` in the labels: scale (t + m - x_j).

    A masked class (a logit of -inf) with label 0 adds nothing to the loss; its entry is 0.
    """
    sizes = Sizes(logits)
    if rows is None:
        differences, log_total, _ = _dense_rows(logits, sizes)
    else:
        differences = _less_largest(logits, sizes)
        log_total = tf.log1p(rows[1])
    surprisals = _without_masked(logits, labels, column(log_total, sizes.one) - differences)
    return scale_rows(scale, surprisals, sizes.one), ()


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


def _distribution(logits: Tensor, sizes: Sizes) -> Tuple[Tensor, Tensor]:
    """(e, Z)."""
    exponentials = tf.exp(_less_largest(logits, sizes))
    return exponentials, row_sum(exponentials, sizes.one)


def _centred(logits: Tensor, vectors: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """(e, Z, v - <p, v>); v is first shifted to 0 at a pivot with more than half of the mass."""
    sizes = Sizes(logits)
    one = sizes.one
    if is_narrow(logits):
        exponentials, total = _distribution(logits, sizes)
        # The floor is 1 at the pivot, and at ties, with which no pivot has more than half.
        at_pivot = row_sum(tf.floor(exponentials) * vectors, one)
    else:
        pivots = Entries(logits, position_of_largest(logits, one), sizes)
        exponentials = tf.exp(logits - column(pivots.take(logits), one))
        total, at_pivot = row_sum(exponentials, one), pivots.take(vectors)
    shift = _tf.where(total < 2, at_pivot, tf.zeros_like(at_pivot))
    shifted = vectors - column(shift, one)
    mean_shifted = row_sum(exponentials * shifted, one) / total
    return exponentials, total, shifted - column(mean_shifted, one)


@_tf.primitive("Tf1xentSoftmax")
def softmax(logits: Tensor) -> Computed:
    """p: [batch_size, num_classes]."""
    sizes = Sizes(logits)
    exponentials, total = _distribution(logits, sizes)
    return scale_rows(1 / total, exponentials, sizes.one), ()


@softmax.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    (logits,) = inputs
    return [hessian_product(logits, cotangent, tf.ones_like(logits[:, 0]))]


@_tf.primitive("Tf1xentLogPartition")
def log_partition(logits: Tensor) -> Computed:
    """log sum_j exp(x_j): [batch_size]."""
    return tf.reduce_max(logits, axis=1) + _dense_rows(logits, Sizes(logits))[1], ()


@log_partition.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    (logits,) = inputs
    return [scale_rows(cotangent, softmax(logits))]


@_tf.primitive("Tf1xentSoftmaxMean")
def mean(logits: Tensor, vectors: Tensor) -> Computed:
    """<p, v>: [batch_size]."""
    sizes = Sizes(logits)
    exponentials, total = _distribution(logits, sizes)
    return row_sum(exponentials * vectors, sizes.one) / total, ()


@mean.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    logits, vectors = inputs
    return [hessian_product(logits, vectors, cotangent), scale_rows(cotangent, softmax(logits))]


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
