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
# A row of many classes is summed in so many blocks: the fewest, and the most plus 1.
_BLOCKS = (24, 65)


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

    def is_minus_infinity(self, tensor: str) -> str:
        """Tells where a tensor is -inf: below the smallest finite number.

        NaN detectors look at constants too, so none is infinite.
        """
        return self.op("Less", tensor, self.number(tf.as_dtype(self.dtype).min))

    def column(self, row_values: str) -> str:
        """Reshapes [batch_size] to [batch_size, 1]."""
        types = {"T": self.dtype, "Tdim": DataType(_INT32)}
        return self.nodes.add("ExpandDims", [row_values, self.nodes.constant(1, _INT32)], **types)

    def reduce(self, name: str, tensor: str, axis: int, dtype: Optional[int] = None) -> str:
        """Adds "Sum" or "Max" over one axis, of a tensor of the dtype or of another."""
        types = {"T": self.dtype if dtype is None else DataType(dtype), "Tidx": DataType(_INT32)}
        inputs = [tensor, self.nodes.constant(axis, _INT32)]
        return self.nodes.add(name, inputs, keep_dims=False, **types)

    def int32(self, name: str, *inputs: str) -> str:
        """Adds an op on int32 tensors."""
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

    def shape(self, matrix: str) -> str:
        return self.nodes.add("Shape", [matrix], T=self.dtype, out_type=DataType(_INT64))

    def numbers(self, count: str) -> str:
        """Returns 0, 1, ... count - 1."""
        limits = [self.integer(0), count, self.integer(1)]
        return self.nodes.add("Range", limits, Tidx=DataType(_INT64))

    def entries(self, rows: str, classes: str) -> str:
        """Returns the indices (rows[i], classes[i]) of one entry a row: [batch_size, 2]."""
        return self.pack(_INT64, rows, classes, axis=1)

    def take(self, matrix: str, entries: str) -> str:
        """Returns the entries at some indices: [batch_size]."""
        types = {"Tparams": self.dtype, "Tindices": DataType(_INT64)}
        return self.nodes.add("GatherNd", [matrix, entries], **types)

    def put(self, entries: str, values: str, shape: str) -> str:
        """Returns a matrix of this shape that is the sum of the values at some indices, else 0."""
        # int32: TFLite of TF 2.4 has no other.
        indices, shape = (self.cast(tensor, _INT64, _INT32) for tensor in (entries, shape))
        types = {"T": self.dtype, "Tindices": DataType(_INT32)}
        return self.nodes.add("ScatterNd", [indices, values, shape], **types)


class Sizes:
    """The shape of a matrix, and sums over its rows.

    Attributes:
      shape: int64, [2].
      count, columns: the numbers of rows and of columns, int64.
    """

    def __init__(self, a: Arithmetic, shape: str) -> None:
        self._a, self.shape = a, shape
        sizes = a.nodes.add("Unpack", [shape], outputs=2, num=2, axis=0, T=DataType(_INT64))
        self.count, self.columns = sizes, f"{sizes}:1"
        self._blocks: Optional[Tuple[str, str]] = None

    def row_sum(self, matrix: str) -> str:
        """Sums over the classes: [batch_size].

        It sums blocks first: TF 1.x adds thousands of terms nearly one after another, and where
        they are equal all rounding errors have the same sign.
        """
        a = self._a
        self._blocks = self._blocks or self._paddings_and_blocks()
        paddings, blocks = self._blocks
        types = {"T": a.dtype, "Tpaddings": DataType(_INT32)}
        padded = a.nodes.add("Pad", [matrix, paddings], **types)
        types = {"T": a.dtype, "Tshape": DataType(_INT32)}
        cut = a.nodes.add("Reshape", [padded, blocks], **types)
        return a.reduce("Sum", a.reduce("Sum", cut, 2), 1)

    def _paddings_and_blocks(self) -> Tuple[str, str]:
        """Returns what a matrix is padded by, and the shape of its rows' blocks.

        There are as many blocks as the largest divisor among the useful numbers, since TensorFlow
        copies no matrix that is padded by nothing. All is arithmetic on int32, which TensorFlow
        computes on the host.
        """
        a = self._a
        rows, columns = (a.cast(size, _INT64, _INT32) for size in (self.count, self.columns))
        zero, one, least, most = (a.nodes.constant(n, _INT32) for n in (0, 1, *_BLOCKS))
        fewest = a.int32("Add", a.int32("FloorDiv", columns, a.nodes.constant(32, _INT32)), one)
        fewest = a.int32("Minimum", fewest, least)
        numbers = a.nodes.add("Range", [fewest, most, one], Tidx=DataType(_INT32))
        is_rest = a.int32("Minimum", a.int32("FloorMod", columns, numbers), one)
        more = a.int32("Mul", a.int32("Sub", numbers, fewest), a.int32("Sub", one, is_rest))
        blocks = a.int32("Add", fewest, a.reduce("Max", more, 0, _INT32))
        rounded_up = a.int32("Add", columns, a.int32("Sub", blocks, one))
        size = a.int32("FloorDiv", rounded_up, blocks)
        missing = a.int32("Sub", a.int32("Mul", size, blocks), columns)
        none, at_the_end = a.pack(_INT32, zero, zero), a.pack(_INT32, zero, missing)
        # int32: the gradient of Pad in TF 1.x accepts nothing else.
        return a.pack(_INT32, none, at_the_end), a.pack(_INT32, rows, blocks, size)
