"""Matrices of one example a row, [batch_size, num_classes]: sums, scales, single entries."""

from typing import Callable, Dict, Optional, Union

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor

# Up to this many classes, one entry per row is written by adding a matrix that is 0 elsewhere. With
# more it is an update in place. That costs time for each row, the sum for each entry of the matrix.
_FEW_CLASSES = 64

# A row whose length has no useful divisor is padded with zeros to this many blocks.
_PADDED_BLOCKS = 32


def known_num_classes(matrix: Tensor) -> Optional[int]:
    """The static number of classes, or None; TF 1.15 forgets shapes inside v2 while loops."""
    return None if matrix.shape.ndims is None else matrix.shape.as_list()[1]


def is_narrow(matrix: Tensor) -> bool:
    """Whether `matrix` is known to have few classes."""
    num_classes = known_num_classes(matrix)
    return num_classes is not None and num_classes <= _FEW_CLASSES


# Positions are int32, because TensorFlow's vectorizer (tf.vectorized_map, Jacobians) takes no other
# dtype. With few classes they count through the flattened matrix, so 2^31 entries fail in the run.
# With many classes a matrix may be that large; there a position is a row and a class.


class Sizes:
    """The shape of a matrix, and two numbers, as tensors that are made once for one loss."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix
        self._made: Dict[str, Tensor] = {}

    def _once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def shape(self) -> Tensor:
        """[batch_size, num_classes], int32."""
        return self._once("shape", lambda: tf.shape(self._matrix))

    @property
    def size(self) -> Tensor:
        """batch_size * num_classes, int32."""
        return self._once("size", lambda: tf.size(self._matrix))

    @property
    def zero(self) -> Tensor:
        """int32, a scalar."""
        return self._once("zero", lambda: tf.constant(0))

    @property
    def one(self) -> Tensor:
        """int32, a scalar; also the axis of the classes."""
        return self._once("one", lambda: tf.constant(1))


class Entries:
    """One entry of each row of a matrix, [i, classes[i]]; for all matrices of one shape.

    Attributes:
      classes: [batch_size], int32.
    """

    def __init__(
        self,
        matrix: Tensor,
        classes: Tensor,
        sizes: Optional[Sizes] = None,
        positions: Optional[Tensor] = None,
    ) -> None:
        """`positions` are those of other entries of these classes."""
        self.classes = classes
        self._matrix = matrix
        self._sizes = sizes
        # What is known of the shape of one matrix may not be of another, nor later of the same one.
        rank = None if positions is None else positions.shape.ndims
        self._positions = None if rank is None else positions
        self._are_flat = is_narrow(matrix) if rank is None else rank == 1

    @property
    def sizes(self) -> Sizes:
        if self._sizes is None:
            self._sizes = Sizes(self._matrix)
        return self._sizes

    @property
    def positions(self) -> Tensor:
        """int32: [batch_size] with few classes, else [batch_size, 2]."""
        if self._positions is None:
            sizes = self.sizes
            if self._are_flat:
                step = known_num_classes(self._matrix) or 1
                self._positions = _tf.numbers(sizes.zero, sizes.size, step) + self.classes
            else:
                rows = _tf.numbers(sizes.zero, tf.unstack(sizes.shape, 2)[0], sizes.one)
                self._positions = tf.stack([rows, self.classes], axis=1)
        return self._positions

    def take(self, matrix: Tensor) -> Tensor:
        """The entries of `matrix`: [batch_size]."""
        if self._are_flat:
            flat = tf.reshape(matrix, [-1])
            return _tf.take_by_position(flat, self.positions, self.sizes.zero)
        if _tf.GATHERS_BY_ROW:
            return _tf.take_by_row(matrix, self.classes, self.sizes.one)
        return tf.gather_nd(matrix, self.positions)

    def clear(self, matrix: Tensor, entries: Tensor) -> Tensor:
        """`matrix`, whose entries are `entries`, with 0 in their places."""
        if self._are_flat:
            return matrix - self._spread(entries)
        return self._put(
            matrix,
            lambda: tf.zeros_like(entries, optimize=False),
            lambda: -entries,
            entries,
            is_exact=True,
        )

    def fill(self, matrix: Tensor, values: Tensor, negative: bool = False) -> Tensor:
        """`matrix`, whose entries are 0, with `values`, or their negatives, in their places."""
        if self._are_flat:
            spread = self._spread(values)
            return matrix - spread if negative else matrix + spread
        values = -values if negative else values
        return self._put(matrix, lambda: values, lambda: values, values, is_exact=True)

    def replace(
        self, matrix: Tensor, values: Tensor, increments: Tensor, *, is_exact: bool = False
    ) -> Tensor:
        """`matrix` with `values` as its entries; `increments` are `values` less the entries.

        `is_exact`: in each row the value or the entry is 0, or they are equal: nothing is rounded.
        """
        if self._are_flat:
            return matrix + self._spread(increments)
        return self._put(matrix, lambda: values, lambda: increments, increments, is_exact=is_exact)

    def _spread(self, values: Tensor) -> Tensor:
        """The matrix that is `values` at the entries, and else 0."""
        sums = _tf.sums_by_position(values, self.positions, self.sizes.size)
        return tf.reshape(sums, self.sizes.shape)

    def _put(
        self,
        matrix: Tensor,
        values: Callable[[], Tensor],
        increments: Callable[[], Tensor],
        first: Tensor,
        *,
        is_exact: bool = False,
    ) -> Tensor:
        positions = self.positions
        # What `first` reads of the matrix it has read then, and the update can overwrite it.
        with tf.control_dependencies([first]):
            changed = _tf.put(matrix, positions, values, increments, is_exact=is_exact)
        return _tf.set_static_shape(changed, matrix.shape)


def take(matrix: Tensor, classes: Tensor) -> Tensor:
    """The entries [i, classes[i]] of `matrix`, one per row: [batch_size]; classes are int32."""
    return Entries(matrix, classes).take(matrix)


def put(matrix: Tensor, classes: Tensor, values: Tensor, increments: Tensor) -> Tensor:
    """`matrix` with `values` as the entries [i, classes[i]]; classes are int32.

    `increments` = values - take(matrix, classes).
    """
    return Entries(matrix, classes).replace(matrix, values, increments)


def column(rows: Tensor, axis: Union[int, Tensor] = 1) -> Tensor:
    """One number per row, [batch_size], as [batch_size, 1]; `axis` is 1, perhaps as a tensor."""
    return tf.expand_dims(rows, axis)


def exponentials_after(last_reader: Tensor, matrix: Tensor) -> Tensor:
    """exp(`matrix`), which takes its place once its last other reader has read it."""
    with tf.control_dependencies([] if is_narrow(matrix) else [last_reader]):
        return tf.exp(matrix)


def position_of_largest(matrix: Tensor, axis: Union[int, Tensor] = 1) -> Tensor:
    """The class of the largest entry of each row: [batch_size], int32."""
    return tf.argmax(matrix, axis=axis, output_type=tf.int32)


def _block_count(num_classes: int) -> Optional[int]:
    """The number of blocks in which a row is summed: a divisor near the square root, or None."""
    root = num_classes**0.5
    near = range(max(2, int(root / 8)), int(root * 2))
    divisors = [n for n in near if num_classes % n == 0]
    return min(divisors, key=lambda n: abs(n - root)) if divisors else None


def row_sum(matrix: Tensor, axis: Union[int, Tensor] = 1) -> Tensor:
    """Sums over the classes: [batch_size]; `axis` is 1, perhaps as a tensor.

    TF 1.x adds thousands of terms almost in sequence; if they are equal, all roundings go the same
    way. So blocks are summed first, and then their sums.
    """
    if is_narrow(matrix):
        return tf.reduce_sum(matrix, axis=axis)
    num_classes = known_num_classes(matrix)
    blocks = _block_count(num_classes) if num_classes is not None else None
    if num_classes is not None and blocks is not None:
        matrix = tf.reshape(matrix, [-1, blocks, num_classes // blocks])
        return tf.reduce_sum(tf.reduce_sum(matrix, axis=2), axis=axis)
    blocks = _PADDED_BLOCKS
    missing = tf.floormod(-tf.shape(matrix)[1], blocks)
    matrix = tf.pad(matrix, [[0, 0], [0, missing]])
    batch_size, num_classes = tf.unstack(tf.shape(matrix), 2)
    matrix = tf.reshape(matrix, tf.stack([batch_size, blocks, num_classes // blocks]))
    return tf.reduce_sum(tf.reduce_sum(matrix, axis=2), axis=axis)


def scale_rows(row_factors: Tensor, matrix: Tensor, axis: Union[int, Tensor] = 1) -> Tensor:
    """`matrix` with each row multiplied by its factor; `axis` is 1, perhaps as a tensor."""
    return column(row_factors, axis) * matrix


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
