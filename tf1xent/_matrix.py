"""Matrices of one example a row, [batch_size, num_classes]: sums, scales, single entries."""

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


def is_narrow(matrix):
    num_classes = _num_classes(matrix)
    return num_classes is not None and num_classes <= _FEW_CLASSES


def flat_entries(logits, classes):
    """Positions of the entries [i, classes[i]] in the flattened matrix."""
    shape = tf.shape(logits, out_type=tf.int64)
    return tf.range(shape[0]) * shape[1] + tf.cast(classes, tf.int64)


def take(matrix, entries):
    """The entries of `matrix`, one per row: [batch_size]."""
    return tf.gather(tf.reshape(matrix, [-1]), entries)


def put(matrix, entries, values, increments):
    """`matrix` with `values` at `entries`; `increments` are what it lacks of them there."""
    shape = tf.shape(matrix)
    if is_narrow(matrix):
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


def row_sum(matrix):
    """Sums over the classes: [batch_size].

    TF 1.x adds thousands of terms nearly one after another, and where these are equal its roundings
    all go one way. Blocks are summed first, and then their sums.
    """
    if is_narrow(matrix):
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


def scale_rows(row_factors, matrix):
    return row_factors[:, tf.newaxis] * matrix


def names_a_class(logits, labels):
    """Which labels are in [0, num_classes): [batch_size], bool."""
    num_classes = tf.shape(logits, out_type=labels.dtype)[1]
    return tf.logical_and(labels >= 0, labels < num_classes)


def label_entries(logits, labels):
    """Which labels name a class, [batch_size], bool; and their positions, else class 0's."""
    valid = names_a_class(logits, labels)
    return valid, flat_entries(logits, _tf.where(valid, labels, tf.zeros_like(labels)))


def where_valid(valid, row_values, otherwise=float("nan")):
    """`row_values` where the label is valid, else `otherwise` (a scalar)."""
    return _tf.where(valid, row_values, tf.zeros_like(row_values) + otherwise)
