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


def _flat_entries(logits, classes):
    """Positions of the entries [i, classes[i]] in the flattened matrix."""
    shape = tf.shape(logits, out_type=tf.int64)
    return tf.range(shape[0]) * shape[1] + tf.cast(classes, tf.int64)


def _take(matrix, entries):
    """The entries of `matrix`, one per row: [batch_size]."""
    return tf.gather(tf.reshape(matrix, [-1]), entries)


def _put(matrix, entries, values, increments):
    """`matrix` with `values` at `entries`; `increments` are what it lacks of them there."""
    num_classes = matrix.shape.as_list()[1]
    shape = tf.shape(matrix)
    if num_classes is not None and num_classes <= _FEW_CLASSES:
        size = tf.size(matrix, out_type=tf.int64)
        return matrix + tf.reshape(tf.unsorted_segment_sum(increments, entries, size), shape)
    flat = _tf.tensor_scatter_update(tf.reshape(matrix, [-1]), entries[:, tf.newaxis], values)
    flat = tf.reshape(flat, shape)
    flat.set_shape(matrix.shape)
    return flat


def _scale_rows(row_factors, matrix):
    return row_factors[:, tf.newaxis] * matrix


def valid_labels(logits, labels):
    """Which labels name a class: [batch_size], bool."""
    num_classes = tf.shape(logits, out_type=labels.dtype)[1]
    return tf.logical_and(labels >= 0, labels < num_classes)


def _where_valid(valid, row_values, otherwise=float("nan")):
    """`row_values` where the label is valid, else `otherwise` (a scalar)."""
    return _tf.where(valid, row_values, tf.zeros_like(row_values) + otherwise)


# --- Sparse labels ----------------------------------------------------------------------------


def _sparse_rows(logits, labels, invalid_value):
    """(m - x_y, e_y, e without e_y, s, positions of the labels); s is NaN for invalid labels."""
    valid = valid_labels(logits, labels)
    entries = _flat_entries(logits, _tf.where(valid, labels, tf.zeros_like(labels)))
    largest = tf.reduce_max(logits, axis=1)
    exponentials = tf.exp(logits - largest[:, tf.newaxis])
    at_label = _take(exponentials, entries)
    others = _put(exponentials, entries, tf.zeros_like(at_label), -at_label)
    others_sum = _where_valid(valid, tf.reduce_sum(others, axis=1), invalid_value)
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
    valid = valid_labels(logits, labels)
    entries = _flat_entries(logits, _tf.where(valid, labels, tf.zeros_like(labels)))
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


# --- Dense labels -----------------------------------------------------------------------------


def _dense_rows(logits):
    """x - m; t; and for the gradient: e without the pivot's entry, s, Z, position of the pivot."""
    entries = _flat_entries(logits, tf.argmax(logits, axis=1))
    differences = logits - _take(logits, entries)[:, tf.newaxis]
    exponentials = tf.exp(differences)
    at_pivot = _take(exponentials, entries)  # 1, or NaN where the largest logit is not finite
    others = _put(exponentials, entries, tf.zeros_like(at_pivot), -at_pivot)
    others_sum = tf.reduce_sum(others, axis=1)
    log_total = tf.log1p(others_sum + (at_pivot - 1))
    return differences, log_total, (others, others_sum, others_sum + at_pivot, entries)


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
    gap = tf.reduce_sum(_tf.multiply_no_nan(differences, labels), axis=1)
    loss = tf.reduce_sum(labels, axis=1) * log_total - gap
    return loss, rows


def _dense_gradient_gradient(cotangent, inputs, _):
    logits, labels, scale = inputs
    centred = centre(logits, cotangent)
    return [
        hessian_product(logits, cotangent, scale * tf.reduce_sum(labels, axis=1)),
        -_scale_rows(scale, centred),
        -tf.reduce_sum(labels * centred, axis=1),
    ]


@_tf.primitive("Tf1xentDenseGradient", _dense_gradient_gradient)
def dense_gradient(logits, labels, scale, *, rows=None):
    """`scale` times the gradient of `dense_loss` in the logits: [batch_size, num_classes]."""
    others, others_sum, total, entries = _dense_rows(logits)[2] if rows is None else rows
    pivot_label = _take(labels, entries)
    other_labels = _put(labels, entries, tf.zeros_like(pivot_label), -pivot_label)
    other_labels_sum = tf.reduce_sum(other_labels, axis=1)
    label_sum = other_labels_sum + pivot_label
    at_pivot = _tf.where(
        others_sum < 1,
        other_labels_sum - label_sum * (others_sum / total),
        label_sum / total - pivot_label,
    )
    gradient = _scale_rows(label_sum / total, others) - other_labels
    return _scale_rows(scale, _put(gradient, entries, at_pivot, at_pivot)), ()


def _without_masked(logits, labels, matrix):
    """`matrix` with 0 for the classes that are masked and have no label."""
    masked = tf.logical_and(tf.equal(labels, 0), tf.equal(logits, -float("inf")))
    return _tf.where(masked, tf.zeros_like(matrix), matrix)


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


def _distribution(logits, vectors=None):
    """(e, Z, w): `vectors` are shifted to 0 at a pivot that has more than half of the mass."""
    entries = _flat_entries(logits, tf.argmax(logits, axis=1))
    exponentials = tf.exp(logits - _take(logits, entries)[:, tf.newaxis])
    total = tf.reduce_sum(exponentials, axis=1)
    if vectors is None:
        return exponentials, total
    at_pivot = _take(vectors, entries)
    shift = _tf.where(total < 2, at_pivot, tf.zeros_like(at_pivot))
    return exponentials, total, vectors - shift[:, tf.newaxis]


def _softmax_gradient(cotangent, inputs, _):
    (logits,) = inputs
    return [hessian_product(logits, cotangent, tf.ones_like(logits[:, 0]))]


@_tf.primitive("Tf1xentSoftmax", _softmax_gradient)
def softmax(logits):
    """p: [batch_size, num_classes]."""
    exponentials, total = _distribution(logits)
    return _scale_rows(1 / total, exponentials), ()


def _mean_gradient(cotangent, inputs, _):
    logits, vectors = inputs
    return [
        hessian_product(logits, vectors, cotangent),
        _scale_rows(cotangent, softmax(logits)),
    ]


@_tf.primitive("Tf1xentSoftmaxMean", _mean_gradient)
def mean(logits, vectors):
    """<p, v>: [batch_size]."""
    exponentials, total = _distribution(logits)
    return tf.reduce_sum(exponentials * vectors, axis=1) / total, ()


def _centre_gradient(cotangent, inputs, _):
    logits, vectors = inputs
    cotangent_sum = tf.reduce_sum(cotangent, axis=1)
    return [
        -hessian_product(logits, vectors, cotangent_sum),
        cotangent - _scale_rows(cotangent_sum, softmax(logits)),
    ]


@_tf.primitive("Tf1xentSoftmaxCentre", _centre_gradient)
def centre(logits, vectors):
    """v - <p, v>: [batch_size, num_classes]."""
    exponentials, total, shifted = _distribution(logits, vectors)
    mean_shifted = tf.reduce_sum(exponentials * shifted, axis=1) / total
    return shifted - mean_shifted[:, tf.newaxis], ()


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
    exponentials, total, shifted = _distribution(logits, vectors)
    mean_shifted = tf.reduce_sum(exponentials * shifted, axis=1) / total
    centred = shifted - mean_shifted[:, tf.newaxis]
    return _scale_rows(scale / total, exponentials * centred), ()
