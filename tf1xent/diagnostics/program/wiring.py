"""How data go through a graph: its ops, and those in the functions that it calls, by one name each.

An op of a function is named "FUNCTION/NODE". A function that is called in several places counts
once for each: from the second on its name ends with "_2", "_3" and so on.
"""

from typing import Any, Collection, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import DType, FunctionDef, GraphDef, NodeDef

# The type of what stands for an argument of a function.
ARGUMENT = "_Arg"
# By op type, the attributes that name the functions it runs. A function's arguments are the last
# inputs of the op.
CALLS: Dict[str, Tuple[str, ...]] = {
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "Case": ("branches",),
    "StatelessCase": ("branches",),
    "While": ("body", "cond"),
    "StatelessWhile": ("body", "cond"),
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
}
LOOPS = ("While", "StatelessWhile")
# Their second input says where the first one goes.
SWITCHES = ("Switch", "RefSwitch")


class Node(NamedTuple):
    """An op.

    Attributes:
      name: as in the graph, or "FUNCTION/NODE".
      op_type: its type.
      inputs: the names of the tensors that it reads.
      controls: the names of the ops that it waits for.
      dtypes: of its outputs.
      place: the name of the `Place` that it stands in, "" for the graph itself.
      definition: its NodeDef; None for an argument of a function.
    """

    name: str
    op_type: str
    inputs: Tuple[str, ...]
    controls: Tuple[str, ...]
    dtypes: Tuple[DType, ...]
    place: str
    definition: Optional[NodeDef]


class Place(NamedTuple):
    """A function, where it is called.

    Attributes:
      name: begins the names of its nodes.
      definition: its FunctionDef.
      caller: the name of the node that calls it.
      role: the attribute of the caller that names it, and its position there.
      arguments: the names of the tensors that stand for its arguments.
      results: the names of its results.
      around: the names of the functions that it stands in, its own included.
    """

    name: str
    definition: FunctionDef
    caller: str
    role: Tuple[str, int]
    arguments: Tuple[str, ...]
    results: Tuple[str, ...]
    around: Tuple[str, ...]


class Wiring:
    """All nodes of a graph, and which reads which.

    Attributes:
      nodes: by name, each `Node`.
      places: by name, each `Place`.
      called: by the name of a node, the places that it runs.
      flows: the float tensors that only order the writes into a TensorArray.
      looped: the names of the nodes in v1 loops.
      references: by the name of a tensor, what stands for it in the definitions around it.
    """

    def __init__(self, definition: GraphDef) -> None:
        self.functions = {f.signature.name: f for f in definition.library.function}
        self.nodes: Dict[str, Node] = {}
        self.places: Dict[str, Place] = {}
        self.called: Dict[str, List[Place]] = {}
        self.references: Dict[str, str] = {}
        self._add(definition.node, "", {}, ())
        self.flows = self._flows()
        enters = [n.name for n in self.nodes.values() if n.op_type in ("Enter", "RefEnter")]
        self.looped = self.descendants(enters, stop=("Exit", "RefExit"))

    def node_of(self, tensor: str) -> Node:
        """Returns the node that computes a tensor."""
        return self.nodes[tensor.rpartition(":")[0]]

    def dtype_of(self, tensor: str) -> DType:
        """Returns the dtype of a tensor."""
        name, _, position = tensor.rpartition(":")
        return self.nodes[name].dtypes[int(position)]

    def sources(self, tensor: str) -> List[str]:
        """Returns the tensors whose values a tensor is computed from, or one of which it is."""
        name, _, position = tensor.rpartition(":")
        node, number = self.nodes[name], int(position)
        if node.op_type == ARGUMENT:
            place = self.places[node.place]
            caller, at = self.nodes[place.caller], place.arguments.index(tensor)
            given = caller.inputs[len(caller.inputs) - len(place.arguments) + at]
            return [given, *self._of_rounds(caller, at)]
        if name in self.called:
            if node.op_type in LOOPS:
                return [node.inputs[number], *self._of_rounds(node, number)]
            return [place.results[number] for place in self.called[name]]
        return list(node.inputs[:1] if node.op_type in SWITCHES else node.inputs)

    def _of_rounds(self, caller: Node, position: int) -> List[str]:
        bodies = self.called[caller.name] if caller.op_type in LOOPS else []
        return [place.results[position] for place in bodies if place.role[0] == "body"]

    def outermost(self, name: str) -> str:
        """Returns the node of the graph itself that runs a node."""
        node = self.nodes[name]
        while node.place:
            node = self.nodes[self.places[node.place].caller]
        return node.name

    def ancestors(
        self, names: Iterable[str], effects: bool = True, stop: Collection[str] = ()
    ) -> Set[str]:
        """Returns the names of the nodes that compute nodes, themselves included.

        Args:
          names: of nodes.
          effects: whether those count too that must only run before, or that a function runs
            without a result.
          stop: the names of nodes of which nothing further is needed.
        """
        waiting, found = list(names), set()
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            if name in stop:
                continue
            node = self.nodes[name]
            waiting += [tensor.rpartition(":")[0] for tensor in node.inputs]
            if node.place:
                waiting.append(self.places[node.place].caller)
            for place in self.called.get(name, ()):
                waiting += [tensor.rpartition(":")[0] for tensor in place.results]
                waiting += self._effects_in(place) if effects else []
            waiting += node.controls if effects else ()
        return found

    def _effects_in(self, place: Place) -> List[str]:
        inside = (f"{place.name}/{definition.name}" for definition in place.definition.node_def)
        return [name for name in inside if self._has_effect(self.nodes[name])]

    def _has_effect(self, node: Node) -> bool:
        definition = _tf.op_definition(node.op_type)
        return definition is not None and bool(definition.is_stateful)

    def _add(
        self, definitions: Any, place: str, tensors: Dict[str, str], around: Tuple[str, ...]
    ) -> None:
        """Adds the nodes of the graph, or of a function with its arguments in `tensors`."""
        begin = place + "/" if place else ""
        outputs = {}
        for definition in definitions:
            name = begin + definition.name
            outputs[definition.name] = found = self._outputs(definition)
            for number, (argument, at, _) in enumerate(found):
                local = definition.name if number == 0 else f"{definition.name}:{number}"
                if place:
                    local = f"{definition.name}:{argument}:{at}"
                    tensors[local] = f"{name}:{number}"
                    if at == 0:
                        tensors[f"{definition.name}:{argument}"] = f"{name}:{number}"
                self.references[f"{name}:{number}"] = local
        for definition in definitions:
            data = [i for i in definition.input if not i.startswith("^")]
            node = Node(
                begin + definition.name,
                definition.op,
                tuple(tensors[i] if place else _full(i) for i in data),
                tuple(begin + i[1:] for i in definition.input if i.startswith("^")),
                tuple(dtype for _, _, dtype in outputs[definition.name]),
                place,
                definition,
            )
            self.nodes[node.name] = node
        for definition in definitions:
            self._enter(begin + definition.name, definition, around)

    def _enter(self, caller: str, definition: NodeDef, around: Tuple[str, ...]) -> None:
        for role, function in _functions_of(definition, self.functions):
            found = self.functions.get(function)
            if found is None or function in around:
                self.called.pop(caller, None)
                return
            name, number = function, 1
            while name in self.places:
                number += 1
                name = f"{function}_{number}"
            arguments = {a.name: f"{name}/{a.name}:0" for a in found.signature.input_arg}
            for argument in found.signature.input_arg:
                dtype = tf.as_dtype(argument.type).base_dtype
                inner = f"{name}/{argument.name}"
                self.nodes[inner] = Node(inner, ARGUMENT, (), (), (dtype,), name, None)
                self.references[arguments[argument.name]] = argument.name
            # Before its body is added, so that another call in there takes another name.
            self.places[name] = Place(name, found, caller, role, (), (), ())
            tensors = dict(arguments)
            self._add(found.node_def, name, tensors, (*around, function))
            results = tuple(tensors[found.ret[r.name]] for r in found.signature.output_arg)
            place = Place(
                name,
                found,
                caller,
                role,
                tuple(arguments.values()),
                results,
                (*around, function),
            )
            self.places[name] = place
            self.called.setdefault(caller, []).append(place)

    def _outputs(self, node: NodeDef) -> List[Tuple[str, int, DType]]:
        """Returns (argument of the definition, position in it, dtype) for each output."""
        function = self.functions.get(node.op)
        definition = _tf.op_definition(node.op) if function is None else function.signature
        if definition is None:
            raise LookupError(f"This TensorFlow has no op of the type {node.op}.")
        defaults = {a.name: a.default_value for a in definition.attr}
        found = []
        for argument in definition.output_arg:

            def attribute(name: str) -> Any:
                return node.attr[name] if name in node.attr else defaults[name]

            if argument.type_list_attr:
                types = list(attribute(argument.type_list_attr).list.type)
            else:
                single = argument.type or attribute(argument.type_attr).type
                number = attribute(argument.number_attr).i if argument.number_attr else 1
                types = [single] * number
            found += [(argument.name, at, tf.as_dtype(t).base_dtype) for at, t in enumerate(types)]
        return found

    def _flows(self) -> Set[str]:
        """Returns the float tensors that only say which writes into a TensorArray come first."""
        if not any(node.op_type in _MAKES_FLOW for node in self.nodes.values()):
            return set()
        readers: Dict[str, List[Node]] = {}
        for node in self.nodes.values():
            for tensor in node.inputs:
                readers.setdefault(tensor, []).append(node)
        waiting = [
            f"{node.name}:{len(node.dtypes) - 1}"
            for node in self.nodes.values()
            if node.op_type in _MAKES_FLOW
        ]
        found: Set[str] = set()
        while waiting:
            tensor = waiting.pop()
            if tensor in found:
                continue
            found.add(tensor)
            for node in readers.get(tensor, ()):
                if not node.op_type.startswith("TensorArray"):
                    waiting += self._handed_on(node, tensor)
            place = self.places.get(self.node_of(tensor).place)
            if place is not None and tensor in place.results and place.role[0] != "cond":
                waiting.append(f"{place.caller}:{place.results.index(tensor)}")
        return {tensor for tensor in found if self.dtype_of(tensor) == tf.float32}

    def descendants(self, names: Iterable[str], stop: Collection[str] = ()) -> Set[str]:
        """Returns the names of the nodes that need nodes, themselves included.

        Args:
          names: of nodes.
          stop: the types of nodes that are left out, with all behind them.
        """
        waiting, found = list(names), set()
        readers: Dict[str, List[str]] = {}
        for node in self.nodes.values() if waiting else ():
            for name in (*(t.rpartition(":")[0] for t in node.inputs), *node.controls):
                readers.setdefault(name, []).append(node.name)
        while waiting:
            name = waiting.pop()
            if name not in found and self.nodes[name].op_type not in stop:
                found.add(name)
                waiting += readers.get(name, ())
        return found

    def _handed_on(self, node: Node, tensor: str) -> List[str]:
        """Returns where a tensor that a node reads goes to."""
        if node.name not in self.called:
            return [f"{node.name}:{n}" for n, d in enumerate(node.dtypes) if d == tf.float32]
        found = []
        for place in self.called[node.name]:
            offset = len(node.inputs) - len(place.arguments)
            found += [a for n, a in enumerate(place.arguments) if node.inputs[offset + n] == tensor]
        return found


_MAKES_FLOW = (
    "TensorArrayV2",
    "TensorArrayV3",
    "TensorArrayGradV3",
    "TensorArrayGradWithShape",
    "TensorArrayWriteV3",
    "TensorArrayScatterV3",
    "TensorArraySplitV3",
)


def _full(name: str) -> str:
    return name if ":" in name else name + ":0"


def _functions_of(node: NodeDef, functions: Any) -> List[Tuple[Tuple[str, int], str]]:
    """Returns (role, name) of the functions that a node runs."""
    if node.op in functions:
        return [(("", 0), node.op)]
    found = []
    for role in CALLS.get(node.op, ()):
        value = node.attr[role]
        named = [value.func] if value.HasField("func") else list(value.list.func)
        found += [((role, number), function.name) for number, function in enumerate(named)]
    return found
