"""Finds the cross-entropy ops of a live graph, proto or file, and judges them."""

import dataclasses
import os
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from tf1xent import _tf, kernels
from tf1xent._tf import tf
from tf1xent._typing import FunctionDef, Graph, GraphSource, NodeDef, ProtoClass
from tf1xent.errors import RewriteError
from tf1xent.graphs import files, raw
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
from tf1xent.graphs.inspecting.callers import CallPath, CallPaths
from tf1xent.graphs.inspecting.report import (
    CrossEntropyOp,
    Findings,
    GradientAttribute,
    GraphReport,
    Verdict,
    report_of,
)
from tf1xent.graphs.inspecting.verdicts import Site, after_loop, labels_vary, verdict
from tf1xent.graphs.shapes import broadcast, matrix_shape
from tf1xent.graphs.wiring import CONTROL, Wiring

__all__ = ["inspect_graph"]


def inspect_graph(graph: GraphSource) -> GraphReport:
    """Reports the cross-entropy ops of a graph, and whether they have second derivatives.

    Use it before `rewrite_graph_def` and its like: the report says whether a graph needs a rewrite.
    Nothing is imported, run or changed. The verdicts are for the TensorFlow that is running:

    * "as it is": second derivatives exist and are right,
    * "override_gradients": after `tf1xent.override_gradients()`,
    * "rewrite": after `rewrite_graph_def` or its like,
    * "unsupported": not by these means; the reason says why and what helps.

    Ops of tf1xent's native library are in graphs built with ``implementation="kernel"``. They are
    "as it is" where the library is built; elsewhere their graph cannot even be imported.

    Args:
      graph: a `tf.Graph`; a GraphDef, MetaGraphDef or SavedModel proto; or a path of one of these
        in a file, binary or text, of a SavedModel's folder, or of a checkpoint with a ``.meta``
        file.

    Returns:
      A `GraphReport`. ``str()`` makes a table of it, ``to_json()`` the same for programs.

    Raises:
      TypeError: `graph` is none of these.
      tf1xent.errors.GraphFileError: a file or proto holds no readable graph.
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
    """
    return inspected(graph, "inspect_graph")


def inspected(graph: GraphSource, caller: str) -> GraphReport:
    """Does what `inspect_graph` does; errors name `caller`."""
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


def _graph_defs(
    proto_class: ProtoClass, content: bytes, where: str
) -> Iterator[Tuple[Optional[str], bytes]]:
    """Yields (tags, serialized GraphDef) of each graph; tags is None unless there are several."""
    if proto_class is tf.GraphDef:
        yield None, content
    elif proto_class is tf.MetaGraphDef:
        yield None, raw.MetaGraph(content, where).graph_def
    else:
        contents = raw.parsed(raw.RawSavedModel, content, where).meta_graphs
        for meta_graph in [raw.MetaGraph(part, where) for part in contents]:
            tags = "+".join(sorted(meta_graph.rest.meta_info_def.tags))
            yield (tags if len(contents) > 1 else None), meta_graph.graph_def


@dataclasses.dataclass
class _Part:
    """A graph, or a function of its library.

    Attributes:
      function: the function's name; None for the graph.
      wiring: the nodes.
      guards: the PreventGradient nodes by position of the fused op that they guard, CONTROL for an
        op in another part.
    """

    function: Optional[str]
    wiring: Wiring
    guards: Dict[int, List[NodeDef]]


def _part(function: Optional[str], wiring: Wiring) -> _Part:
    guards: Dict[int, List[NodeDef]] = {}
    for position in wiring.of_types((_tf.GUARD_OP,)):
        fused = wiring.guarded(position)
        if fused is not None:
            guards.setdefault(fused, []).append(wiring.nodes[position])
    return _Part(function, wiring, guards)


def _findings(content: bytes, tags: Optional[str], where: str, live: Optional[Graph]) -> Findings:
    """Returns what is found in a serialized GraphDef; `live` is its tf.Graph, if there is one."""
    graph = raw.Graph(content, where)
    raw.check_is_readable(graph.rest, where)
    library = Library(graph.rest.library, where)
    main = Wiring(graph.nodes, where)
    parts = [_part(None, main)]
    ops: List[CrossEntropyOp] = []
    bodies: Dict[str, Union[Wiring, str]] = {}
    for names in library.holding():
        for name in names:
            try:
                body = Body(library.functions[name], library).wiring()
                bodies[name] = body
                parts.append(_part(name, body))
            except RewriteError as error:
                bodies[name] = str(error)
                ops += _unreadable(library.functions[name], tags, error)
    paths = CallPaths(library, main, bodies, live)
    elsewhere = [guard for part in parts for guard in part.guards.get(CONTROL, [])]
    for part in parts:
        call_types = library.call_types() if live is None else []
        after_call = part.wiring.depending_on(call_types)
        ops += _ops(part, tags, paths.to(part.function), elsewhere, after_call)
    marked = [graph.nodes[p] for p in graph.nodes.mentioning(_tf.GRADIENT_ATTRIBUTE)]
    attributes = list(_attributes(marked, tags, None))
    op_types = set(main.ops)
    for name, function in library.functions.items():
        attributes += _attributes(function.node_def, tags, name)
        op_types.update(node.op for node in function.node_def)
    unknown = {op_type for op_type in op_types if library.definition(op_type) is None}
    return ops, attributes, unknown


def _ops(
    part: _Part,
    tags: Optional[str],
    path: CallPath,
    guards_elsewhere: List[NodeDef],
    after_call: bytearray,
) -> List[CrossEntropyOp]:
    """Describes and judges the cross-entropy ops of a graph or function."""
    wiring = part.wiring
    own, checks = primitives(wiring), checks_of_labels(wiring)
    found = [p for p in wiring.of_types(CROSS_ENTROPY_OPS) if p not in checks]
    positions = sorted([*found, *(p for p, name in own.items() if name in LOSSES)])
    if not positions:
        return []
    kernels_are_there = bool(wiring.of_types(KERNEL_OPS)) and kernels.status().path is not None
    around, readers = contexts(wiring), wiring.readers(positions)
    vary, after = labels_vary(wiring), after_loop(wiring)
    ops = []
    for position in positions:
        node = wiring.nodes[position]
        inputs = _logits_and_labels(wiring, position, own)
        guards = part.guards.get(position, [])
        inside = kinds(around[position])
        site = Site(
            node=node,
            in_loop=WHILE in inside or path.in_loop,
            obstacle=path.obstacle,
            is_guarded=any(_tf.gradient_attribute(g) is None for g in guards + guards_elsewhere),
            labels_vary=len(inputs) > 1 and bool(vary[inputs[1][0]]),
            broadcast=broadcast(wiring, position),
            after_loop=bool(after[position]),
            after_call=bool(after_call[position]),
            in_opaque_call=path.opaque,
            kernels_are_there=kernels_are_there,
        )
        judged, reason = verdict(site)
        ops.append(
            _described(
                node,
                graph=tags,
                function=part.function,
                shape=matrix_shape(wiring, *inputs[0]) if inputs else None,
                gradients=_gradients(wiring, position, own, readers[position]),
                guards=tuple(guard.name for guard in guards),
                context=next((kind for kind in (WHILE, COND) if kind in inside), None),
                verdict=judged,
                reason=reason,
            )
        )
    return ops


def _logits_and_labels(wiring: Wiring, position: int, own: Dict[int, str]) -> List[Tuple[int, int]]:
    """Returns the inputs of an op from the logits on; `own` are the values that tf1xent built."""
    inputs = [(source, index) for source, index in wiring.inputs(position) if index != CONTROL]
    return inputs[1:3] if position in own else inputs  # input 0 of a loss is its value


def _gradients(
    wiring: Wiring, position: int, own: Dict[int, str], readers: List[Tuple[int, int]]
) -> Tuple[str, ...]:
    """Returns the names of the nodes of an op's first derivatives."""
    if position in own:
        return tuple(recorded_gradients(wiring, position, own))
    return tuple(wiring.nodes[reader].name for reader, index in readers if index == 1)


def _unreadable(
    function: FunctionDef, tags: Optional[str], error: RewriteError
) -> List[CrossEntropyOp]:
    """Describes the ops of a function whose body cannot be followed, as the error says."""
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


def _described(node: NodeDef, **findings: Any) -> CrossEntropyOp:
    attribute: Any = _tf.gradient_attribute(node)  # a loss of stock ops has one
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


def _attributes(
    nodes: Iterable[NodeDef], tags: Optional[str], function: Optional[str]
) -> Iterator[GradientAttribute]:
    """Yields the nodes that are no cross-entropy ops and name a gradient."""
    for node in nodes:
        name = _tf.gradient_attribute(node)
        if name is not None and not is_cross_entropy(node) and not is_loss(node):
            known = _tf.has_gradient(name)
            yield GradientAttribute(node.name, node.op, tags, function, name, known)
