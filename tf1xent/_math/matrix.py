"""Matrices of one example a row, [batch_size, num_classes]: sums, scales, single entries."""

from typing import Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor

# Up to this many classes, one entry per row is written by adding a matrix that is 0 elsewhere. With
# more it is an update in place. That costs time for each row, the sum for each entry of the matrix.
_FEW_CLASSES = 64

# A row whose length has no useful divisor is padded with zeros to this many blocks.
_PADDED_BLOCKS = 32


def _num_classes(matrix: Tensor) -> Optional[int]:
    """The static number of classes, or None; TF 1.15 forgets shapes inside v2 while loops."""
    return None if matrix.shape.ndims is None else matrix.shape.as_list()[1]


def is_narrow(matrix: Tensor) -> bool:
    """Whether `matrix` is known to have few classes."""
    num_classes = _num_classes(matrix)
    return num_classes is not None and num_classes <= _FEW_CLASSES


# Positions are int32, because TensorFlow's vectorizer (tf.vectorized_map, Jacobians) takes no other
# dtype. With few classes they count through the flattened matrix, so 2^31 entries fail in the run.
# With many classes a matrix may be that large; there a position is a row and a class.


def _flat_positions(matrix: Tensor, classes: Tensor) -> Tensor:
    shape = tf.shape(matrix)
    return tf.range(shape[0]) * shape[1] + classes


def take(matrix: Tensor, classes: Tensor) -> Tensor:
    """The entries [i, classes[i]] of `matrix`, one per row: [batch_size]; classes are int32."""
    if is_narrow(matrix):
        return _tf.take_by_position(tf.reshape(matrix, [-1]), _flat_positions(matrix, classes))
    return _tf.take_by_row(matrix, classes)


def put(matrix: Tensor, classes: Tensor, values: Tensor, increments: Tensor) -> Tensor:
    """`matrix` with `values` as the entries [i, classes[i]]; classes are int32.

    `increments` = values - take(matrix, classes).
    """
    shape = tf.shape(matrix)
    if is_narrow(matrix):
        flat = _flat_positions(matrix, classes)
        changes = _tf.sums_by_position(increments, flat, tf.size(matrix))
        return matrix + tf.reshape(changes, shape)
    positions = tf.stack([tf.range(shape[0]), classes], axis=1)
    # With the control input, `increments` reads the matrix first, and the update can overwrite it.
    with tf.control_dependencies([increments]):
        changed = _tf.put(matrix, positions, values, increments)
    return _tf.set_static_shape(changed, matrix.shape)


def position_of_largest(matrix: Tensor) -> Tensor:
    """The class of the largest entry of each row: [batch_size], int32."""
    return tf.argmax(matrix, axis=1, output_type=tf.int32)


def _block_count(num_classes: int) -> Optional[int]:
    """The number of blocks in which a row is summed: a divisor near the square root, or None."""
    root = num_classes**0.5
    near = range(max(2, int(root / 8)), int(root * 2))
    divisors = [n for n in near if num_classes % n == 0]
    return min(divisors, key=lambda n: abs(n - root)) if divisors else None


def row_sum(matrix: Tensor) -> Tensor:
    """Sums over the classes: [batch_size].

    TF 1.x adds thousands of terms almost in sequence; if they are equal, all roundings go the same
    way. So blocks are summed first, and then their sums.
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


def scale_rows(row_factors: Tensor, matrix: Tensor) -> Tensor:
    """`matrix` with each row multiplied by its factor."""
    return row_factors[:, tf.newaxis] * matrix


# NaN and infinity are computed in the run, and only in the entries that need them, because NaN
# detectors look at every tensor of a graph, constants included.


def nan_unless(condition: Tensor, like: Tensor) -> Tensor:
    """0 where `condition` holds, else NaN: of the shape and dtype of `like`."""
    ones = tf.ones_like(like)
    return tf.log(_tf.where(condition, ones, -ones))


def infinity_unless(condition: Tensor, like: Tensor) -> Tensor:
    """0 where `condition` holds, else infinity: of the shape and dtype of `like`."""
    ones = tf.ones_like(like)
    return -tf.log(_tf.where(condition, ones, tf.zeros_like(like)))


def is_left_out(logits: Tensor) -> Tensor:
    """Which logits are -inf: their classes are excluded."""
    return logits < logits.dtype.min


def smallest(like: Tensor) -> Tensor:
    """The smallest finite number, of the shape and dtype of `like`; its exponential is 0.

    -inf would make NaN detectors raise.
    """
    return tf.zeros_like(like) + like.dtype.min
