"""The collections of a MetaGraphDef that tell which tensors belong to which v1 branch and loop.

TensorFlow reads them on import to find the gradients of branches and loops; what a rewrite adds
belongs where the node was in whose place it stands.
"""

from typing import Any, Dict, Iterator, List, Set

from tf1xent import _tf
from tf1xent.graphs.raw import parsed, serialized
from tf1xent.graphs.wiring import split_reference


class Contexts:
    """The contexts of a MetaGraphDef."""

    def __init__(self, meta_graph: Any, where: str):
        # By name of the collection.
        self._contexts: Dict[str, List[Any]] = {}
        self._meta_graph = meta_graph
        for key, proto_class in _tf.CONTROL_FLOW_CONTEXTS.items():
            if key in meta_graph.collection_def:
                contents = meta_graph.collection_def[key].bytes_list.value
                here = f"{where}: collection `{key}`"
                self._contexts[key] = [parsed(proto_class, part, here) for part in contents]

    def names(self) -> Set[str]:
        """The nodes whose tensors they know."""
        contexts = [context for found in self._contexts.values() for context in found]
        return {split_reference(value)[0] for context in contexts for value in _values(context)}

    def add(self, added: Dict[str, List[str]]) -> None:
        """Adds the tensors of each rewritten node to every context that knows the node's own."""
        for key, contexts in self._contexts.items():
            values = self._meta_graph.collection_def[key].bytes_list.value
            for position, context in enumerate(contexts):
                if _add(context, added):
                    values[position] = serialized(context)


def _nested(context: Any) -> List[Any]:
    kinds = [(nested, nested.WhichOneof("ctxt")) for nested in context.nested_contexts]
    return [getattr(nested, kind) for nested, kind in kinds if kind is not None]


def _values(context: Any) -> Iterator[str]:
    yield from context.values_def.values
    for nested in _nested(context):
        yield from _values(nested)


def _add(context: Any, added: Dict[str, List[str]]) -> bool:
    known = set(context.values_def.values)
    changed = False
    for name, tensors in added.items():  # what was added may have been rewritten in turn
        if f"{name}:0" in known:
            context.values_def.values.extend(tensors)
            known.update(tensors)
            changed = True
    return any([_add(nested, added) for nested in _nested(context)]) or changed
