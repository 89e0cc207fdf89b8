"""Static sizes as far as a file tells them, without importing it.

TensorFlow records shapes in what its Savers and SavedModels write. In other files a size is
followed back over the ops that classifiers end with, one input of each; anything else leaves it
unknown.
"""

import enum
from typing import Any, Iterable, List, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.graphs.wiring import CONTROL, Wiring

# Behind more ops than these the number of classes is hardly still the one of the logits.
_MOST_STEPS = 32
_MOST_DIMENSIONS = 16
_HANDS_ON_SHAPE = frozenset(
    "Identity StopGradient Cast Relu Tanh Softmax LogSoftmax Neg Enter Exit Switch Merge "
    "ReadVariableOp CheckNumerics ZerosLike".split()
)
_WITH_BIAS = ("BiasAdd", "Add", "AddV2")


def matrix_shape(wiring: Wiring, position: int, index: int) -> Tuple[Optional[int], Optional[int]]:
    """(rows, columns) of a matrix, output `index` of a node; None for what is not known."""
    return _size(wiring, position, index, -2), _size(wiring, position, index, -1)


class Broadcast(enum.Enum):
    """How TensorFlow sees that the logits and labels of a dense op are broadcast to one shape.

    It takes an unknown size for the other's, 1 for instance, and with it the shapes of all that is
    computed from the loss: a gradient of the mean is then too large by as much.
    """

    NONE = "none"
    SEEN = "seen"
    MISSED = "missed"


def broadcast(wiring: Wiring, position: int) -> Broadcast:
    """That of a cross-entropy op, as far as the graph tells."""
    inputs = [source for source in wiring.inputs(position) if source[1] != CONTROL]
    if wiring.ops[position] != _tf.DENSE_OP or len(inputs) < 2:
        return Broadcast.NONE
    sizes = list(zip(*(matrix_shape(wiring, *source) for source in inputs[:2])))
    if any(set(pair) == {None, 1} for pair in sizes):
        return Broadcast.MISSED
    is_seen = any(None not in pair and pair[0] != pair[1] for pair in sizes)
    return Broadcast.SEEN if is_seen else Broadcast.NONE


def missed_broadcasts(wiring: Wiring) -> List[int]:
    """The positions of the dense ops whose shapes TensorFlow takes for others."""
    found = wiring.of_types((_tf.DENSE_OP,))
    return [position for position in found if broadcast(wiring, position) is Broadcast.MISSED]


# Branches say the shapes of their results in an attribute that may be empty.
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")


def forget_shapes(wiring: Wiring, positions: Iterable[int]) -> None:
    """Takes the recorded shapes off some nodes and all that depends on them."""
    depends = wiring.behind(positions)
    for position in filter(depends.__getitem__, wiring.nodes.mentioning("output_shapes")):
        node = wiring.nodes[position]
        if node.op in _BRANCHES and "output_shapes" in node.attr:
            node.attr["output_shapes"].list.ClearField("shape")
        if "_output_shapes" in node.attr:
            del node.attr["_output_shapes"]
        wiring.nodes[position] = node


def _size(wiring: Wiring, position: int, index: int, axis: int) -> Optional[int]:
    """The size of a tensor along an axis, counted from the end."""
    flattened = False
    for _ in range(_MOST_STEPS):
        node = wiring.nodes[position]
        inputs = [source for source in wiring.inputs(position) if source[1] != CONTROL]
        sizes = _recorded(wiring, node, index, inputs)
        if sizes is not None:
            is_kept = -len(sizes) <= axis and not (flattened and axis == -2 and len(sizes) != 2)
            return sizes[axis] if is_kept else None
        if node.op in _HANDS_ON_SHAPE and inputs:
            position, index = inputs[0]
        elif node.op == "Reshape" and len(inputs) == 2 and _flattens(wiring, inputs[1][0]):
            position, index = inputs[0]
            flattened = True
        elif node.op in _WITH_BIAS and len(inputs) == 2:
            position, index = inputs[1 if axis == -1 else 0]
        elif node.op == "MatMul" and len(inputs) == 2:
            operand, flag = (1, "transpose_b") if axis == -1 else (0, "transpose_a")
            position, index = inputs[operand]
            if flag in node.attr and node.attr[flag].b:
                axis = -3 - axis
        else:
            return None
    return None


def _recorded(wiring: Wiring, node: Any, index: int, inputs: Any) -> Any:
    if "_output_shapes" in node.attr:
        shapes = node.attr["_output_shapes"].list.shape
        return _sizes(shapes[index]) if index < len(shapes) else None
    if "shape" in node.attr and node.attr["shape"].HasField("shape"):
        return _sizes(node.attr["shape"].shape)  # of a placeholder or a variable
    if node.op == "Const" and "value" in node.attr:
        return _sizes(node.attr["value"].tensor.tensor_shape)
    if node.op == "Reshape" and len(inputs) == 2:
        return _constant_sizes(wiring.nodes[inputs[1][0]])
    return None


def _flattens(wiring: Wiring, shape: int) -> bool:
    """Whether a shape is -1 and then others: TensorFlow's functions so make a matrix of logits."""
    first = next(iter(wiring.inputs(shape)), None)
    if first is None or wiring.ops[shape] != "ConcatV2":
        return False
    return _constant_sizes(wiring.nodes[first[0]]) == (None,)


def _sizes(shape: Any) -> Optional[Tuple[Optional[int], ...]]:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _constant_sizes(node: Any) -> Optional[Tuple[Optional[int], ...]]:
    """The sizes that a Const of a shape says, or None."""
    if node.op != "Const" or "value" not in node.attr:
        return None
    tensor = node.attr["value"].tensor
    sizes = _sizes(tensor.tensor_shape)
    # Its values may be written as one that is repeated: as often as a damaged file says.
    if sizes is None or len(sizes) != 1 or sizes[0] is None or sizes[0] > _MOST_DIMENSIONS:
        return None
    if tensor.dtype not in (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum):
        return None
    try:
        return tuple(None if size < 0 else int(size) for size in tf.make_ndarray(tensor))
    except ValueError:
        return None
