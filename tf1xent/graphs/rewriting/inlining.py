"""Inlines function calls: TensorFlow has no gradient for calls in an imported graph.

A call ``f`` becomes an IdentityN of the same name, so that ``f:0`` and ``^f`` stay valid. The nodes
of the function are added as ``f/...``.
"""

from typing import Dict, List, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import NodeDef
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.functions import ARGUMENT, Body, Library
from tf1xent.graphs.wiring import Names, Wiring, join_reference, split_inputs, split_reference

# A limit, because nested calls grow exponentially: a file of a few kilobytes could fill the memory.
_MOST_NODES = 1000000


class Inliner:
    """Inlines the functions of one library, in any number of graphs.

    Only functions that hold cross-entropy ops are inlined, themselves or in the functions that they
    name (branches, loops, calls).

    Attributes:
      holding: the names of these functions, callees first.
      bodies: their bodies, by name, as far as `add` was called.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self.holding, recursive = library.holding()
        if recursive:
            raise RewriteError(
                f"{library.where}: function `{library.on_a_cycle(recursive)}` calls itself and "
                "leads to a cross-entropy op, so it cannot be inlined."
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
                f"{where}: with the functions that it calls inlined it has {num_nodes} nodes, more "
                f"than {_MOST_NODES}."
            )

    def add(self, body: Body) -> None:
        """Adds the body of a function, so that `inline` inlines its calls."""
        body.control_results = body.control_results or _stateful(body, self._library)
        self.bodies[body.name] = body

    def inline(self, wiring: Wiring) -> Dict[str, List[str]]:
        """Inlines the calls in a graph; returns the tensors added, by name of the call.

        The wiring is not updated.
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
    """One call to be inlined; `inside` tells whether it is in a v1 branch or loop."""

    def __init__(
        self, node: NodeDef, body: Body, names: Names, wiring: Wiring, inside: bool
    ) -> None:
        self._node, self._body, self._nodes = node, body, wiring.nodes
        self._inputs, self._controls = split_inputs(node)
        if len(self._inputs) != len(body.arguments):
            raise GraphFileError(
                f"{wiring.where}: node `{node.name}` calls `{body.name}` with {len(self._inputs)} "
                f"inputs; it takes {len(body.arguments)}."
            )
        self._names = {n.name: names.unique(f"{node.name}/{n.name}") for n in body.nodes}
        # Nodes of the body without inputs must run only when the call does. In a v1 branch or loop
        # they wait for an argument, which runs in the same context. Elsewhere they wait for the
        # control inputs of the call only: waiting for an argument would make TensorFlow compute it
        # even where it is fed.
        arguments = [self._names[argument.name] for argument in body.arguments]
        self._gate = [f"^{arguments[0]}"] if arguments and inside else self._controls

    def inline(self) -> List[str]:
        """Adds the body's nodes and makes the call return their results; returns their tensors."""
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

    def _copied(self, node: NodeDef) -> NodeDef:
        """Returns a node of the body as a node of the graph."""
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
                # A function may be inlined twice, and frame names tell loops apart.
                value.s = f"{self._node.name}/".encode() + value.s
            elif key == "_class":
                value.list.s[:] = [self._renamed_class(entry) for entry in value.list.s]
        return copy

    def _renamed_class(self, entry: bytes) -> bytes:
        """Renames the node in an entry of the attribute `_class`, ``loc:@node``."""
        prefix, at, name = entry.decode("utf-8", "replace").partition("@")
        return f"{prefix}{at}{self._names[name]}".encode() if name in self._names else entry


def _stateful(body: Body, library: Library) -> List[str]:
    """Returns the stateful nodes, which must run, for a function that does not list them itself."""
    wiring = body.wiring()
    found = []
    # Nothing outside a branch or loop can wait for a node inside it.
    for position, context in enumerate(contexts(wiring)):
        definition = library.definition(wiring.ops[position])
        if context is None and definition is not None and definition.is_stateful:
            if wiring.ops[position] != ARGUMENT:
                found.append(wiring.nodes[position].name)
    return found


def become_identity(
    node: NodeDef, results: Sequence[str], types: Sequence[int], controls: Sequence[str] = ()
) -> None:
    """Turns a node of any op into an IdentityN of `results`, with the same name and device."""
    for key in list(node.attr):
        if not key.startswith("_") or key == _tf.GRADIENT_ATTRIBUTE:
            del node.attr[key]
    node.op = "IdentityN" if results else "NoOp"
    node.input[:] = [*results, *controls]
    if results:
        node.attr["T"].list.type.extend(types)
