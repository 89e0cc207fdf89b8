"""Writes the copy of a program's graph in which a probe hangs on each tensor of a floating type."""

from typing import Any, Callable, Collection, Dict, List, NamedTuple, Set

from tf1xent._tf import tf
from tf1xent._typing import DType, GraphDef, NodeDef
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.program.state import VARIABLES
from tf1xent.diagnostics.program.wiring import Node, Place, Wiring

# They hand on what stands at their inputs; the values of variables are in the step.
_HAND_ON = ("Enter", "RefEnter", "NextIteration", "RefNextIteration", "Switch", "RefSwitch")
_NOT_PROBED = (*VARIABLES, *_HAND_ON)
# It starts with the first of its inputs that is there, so that none can tell it to wait.
_MERGES = ("Merge", "RefMerge")
# What prints, checks, writes or puts into a queue. An identity runs in its place: what waits for it
# waits on, in the same branch and round.
_SILENT = {
    "Print": 1,
    "CheckNumerics": 1,
    "CheckNumericsV2": 1,
    **dict.fromkeys(
        (
            "PrintV2",
            "Assert",
            "WriteFile",
            "SaveV2",
            "QueueEnqueueV2",
            "QueueEnqueueManyV2",
            "WriteSummary",
            "WriteScalarSummary",
            "WriteHistogramSummary",
            "WriteImageSummary",
            "WriteAudioSummary",
            "WriteGraphSummary",
            "WriteRawProtoSummary",
        ),
        None,
    ),
}
# They place an op, or record what is inferred about it.
_DROPPED = ("_class", "_output_shapes", "_XlaCompile", "_XlaScope", "_XlaMustCompile")
_SCOPE = "tf1xent_probes"
_PLACEHOLDERS = "tf1xent_sources"
_BARRIER = "tf1xent_computed"


class Probe(NamedTuple):
    """What a probe knows of its tensor."""

    tensor: str
    op_type: str


class Copy(NamedTuple):
    """A graph with probes.

    Attributes:
      definition: its GraphDef.
      probes: by the name of a tensor of the graph itself, the name of its probe.
      fed: by the name of a source, the name of the tensor to feed in its place.
      tensors: by the name of a tensor that is not there, the one that takes its place.
    """

    definition: GraphDef
    probes: Dict[str, str]
    fed: Dict[str, str]
    tensors: Dict[str, str]


def with_probes(
    program: Program,
    token_of: Callable[[Probe], str],
    replaced: Collection[str],
    configuration: Any,
    also: Collection[str],
) -> Copy:
    """Returns a copy of what a program's step needs, with a probe on each tensor.

    Args:
      program: a `Program`.
      token_of: returns what names the Python function of a probe to its op.
      replaced: the names of the tensors whose readers read what the probe returns.
      configuration: of the session, for the functions that TensorFlow optimizes by themselves.
      also: the names of nodes that are needed besides.
    """
    return _Writer(program, token_of, set(replaced), configuration).written(set(also))


class _Writer:
    def __init__(
        self,
        program: Program,
        token_of: Callable[[Probe], str],
        replaced: Set[str],
        configuration: Any,
    ) -> None:
        self._program, self._token_of, self._replaced = program, token_of, replaced
        self._configuration = configuration.SerializeToString()
        self._wiring: Wiring = program.wiring
        # By the name of a tensor, that of its probe, within the place where it stands.
        self._probes: Dict[str, str] = {}
        self._waiting: Dict[str, str] = {}
        self._instead: Dict[str, str] = {}
        # The names of the nodes that wait for the barrier.
        self._late: Set[str] = set()

    def written(self, also: Set[str]) -> Copy:
        definition = tf.GraphDef()
        original = self._program.graph.as_graph_def(add_shapes=False)
        definition.versions.CopyFrom(original.versions)
        wiring = self._wiring
        sources = self._placeholders(definition.node)
        dropped = {name.rpartition(":")[0] for name in sources}
        needed = wiring.ancestors([*self._program.started, *also], stop=dropped)
        needed.update(name for name in self._program.variables)
        self._instead.update(self._program.pushed)
        nodes = [node for node in wiring.nodes.values() if node.name in needed and not node.place]
        nodes = [node for node in nodes if node.name not in dropped]
        for tensor in sources:
            self._probe(definition.node, wiring.node_of(tensor), tensor)
        first = self._before_updates()
        self._write(definition.node, nodes, dropped)
        if first:
            barrier = definition.node.add()
            barrier.op, barrier.name = "NoOp", _BARRIER
            waited = [*first, *(self._probes[f"{n}:0"] for n in first if f"{n}:0" in self._probes)]
            barrier.input.extend("^" + name for name in waited)
        for name in needed:
            for place in wiring.called.get(name, ()):
                self._write_function(definition.library.function.add(), place)
        self._write_originals(definition, original)
        probes = {t: p for t, p in self._probes.items() if not wiring.node_of(t).place}
        return Copy(definition, probes, sources, dict(self._instead))

    def _before_updates(self) -> List[str]:
        """Returns the nodes of the targets that need no update: all updates wait for them.

        In the program it may be left to chance whether a variable is read before it changes.
        """
        wiring, program = self._wiring, self._program
        updates = {u.op.name for u in program.updates if u.node}
        targets = {program.op_name(name) for name in program.targets}
        sources = {name.rpartition(":")[0] for name in self._instead}
        first = sorted(targets - wiring.descendants(updates) - wiring.looped - sources)
        changing = {u.node for u in program.updates if u.node and not wiring.nodes[u.node].place}
        self._late = changing - wiring.looped if first else set()
        return first

    def _placeholders(self, nodes: Any) -> Dict[str, str]:
        """Adds placeholders for all sources that are no placeholders already."""
        fed = {}
        for tensor in self._program.sources:
            if tensor.op.type.startswith("Placeholder"):
                continue
            node = nodes.add()
            node.op, node.name = "Placeholder", f"{_PLACEHOLDERS}/{tensor.name.replace(':', '_')}"
            node.attr["dtype"].type = tensor.dtype.base_dtype.as_datatype_enum
            node.attr["shape"].shape.unknown_rank = True
            fed[tensor.name] = node.name + ":0"
        self._instead.update(fed)
        return fed

    def _write(self, out: Any, nodes: List[Node], dropped: Collection[str] = ()) -> None:
        """Adds nodes and their probes; all of one function, or of the graph itself."""
        for node in nodes:
            for number in range(len(node.dtypes)):
                self._probe(out, node, f"{node.name}:{number}")
        for node in nodes:
            if node.definition is not None:
                self._write_node(out.add(), node, out, dropped)

    def _probe(self, out: Any, node: Node, tensor: str) -> None:
        dtype = self._wiring.dtype_of(tensor)
        if node.op_type in _NOT_PROBED or tensor in self._wiring.flows or not _is_number(dtype):
            return
        probe = out.add()
        name = tensor[len(node.place) + 1 :] if node.place else tensor
        probe.op, probe.name = "PyFunc", f"{_SCOPE}/{name.replace(':', '_')}"
        probe.attr["token"].s = self._token_of(Probe(tensor, node.op_type)).encode()
        probe.attr["Tin"].list.type.append(dtype.as_datatype_enum)
        types = probe.attr["Tout"].list
        types.SetInParent()
        if tensor in self._replaced:
            types.type.append(dtype.as_datatype_enum)
        probe.input.append(self._reference(tensor))
        self._probes[tensor] = probe.name

    def _write_node(self, written: NodeDef, node: Node, out: Any, dropped: Collection[str]) -> None:
        written.CopyFrom(node.definition)
        written.device = ""
        for name in _DROPPED:
            written.attr.pop(name, None)
        del written.input[:]
        controls: List[str] = []
        inputs = node.inputs
        if node.op_type in _SILENT:
            inputs = inputs[: _SILENT[node.op_type]]
            _silence(written, [self._wiring.dtype_of(tensor) for tensor in inputs])
        for tensor in inputs:
            written.input.append(self._read(tensor, node, out, controls))
        begin = len(node.place) + 1 if node.place else 0
        controls += [name[begin:] for name in node.controls if name not in dropped]
        controls += [_BARRIER] if node.name in self._late else []
        written.input.extend("^" + name for name in dict.fromkeys(controls))
        if "parallel_iterations" in written.attr:
            # One round after the other, so that the records of a round stand together.
            written.attr["parallel_iterations"].i = 1
        if "config_proto" in written.attr:
            written.attr["config_proto"].s = self._configuration
        self._point_to_copies(written, node)

    def _read(self, tensor: str, node: Node, out: Any, controls: List[str]) -> str:
        """Returns what a node reads for a tensor, and adds what it has to wait for."""
        probe = self._probes.get(tensor)
        if probe is None:
            return self._reference(tensor)
        if tensor in self._replaced:
            return f"{probe}:output:0" if node.place else probe
        if node.op_type not in _MERGES:
            controls.append(probe)
            return self._reference(tensor)
        return self._waits(tensor, out) if node.op_type == "Merge" else self._reference(tensor)

    def _waits(self, tensor: str, out: Any) -> str:
        """Returns the same tensor, once its probe has run."""
        place = self._wiring.node_of(tensor).place
        if tensor not in self._waiting:
            node = out.add()
            probe = self._probes[tensor]
            node.op, node.name = "Identity", f"{probe}_done"
            node.attr["T"].type = self._wiring.dtype_of(tensor).as_datatype_enum
            if tensor in self._replaced:
                node.input.append(f"{probe}:output:0" if place else probe)
            else:
                node.input.extend([self._reference(tensor), "^" + probe])
            self._waiting[tensor] = node.name
        return self._waiting[tensor] + (":output:0" if place else "")

    def _reference(self, tensor: str) -> str:
        tensor = self._instead.get(tensor, tensor)
        return self._wiring.references.get(tensor, tensor)

    def _point_to_copies(self, written: NodeDef, node: Node) -> None:
        for place in self._wiring.called.get(node.name, ()):
            role, number = place.role
            if not role:
                written.op = _copy_name(place)
                continue
            value = written.attr[role]
            function = value.func if value.HasField("func") else value.list.func[number]
            function.name = _copy_name(place)

    def _write_function(self, written: Any, place: Place) -> None:
        written.CopyFrom(place.definition)
        written.signature.name = _copy_name(place)
        for name in _DROPPED:
            written.attr.pop(name, None)
        del written.node_def[:]
        inside = [node for node in self._wiring.nodes.values() if node.place == place.name]
        self._write(written.node_def, inside)
        for argument, result in zip(written.signature.output_arg, place.results):
            if result in self._probes:
                written.ret[argument.name] = self._waits(result, written.node_def)

    def _write_originals(self, definition: GraphDef, original: GraphDef) -> None:
        """Adds the functions that ops run in ways that are not followed, and what those run."""
        functions = {f.signature.name: f for f in original.library.function}
        if not functions:
            return
        waiting = [*definition.node]
        for function in definition.library.function:
            waiting += function.node_def
        seen: Set[str] = set()
        while waiting:
            node = waiting.pop()
            names = [node.op]
            for value in node.attr.values():
                names += [f.name for f in (value.func, *value.list.func) if f.name]
            for name in names:
                if name in functions and name not in seen:
                    seen.add(name)
                    added = definition.library.function.add()
                    added.CopyFrom(functions[name])
                    for inner in added.node_def:
                        inner.device = ""
                        inner.attr.pop("_class", None)
                    waiting += added.node_def
        for gradient in original.library.gradient:
            if gradient.function_name in seen and gradient.gradient_func in seen:
                definition.library.gradient.add().CopyFrom(gradient)


def _silence(written: NodeDef, dtypes: List[DType]) -> None:
    written.attr.clear()
    if not dtypes:
        written.op = "NoOp"
        return
    written.op = "IdentityN"
    types = [dtype.as_datatype_enum for dtype in dtypes]
    written.attr["T"].list.type.extend(types)


def _copy_name(place: Place) -> str:
    return place.name + "_tf1xent"


def _is_number(dtype: DType) -> bool:
    return bool(dtype.is_floating or dtype.is_complex)
