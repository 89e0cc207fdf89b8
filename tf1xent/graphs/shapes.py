"""Static sizes as far as a file tells them, without importing it.

TensorFlow records shapes in what its Savers and SavedModels write. In other files a size is
followed back over the ops that classifiers end with, one input of each; anything else leaves it
unknown.
"""

from typing import Any, Optional, Tuple

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


def _size(wiring: Wiring, position: int, index: int, axis: int) -> Optional[int]:
    """The size of a tensor along an axis, counted from the end."""
    for _ in range(_MOST_STEPS):
        node = wiring.nodes[position]
        inputs = [source for source in wiring.inputs(position) if source[1] != CONTROL]
        sizes = _recorded(wiring, node, index, inputs)
        if sizes is not None:
            return sizes[axis] if -len(sizes) <= axis else None
        if node.op in _HANDS_ON_SHAPE and inputs:
            position, index = inputs[0]
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
