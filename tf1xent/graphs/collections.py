"""The collections of a MetaGraphDef that record the tensors of each v1 branch and loop.

TensorFlow reads these control-flow contexts on import; it needs them for gradients. Added nodes
join the contexts of the node that they replace.
"""

from typing import Dict, Iterator, List, Set

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
