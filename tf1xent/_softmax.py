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

For the sparse loss the label's term takes the place of the pivot's: if y = k the sums are the same,
and if not, the loss is at least log 2 and s at least 1, so that an error of one rounding in s or Z
is one rounding of the result. That saves an argmax.

Each of these is a primitive: its gradient is one of the others, so that derivatives of every order
are closed forms. With <p, v> = mean(x, v) and centre(x, v) = v - <p, v>,

    d/dx <u, H(x) v> = H(x) (centre(x, u) * centre(x, v)),    d/dx <p, v> = H(x) v.

A class with a logit of -inf has e_j = 0 and drops out of every sum.
"""

from tf1xent import _tf
from tf1xent._tf import tf

# Up to this many classes an entry per row is written by adding a matrix of zeros and those entries;
# above it by an update in place. In place costs per row, the sum per entry of the matrix.
_FEW_CLASSES = 64

# Rows whose length has no divisor of use are filled up with zeros to as many blocks.
_PADDED_BLOCKS = 32


def _num_classes(matrix):
    """The static number of classes, or None; TF 1.15 forgets shapes inside v2 while loops."""
    return None if matrix.shape.ndims is None else matrix.shape.as_list()[1]


def _is_narrow(matrix):
    num_classes = _num_classes(matrix)
    return num_classes is not None and num_classes <= _FEW_CLASSES


def _flat_entries(logits, classes):
    """Positions of the entries [i, classes[i]] in the flattened matrix."""
    shape = tf.shape(logits, out_type=tf.int64)
    return tf.range(shape[0]) * shape[1] + tf.cast(classes, tf.int64)


def _take(matrix, entries):
    """The entries of `matrix`, one per row: [batch_size]."""
    return tf.gather(tf.reshape(matrix, [-1]), entries)


def _put(matrix, entries, values, increments):
    """`matrix` with `values` at `entries`; `increments` are what it lacks of them there."""
    shape = tf.shape(matrix)
    if _is_narrow(matrix):
        size = tf.size(matrix)  # int32: XLA takes no other for sizes of the run
        return matrix + tf.reshape(tf.unsorted_segment_sum(increments, entries, size), shape)
    flat = _tf.put(tf.reshape(matrix, [-1]), entries, values, increments)
    changed = tf.reshape(flat, shape)
    changed.set_shape(matrix.shape)
    return changed


def _block_count(num_classes):
    """Into how many blocks a row is cut to be summed: a divisor near the square root, or None."""
    root = num_classes**0.5
    near = range(max(2, int(root / 8)), int(root * 2))
    divisors = [n for n in near if num_classes % n == 0]
    return min(divisors, key=lambda n: abs(n - root)) if divisors else None


def _row_sum(matrix):
    """Sums over the classes: [batch_size].

    TF 1.x adds thousands of terms nearly one after another, and where these are equal its roundings
    all go one way. Blocks are summed first, and then their sums.
    """
    if _is_narrow(matrix):
        return tf.reduce_sum(matrix, axis=1)
    num_classes = _num_classes(matrix)
    blocks = _block_count(num_classes) if num_classes is not None else None
    if blocks is None:
        blocks = _PADDED_BLOCKS
        missing = tf.floormod(-tf.shape(matrix)[1], blocks)
        matrix = tf.pad(matrix, [[0, 0], [0, missing]])
    shape = tf.shape(matrix)
    matrix = tf.reshape(matrix, tf.stack([shape[0], blocks, shape[1] // blocks]))
    return tf.reduce_sum(tf.reduce_sum(matrix, axis=2), axis=1)


def _scale_rows(row_factors, matrix):
    return row_factors[:, tf.newaxis] * matrix


def names_a_class(logits, labels):
    """Which labels are in [0, num_classes): [batch_size], bool."""
    num_classes = tf.shape(logits, out_type=labels.dtype)[1]
    return tf.logical_and(labels >= 0, labels < num_classes)


def _label_entries(logits, labels):
    """Which labels name a class, [batch_size], bool; and their positions, else class 0's."""
    valid = names_a_class(logits, labels)
    return valid, _flat_entries(logits, _tf.where(valid, labels, tf.zeros_like(labels)))


def _where_valid(valid, row_values, otherwise=float("nan")):
    """`row_values` where the label is valid, else `otherwise` (a scalar)."""
    return _tf.where(valid, row_values, tf.zeros_like(row_values) + otherwise)


# --- Sparse labels ----------------------------------------------------------------------------


def _sparse_rows(logits, labels, invalid_value):
    """(m - x_y, e_y, e without e_y, s, positions of the labels); s is NaN for invalid labels."""
    valid, entries = _label_entries(logits, labels)
    largest = tf.reduce_max(logits, axis=1)
    exponentials = tf.exp(logits - largest[:, tf.newaxis])
    at_label = _take(exponentials, entries)
    others = _put(exponentials, entries, tf.zeros_like(at_label), -at_label)
    others_sum = _where_valid(valid, _row_sum(others), invalid_value)
    return largest - _take(logits, entries), at_label, others, others_sum, entries


def _sparse_loss_gradient(cotangent, inputs, residuals):
    logits, labels = inputs
    return [sparse_gradient(logits, labels, cotangent, rows=residuals), None]


@_tf.primitive("Tf1xentSparseLoss", _sparse_loss_gradient)
def sparse_loss(logits, labels, *, invalid_value=float("nan")):
    """Loss of integer labels [batch_size]: [batch_size], nats; `invalid_value` should be NaN."""
    gap, at_label, others, others_sum, entries = _sparse_rows(logits, labels, invalid_value)
    loss = gap + tf.log1p(others_sum + (at_label - 1))
    return loss, (others, others_sum, others_sum + at_label, entries)


def _sparse_gradient_gradient(cotangent, inputs, _):
    logits, labels, scale = inputs
    valid, entries = _label_entries(logits, labels)
    relative = cotangent - _take(cotangent, entries)[:, tf.newaxis]
    return [
        hessian_product(logits, cotangent, _where_valid(valid, scale)),
        None,
        _where_valid(valid, mean(logits, relative)),
    ]


@_tf.primitive("Tf1xentSparseGradient", _sparse_gradient_gradient)
def sparse_gradient(logits, labels, scale, *, rows=None):
    """`scale` [batch_size] times the gradient of `sparse_loss`: [batch_size, num_classes]."""
    if rows is None:
        _, at_label, others, others_sum, entries = _sparse_rows(logits, labels, float("nan"))
        rows = others, others_sum, others_sum + at_label, entries
    others, others_sum, total, entries = rows
    return _scale_rows(scale / total, _put(others, entries, -others_sum, -others_sum)), ()


def _label_gap_gradient(cotangent, inputs, _):
    logits, labels = inputs
    return [_gap_direction(logits, labels, cotangent), None]


@_tf.primitive("Tf1xentLabelGap", _label_gap_gradient)
def label_gap(logits, labels):
    """x_y - mean_j x_j: [batch_size], by differences; 0 where the label's own logit is -inf.

    Added to the loss of a label, its epsilon-fold makes the loss of the label smoothed by epsilon.
    """
    at_label = _take(logits, _label_entries(logits, labels)[1])
    at_label = _tf.where(tf.equal(at_label, -float("inf")), tf.zeros_like(at_label), at_label)
    num_classes = tf.cast(tf.shape(logits)[1], logits.dtype)
    return -_row_sum(logits - at_label[:, tf.newaxis]) / num_classes, ()


def _gap_direction_gradient(cotangent, inputs, _):
    return [None, None, label_gap(cotangent, inputs[1])]


@_tf.primitive("Tf1xentLabelGapDirection", _gap_direction_gradient)
def _gap_direction(logits, labels, scale):
    """`scale` times the gradient of `label_gap`, which is constant: [batch_size, num_classes]."""
    share = scale / tf.cast(tf.shape(logits)[1], logits.dtype)
    shares = tf.zeros_like(logits) - share[:, tf.newaxis]
    return _put(shares, _label_entries(logits, labels)[1], scale - share, scale), ()


# --- Dense labels -----------------------------------------------------------------------------


def _dense_rows(logits):
    """(x - m, t); and for the gradient: e without the pivots' entries, s, the pivots.

    With few classes the pivots are a mask of 0 and 1, in which ties are pivots all; else the
    position of one.
    """
    if _is_narrow(logits):
        differences = logits - tf.reduce_max(logits, axis=1)[:, tf.newaxis]
        exponentials = tf.exp(differences)
        pivots = tf.cast(tf.equal(differences, 0), logits.dtype)
        at_pivots = tf.reduce_sum(pivots, axis=1)
        others = exponentials - pivots
    else:
        pivots = _flat_entries(logits, tf.argmax(logits, axis=1))
        differences = logits - _take(logits, pivots)[:, tf.newaxis]
        exponentials = tf.exp(differences)
        at_pivots = _take(exponentials, pivots)
        others = _put(exponentials, pivots, tf.zeros_like(at_pivots), -at_pivots)
    # at_pivots - 1 is 0, the number of further ties, or NaN where the largest logit is not finite.
    others_sum = _row_sum(others) + (at_pivots - 1)
    return differences, tf.log1p(others_sum), (others, others_sum, pivots)


def _dense_loss_gradient(cotangent, inputs, residuals):
    logits, labels = inputs
    return [
        dense_gradient(logits, labels, cotangent, rows=residuals),
        label_gradient(logits, labels, cotangent),
    ]


@_tf.primitive("Tf1xentDenseLoss", _dense_loss_gradient)
def dense_loss(logits, labels):
    """Loss of label distributions [batch_size, num_classes]: [batch_size], nats."""
    differences, log_total, rows = _dense_rows(logits)
    gap = _row_sum(_tf.multiply_no_nan(differences, labels))
    label_sum = _row_sum(labels)
    return label_sum * log_total - gap, rows + (label_sum,)


def _without_masked(logits, labels, matrix):
    """`matrix` with 0 for the classes that are masked and have no label."""
    masked = tf.logical_and(tf.equal(labels, 0), tf.equal(logits, -float("inf")))
    return _tf.where(masked, tf.zeros_like(matrix), matrix)


def _dense_gradient_gradient(cotangent, inputs, _):
    logits, labels, scale = inputs
    centred = centre(logits, cotangent)
    return [
        hessian_product(logits, cotangent, scale * _row_sum(labels)),
        -_scale_rows(scale, _without_masked(logits, labels, centred)),
        -_row_sum(labels * centred),
    ]


@_tf.primitive("Tf1xentDenseGradient", _dense_gradient_gradient)
def dense_gradient(logits, labels, scale, *, rows=None):
    """`scale` times the gradient of `dense_loss` in the logits: [batch_size, num_classes]."""
    if rows is None:
        rows = _dense_rows(logits)[2] + (_row_sum(labels),)
    others, others_sum, pivots, label_sum = rows
    total = others_sum + 1
    confident = others_sum < 1  # then there is one pivot, and its label is taken out of the sum
    pivots_are_a_mask = pivots.dtype.is_floating
    if pivots_are_a_mask:
        own = pivots * tf.cast(confident, labels.dtype)[:, tf.newaxis]
        other_labels = labels - own * labels
    else:
        pivot_label = _take(labels, pivots)
        kept_label = _tf.where(confident, tf.zeros_like(pivot_label), pivot_label)
        other_labels = _put(labels, pivots, kept_label, kept_label - pivot_label)
    at_pivots = _tf.where(
        confident,
        _row_sum(other_labels) - label_sum * (others_sum / total),
        label_sum / total,
    )
    gradient = _scale_rows(label_sum / total, others) - other_labels
    if pivots_are_a_mask:
        gradient = gradient + _scale_rows(at_pivots, pivots)
    else:
        gradient = _put(gradient, pivots, at_pivots - kept_label, at_pivots)
    return _scale_rows(scale, gradient), ()


def _label_gradient_gradient(cotangent, inputs, _):
    logits, labels, scale = inputs
    cotangent = _without_masked(logits, labels, cotangent)
    return [
        dense_gradient(logits, cotangent, scale),
        None,
        dense_loss(logits, cotangent),
    ]


@_tf.primitive("Tf1xentLabelGradient", _label_gradient_gradient)
def label_gradient(logits, labels, scale):
    """`scale` times the gradient of `dense_loss` in the labels: scale (t + m - x_j).

    A class that is masked (-inf) and has no label contributes nothing to the loss; its entry is 0.
    """
    differences, log_total, _ = _dense_rows(logits)
    surprise = log_total[:, tf.newaxis] - differences
    return _scale_rows(scale, _without_masked(logits, labels, surprise)), ()


# --- The softmax distribution: what second and higher derivatives are made of ------------------


def _distribution(logits):
    """(e, Z, position of the pivot)."""
    entries = _flat_entries(logits, tf.argmax(logits, axis=1))
    exponentials = tf.exp(logits - _take(logits, entries)[:, tf.newaxis])
    return exponentials, _row_sum(exponentials), entries


def _centred(logits, vectors):
    """(e, Z, v - <p, v>); v is first shifted to 0 at a pivot with more than half of the mass."""
    exponentials, total, entries = _distribution(logits)
    at_pivot = _take(vectors, entries)
    shift = _tf.where(total < 2, at_pivot, tf.zeros_like(at_pivot))
    shifted = vectors - shift[:, tf.newaxis]
    mean_shifted = _row_sum(exponentials * shifted) / total
    return exponentials, total, shifted - mean_shifted[:, tf.newaxis]


def _softmax_gradient(cotangent, inputs, _):
    (logits,) = inputs
    return [hessian_product(logits, cotangent, tf.ones_like(logits[:, 0]))]


@_tf.primitive("Tf1xentSoftmax", _softmax_gradient)
def softmax(logits):
    """p: [batch_size, num_classes]."""
    exponentials, total, _ = _distribution(logits)
    return _scale_rows(1 / total, exponentials), ()


def _log_partition_gradient(cotangent, inputs, _):
    (logits,) = inputs
    return [_scale_rows(cotangent, softmax(logits))]


@_tf.primitive("Tf1xentLogPartition", _log_partition_gradient)
def log_partition(logits):
    """log sum_j exp(x_j): [batch_size]."""
    return tf.reduce_max(logits, axis=1) + _dense_rows(logits)[1], ()


def _mean_gradient(cotangent, inputs, _):
    logits, vectors = inputs
    return [
        hessian_product(logits, vectors, cotangent),
        _scale_rows(cotangent, softmax(logits)),
    ]


@_tf.primitive("Tf1xentSoftmaxMean", _mean_gradient)
def mean(logits, vectors):
    """<p, v>: [batch_size]."""
    exponentials, total, _ = _distribution(logits)
    return _row_sum(exponentials * vectors) / total, ()


def _centre_gradient(cotangent, inputs, _):
    logits, vectors = inputs
    cotangent_sum = _row_sum(cotangent)
    return [
        -hessian_product(logits, vectors, cotangent_sum),
        cotangent - _scale_rows(cotangent_sum, softmax(logits)),
    ]


@_tf.primitive("Tf1xentSoftmaxCentre", _centre_gradient)
def centre(logits, vectors):
    """v - <p, v>: [batch_size, num_classes]."""
    return _centred(logits, vectors)[2], ()


def _hessian_product_gradient(cotangent, inputs, _):
    logits, vectors, scale = inputs
    product = centre(logits, cotangent) * centre(logits, vectors)
    return [
        hessian_product(logits, product, scale),
        hessian_product(logits, cotangent, scale),
        mean(logits, product),
    ]


@_tf.primitive("Tf1xentHessianProduct", _hessian_product_gradient)
def hessian_product(logits, vectors, scale):
    """`scale` times H(x) v: [batch_size, num_classes]."""
    exponentials, total, centred = _centred(logits, vectors)
    return _scale_rows(scale / total, exponentials * centred), ()
