"""TensorArrays become lists of tensors, since TensorFlow's While ops differentiate only these.

A TensorArray is a resource, its handle, and a `flow` that orders what is done with it: a number
that each op hands on. A list is a value, which takes the place of the flow.
"""

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple, Union

from tf1xent._tf import tf
from tf1xent._typing import NodeDef, Proto
from tf1xent.graphs.attributes import DataType
from tf1xent.graphs.loops.net import (
    ENTERS,
    EXITS,
    INT32,
    INT64,
    STACKS,
    VARIANT,
    Net,
    NotUnderstoodError,
    become,
)
from tf1xent.graphs.wiring import join_reference, split_reference

CREATOR, GRADIENT = "TensorArrayV3", "TensorArrayGradV3"
# What hands handles and flows on.
_HANDS_ON = ("Identity", "Switch", "Merge", "NextIteration", *ENTERS, *EXITS)
# Ops that return a flow, and ops that return values, with the handle first and the flow last.
_CHANGES = ("TensorArrayWriteV3", "TensorArrayScatterV3", "TensorArraySplitV3")
_VALUES = (
    "TensorArrayReadV3",
    "TensorArrayGatherV3",
    "TensorArraySizeV3",
    "TensorArrayConcatV3",
)
_CLOSE = "TensorArrayCloseV3"
# The numbers of data inputs.
ARRAY_INPUTS = {
    CREATOR: 1,
    **dict.fromkeys(_CHANGES, 4),
    "TensorArrayReadV3": 3,
    "TensorArrayGatherV3": 3,
    "TensorArraySizeV3": 2,
    "TensorArrayConcatV3": 2,
    _CLOSE: 1,
}
_OWN = (CREATOR, *_CHANGES, *_VALUES)


class Arrays(NamedTuple):
    """TensorArrays whose flows meet.

    Attributes:
      creators: the nodes that make them.
      nodes: all nodes that hand on a handle or flow of theirs, or use one.
      flows: references of their flows.
      handles: references of their handles.
      strange: nodes that do something else with a flow or handle.
    """

    creators: Set[str]
    nodes: Set[str]
    flows: Set[str]
    handles: Set[str]
    strange: Set[str]

    def joined(self, other: "Arrays") -> "Arrays":
        """Returns both together."""
        return Arrays(
            self.creators | other.creators,
            self.nodes | other.nodes,
            self.flows | other.flows,
            self.handles | other.handles,
            self.strange | other.strange,
        )

    def used_by(self, net: Net) -> List[str]:
        """Returns the nodes that make, write or read."""
        return [name for name in self.nodes if net.op(name) in _OWN]

    def values(self, net: Net) -> List[str]:
        """Returns the nodes that return values."""
        return [name for name in self.nodes if net.op(name) in _VALUES]


def find_arrays(net: Net, ends: Callable[[str], bool]) -> List[Arrays]:
    """Returns the TensorArrays of a graph; `ends` tells where a gradient begins to use them."""
    readers = net.readers()
    found: List[Arrays] = []
    for creator in net.of_types([CREATOR]):
        arrays = _Search(net, readers, ends).from_(creator)
        for other in [o for o in found if o.nodes & arrays.nodes]:
            found.remove(other)
            arrays = arrays.joined(other)
        found.append(arrays)
    return found


class _Search:
    """Follows the handle and the flow of one TensorArray."""

    def __init__(
        self,
        net: Net,
        readers: Dict[str, List[Tuple[str, int, int]]],
        ends: Callable[[str], bool],
    ) -> None:
        self._net, self._readers, self._ends = net, readers, ends
        self._nodes: Set[str] = set()
        self._strange: Set[str] = set()

    def from_(self, creator: str) -> Arrays:
        self._nodes.add(creator)
        handles = self._followed(creator, set())
        flows = self._followed(join_reference(creator, 1), handles)
        return Arrays({creator}, self._nodes, flows, handles, self._strange)

    def _followed(self, start: str, handles: Set[str]) -> Set[str]:
        """Returns the references that hand on `start`; that is the flow if there are handles."""
        found, pending = {start}, [start]
        while pending:
            source, index = split_reference(pending.pop())
            for reader, place, read in self._readers[source]:
                if read != index:
                    continue
                following = self._next(reader, place, handles)
                self._nodes.update([reader] if following is not None else [])
                new = [r for r in following or [] if r not in found]
                found.update(new)
                pending += new
        return found

    def _next(self, reader: str, place: int, handles: Set[str]) -> Optional[List[str]]:
        """Returns the references by which a reader hands on; None where it is left out."""
        net, op = self._net, self._net.op(reader)
        # A gradient that is recorded in the graph has its own arrays, and keeps flows in stacks.
        is_recorded = op == GRADIENT or op in STACKS or self._ends(reader)
        if is_recorded or any(net.op(name) == GRADIENT for name in net.controls(reader)):
            return None
        if op in _HANDS_ON and place < (1 if op == "Switch" else 2):
            return [reader] + ([f"{reader}:1"] if op == "Switch" else [])
        if op in (*_CHANGES, *_VALUES, _CLOSE):
            if handles and net.data(reader)[0] not in handles:
                return None
            return [reader] if handles and op in _CHANGES else []
        self._strange.add(reader)
        return None


def convert(net: Net, arrays: Iterable[Arrays]) -> None:
    """Turns the ops of TensorArrays that are made in the net into ops of lists."""
    for found in arrays:
        if not found.creators.isdisjoint(net.nodes):
            _Conversion(net, found).convert()


class _Conversion:
    """Converts TensorArrays whose flows meet."""

    def __init__(self, net: Net, arrays: Arrays) -> None:
        self._net, self._arrays = net, arrays
        creators = [net.nodes[name] for name in sorted(arrays.creators) if name in net.nodes]
        self._dtype = creators[0].attr["dtype"].type
        shapes = [_shape(creator, "element_shape") for creator in creators]
        self._shape = shapes[0] if all(shape == shapes[0] for shape in shapes) else _unknown()
        self._grows = any(creator.attr["dynamic_size"].b for creator in creators)

    def convert(self) -> None:
        net = self._net
        kinds = {
            CREATOR: self._create,
            "TensorArrayWriteV3": self._write,
            "TensorArrayScatterV3": self._scatter,
            "TensorArraySplitV3": self._split,
            "TensorArrayReadV3": self._read,
            "TensorArrayGatherV3": self._gather,
            "TensorArraySizeV3": self._size,
            "TensorArrayConcatV3": self._concat,
        }
        flows = self._arrays.flows
        for name in [name for name in net.nodes if name in self._arrays.nodes]:
            node = net.nodes[name]
            if node.op in kinds:
                controls = [f"^{control}" for control in net.controls(name)]
                kinds[node.op](node, net.data(name))
                node.input.extend(controls)
            elif name in flows or f"{name}:1" in flows:
                node.attr["T"].type = VARIANT
            if node.op not in ("TensorListGetItem", "TensorListGather", "TensorListConcatV2"):
                node.attr.pop("_output_shapes", None)
        for name in net.nodes:
            node = net.nodes[name]
            inputs = [join_reference(*split_reference(reference)) for reference in node.input]
            # The list is the only output.
            created = {f"{creator}:1": creator for creator in self._arrays.creators}
            node.input[:] = [created.get(reference, reference) for reference in inputs]

    def _constant(
        self, node: NodeDef, anchor: str, kind: str, value: Union[int, List[int]], dtype: int
    ) -> str:
        """Adds a constant that runs in the same loops and branches as a tensor."""
        waits = [split_reference(anchor)[0]]
        return self._net.constant(f"{node.name}/{kind}", value, dtype, waits)

    def _element_shape(self, node: NodeDef, anchor: str, shape: Optional[Proto] = None) -> str:
        known = self._shape if shape is None or shape.unknown_rank else shape
        sizes = [-1 if dim.size < 0 else int(dim.size) for dim in known.dim]
        value = -1 if known.unknown_rank else sizes
        return self._constant(node, anchor, "element_shape", value, INT32)

    def _create(self, node: NodeDef, data: List[str]) -> None:
        shape = self._element_shape(node, data[0])
        become(
            node,
            "TensorListReserve",
            [shape, data[0]],
            element_dtype=DataType(self._dtype),
            shape_type=DataType(INT32),
        )

    def _write(self, node: NodeDef, data: List[str]) -> None:
        _, index, value, flow = data
        if self._grows:
            flow = self._grown(node, index, flow)
        dtype = DataType(self._dtype)
        become(node, "TensorListSetItem", [flow, index, value], element_dtype=dtype)

    def _grown(self, node: NodeDef, index: str, flow: str) -> str:
        """Returns the list, long enough for an index."""
        net, int32 = self._net, DataType(INT32)
        one = self._constant(node, flow, "one", 1, INT32)
        least = net.add(f"{node.name}/size", "Add", [index, one], T=int32)
        length = net.add(f"{node.name}/length", "TensorListLength", [flow])
        size = net.add(f"{node.name}/size", "Maximum", [length, least], T=int32)
        return net.add(f"{node.name}/resize", "TensorListResize", [flow, size])

    def _scatter(self, node: NodeDef, data: List[str]) -> None:
        _, indices, value, flow = data
        dtype = DataType(self._dtype)
        inputs = [flow, value, indices]
        become(node, "TensorListScatterIntoExistingList", inputs, element_dtype=dtype)

    def _split(self, node: NodeDef, data: List[str]) -> None:
        _, value, lengths, flow = data
        become(
            node,
            "TensorListSplit",
            [value, self._element_shape(node, flow), lengths],
            element_dtype=DataType(self._dtype),
            shape_type=DataType(INT32),
        )

    def _read(self, node: NodeDef, data: List[str]) -> None:
        _, index, flow = data
        inputs = [flow, index, self._element_shape(node, flow)]
        become(node, "TensorListGetItem", inputs, element_dtype=DataType(self._dtype))

    def _gather(self, node: NodeDef, data: List[str]) -> None:
        _, indices, flow = data
        shape = self._element_shape(node, flow, _shape(node, "element_shape"))
        inputs = [flow, indices, shape]
        become(node, "TensorListGather", inputs, element_dtype=DataType(self._dtype))

    def _size(self, node: NodeDef, data: List[str]) -> None:
        become(node, "TensorListLength", [data[1]])

    def _concat(self, node: NodeDef, data: List[str]) -> None:
        flow = data[1]
        known = _shape(node, "element_shape_except0")
        value = -1 if known.unknown_rank else [-1] + [int(dim.size) for dim in known.dim]
        shape = self._constant(node, flow, "element_shape", value, INT32)
        leading = self._constant(node, flow, "leading_dims", [], INT64)
        become(
            node,
            "TensorListConcatV2",
            [flow, shape, leading],
            element_dtype=DataType(self._dtype),
            shape_type=DataType(INT32),
        )


def _shape(node: NodeDef, key: str) -> Proto:
    return node.attr[key].shape if key in node.attr else _unknown()


def _unknown() -> Proto:
    return tf.TensorShape(None).as_proto()


def check_is_whole(net: Net, arrays: Arrays) -> None:
    """Raises NotUnderstoodError for TensorArrays that cannot become lists."""
    if arrays.strange:
        name = min(arrays.strange)
        raise NotUnderstoodError(f"`{name}`, {net.op(name)}, uses a TensorArray")
    dtypes = {net.nodes[name].attr["dtype"].type for name in arrays.creators}
    if len(dtypes) > 1:
        raise NotUnderstoodError("TensorArrays of different dtypes meet in it")
