"""Builds NodeDefs of stock ops without a live graph, with the ops and attributes of TF 1.13."""

import functools
from typing import Dict, List, Optional, Sequence, Tuple

from tf1xent._tf import tf
from tf1xent._typing import Proto
from tf1xent.graphs.attributes import Attribute, DataType, set_attribute
from tf1xent.graphs.raw import NodeList
from tf1xent.graphs.wiring import Names

_INT32 = tf.int32.as_datatype_enum
_INT64 = tf.int64.as_datatype_enum
_BLOCKS = 32


class Nodes:
    """Adds NodeDefs to a graph: below one scope, on one device, with some common attributes.

    Inside a v1 branch or loop (`inside`) every constant gets a control input from the node
    `anchor`, so that it runs in the same context. Outside it gets none: a control input would make
    TensorFlow compute the anchor's inputs even where the anchor is fed.

    Attributes:
      anchor: the node that constants wait for, inside a v1 branch or loop.
      tensors: the outputs of all nodes added.
    """

    def __init__(
        self,
        nodes: NodeList,
        names: Names,
        scope: str,
        device: str,
        common: Dict[str, Proto],
        inside: bool = False,
    ) -> None:
        self._nodes, self._names = nodes, names
        self._scope, self._device, self._common = scope, device, common
        self._constants: Dict[Tuple[float, int], str] = {}
        self._inside = inside
        self.anchor = ""
        self.tensors: List[str] = []

    def add(
        self, op: str, inputs: Sequence[str], *, outputs: int = 1, **attributes: Attribute
    ) -> str:
        """Adds a node and returns the name of its first output."""
        name = self._names.unique(f"{self._scope}/{op}")
        node = tf.NodeDef(name=name, op=op, input=inputs, device=self._device)
        for key, value in attributes.items():
            set_attribute(node, key, value)
        for key, value in self._common.items():
            node.attr[key].CopyFrom(value)
        self._nodes.append(node)
        self.tensors += [f"{name}:{index}" for index in range(outputs)]
        return name

    def cast(self, inputs: Sequence[str], source: int, target: int) -> str:
        """Casts a tensor; `inputs` are the tensor and any control inputs."""
        types = {"SrcT": DataType(source), "DstT": DataType(target)}
        return self.add("Cast", inputs, Truncate=False, **types)

    def constant(self, value: float, dtype: int) -> str:
        """Returns a scalar constant; equal ones are one node."""
        if (value, dtype) not in self._constants:
            inputs = [f"^{self.anchor}"] if self._inside else []
            self._constants[value, dtype] = self.add(
                "Const", inputs, dtype=DataType(dtype), value=_tensor(value, dtype)
            )
        return self._constants[value, dtype]


@functools.lru_cache(maxsize=None)
def _tensor(value: float, dtype: int) -> Proto:
    return tf.make_tensor_proto(value, dtype=tf.as_dtype(dtype))


class Arithmetic:
    """Ops on matrices [batch_size, num_classes] of one dtype; indices are int64.

    Tensors are references, as of `tf1xent.graphs.wiring`.
    """

    def __init__(self, nodes: Nodes, dtype: int) -> None:
        self.nodes, self.dtype = nodes, DataType(dtype)

    def op(self, name: str, *inputs: str) -> str:
        """Adds an op whose inputs and output have the dtype."""
        return self.nodes.add(name, inputs, T=self.dtype)

    def number(self, value: float) -> str:
        return self.nodes.constant(value, self.dtype)

    def integer(self, value: int) -> str:
        return self.nodes.constant(value, _INT64)

    def is_infinite(self, tensor: str) -> str:
        """Tells where a tensor is +inf: above the largest finite number.

        NaN detectors look at constants too, so none is infinite.
        """
        return self.op("Less", self.number(tf.as_dtype(self.dtype).max), tensor)

    def is_minus_infinity(self, tensor: str) -> str:
        return self.op("Less", tensor, self.number(tf.as_dtype(self.dtype).min))

    def column(self, row_values: str, dtype: Optional[int] = None, axis: int = 1) -> str:
        """Reshapes [batch_size] to [batch_size, 1]; with axis 0, [n] to [1, n]."""
        types = {"T": self.dtype if dtype is None else DataType(dtype), "Tdim": DataType(_INT32)}
        return self.nodes.add(
            "ExpandDims", [row_values, self.nodes.constant(axis, _INT32)], **types
        )

    def sum(self, tensor: str, axis: int) -> str:
        types = {"T": self.dtype, "Tidx": DataType(_INT32)}
        inputs = [tensor, self.nodes.constant(axis, _INT32)]
        return self.nodes.add("Sum", inputs, keep_dims=False, **types)

    def row_sum(self, matrix: str, rows: str, columns: str) -> str:
        """Sums over the classes of a matrix with so many rows and columns: [batch_size].

        It sums blocks first: TF 1.x adds thousands of terms nearly one after another, and where
        they are equal all rounding errors have the same sign.
        """
        rows, columns = (self.cast(size, _INT64, _INT32) for size in (rows, columns))
        zero, one, most = (self.nodes.constant(number, _INT32) for number in (0, 1, _BLOCKS))
        # With few classes there is one block.
        blocks = self._int32("Add", self._int32("FloorDiv", columns, most), one)
        blocks = self._int32("Minimum", blocks, most)
        rounded_up = self._int32("Add", columns, self._int32("Sub", blocks, one))
        size = self._int32("FloorDiv", rounded_up, blocks)
        missing = self._int32("Sub", self._int32("Mul", size, blocks), columns)
        none, at_the_end = self.pack(_INT32, zero, zero), self.pack(_INT32, zero, missing)
        # int32: the gradient of Pad in TF 1.x accepts nothing else.
        paddings = self.pack(_INT32, none, at_the_end)
        types = {"T": self.dtype, "Tpaddings": DataType(_INT32)}
        padded = self.nodes.add("Pad", [matrix, paddings], **types)
        types = {"T": self.dtype, "Tshape": DataType(_INT32)}
        cut = self.nodes.add("Reshape", [padded, self.pack(_INT32, rows, blocks, size)], **types)
        return self.sum(self.sum(cut, 2), 1)

    def _int32(self, name: str, *inputs: str) -> str:
        return self.nodes.add(name, inputs, T=DataType(_INT32))

    def int64(self, name: str, *inputs: str) -> str:
        """Adds an op on int64 tensors."""
        return self.nodes.add(name, inputs, T=DataType(_INT64))

    def pack(self, dtype: int, *tensors: str, axis: int = 0) -> str:
        return self.nodes.add("Pack", tensors, N=len(tensors), axis=axis, T=DataType(dtype))

    def cast(self, tensor: str, source: int, target: int) -> str:
        return self.nodes.cast([tensor], source, target)

    def cast_if_other(self, tensor: str, source: int, target: int) -> str:
        """Casts a tensor unless the dtypes are equal."""
        return tensor if source == target else self.cast(tensor, source, target)

    def without(self, condition: str, tensor: str) -> str:
        """Replaces entries by 0 where the condition, of the same shape, holds."""
        return self.op("Select", condition, self.op("ZerosLike", tensor), tensor)

    def sizes(self, matrix: str) -> Tuple[str, str]:
        """Returns the numbers of rows and of columns."""
        shape = self.nodes.add("Shape", [matrix], T=self.dtype, out_type=DataType(_INT64))
        sizes = self.nodes.add("Unpack", [shape], outputs=2, num=2, axis=0, T=DataType(_INT64))
        return sizes, f"{sizes}:1"

    def numbers(self, count: str) -> str:
        """Returns 0, 1, ... count - 1."""
        limits = [self.integer(0), count, self.integer(1)]
        return self.nodes.add("Range", limits, Tidx=DataType(_INT64))

    def entries(self, rows: str, classes: str) -> str:
        """Returns the indices (i, classes[i]) of one entry a row: [batch_size, 2]."""
        return self.pack(_INT64, self.numbers(rows), classes, axis=1)

    def take(self, matrix: str, entries: str) -> str:
        """Returns the entries at some indices: [batch_size]."""
        types = {"Tparams": self.dtype, "Tindices": DataType(_INT64)}
        return self.nodes.add("GatherNd", [matrix, entries], **types)

    def is_class(self, chosen: str, columns: str) -> str:
        """Tells whether j is the class chosen for row i: [batch_size, num_classes], bool."""
        classes = self.column(self.numbers(columns), _INT64, axis=0)
        chosen = self.column(chosen, _INT64)
        return self.int64("Equal", chosen, classes)
