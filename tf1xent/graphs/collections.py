"""The collections of a MetaGraphDef that record the tensors of each v1 branch and loop.

TensorFlow reads these control-flow contexts on import; it needs them for gradients. Added nodes
join the contexts of the node that they replace. Contexts of loops and branches that have become
functional go.
"""

from typing import Dict, Iterator, List, Mapping, Set

from tf1xent import _tf
from tf1xent._typing import MetaGraphDef, Proto
from tf1xent.graphs.raw import parsed, serialized
from tf1xent.graphs.wiring import split_reference


class Contexts:
    """The control-flow contexts of a MetaGraphDef."""

    def __init__(self, meta_graph: MetaGraphDef, where: str) -> None:
        # The contexts' protos, by name of the collection.
        self._contexts: Dict[str, List[Proto]] = {}
        self._meta_graph = meta_graph
        for key, proto_class in _tf.CONTROL_FLOW_CONTEXTS.items():
            if key in meta_graph.collection_def:
                contents = meta_graph.collection_def[key].bytes_list.value
                here = f"{where}: collection `{key}`"
                self._contexts[key] = [parsed(proto_class, part, here) for part in contents]

    def names(self) -> Set[str]:
        """Returns the names of all nodes with a tensor in a context."""
        contexts = [context for found in self._contexts.values() for context in found]
        return {split_reference(value)[0] for context in contexts for value in _values(context)}

    def add(self, added: Dict[str, List[str]]) -> None:
        """Adds tensors to the contexts; `added` lists them by the node that they replace."""
        for key, contexts in self._contexts.items():
            values = self._meta_graph.collection_def[key].bytes_list.value
            for position, context in enumerate(contexts):
                if _add(context, added):
                    values[position] = serialized(context)

    def keep_what_is_there(self, op_types: Mapping[str, str]) -> None:
        """Removes the contexts whose loop or branch is gone, given the graph's nodes.

        Where a gradient that is recorded in the graph still needs parts of a loop, these run as
        before, but TensorFlow cannot differentiate them.
        """
        for key, contexts in self._contexts.items():
            whole = [context for context in contexts if _is_whole(context, op_types)]
            for context in whole:
                _forget(context, op_types)
            if whole:
                values = self._meta_graph.collection_def[key].bytes_list.value
                values[:] = [serialized(context) for context in whole]
            else:
                del self._meta_graph.collection_def[key]
            self._contexts[key] = whole


def names_in(meta_graph: MetaGraphDef) -> Set[str]:
    """Returns the names of the nodes that collections and signatures of a MetaGraphDef name."""
    found: Set[str] = set()
    for collection in meta_graph.collection_def.values():
        found.update(split_reference(name)[0] for name in collection.node_list.value)
    for signature in meta_graph.signature_def.values():
        for tensors in (signature.inputs, signature.outputs):
            found.update(split_reference(tensor.name)[0] for tensor in tensors.values())
    return found


def _is_whole(context: Proto, op_types: Mapping[str, str]) -> bool:
    """Whether all nodes that a context is made of are there, and are what they were."""
    fields = ("pivot_name", "pred_name", "pivot_for_pred_name", "pivot_for_body_name")
    names = [getattr(context, field, "") for field in fields]
    wanted = {split_reference(name)[0]: "" for name in names if name}
    for field, op in (("loop_exit_names", "Exit"), ("loop_enter_names", "Enter")):
        wanted.update((split_reference(name)[0], op) for name in getattr(context, field, ()))
    return all(
        op_types.get(name, "").endswith(op) and name in op_types for name, op in wanted.items()
    )


def _forget(context: Proto, op_types: Mapping[str, str]) -> None:
    """Removes from a context what is gone."""

    def is_there(value: str) -> bool:
        return split_reference(value)[0] in op_types

    definition = context.values_def
    definition.values[:] = filter(is_there, definition.values)
    for key, value in list(definition.external_values.items()):
        if not is_there(value):
            del definition.external_values[key]
    nested = [n for n in context.nested_contexts if n.WhichOneof("ctxt") is not None]
    kept = [n for n in nested if _is_whole(getattr(n, n.WhichOneof("ctxt")), op_types)]
    for inner in kept:
        _forget(getattr(inner, inner.WhichOneof("ctxt")), op_types)
    copies = [type(inner).FromString(serialized(inner)) for inner in kept]
    del context.nested_contexts[:]
    context.nested_contexts.extend(copies)


def _nested(context: Proto) -> List[Proto]:
    """Returns the contexts directly inside a context."""
    kinds = [(nested, nested.WhichOneof("ctxt")) for nested in context.nested_contexts]
    return [getattr(nested, kind) for nested, kind in kinds if kind is not None]


def _values(context: Proto) -> Iterator[str]:
    """Yields the tensors of a context and of those inside it."""
    yield from context.values_def.values
    for nested in _nested(context):
        yield from _values(nested)


def _add(context: Proto, added: Dict[str, List[str]]) -> bool:
    """Adds tensors to a context and to those inside it; returns whether any context changed."""
    known = set(context.values_def.values)
    changed = False
    for name, tensors in added.items():  # in order: an added node may be rewritten itself
        if f"{name}:0" in known:
            context.values_def.values.extend(tensors)
            known.update(tensors)
            changed = True
    return any([_add(nested, added) for nested in _nested(context)]) or changed
