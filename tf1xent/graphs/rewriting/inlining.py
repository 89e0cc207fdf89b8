"""Calls of functions become the nodes of their bodies, since TensorFlow gives the calls of an
imported graph no gradient.

A call ``f`` becomes an IdentityN of the same name, so that ``f:0`` and ``^f`` stay what they were;
the body's nodes are named ``f/...``.
"""

from typing import Any, Dict, List

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.functions import ARGUMENT, Body, Library
from tf1xent.graphs.wiring import Names, Wiring, join_reference, split_inputs, split_reference

# Functions that call functions twice each could make a file of some kilobytes fill the memory.
_MOST_NODES = 1000000


class Inliner:
    """Puts the bodies of one library in the place of their calls, in any number of graphs.

    These are the bodies that hold cross-entropy ops, and of branches and loops that do.
    """

    def __init__(self, library: Library):
        self._library = library
        self.holding, recursive = library.holding()
        if recursive:
            raise RewriteError(
                f"{library.where}: function `{library.on_a_cycle(recursive)}` calls itself, so "
                "that its body cannot take the place of a call, and leads to a cross-entropy op."
            )
        self.bodies: Dict[str, Body] = {}
        sizes: Dict[str, int] = {}
        for name in self.holding:
            function = library.functions[name]
            callees = [sizes.get(library.called(node) or "", 0) for node in function.node_def]
            sizes[name] = len(function.node_def) + sum(callees)
            self._check_size(sizes[name], f"{library.where}: function `{name}`")

    def _check_size(self, num_nodes: int, where: str) -> None:
        if num_nodes > _MOST_NODES:
            raise RewriteError(
                f"{where}: with the functions that it calls in the place of their calls it has "
                f"{num_nodes} nodes, more than {_MOST_NODES}."
            )

    def add(self, body: Body) -> None:
        """From now on puts this body in the place of the calls of its function."""
        body.control_results = body.control_results or _stateful(body, self._library)
        self.bodies[body.name] = body

    def inline(self, wiring: Wiring) -> Dict[str, List[str]]:
        """Does so for the calls in a graph; returns the tensors added, by name of the call.

        The wiring does not know what it adds.
        """
        names = Names(wiring.positions)
        calls = [(p, name) for p, name in self._library.calls(wiring) if name in self.bodies]
        self._check_size(sum(len(self.bodies[name].nodes) for _, name in calls), wiring.where)
        added = {}
        around = contexts(wiring) if calls else []
        for position, name in calls:
            call = wiring.nodes[position]
            inside = around[position] is not None
            added[call.name] = _Call(call, self.bodies[name], names, wiring, inside).inline()
            wiring.nodes[position] = call
        return added


class _Call:
    """One call on its way to become its function's body, inside of a v1 branch or loop or not."""

    def __init__(self, node: Any, body: Body, names: Names, wiring: Wiring, inside: bool):
        self._node, self._body, self._nodes = node, body, wiring.nodes
        self._inputs, self._controls = split_inputs(node)
        if len(self._inputs) != len(body.arguments):
            raise GraphFileError(
                f"{wiring.where}: node `{node.name}` calls `{body.name}` with {len(self._inputs)} "
                f"inputs, which takes {len(body.arguments)}."
            )
        self._names = {n.name: names.unique(f"{node.name}/{n.name}") for n in body.nodes}
        # What reads nothing of the body's own must still wait for the call's turn. In a v1 branch
        # or loop an argument tells when that is; elsewhere a node that waits for one would make
        # TensorFlow compute it where it is fed.
        arguments = [self._names[argument.name] for argument in body.arguments]
        self._gate = [f"^{arguments[0]}"] if arguments and inside else self._controls

    def inline(self) -> List[str]:
        """Adds the body's nodes; the call hands on what they return. Returns their tensors."""
        for node in self._body.nodes:
            self._nodes.append(self._copied(node))
        types = [
            self._node.attr[result.type_attr].type if result.type_attr else result.type
            for result in self._body.result_types
        ]
        last = [f"^{self._names[name]}" for name in self._body.control_results]
        results = [self._renamed(reference) for reference in self._body.results]
        become_identity(self._node, results, types, last)
        return [f"{name}:0" for name in self._names.values()]

    def _renamed(self, reference: str) -> str:
        name, index = split_reference(reference)
        return join_reference(self._names[name], index)

    def _copied(self, node: Any) -> Any:
        copy = tf.NodeDef()
        copy.CopyFrom(node)
        copy.name = self._names[node.name]
        copy.device = node.device or self._node.device
        if node.op == ARGUMENT:
            copy.op = "Identity"
            copy.input[:] = [self._inputs[node.attr["index"].i], *self._controls]
            del copy.attr["index"]
        else:
            copy.input[:] = [self._renamed(r) for r in node.input] or self._gate
        for key in list(copy.attr):
            value = copy.attr[key]
            if value.placeholder and value.placeholder in self._node.attr:
                copy.attr[key].CopyFrom(self._node.attr[value.placeholder])
            elif key == "frame_name":
                # Loops are told apart by it, and a function may be inlined twice.
                value.s = f"{self._node.name}/".encode() + value.s
            elif key == "_class":
                value.list.s[:] = [self._renamed_class(entry) for entry in value.list.s]
        return copy

    def _renamed_class(self, entry: bytes) -> bytes:
        prefix, at, name = entry.decode("utf-8", "replace").partition("@")
        return f"{prefix}{at}{self._names[name]}".encode() if name in self._names else entry


def _stateful(body: Body, library: Library) -> List[str]:
    """The nodes that run whenever a function does that does not say itself which these are."""
    wiring = body.wiring()
    found = []
    # A branch that is not taken, or a loop's inside, cannot be waited for from outside of it.
    for position, context in enumerate(contexts(wiring)):
        definition = library.definition(wiring.ops[position])
        if context is None and definition is not None and definition.is_stateful:
            if wiring.ops[position] != ARGUMENT:
                found.append(wiring.nodes[position].name)
    return found


def become_identity(node: Any, results: Any, types: Any, controls: Any = ()) -> None:
    """Makes a node of any op hand on `results`, under its own name and in its own place."""
    for key in list(node.attr):
        if not key.startswith("_") or key == _tf.GRADIENT_ATTRIBUTE:
            del node.attr[key]
    node.op = "IdentityN" if results else "NoOp"
    node.input[:] = [*results, *controls]
    if results:
        node.attr["T"].list.type.extend(types)
