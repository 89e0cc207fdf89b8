"""Finds the cross-entropy ops of a graph, wherever it is kept, and judges them."""

import dataclasses
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import RewriteError
from tf1xent.graphs import files
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.functions import Library, flattened
from tf1xent.graphs.replacement import check_is_readable
from tf1xent.graphs.report import CrossEntropyOp, GradientAttribute, GraphReport, Verdict, report_of
from tf1xent.graphs.shapes import matrix_shape
from tf1xent.graphs.verdicts import Site, verdict
from tf1xent.graphs.wiring import Wiring

__all__ = ["inspect_graph"]


def inspect_graph(graph: Any) -> GraphReport:
    """Reports the cross-entropy ops of a graph: where they are, and what their derivatives lack.

    Nothing is imported or run, and nothing is changed. The verdicts are for the TensorFlow at hand:

    * "as it is": second derivatives exist and are right,
    * "override_gradients": after `tf1xent.override_gradients()`,
    * "rewrite": after `rewrite_graph_def` or its like,
    * "not": not by these means; the reason says why, and what helps.

    Args:
      graph: a `tf.Graph`; a GraphDef, MetaGraphDef or SavedModel proto; or a path: of one of these
        in a file, binary or (``.pbtxt``) text, of a SavedModel's folder, or of a checkpoint with a
        ``.meta`` file.

    Returns:
      A `GraphReport`; ``str()`` of it is a table, ``to_json()`` the same for programs.

    **Derivatives**: none are computed here.

    Raises:
      TypeError: `graph` is none of these.
      tf1xent.errors.GraphFileError: a file or proto holds no graph that can be read.
      OSError: a file cannot be read.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default() as graph:
    ...     logits = tf.placeholder(tf.float32, [None, 10])
    ...     teacher = tf.nn.softmax(tf.get_variable("teacher", [10]))
    ...     loss = tf.nn.softmax_cross_entropy_with_logits_v2(
    ...         labels=teacher * tf.ones_like(logits), logits=logits, name="distillation")
    >>> report = tf1xent.graphs.inspect_graph(graph)
    >>> [(op.op_type, op.dtype, op.verdict.value) for op in report.ops]
    [('SoftmaxCrossEntropyWithLogits', 'float32', 'override_gradients')]

    Source: the measurements in section 6 of the project's design, repeated by its tests.
    """
    caller = "inspect_graph"
    if isinstance(graph, (str, os.PathLike)):
        source = files.find(graph, caller)
        proto = files.read(source, caller)
        is_live = False
    else:
        is_live = isinstance(graph, tf.Graph)
        proto = graph.as_graph_def(add_shapes=True) if is_live else graph
        source = f"a {type(graph).__name__}"
    parts = [
        _findings(graph_def, tags, f"{caller}: {source}", is_live)
        for tags, graph_def in _graph_defs(proto, caller)
    ]
    return report_of(source, _tf.version(), parts)


def _graph_defs(proto: Any, caller: str) -> List[Tuple[Optional[str], Any]]:
    """(tags or None, GraphDef) of what holds graphs."""
    if isinstance(proto, tf.GraphDef):
        return [(None, proto)]
    if isinstance(proto, tf.MetaGraphDef):
        return [(None, proto.graph_def)]
    if isinstance(proto, _tf.SavedModel):
        one = len(proto.meta_graphs) == 1
        return [
            (None if one else "+".join(sorted(meta.meta_info_def.tags)), meta.graph_def)
            for meta in proto.meta_graphs
        ]
    raise TypeError(
        f"{caller}: `graph` must be a tf.Graph, GraphDef, MetaGraphDef, SavedModel proto or path, "
        f"got a {type(proto).__name__}."
    )


@dataclasses.dataclass
class _Part:
    """The nodes of a graph or of a function of its library, with the guards in it."""

    function: Optional[str]
    wiring: Wiring
    # By name of the fused op, "" for one that is elsewhere.
    guards: Dict[str, List[Any]]


def _part(function: Optional[str], wiring: Wiring) -> _Part:
    guards: Dict[str, List[Any]] = {}
    for guard in wiring.of_types((_tf.GUARD_OP,)):
        name = wiring.guarded(guard)
        if name is not None:
            guards.setdefault(name, []).append(guard)
    return _Part(function, wiring, guards)


def _findings(graph_def, tags, where, is_live):
    """(ops, other gradient attributes, unknown op types) of one GraphDef."""
    check_is_readable(graph_def, where)
    library = Library(graph_def, where)
    main = Wiring(graph_def.node, where)
    main.check()
    parts = [_part(None, main)]
    ops: List[CrossEntropyOp] = []
    for name in library.holding():
        try:
            body = flattened(library.functions[name], library)
        except RewriteError as error:
            ops += _unreadable(library.functions[name], tags, error)
        else:
            parts.append(_part(name, Wiring(body.graph_def.node, body.where)))
    calls = _calls(graph_def, library)
    elsewhere = [guard for part in parts for guard in part.guards.get("", [])]
    for part in parts:
        ops += _ops(part, tags, calls.get(part.function or ""), elsewhere, is_live)
    nodes: List[Tuple[Optional[str], Any]] = [(None, graph_def.node)]
    nodes += [(name, function.node_def) for name, function in library.functions.items()]
    attributes = [a for name, own in nodes for a in _attributes(own, tags, name)]
    unknown = {
        op_type
        for op_type in {node.op for _, own in nodes for node in own}
        if library.definition(op_type) is None
    }
    return ops, attributes, unknown


def _calls(graph_def: Any, library: Library) -> Dict[str, str]:
    """How functions are called, where they are: "call" or "name", which outweighs it."""
    found: Dict[str, str] = {}
    bodies = [function.node_def for function in library.functions.values()]
    for nodes in [graph_def.node, *bodies] if bodies else []:
        for node in nodes:
            name = library.called(node)
            if name is not None:
                found[name] = "name" if node.op == name else found.get(name, "call")
    return found


def _ops(part, tags, calls, guards_elsewhere, is_live) -> List[CrossEntropyOp]:
    wiring = part.wiring
    fused = wiring.of_types(_tf.FUSED_OPS)
    names = [node.name for node in fused]
    around = contexts(wiring, names)
    readers = wiring.readers(names)
    found = []
    for node in fused:
        guards = part.guards.get(node.name, [])
        context = around[node.name][-1][0] if around[node.name] else None
        site = Site(
            wiring=wiring,
            node=node,
            context=context,
            is_guarded=any(_tf.gradient_attribute(g) is None for g in guards + guards_elsewhere),
            calls=calls,
            is_live=is_live,
        )
        judged, reason = verdict(site)
        found.append(
            _described(
                node,
                graph=tags,
                function=part.function,
                shape=matrix_shape(wiring, node.input[0]) if node.input else None,
                gradients=tuple(reader.name for reader, index in readers[node.name] if index == 1),
                guards=tuple(guard.name for guard in guards),
                context=context,
                verdict=judged,
                reason=reason,
            )
        )
    return found


def _unreadable(function: Any, tags: Optional[str], error: RewriteError) -> List[CrossEntropyOp]:
    """The ops of a function whose body cannot be followed; the error says why."""
    return [
        _described(
            node,
            graph=tags,
            function=function.signature.name,
            shape=None,
            gradients=(),
            guards=(),
            context=None,
            verdict=Verdict.NOT,
            reason=str(error),
        )
        for node in function.node_def
        if node.op in _tf.FUSED_OPS
    ]


def _described(node: Any, **findings: Any) -> CrossEntropyOp:
    attribute = _tf.gradient_attribute(node)
    return CrossEntropyOp(
        name=node.name,
        op_type=node.op,
        dtype=_tf.enum_name(node.attr["T"].type) if "T" in node.attr else "?",
        gradient_attribute=attribute,
        gradient_registered=None if attribute is None else _tf.has_gradient(attribute),
        **findings,
    )


def _attributes(nodes, tags, function) -> Iterator[GradientAttribute]:
    for node in nodes:
        name = _tf.gradient_attribute(node)
        if name is not None and node.op not in _tf.FUSED_OPS:
            known = _tf.has_gradient(name)
            yield GradientAttribute(node.name, node.op, tags, function, name, known)
