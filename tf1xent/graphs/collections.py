"""The collections of a MetaGraphDef that tell which tensors belong to which v1 branch and loop.

TensorFlow reads them on import to find the gradients of branches and loops; what a rewrite adds
belongs where the node was in whose place it stands.
"""

from typing import Any, Dict, List

from google.protobuf import message

from tf1xent import _tf
from tf1xent.errors import GraphFileError


def add_to_contexts(meta_graph: Any, added: Dict[str, List[str]], where: str) -> None:
    """Adds the tensors of each rewritten node to every context that knows the node's own."""
    for key, proto_class in _tf.CONTROL_FLOW_CONTEXTS.items():
        if not added or key not in meta_graph.collection_def:
            continue
        values = meta_graph.collection_def[key].bytes_list.value
        for position, content in enumerate(values):
            context = proto_class()
            try:
                context.ParseFromString(content)
            except message.DecodeError as error:
                raise GraphFileError(
                    f"{where}: entry {position} of the collection `{key}` cannot be read: {error}"
                ) from error
            if _add(context, added):
                values[position] = context.SerializeToString(deterministic=True)


def _add(context: Any, added: Dict[str, List[str]]) -> bool:
    names = [name for name in added if f"{name}:0" in set(context.values_def.values)]
    for name in names:
        context.values_def.values.extend(added[name])
    changed = bool(names)
    for nested in context.nested_contexts:
        kind = nested.WhichOneof("ctxt")
        if kind is not None:
            changed = _add(getattr(nested, kind), added) or changed
    return changed
