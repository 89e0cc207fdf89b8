"""Audits a loss of a graph in a file: whether its second derivative exists, and what it lacks."""

import difflib
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set

from tf1xent import _tf, kernels
from tf1xent import gradients as gradients  # registers the gradients that graphs name
from tf1xent._tf import tf
from tf1xent._typing import Graph, MetaGraphDef, Path, Tensor
from tf1xent.errors import GraphFileError
from tf1xent.graphs import files, raw
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.second_order.auditing import Audit, audited

# The collections that an audit needs; others may hold objects of the program that wrote them.
_KEPT = tuple(_tf.CONTROL_FLOW_CONTEXTS)
_MOST_NAMES = 5


class _Graph(NamedTuple):
    """A graph of a file.

    Attributes:
      tags: of a SavedModel's graph, else None.
      proto: as a MetaGraphDef.
    """

    tags: Optional[str]
    proto: MetaGraphDef


def audit_file(
    path: Path, loss: str, variables: Optional[Sequence[str]], caller: str
) -> List[Audit]:
    """Audits a loss, by name, of the graphs in a file that have it. Nothing of the file is run.

    Args:
      path: as of `inspect_graph`.
      loss: the name of a tensor, or of an op whose first output it is.
      variables: names of variables or tensors. Default: the trainable variables that the file
        lists, else all variables of a floating type.
      caller: names the function or command in errors.

    Returns:
      An `Audit` for each graph that has the loss.

    Raises:
      ValueError: no graph has the loss, or a variable; or there are no variables.
      tf1xent.errors.GraphFileError: the file cannot be read or imported.
      OSError: the file cannot be read.
    """
    source = files.find(path, caller)
    where = f"{caller}: {source}"
    names: List[str] = []
    found = []
    for graph in _graphs(source, caller):
        nodes = {node.name: node.op for node in graph.proto.graph_def.node}
        names += nodes
        if loss.split(":")[0] in nodes:
            found.append(_audit(graph, nodes, loss, variables, where, source))
    if not found:
        raise ValueError(f"{where}: the graph must have the loss `{loss}`{_near(loss, names)}")
    return found


def _near(name: str, names: Sequence[str]) -> str:
    """Names what may have been meant."""
    name = name.split(":")[0]
    last = name.rpartition("/")[2]
    close = [n for n in names if n.rpartition("/")[2] == last]
    close += [n for n in difflib.get_close_matches(name, names, _MOST_NAMES) if n not in close]
    if not close:
        return "; no name in it is near."
    return f". Near it: {', '.join(close[:_MOST_NAMES])}."


def _graphs(source: str, caller: str) -> Iterator[_Graph]:
    proto_class, content, _ = files.read(source, caller)
    if proto_class is tf.GraphDef:
        yield _Graph(None, tf.MetaGraphDef(graph_def=raw.parsed(tf.GraphDef, content, source)))
    elif proto_class is tf.MetaGraphDef:
        yield _Graph(None, raw.parsed(tf.MetaGraphDef, content, source))
    else:
        for part in raw.parsed(_tf.SavedModel, content, source).meta_graphs:
            yield _Graph("+".join(sorted(part.meta_info_def.tags)), part)


def _audit(
    graph: _Graph,
    nodes: Dict[str, str],
    loss: str,
    variables: Optional[Sequence[str]],
    where: str,
    source: str,
) -> Audit:
    raw.check_is_readable(graph.proto.graph_def, where)
    chosen = list(variables or _default_variables(graph, where))
    missing = [name for name in chosen if name.split(":")[0] not in nodes]
    if missing:
        near = _near(missing[0], list(nodes))
        raise ValueError(f"{where}: the graph must have the variable `{missing[0]}`{near}")
    imported = _imported(graph, nodes, where)
    ys, xs = [_tensor(imported, loss)], [_tensor(imported, name) for name in chosen]
    return audited(ys, xs, source, graph.tags, from_file=True)


def _tensor(graph: Graph, name: str) -> Tensor:
    return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")


def _default_variables(graph: _Graph, where: str) -> List[str]:
    """Returns the names of the trainable variables, or of all that may be."""
    listed = graph.proto.collection_def["trainable_variables"].bytes_list.value
    if listed:
        return [_tf.VariableDef.FromString(value).variable_name for value in listed]
    found = [
        node.name
        for node in graph.proto.graph_def.node
        if node.op in _tf.VARIABLES and tf.as_dtype(node.attr["dtype"].type).is_floating
    ]
    if not found:
        raise ValueError(
            f"{where}: the graph holds no variables, as frozen graphs do. "
            "Name the tensors to differentiate by: `--variables NAME`."
        )
    return found


def _imported(graph: _Graph, nodes: Dict[str, str], where: str) -> Graph:
    """Imports a graph with the contexts of its branches and loops, and nothing else."""
    op_types = set(nodes.values())
    if op_types & set(KERNEL_OPS) and kernels.status().path is not None:
        kernels.library()
    unknown = sorted(t for t in op_types - _functions(graph) if _tf.op_definition(t) is None)
    if unknown:
        raise GraphFileError(
            f"{where}: the graph has ops that this TensorFlow does not know: {', '.join(unknown)}."
        )
    with tf.Graph().as_default() as imported:
        _tf.import_meta_graph(graph.proto, _KEPT, where, saver=False)
    return imported


def _functions(graph: _Graph) -> Set[str]:
    return {function.signature.name for function in graph.proto.graph_def.library.function}
