"""Finds the cross-entropy ops of a graph, wherever it is kept, and judges them."""

import dataclasses
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf, kernels
from tf1xent._tf import tf
from tf1xent.errors import RewriteError
from tf1xent.graphs import files
from tf1xent.graphs.control_flow import COND, WHILE, contexts, kinds
from tf1xent.graphs.formula.kernel_ops import CROSS_ENTROPY_OPS, KERNEL_OPS, is_cross_entropy
from tf1xent.graphs.formula.primitive_ops import (
    LOSSES,
    checks_of_labels,
    is_loss,
    primitives,
    recorded_gradients,
)
from tf1xent.graphs.functions import Body, Library
from tf1xent.graphs.inspecting.callers import Ways
from tf1xent.graphs.inspecting.report import (
    CrossEntropyOp,
    GradientAttribute,
    GraphReport,
    Verdict,
    report_of,
)
from tf1xent.graphs.inspecting.verdicts import Site, behind_loop, labels_vary, verdict
from tf1xent.graphs.raw import Graph, MetaGraph, RawSavedModel, check_is_readable, parsed
from tf1xent.graphs.shapes import broadcast, matrix_shape
from tf1xent.graphs.wiring import CONTROL, Wiring

__all__ = ["inspect_graph"]


def inspect_graph(graph: Any) -> GraphReport:
    """Reports the cross-entropy ops of a graph: where they are, and what their derivatives lack.

    Nothing is imported or run, and nothing is changed. The verdicts are for the TensorFlow at hand:

    * "as it is": second derivatives exist and are right,
    * "override_gradients": after `tf1xent.override_gradients()`,
    * "rewrite": after `rewrite_graph_def` or its like,
    * "unsupported": not by these means; the reason says why, and what helps.

    The ops of tf1xent's native library, of graphs built with ``implementation="kernel"``, are "as
    it is" where that library is built; elsewhere their graph cannot even be imported.

    Args:
      graph: a `tf.Graph`; a GraphDef, MetaGraphDef or SavedModel proto; or a path: of one of these
        in a file, binary or text, of a SavedModel's folder, or of a checkpoint with a ``.meta``
        file.

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
    return inspected(graph, "inspect_graph")


def inspected(graph: Any, caller: str) -> GraphReport:
    """The report of a graph; errors name `caller`."""
    is_live = isinstance(graph, tf.Graph)
    if isinstance(graph, (str, os.PathLike)):
        source = files.find(graph, caller)
        proto_class, content, _ = files.read(source, caller)
    else:
        proto = graph.as_graph_def(add_shapes=True) if is_live else graph
        source, proto_class = f"a {type(graph).__name__}", type(proto)
        if proto_class not in (tf.GraphDef, tf.MetaGraphDef, _tf.SavedModel):
            raise TypeError(
                f"{caller}: `graph` must be a tf.Graph, GraphDef, MetaGraphDef, SavedModel proto "
                f"or path, got {source}."
            )
        content = proto.SerializeToString()
    where = f"{caller}: {source}"
    parts = [
        _findings(graph_def, tags, where, graph if is_live else None)
        for tags, graph_def in _graph_defs(proto_class, content, where)
    ]
    return report_of(source, _tf.version(), parts)


def _graph_defs(proto_class: Any, content: bytes, where: str) -> Iterator[Tuple[Any, bytes]]:
    """(tags or None, bytes of the GraphDef) of what holds graphs."""
    if proto_class is tf.GraphDef:
        yield None, content
    elif proto_class is tf.MetaGraphDef:
        yield None, MetaGraph(content, where).graph_def
    else:
        contents = parsed(RawSavedModel, content, where).meta_graphs
        for meta_graph in [MetaGraph(part, where) for part in contents]:
            tags = "+".join(sorted(meta_graph.rest.meta_info_def.tags))
            yield (tags if len(contents) > 1 else None), meta_graph.graph_def


@dataclasses.dataclass
class _Part:
    """The nodes of a graph or of a function of its library, with the guards in it."""

    function: Optional[str]
    wiring: Wiring
    # By position of the fused op, CONTROL for one that is elsewhere.
    guards: Dict[int, List[Any]]


def _part(function: Optional[str], wiring: Wiring) -> _Part:
    guards: Dict[int, List[Any]] = {}
    for position in wiring.of_types((_tf.GUARD_OP,)):
        fused = wiring.guarded(position)
        if fused is not None:
            guards.setdefault(fused, []).append(wiring.nodes[position])
    return _Part(function, wiring, guards)


def _findings(content, tags, where, live):
    """(ops, other gradient attributes, unknown op types) of the bytes of a GraphDef."""
    graph = Graph(content, where)
    check_is_readable(graph.rest, where)
    library = Library(graph.rest.library, where)
    main = Wiring(graph.nodes, where)
    parts = [_part(None, main)]
    ops: List[CrossEntropyOp] = []
    bodies: Dict[str, Any] = {}
    for names in library.holding():
        for name in names:
            try:
                bodies[name] = Body(library.functions[name], library).wiring()
                parts.append(_part(name, bodies[name]))
            except RewriteError as error:
                bodies[name] = str(error)
                ops += _unreadable(library.functions[name], tags, error)
    ways = Ways(library, main, bodies, live)
    elsewhere = [guard for part in parts for guard in part.guards.get(CONTROL, [])]
    for part in parts:
        call_types = library.call_types() if live is None else []
        behind_call = part.wiring.depending_on(call_types)
        ops += _ops(part, tags, ways.to(part.function), elsewhere, behind_call)
    marked = [graph.nodes[p] for p in graph.nodes.mentioning(_tf.GRADIENT_ATTRIBUTE)]
    attributes = list(_attributes(marked, tags, None))
    op_types = set(main.ops)
    for name, function in library.functions.items():
        attributes += _attributes(function.node_def, tags, name)
        op_types.update(node.op for node in function.node_def)
    unknown = {op_type for op_type in op_types if library.definition(op_type) is None}
    return ops, attributes, unknown


def _ops(part, tags, way, guards_elsewhere, behind_call) -> List[CrossEntropyOp]:
    wiring = part.wiring
    own, checks = primitives(wiring), checks_of_labels(wiring)
    found = [p for p in wiring.of_types(CROSS_ENTROPY_OPS) if p not in checks]
    positions = sorted([*found, *(p for p, name in own.items() if name in LOSSES)])
    if not positions:
        return []
    kernels_are_there = bool(wiring.of_types(KERNEL_OPS)) and kernels.status().path is not None
    around, readers = contexts(wiring), wiring.readers(positions)
    vary, behind = labels_vary(wiring), behind_loop(wiring)
    ops = []
    for position in positions:
        node = wiring.nodes[position]
        inputs = [(source, index) for source, index in wiring.inputs(position) if index != CONTROL]
        if position in own:
            inputs = inputs[1:3]  # behind the value
            gradients = recorded_gradients(wiring, position, own)
        else:
            second = [reader for reader, index in readers[position] if index == 1]
            gradients = [wiring.nodes[reader].name for reader in second]
        guards = part.guards.get(position, [])
        inside = kinds(around[position])
        site = Site(
            node=node,
            in_loop=WHILE in inside or way.in_loop,
            obstacle=way.obstacle,
            is_guarded=any(_tf.gradient_attribute(g) is None for g in guards + guards_elsewhere),
            labels_vary=len(inputs) > 1 and bool(vary[inputs[1][0]]),
            broadcast=broadcast(wiring, position),
            behind_loop=bool(behind[position]),
            behind_call=bool(behind_call[position]),
            in_opaque_call=way.opaque,
            kernels_are_there=kernels_are_there,
        )
        judged, reason = verdict(site)
        ops.append(
            _described(
                node,
                graph=tags,
                function=part.function,
                shape=matrix_shape(wiring, *inputs[0]) if inputs else None,
                gradients=tuple(gradients),
                guards=tuple(guard.name for guard in guards),
                context=next((kind for kind in (WHILE, COND) if kind in inside), None),
                verdict=judged,
                reason=reason,
            )
        )
    return ops


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
            verdict=Verdict.UNSUPPORTED,
            reason=str(error),
        )
        for node in function.node_def
        if is_cross_entropy(node) or is_loss(node)
    ]


def _described(node: Any, **findings: Any) -> CrossEntropyOp:
    attribute = _tf.gradient_attribute(node)
    if is_loss(node):
        op_type, dtypes = attribute, node.attr["T"].list.type
    else:
        op_type, dtypes = node.op, [node.attr["T"].type] if "T" in node.attr else []
    return CrossEntropyOp(
        name=node.name,
        op_type=op_type,
        dtype=_tf.enum_name(dtypes[0]) if dtypes else "?",
        gradient_attribute=attribute,
        gradient_registered=None if attribute is None else _tf.has_gradient(attribute),
        **findings,
    )


def _attributes(nodes, tags, function) -> Iterator[GradientAttribute]:
    for node in nodes:
        name = _tf.gradient_attribute(node)
        if name is not None and not is_cross_entropy(node) and not is_loss(node):
            known = _tf.has_gradient(name)
            yield GradientAttribute(node.name, node.op, tags, function, name, known)
