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


# Positions are int32: TensorFlow's vectorizer, behind tf.vectorized_map and Jacobians, takes
# nothing else. With few classes they count through the flattened matrix; 2^31 entries of those fail
# in the run. Of many classes a batch may hold as much: there an entry is named by row and class.


def _flat_positions(matrix, classes):
    shape = tf.shape(matrix)
    return tf.range(shape[0]) * shape[1] + classes


def take(matrix, classes):
    """The entries [i, classes[i]] of `matrix`, one per row: [batch_size]; classes are int32."""
    if is_narrow(matrix):
        return _tf.take_by_position(tf.reshape(matrix, [-1]), _flat_positions(matrix, classes))
    return _tf.take_by_row(matrix, classes)


def put(matrix, classes, values, increments):
    """`matrix` with `values` as the entries [i, classes[i]]; classes are int32.

    `increments` = values - take(matrix, classes).
    """
    shape = tf.shape(matrix)
    if is_narrow(matrix):
        flat = _flat_positions(matrix, classes)
        changes = _tf.sums_by_position(increments, flat, tf.size(matrix))
        return matrix + tf.reshape(changes, shape)
    positions = tf.stack([tf.range(shape[0]), classes], axis=1)
    # The control input lets whoever reads the matrix for `increments` go first, so that it can be
    # overwritten.
    with tf.control_dependencies([increments]):
        changed = _tf.put(matrix, positions, values, increments)
    if not tf.executing_eagerly():
        changed.set_shape(matrix.shape)
    return changed


def position_of_largest(matrix):
    """The class of the largest entry of each row: [batch_size], int32."""
    return tf.argmax(matrix, axis=1, output_type=tf.int32)


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


def label_classes(logits, labels):
    """Which labels name a class, [batch_size], bool; and those classes, int32, else class 0."""
    valid = names_a_class(logits, labels)
    return valid, tf.cast(_tf.where(valid, labels, tf.zeros_like(labels)), tf.int32)


def where_valid(valid, row_values, otherwise=None):
    """`row_values` where the label is valid, else the scalar `otherwise`, by default NaN."""
    if otherwise is None:
        return row_values + nan_unless(valid, row_values)
    return _tf.where(valid, row_values, tf.zeros_like(row_values) + otherwise)


# Made in the run, and only where they belong: NaN detectors look at every tensor of a graph, its
# constants too.


def nan_unless(condition, like):
    """0 where `condition` holds, else NaN: of the shape and dtype of `like`."""
    ones = tf.ones_like(like)
    return tf.log(_tf.where(condition, ones, -ones))


def infinity_unless(condition, like):
    """0 where `condition` holds, else infinity: of the shape and dtype of `like`."""
    ones = tf.ones_like(like)
    return -tf.log(_tf.where(condition, ones, tf.zeros_like(like)))


def is_left_out(logits):
    """Which logits are -inf: a class that takes no part."""
    return logits < logits.dtype.min


def smallest(like):
    """The smallest number, of the shape and dtype of `like`: its exponential is 0. Not -inf, for
    which NaN detectors would raise."""
    return tf.zeros_like(like) + like.dtype.min
