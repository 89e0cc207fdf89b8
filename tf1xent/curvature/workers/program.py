"""What is sent to a worker: the part of a graph that is computed there, and its variables."""

from typing import Any, Dict, Iterable, List, NamedTuple, Sequence

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, GraphDef, Operation, Tensor
from tf1xent.curvature.behind import ops_behind
from tf1xent.curvature.workers.digests import digest_of_array, digest_of_tensor

_HANDLE = "VarHandleOp"
# Bytes of variables that one call sends, unless one is larger; a message must not reach 2 GiB.
_BYTES_OF_A_CALL = 2**26


class Loader(NamedTuple):
    """How a variable gets its value and tells its digest; names of a tensor, an op and a tensor."""

    value: str
    assign: str
    digest: str


class Program:
    """A copy of what some tensors of a graph are computed from, which a worker gets.

    Places are kept only as far as kinds of devices go ("/device:GPU:0"): the tasks of a program's
    own cluster are not there. Nothing is added to the graph itself.

    Args:
      graph: of the tensors.
      tensors: what is fetched.
      variables: the names of the variables that they are computed from.

    Attributes:
      graph: the copy, finalized.
      fetchable: the names of the tensors.
      variables: by name, a `Loader`.
    """

    def __init__(self, graph: Graph, tensors: Iterable[Tensor], variables: Sequence[str]) -> None:
        tensors = list(tensors)
        self.fetchable = {str(tensor.name) for tensor in tensors}
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(_part_behind(graph, tensors), name="")
            self.variables = {
                name: _loader(self.graph.get_operation_by_name(name)) for name in variables
            }
        self.graph.finalize()
        self._ops = {str(op.name) for op in self.graph.get_operations()}

    def has(self, tensor: str) -> bool:
        """Whether the copy has a tensor of a name."""
        return tensor.rpartition(":")[0] in self._ops

    @property
    def digests(self) -> List[str]:
        """The names of the tensors that are the digests of the variables."""
        return [loader.digest for loader in self.variables.values()]

    def agrees(self, digests: Sequence[int], values: "Values") -> bool:
        """Whether digests that were fetched are those of the values."""
        expected = [values.digests[name] for name in self.variables]
        return [int(digest) for digest in digests] == expected

    def calls(self, values: "Values") -> Iterable[Any]:
        """Yields (ops, feeds) that give the variables their values, in calls of bounded size."""
        ops: List[str] = []
        feeds: Dict[str, Any] = {}
        held = 0
        for name, loader in self.variables.items():
            array = values.arrays[name]
            if ops and held + array.nbytes > _BYTES_OF_A_CALL:
                yield ops, feeds
                ops, feeds, held = [], {}, 0
            ops.append(loader.assign)
            feeds[loader.value] = array
            held += array.nbytes
        if ops:
            yield ops, feeds


class Values:
    """The values of variables at one time.

    Attributes:
      arrays: by name.
      digests: by name, an integer.
    """

    def __init__(self, arrays: Dict[str, np.ndarray]) -> None:
        # What a session returns may share the memory of a variable that changes later.
        self.arrays = {name: np.array(array) for name, array in arrays.items()}
        self.digests = {name: digest_of_array(array) for name, array in self.arrays.items()}

    def are(self, arrays: Dict[str, np.ndarray]) -> bool:
        """Whether arrays are these, bit by bit."""
        return self.arrays.keys() == arrays.keys() and all(
            _same(self.arrays[name], array) for name, array in arrays.items()
        )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:  # strings
        return bool(np.array_equal(one, other))
    first, second = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, other))
    return bool(np.array_equal(first, second))


def _part_behind(graph: Graph, tensors: Sequence[Tensor]) -> GraphDef:
    """The nodes that tensors are computed from, without the places of a cluster."""
    names = {found.name for found in ops_behind(tensors, control=True)}
    whole = graph.as_graph_def()
    part = tf.GraphDef(versions=whole.versions, library=whole.library)
    for node in whole.node:
        if node.name not in names:
            continue
        copy = part.node.add()
        copy.CopyFrom(node)
        copy.device = _kind_of_device(node.device)
        together = [place for place in copy.attr["_class"].list.s if _is_in(place, names)]
        if together:
            copy.attr["_class"].list.s[:] = together
        else:
            copy.attr.pop("_class")
    return part


def _kind_of_device(device: str) -> str:
    found = tf.DeviceSpec.from_string(device)
    kept = tf.DeviceSpec(device_type=found.device_type, device_index=found.device_index)
    return str(kept.to_string())


def _is_in(place: bytes, names: Any) -> bool:
    return place.partition(b"@")[2].decode() in names


def _loader(variable: Operation) -> Loader:
    element = variable.outputs[0]
    with tf.name_scope("tf1xent_worker/"), tf.device(variable.device):
        if variable.type == _HANDLE:
            dtype = variable.get_attr("dtype")
            value = tf.placeholder(dtype)
            assign = _tf.raw_op("AssignVariableOp")(resource=element, value=value)
            read = _tf.raw_op("ReadVariableOp")(resource=element, dtype=dtype)
        else:
            value = tf.placeholder(element.dtype.base_dtype)
            assign = _tf.raw_op("Assign")(ref=element, value=value, validate_shape=False).op
            read = tf.identity(element)
        return Loader(value.name, assign.name, digest_of_tensor(read).name)
