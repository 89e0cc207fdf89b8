"""Classes in shards: which class is where, and what is given by class, cut accordingly.

As in `tf.nn.embedding_lookup`: by the strategy "div" a shard holds classes that follow one another,
by "mod" class c is entry c // num_shards of shard c % num_shards. Nothing here is an op on a tensor
of a shard's size, but for those that the user gave by class in one piece: these are cut where they
are.
"""

import contextlib
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from tf1xent import _tf
from tf1xent._loss import option_checks
from tf1xent._loss.batch import Batch
from tf1xent._math.dtypes import LABEL_DTYPES
from tf1xent._math.shard_maps import size
from tf1xent._math.shard_structures import Given, Size
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike

STRATEGIES = ("div", "mod")

# A tensor that may be a constant of the derivatives, and whether it is.
Piece = Tuple[Tensor, bool]


class Shards(NamedTuple):
    """The shards of one call of a loss.

    Attributes:
      function: the public function that was called; errors name it.
      operands: of each shard its own tensors by name: logits, or weights and biases.
      axis: the class axis of the first of them.
      strategy: "div" or "mod".
      is_placed: whether each is worked on where it is. Not, if there is one tensor for all classes.
      chunk_size: how many classes of a shard are worked on at once; 0: all.
      sizes: the number of classes of each shard, an integer where it is known.
      by_kernels: whether native ops compute the statistics of a chunk.
    """

    function: str
    operands: List[Given]
    axis: int
    strategy: str
    is_placed: bool
    chunk_size: int
    sizes: List[Size]
    by_kernels: bool = False

    def tensor(self, number: int) -> Tensor:
        """The logits or weights of a shard."""
        return next(iter(self.operands[number].values()))

    def beside(self, number: int) -> Any:
        """Builds ops on a shard's device."""
        return _tf.beside(self.tensor(number))

    @property
    def num_classes(self) -> Size:
        """The number of classes of all shards: an integer where it is known."""
        return sum(self.sizes)


def check_strategy(function: str, strategy: Any) -> None:
    """Raises a ValueError unless `strategy` is one."""
    if strategy not in STRATEGIES:
        raise ValueError(
            f'{function}: `partition_strategy` must be "div" or "mod", got {strategy!r}. It says '
            "which classes a shard holds, as in tf.nn.embedding_lookup."
        )


def check_chunk_size(function: str, chunk_size: Any) -> None:
    """Raises a ValueError unless `chunk_size` is an integer of at least 1."""
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(
            f"{function}: `chunk_size` must be an integer of at least 1, got {chunk_size!r}. "
            "It is the number of classes whose logits are held at once."
        )


def check_labels_dtype(function: str, labels: Tensor) -> None:
    """Raises a TypeError unless labels are int32 or int64."""
    if labels.dtype.base_dtype not in LABEL_DTYPES:
        raise TypeError(
            f"{function}: `labels` must be int32 or int64, got {labels.dtype.name}. Cast them: "
            "tf.cast(labels, tf.int64)."
        )


def parts_of(value: Any, function: str, argument: str, axis: int) -> Optional[List[Any]]:
    """The shards that `value` is: a list, or a partitioned variable; None if it is one tensor.

    `axis` is the class axis. Of a list, entries are what TensorFlow converts to tensors.
    """
    partitions = _tf.partitions(value)
    if partitions is not None:
        _check_partitions(partitions, function, argument, axis)
        return list(value)
    is_list = isinstance(value, (list, tuple)) and value and all(map(_is_array, value))
    return list(value) if is_list else None


def _is_array(value: Any) -> bool:
    """Whether a value is a tensor, a variable or an array, of a rank that may be above 0."""
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return False
    return tf.TensorShape(shape).ndims != 0


def _check_partitions(partitions: List[int], function: str, argument: str, axis: int) -> None:
    """A partitioned variable is cut along its class axis, and along no other."""
    axis %= len(partitions)
    if any(number > 1 for i, number in enumerate(partitions) if i != axis):
        raise ValueError(
            f"{function}: `{argument}` must be partitioned along the classes, axis {axis}, got the "
            f"partitions {partitions}. Give its partitioner axis={axis}."
        )


# --- Which class is where -----------------------------------------------------------------------


def shards_of(
    function: str,
    operands: List[Given],
    axis: int,
    strategy: str,
    *,
    is_placed: bool,
    chunk_size: int,
) -> Shards:
    """The `Shards` of these attributes, after checks: each shard has one class at least.

    With "mod" sizes must fit; where only the run knows them, it checks.
    """
    sizes = []
    for own in operands:
        tensor = next(iter(own.values()))
        with _tf.beside(tensor) if is_placed else contextlib.nullcontext():
            sizes.append(size(tensor, axis))
    if 0 in [known for known in sizes if isinstance(known, int)]:
        raise ValueError(
            f"{function}: each shard must have a class at least, got shards of {_shown(sizes)} "
            "classes. Leave out those that have none."
        )
    if strategy == "mod" and len(sizes) > 1:
        sizes = _checked_mod_sizes(function, sizes)
    return Shards(function, operands, axis, strategy, is_placed, chunk_size, sizes)


def _checked_mod_sizes(function: str, sizes: List[Size]) -> List[Size]:
    total, count = sum(sizes), len(sizes)
    wanted = [(total + count - 1 - number) // count for number in range(count)]
    message = (
        f"{function}: shards must hold equally many classes, the first ones one more where they do "
        'not divide evenly, with partition_strategy "mod", got shards of'
    )
    if isinstance(total, int):
        if sizes != wanted:
            raise ValueError(
                f'{message} {_shown(sizes)} classes. With "div" shards may be of any size.'
            )
        return sizes
    given = tf.stack(sizes)
    fits = tf.reduce_all(tf.equal(given, tf.stack(wanted)))
    given = option_checks.asserted(given, fits, message)
    return [given[number] for number in range(count)]


def _shown(sizes: Sequence[Size]) -> str:
    return ", ".join(str(known) if isinstance(known, int) else "?" for known in sizes)


def local_labels(shards: Shards, labels: Tensor) -> List[Tensor]:
    """`labels` as classes of each shard, and out of its range where the class is another's."""
    count = len(shards.sizes)
    if count == 1:
        return [labels]
    if shards.strategy == "mod":
        owners, classes = tf.floormod(labels, count), tf.floordiv(labels, count)
        nowhere = tf.zeros_like(labels) - 1
        return [_tf.where(tf.equal(owners, s), classes, nowhere) for s in range(count)]
    local, offset = [], 0
    for number in shards.sizes:
        is_first = isinstance(offset, int) and not offset
        local.append(labels if is_first else labels - tf.cast(offset, labels.dtype))
        offset = offset + number
    return local


def cut(shards: Shards, whole: Union[Tensor, np.ndarray], axis: int) -> List[Any]:
    """The slice of each shard of what has all classes along `axis`, the first or the last."""
    count, found, offset = len(shards.sizes), [], 0
    for number, length in enumerate(shards.sizes):
        if shards.strategy == "mod":
            part = slice(number, None, count)
        else:
            part = slice(offset, offset + length)
        found.append(whole[part] if axis == 0 else whole[..., part])
        offset = offset + length
    return found


# --- What is given by class ---------------------------------------------------------------------


def vector_pieces(
    shards: Shards, batch: Batch, name: str, value: TensorLike
) -> Optional[List[Piece]]:
    """An option by class for each shard: [its number of classes]; None for none.

    It is one vector of all classes, or one for each shard: a list of them or a partitioned
    variable.
    """
    if value is None:
        return None
    check = option_checks.class_vector
    parts = parts_of_option(shards, name, value)
    if parts is None:
        is_constant = not _is_tensor(value)
        whole = check(batch._replace(all_classes=shards.num_classes), name, value)
        return _constants_or_slices(shards, whole, is_constant, axis=0)
    pieces = []
    for number, part in enumerate(parts):
        is_constant = not _is_tensor(part)
        if not is_constant:
            part = _tf.converted_beside(part)
        with _tf.beside(part):
            vector = check(batch._replace(all_classes=shards.sizes[number]), name, part)
        pieces.append((vector, is_constant))
    return pieces


def mask_pieces(shards: Shards, batch: Batch, value: TensorLike) -> Optional[List[Piece]]:
    """`class_mask` for each shard: [1 or batch_size, its number of classes], bool."""
    if value is None:
        return None
    parts = parts_of_option(shards, "class_mask", value)
    if parts is None:
        rows = option_checks.class_mask_of_shards(
            batch._replace(all_classes=shards.num_classes), value
        )
        return _constants_or_slices(shards, rows, True, axis=1)
    pieces = []
    for number, part in enumerate(parts):
        with _tf.beside(part):
            examples = batch._replace(all_classes=shards.sizes[number])
            rows = option_checks.class_mask_of_shards(examples, part, is_whole=False)
        pieces.append((rows, True))
    return pieces


def parts_of_option(shards: Shards, name: str, value: TensorLike) -> Optional[List[Any]]:
    parts = parts_of(value, shards.function, name, -1)
    if parts is not None and len(parts) != len(shards.operands):
        raise ValueError(
            f"{shards.function}: `{name}` must be one tensor, or one for each of the "
            f"{len(shards.operands)} shards, got {len(parts)}. Join them: tf.concat({name}, -1)."
        )
    return parts


def _is_tensor(value: Any) -> bool:
    return not isinstance(value, (np.ndarray, list, tuple))


def _constants_or_slices(
    shards: Shards, whole: Tensor, is_constant: bool, axis: int
) -> List[Piece]:
    """Slices of a tensor; of a constant, a constant beside each shard."""
    known = _tf.constant_value(whole) if is_constant else None
    if len(shards.sizes) == 1:
        return [(whole, is_constant)]
    if known is None or not all(isinstance(number, int) for number in shards.sizes):
        return [(piece, is_constant) for piece in cut(shards, whole, axis)]
    pieces = []
    for number, piece in enumerate(cut(shards, known, axis)):
        with shards.beside(number):
            pieces.append((tf.constant(piece), True))
    return pieces
