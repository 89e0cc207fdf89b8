"""Calls of functions become the nodes of their bodies, since TensorFlow gives the calls of an
imported graph no gradient.

A call ``f`` becomes an IdentityN of the same name, so that ``f:0`` and ``^f`` stay what they were;
the body's nodes are named ``f/...``.
"""

from typing import Any, Dict, List

from tf1xent import _tf
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.functions import ARGUMENT, Body, Library
from tf1xent.graphs.wiring import Names, Wiring, join_reference, split_reference

# Functions that call functions twice each could make a file of some kilobytes fill the memory.
_MOST_NODES_ADDED = 2_000_000


class Inliner:
    """Inlines the calls of one library in any number of graphs, within one limit of nodes."""

    def __init__(self, library: Library, bodies: Dict[str, Body]):
        self._library, self._bodies = library, bodies
        self._nodes_left = _MOST_NODES_ADDED

    def inline(self, graph_def: Any, names: Names, where: str) -> Dict[str, List[str]]:
        """Inlines every call of a known body; returns the tensors added, by name of the call."""
        added = {}
        for position in range(len(graph_def.node)):
            name = self._library.called(graph_def.node[position])
            if name in self._bodies:
                body = self._bodies[name]
                call = graph_def.node[position]
                self._nodes_left -= len(body.graph_def.node)
                if self._nodes_left < 0:
                    raise RewriteError(
                        f"{where}: node `{call.name}` calls `{name}`, which calls others: in the "
                        f"place of their calls these are more than {_MOST_NODES_ADDED} nodes."
                    )
                added[call.name] = _inline(graph_def, call, body, self._library, names, where)
        return added


def _inline(graph_def, call, body, library, names, where):
    inputs = [r for r in call.input if not r.startswith("^")]
    controls = [r for r in call.input if r.startswith("^")]
    if len(inputs) != len(body.arguments):
        raise GraphFileError(
            f"{where}: node `{call.name}` calls `{body.name}` with {len(inputs)} inputs, "
            f"which takes {len(body.arguments)}."
        )
    new_names = {n.name: names.unique(f"{call.name}/{n.name}") for n in body.graph_def.node}
    # What reads nothing of the body's own must still wait for the call's turn.
    arguments = [new_names[argument.name] for argument in body.arguments]
    gate = [f"^{arguments[0]}"] if arguments else controls

    def renamed(reference):
        name, index = split_reference(reference)
        return join_reference(new_names[name], index)

    for node in body.graph_def.node:
        copy = graph_def.node.add()
        copy.CopyFrom(node)
        copy.name = new_names[node.name]
        copy.device = node.device or call.device
        if node.op == ARGUMENT:
            copy.op = "Identity"
            copy.input[:] = [inputs[node.attr["index"].i], *controls]
            del copy.attr["index"]
        else:
            copy.input[:] = [renamed(reference) for reference in node.input] or gate
        _adapt_attributes(copy, call, new_names)
    last = [f"^{new_names[name]}" for name in _run_at_the_end(body, library)]
    types = [
        call.attr[result.type_attr].type if result.type_attr else result.type
        for result in body.result_types
    ]
    become_identity(call, [renamed(reference) for reference in body.results], types, last)
    return [f"{name}:0" for name in new_names.values()]


def _adapt_attributes(node, call, new_names):
    for key in list(node.attr):
        value = node.attr[key]
        if value.placeholder and value.placeholder in call.attr:
            node.attr[key].CopyFrom(call.attr[value.placeholder])
        elif key == "frame_name":
            # Loops are told apart by it, and a function may be inlined twice.
            value.s = f"{call.name}/".encode() + value.s
        elif key == "_class":
            value.list.s[:] = [_renamed_class(entry, new_names) for entry in value.list.s]


def _renamed_class(entry, new_names):
    prefix, at, name = entry.decode("utf-8", "replace").partition("@")
    return f"{prefix}{at}{new_names[name]}".encode() if name in new_names else entry


def _run_at_the_end(body, library):
    """The nodes that run whenever the function does, whether or not anything reads them."""
    if body.control_results:
        return body.control_results
    stateful = []
    for node in body.graph_def.node:
        definition = library.definition(node.op) if node.op != ARGUMENT else None
        if definition is not None and definition.is_stateful:
            stateful.append(node.name)
    # A branch that is not taken, or a loop's inside, cannot be waited for from outside of it.
    around = contexts(Wiring(body.graph_def.node, body.where), stateful)
    return [name for name in stateful if not around[name]]


def become_identity(node: Any, results: Any, types: Any, controls: Any = ()) -> None:
    """Makes a node of any op hand on `results`, under its own name and in its own place."""
    for key in list(node.attr):
        if not key.startswith("_") or key == _tf.GRADIENT_ATTRIBUTE:
            del node.attr[key]
    node.op = "IdentityN" if results else "NoOp"
    node.input[:] = [*results, *controls]
    if results:
        node.attr["T"].list.type.extend(types)
