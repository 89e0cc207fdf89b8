"""NodeDefs of stock ops, made without a graph; the ops and attributes are those of TF 1.13."""

import functools
from typing import Any, Dict, List, Sequence, Tuple

from tf1xent._tf import tf

_INT32 = tf.int32.as_datatype_enum
_INT64 = tf.int64.as_datatype_enum
_BLOCKS = 32


class Nodes:
    """Adds NodeDefs to a graph, below one scope, on one device, with some attributes in common.

    Inside of a v1 branch or loop every constant waits for `anchor`, a node: so it is computed where
    that one runs. Elsewhere it waits for nothing: where a tensor is fed, TensorFlow would compute
    what comes before it after all, for those who wait.
    """

    def __init__(
        self,
        nodes: Any,
        names: Any,
        scope: str,
        device: str,
        common: Dict[str, Any],
        inside: bool = False,
    ):
        self._nodes, self._names = nodes, names
        self._scope, self._device, self._common = scope, device, common
        self._constants: Dict[Tuple[float, int], str] = {}
        self._inside = inside
        self.anchor = ""
        # All that the nodes return.
        self.tensors: List[str] = []

    def add(self, op: str, inputs: Sequence[str], *, outputs: int = 1, **attributes: Any) -> str:
        """Adds a node and returns the name of its first output."""
        name = self._names.unique(f"{self._scope}/{op}")
        node = tf.NodeDef(name=name, op=op, input=inputs, device=self._device)
        for key, value in attributes.items():
            _set_attribute(node, key, value)
        for key, value in self._common.items():
            node.attr[key].CopyFrom(value)
        self._nodes.append(node)
        self.tensors += [f"{name}:{index}" for index in range(outputs)]
        return name

    def cast(self, inputs: Sequence[str], source: int, target: int) -> str:
        """A tensor in another dtype; after control inputs, if there are any."""
        types = {"SrcT": DataType(source), "DstT": DataType(target)}
        return self.add("Cast", inputs, Truncate=False, **types)

    def constant(self, value: float, dtype: int) -> str:
        """A scalar."""
        if (value, dtype) not in self._constants:
            inputs = [f"^{self.anchor}"] if self._inside else []
            self._constants[value, dtype] = self.add(
                "Const", inputs, dtype=DataType(dtype), value=_tensor(value, dtype)
            )
        return self._constants[value, dtype]


@functools.lru_cache(maxsize=None)
def _tensor(value, dtype):
    return tf.make_tensor_proto(value, dtype=tf.as_dtype(dtype))


class DataType(int):
    """A number of a DataType, so that an attribute is not taken for an integer."""


def _set_attribute(node, key, value):
    """Sets an attribute of a NodeDef in the field that fits the value's Python type."""
    attribute = node.attr[key]
    if isinstance(value, DataType):
        attribute.type = value
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    else:
        attribute.tensor.CopyFrom(value)


class Arithmetic:
    """Ops of matrices of one dtype, [batch_size, num_classes]; indices are int64."""

    def __init__(self, nodes: Nodes, dtype: int):
        self.nodes, self.dtype = nodes, DataType(dtype)

    def op(self, name, *inputs):
        return self.nodes.add(name, inputs, T=self.dtype)

    def number(self, value):
        return self.nodes.constant(value, self.dtype)

    def integer(self, value):
        return self.nodes.constant(value, _INT64)

    def is_infinite(self, tensor):
        """Where a tensor is +inf: above the largest number, and without a constant that is inf."""
        return self.op("Less", self.number(tf.as_dtype(self.dtype).max), tensor)

    def is_minus_infinity(self, tensor):
        return self.op("Less", tensor, self.number(tf.as_dtype(self.dtype).min))

    def column(self, row_values, dtype=None, axis=1):
        """[batch_size] -> [batch_size, 1]"""
        types = {"T": self.dtype if dtype is None else DataType(dtype), "Tdim": DataType(_INT32)}
        return self.nodes.add(
            "ExpandDims", [row_values, self.nodes.constant(axis, _INT32)], **types
        )

    def sum(self, tensor, axis):
        types = {"T": self.dtype, "Tidx": DataType(_INT32)}
        axis = self.nodes.constant(axis, _INT32)
        return self.nodes.add("Sum", [tensor, axis], keep_dims=False, **types)

    def row_sum(self, matrix, rows, columns):
        """Sums of the classes' entries, [batch_size], of a matrix of that size.

        Block by block, since TF 1.x adds thousands of terms nearly one after another, and where
        they are equal its roundings all go one way.
        """
        rows, columns = (self.cast(size, _INT64, _INT32) for size in (rows, columns))
        zero, one, most = (self.nodes.constant(number, _INT32) for number in (0, 1, _BLOCKS))
        # Few classes are one block.
        blocks = self._int32("Add", self._int32("FloorDiv", columns, most), one)
        blocks = self._int32("Minimum", blocks, most)
        rounded_up = self._int32("Add", columns, self._int32("Sub", blocks, one))
        size = self._int32("FloorDiv", rounded_up, blocks)
        missing = self._int32("Sub", self._int32("Mul", size, blocks), columns)
        none, at_the_end = self.pack(_INT32, zero, zero), self.pack(_INT32, zero, missing)
        # int32, since the gradient of Pad in TF 1.x takes no other.
        paddings = self.pack(_INT32, none, at_the_end)
        types = {"T": self.dtype, "Tpaddings": DataType(_INT32)}
        padded = self.nodes.add("Pad", [matrix, paddings], **types)
        types = {"T": self.dtype, "Tshape": DataType(_INT32)}
        cut = self.nodes.add("Reshape", [padded, self.pack(_INT32, rows, blocks, size)], **types)
        return self.sum(self.sum(cut, 2), 1)

    def _int32(self, name, *inputs):
        return self.nodes.add(name, inputs, T=DataType(_INT32))

    def int64(self, name, *inputs):
        return self.nodes.add(name, inputs, T=DataType(_INT64))

    def pack(self, dtype, *tensors, axis=0):
        return self.nodes.add("Pack", tensors, N=len(tensors), axis=axis, T=DataType(dtype))

    def cast(self, tensor, source, target):
        return self.nodes.cast([tensor], source, target)

    def cast_if_other(self, tensor, source, target):
        return tensor if source == target else self.cast(tensor, source, target)

    def without(self, condition, tensor):
        """0 where the condition holds, which is of the tensor's shape."""
        return self.op("Select", condition, self.op("ZerosLike", tensor), tensor)

    def sizes(self, matrix):
        """The number of rows and of columns."""
        shape = self.nodes.add("Shape", [matrix], T=self.dtype, out_type=DataType(_INT64))
        sizes = self.nodes.add("Unpack", [shape], outputs=2, num=2, axis=0, T=DataType(_INT64))
        return sizes, f"{sizes}:1"

    def numbers(self, count):
        """0, 1, ... count - 1"""
        limits = [self.integer(0), count, self.integer(1)]
        return self.nodes.add("Range", limits, Tidx=DataType(_INT64))

    def entries(self, rows, classes):
        """Where the entries [i, classes[i]] are: [batch_size, 2]."""
        return self.pack(_INT64, self.numbers(rows), classes, axis=1)

    def take(self, matrix, entries):
        types = {"Tparams": self.dtype, "Tindices": DataType(_INT64)}
        return self.nodes.add("GatherNd", [matrix, entries], **types)

    def is_class(self, chosen, columns):
        """Whether j is the class chosen for row i: [batch_size, num_classes], bool."""
        classes = self.column(self.numbers(columns), _INT64, axis=0)
        chosen = self.column(chosen, _INT64)
        return self.int64("Equal", chosen, classes)
