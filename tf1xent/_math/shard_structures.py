"""What a map of a shard is: which function of which operands, and which derivative of it.

A map is written down as a structure, a list of integers: which function of `FUNCTIONS`, which
operands of `OPERANDS`, and for each derivative taken, in which outputs. The op that carries a map's
gradient carries the structure too, so that a saved graph can be differentiated anywhere.
"""

import functools
from typing import Callable, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from tf1xent._math.differentiation import vector_jacobian
from tf1xent._tf import Structure
from tf1xent._typing import Tensor

# An integer where it is known when the graph is built.
Size = Union[int, Tensor]
# Operands by name.
Given = Dict[str, Tensor]


class Kind(NamedTuple):
    """How a tensor splits: a slice along an axis for each chunk, or shared by all.

    Attributes:
      axis: the sliced axis. None: as an input it is the same for all chunks; as an output it is the
        sum over all chunks.
      by_class: whether a slice has one entry for each class of the chunk, or one entry in all.
      constant: whether it is never differentiated.
      is_flattened: whether it may have any rank, and the function sees a matrix of its last axis.
    """

    axis: Optional[int] = None
    by_class: bool = False
    constant: bool = False
    is_flattened: bool = False


SHARED = Kind()
STACKED = Kind(1)
CONSTANT = Kind(constant=True)
# A constant for a row of each chunk.
STACKED_CONSTANT = Kind(1, constant=True)

# All operands that functions have, in the order in which they are inputs. A structure refers to
# them by place: new ones come last.
OPERANDS: Dict[str, Kind] = {
    "logits": Kind(1, True, is_flattened=True),
    "inputs": SHARED,
    "weights": Kind(1, True),
    "transposed_weights": Kind(0, True),
    "biases": Kind(0, True),
    "logit_adjustment": Kind(0, True),
    "class_weights": Kind(0, True),
    "class_mask": Kind(1, True, constant=True),
    "valid_rows": CONSTANT,
    "softcap": SHARED,
    "temperature": SHARED,
    "focal_gamma": SHARED,
    "largest": CONSTANT,
    "log_partition": SHARED,
    "chunk_largest": CONSTANT,
    "chunk_others": SHARED,
    "chunk_shares": SHARED,
    "chunk_gaps": SHARED,
}
# Where the tensor is whose device and classes are the shard's.
_SHARD = ("logits", "weights", "transposed_weights", "chunk_others")
_ABSENT, _CONSTANT, _DIFFERENTIABLE = range(3)


class ShardFunction(NamedTuple):
    """What maps are made of; registered in `FUNCTIONS`.

    Attributes:
      function: (labels, operands by name, flag) -> the outputs, of one chunk.
      outputs: (names of the operands, flag) -> how each splits.
    """

    function: Callable[[Tensor, Given, bool], List[Tensor]]
    outputs: Callable[[Sequence[str], bool], List[Kind]]


# In the order of their numbers in structures: new ones come last.
FUNCTIONS: List[ShardFunction] = []


class Head(NamedTuple):
    """The first part of a structure: a map that is no derivative.

    Attributes:
      function: number in `FUNCTIONS`.
      flag: what the function does with its flag.
      is_placed: whether it runs on the shard's own device, or wherever it is built.
      chunk_size: the largest number of classes of a chunk; 0: all are one.
      operands: for each of `OPERANDS` whether it is there, and differentiated.
    """

    function: int
    flag: int
    is_placed: int
    chunk_size: int
    operands: Tuple[int, ...]


class ShardMap(NamedTuple):
    """A function of one chunk, to be applied to all.

    Attributes:
      head: of the map that this one is, or is a derivative of.
      function: (labels, inputs) -> the outputs, of one chunk.
      inputs, outputs: how each splits.
      like: for each output the number of the input whose shape it has; None: by row.
    """

    head: Head
    function: Callable[[Tensor, List[Tensor]], List[Tensor]]
    inputs: List[Kind]
    outputs: List[Kind]
    like: List[Optional[int]]


# --- Structures ---------------------------------------------------------------------------------


def _parsed(structure: Structure) -> Tuple[Head, List[Tuple[int, ...]]]:
    """The head, and for each derivative taken the outputs that have a cotangent."""
    end = 5 + structure[4]
    function, flag, is_placed, chunk_size = structure[:4]
    head = Head(function, flag, is_placed, chunk_size, structure[5:end])
    orders, rest = [], structure[end:]
    while rest:
        orders.append(tuple(rest[1 : 1 + rest[0]]))
        rest = rest[1 + rest[0] :]
    return head, orders


def structure_of(
    function: ShardFunction,
    given: Collection[str],
    constants: Collection[str],
    *,
    flag: bool,
    is_placed: bool,
    chunk_size: int,
) -> Structure:
    """The structure of a function of the operands `given` by name, some of them constants."""
    codes = [
        _ABSENT if name not in given else _CONSTANT if name in constants else _DIFFERENTIABLE
        for name in OPERANDS
    ]
    numbers = FUNCTIONS.index(function), int(flag), int(is_placed), chunk_size
    return (*numbers, len(codes), *codes)


@functools.lru_cache(maxsize=None)
def map_of(structure: Structure) -> ShardMap:
    head, orders = _parsed(structure)
    shard_map = _base_map(head)
    for present in orders:
        shard_map = _derivative(shard_map, present)
    return shard_map


def _base_map(head: Head) -> ShardMap:
    chosen = FUNCTIONS[head.function]
    names, kinds = [], []
    for (name, kind), code in zip(OPERANDS.items(), head.operands):
        if code != _ABSENT:
            names.append(name)
            kinds.append(kind._replace(constant=kind.constant or code == _CONSTANT))

    def function(labels: Tensor, inputs: List[Tensor]) -> List[Tensor]:
        return chosen.function(labels, dict(zip(names, inputs)), bool(head.flag))

    outputs = chosen.outputs(names, bool(head.flag))
    return ShardMap(head, function, kinds, outputs, [None] * len(outputs))


def _derivative(forward: ShardMap, present: Tuple[int, ...]) -> ShardMap:
    """The vector-Jacobian product of a map, for cotangents of the outputs `present`."""
    count = len(forward.inputs)
    variables = [i for i, kind in enumerate(forward.inputs) if not kind.constant]

    def function(labels: Tensor, inputs: List[Tensor]) -> List[Tensor]:
        def differentiated(operands: List[Tensor]) -> List[Tensor]:
            given = list(inputs[:count])
            for i, operand in zip(variables, operands):
                given[i] = operand
            values = forward.function(labels, given)
            return [values[i] for i in present]

        return vector_jacobian(differentiated, [inputs[i] for i in variables], inputs[count:])

    return ShardMap(
        forward.head,
        function,
        forward.inputs + [forward.outputs[i] for i in present],
        [forward.inputs[i] for i in variables],
        list(variables),
    )


def shard_position(head: Head) -> int:
    """The number of the input that is the shard's own."""
    there = [name for name, code in zip(OPERANDS, head.operands) if code != _ABSENT]
    return min(there.index(name) for name in _SHARD if name in there)
