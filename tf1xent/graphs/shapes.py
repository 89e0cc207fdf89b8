"""Static shapes, read from a graph without importing it.

TensorFlow records shapes in the files of Savers and SavedModels. In other files a size is traced
back through the ops that classifiers usually end with; past any other op it is unknown.
"""

import enum
from typing import Iterable, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import NodeDef, Proto
from tf1xent.graphs.wiring import CONTROL, Wiring

# After more ops than these the size found is unlikely to be that of the logits.
_MOST_STEPS = 32
_MOST_DIMENSIONS = 16
_HANDS_ON_SHAPE = frozenset(
    "Identity StopGradient Cast Relu Tanh Softmax LogSoftmax Neg Enter Exit Switch Merge "
    "ReadVariableOp CheckNumerics ZerosLike".split()
)
_WITH_BIAS = ("BiasAdd", "Add", "AddV2")


def matrix_shape(wiring: Wiring, position: int, index: int) -> Tuple[Optional[int], Optional[int]]:
    """Returns (rows, columns) of output `index` of a node, a matrix; None for an unknown size."""
    return _size(wiring, position, index, -2), _size(wiring, position, index, -1)


class Broadcast(enum.Enum):
    """Whether a dense op broadcasts its logits and labels, and whether TensorFlow knows.

    TensorFlow's shape inference takes an unknown size to be equal to the other input's. If that is
    1, it infers wrong shapes for everything computed from the loss: the gradient of a mean over the
    rows is too large by the number of rows.
    """

    NONE = "none"
    # The sizes are known and differ: shape inference is right.
    SEEN = "seen"
    # One size is 1 and the other unknown: shape inference may be wrong.
    MISSED = "missed"


def broadcast(wiring: Wiring, position: int) -> Broadcast:
    """Returns how a cross-entropy op broadcasts, as far as the graph tells."""
    inputs = [source for source in wiring.inputs(position) if source[1] != CONTROL]
    if wiring.ops[position] != _tf.DENSE_OP or len(inputs) < 2:
        return Broadcast.NONE
    sizes = list(zip(*(matrix_shape(wiring, *source) for source in inputs[:2])))
    if any(set(pair) == {None, 1} for pair in sizes):
        return Broadcast.MISSED
    is_seen = any(None not in pair and pair[0] != pair[1] for pair in sizes)
    return Broadcast.SEEN if is_seen else Broadcast.NONE


def missed_broadcasts(wiring: Wiring) -> List[int]:
    """Returns the positions of the dense ops whose shapes TensorFlow may infer wrongly."""
    found = wiring.of_types((_tf.DENSE_OP,))
    return [position for position in found if broadcast(wiring, position) is Broadcast.MISSED]


# Branches record the shapes of their results in an attribute of another name, which may be empty.
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")


def forget_shapes(wiring: Wiring, positions: Iterable[int]) -> None:
    """Removes the recorded shapes of some nodes and of all nodes that depend on them."""
    depends = wiring.downstream(positions)
    for position in filter(depends.__getitem__, wiring.nodes.mentioning("output_shapes")):
        node = wiring.nodes[position]
        if node.op in _BRANCHES and "output_shapes" in node.attr:
            node.attr["output_shapes"].list.ClearField("shape")
        if "_output_shapes" in node.attr:
            del node.attr["_output_shapes"]
        wiring.nodes[position] = node


def _size(wiring: Wiring, position: int, index: int, axis: int) -> Optional[int]:
    """Returns the size of a tensor along an axis, -1 or -2; None if unknown."""
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


def _recorded(
    wiring: Wiring, node: NodeDef, index: int, inputs: Sequence[Tuple[int, int]]
) -> Optional[Sequence[Optional[int]]]:
    """Returns the sizes of an output that the node itself tells, or None."""
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
    """Tells whether a shape is -1 followed by other sizes.

    TensorFlow's functions reshape logits of any rank to a matrix so.
    """
    first = next(iter(wiring.inputs(shape)), None)
    if first is None or wiring.ops[shape] != "ConcatV2":
        return False
    return _constant_sizes(wiring.nodes[first[0]]) == (None,)


def _sizes(shape: Proto) -> Optional[Tuple[Optional[int], ...]]:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _constant_sizes(node: NodeDef) -> Optional[Tuple[Optional[int], ...]]:
    """Returns the sizes that a Const holds as a shape; None if it is no valid shape."""
    if node.op != "Const" or "value" not in node.attr:
        return None
    tensor = node.attr["value"].tensor
    sizes = _sizes(tensor.tensor_shape)
    # A single value stands for any number of equal ones. A damaged file could ask for very many.
    if sizes is None or len(sizes) != 1 or sizes[0] is None or sizes[0] > _MOST_DIMENSIONS:
        return None
    if tensor.dtype not in (tf.int32.as_datatype_enum, tf.int64.as_datatype_enum):
        return None
    try:
        return tuple(None if size < 0 else int(size) for size in tf.make_ndarray(tensor))
    except ValueError:
        return None
