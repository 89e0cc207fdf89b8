"""Fused cross-entropy ops in a GraphDef: tagged, untagged, or replaced by stock ops."""

from typing import Any, Dict, List

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.gradients import DENSE_GRADIENT, GUARD_GRADIENT, SPARSE_GRADIENT
from tf1xent.graphs import stock_formula
from tf1xent.graphs.functions import Body, Library, flattened, unflattened
from tf1xent.graphs.inlining import Inliner, become_identity
from tf1xent.graphs.wiring import Names, Wiring

MODES = ("logsumexp", "tag", "fused")
# By op type, the gradient names that the mode "tag" gives.
TAGS = {
    _tf.SPARSE_OP: SPARSE_GRADIENT,
    _tf.DENSE_OP: DENSE_GRADIENT,
    _tf.GUARD_OP: GUARD_GRADIENT,
}

# Attributes of one op; the others that begin with an underscore are of the place where it runs.
_OWN = (_tf.GRADIENT_ATTRIBUTE, "_output_shapes")
_DEFAULT_LABELS_TYPE = tf.int64.as_datatype_enum

# The tensors that a rewrite adds, by name of the node in whose place they stand.
Added = Dict[str, List[str]]


def rewrite_in_place(graph_def: Any, mode: str, where: str) -> Added:
    """Rewrites a GraphDef that is the caller's own, its function library too."""
    check_is_readable(graph_def, where)
    library = Library(graph_def, where)
    main = Wiring(graph_def.node, where)
    main.check()
    if mode == "fused":
        for nodes in [graph_def.node, *(f.node_def for f in library.functions.values())]:
            _untag(nodes)
        return {}
    bodies: Dict[str, Body] = {}
    inliner = Inliner(library, bodies)
    for name in library.holding():
        body = flattened(library.functions[name], library)
        names = Names([node.name for node in body.graph_def.node])
        inliner.inline(body.graph_def, names, body.where)
        _rewrite_nodes(body.graph_def, Wiring(body.graph_def.node, body.where), names, mode)
        bodies[name] = body
    for name, body in bodies.items():
        unflattened(body, library.functions[name], library)
    names = Names(main.positions)
    added = inliner.inline(graph_def, names, where)
    if added:
        main = Wiring(graph_def.node, where)
    added.update(_rewrite_nodes(graph_def, main, names, mode))
    return added


def check_is_readable(graph_def: Any, where: str) -> None:
    """Raises GraphFileError for a graph that only a newer TensorFlow can read."""
    least = graph_def.versions.min_consumer
    if least > _tf.NEWEST_GRAPH:
        raise GraphFileError(
            f"{where}: the graph is of a newer TensorFlow: it needs one that reads GraphDef "
            f"version {least}, and this one, {_tf.version()}, reads up to {_tf.NEWEST_GRAPH}."
        )


def _untag(nodes: Any) -> None:
    for node in nodes:
        if TAGS.get(node.op) is not None and _tf.gradient_attribute(node) == TAGS[node.op]:
            _tf.set_gradient_attribute(node, None)


def _rewrite_nodes(graph_def: Any, wiring: Wiring, names: Names, mode: str) -> Added:
    guards = [n for n in wiring.of_types((_tf.GUARD_OP,)) if wiring.guarded(n) is not None]
    fused = wiring.of_types(_tf.FUSED_OPS)
    if mode == "tag":
        for node in [*guards, *fused]:
            if _tf.gradient_attribute(node) is None:
                _tf.set_gradient_attribute(node, TAGS[node.op])
        return {}
    _check_is_differentiable_without_us(wiring)
    for guard in guards:
        guard.op = "Identity"
        for key in ("message", _tf.GRADIENT_ATTRIBUTE):
            if key in guard.attr:
                del guard.attr[key]
    return {node.name: _replace(graph_def, node, names, wiring.where) for node in fused}


def _check_is_differentiable_without_us(wiring: Wiring) -> None:
    for node in wiring.nodes:
        name = _tf.gradient_attribute(node)
        if name is None:
            continue
        if node.op in _tf.FUSED_OPS and name != TAGS[node.op]:
            raise RewriteError(
                f"{wiring.where}: node `{node.name}` carries a gradient of its own, `{name}`, "
                'which stock ops would not keep. Use the mode "tag", which leaves it.'
            )
        if name.startswith("Tf1xent") and node.op not in TAGS:
            raise RewriteError(
                f"{wiring.where}: node `{node.name}` is tf1xent's own, with the gradient `{name}`, "
                "and cannot become stock ops. Write the graph without tf1xent.patch() in force."
            )


def _replace(graph_def: Any, fused: Any, names: Names, where: str) -> List[str]:
    """Puts the stock formula in the place of one fused node; returns the tensors added."""
    inputs = [reference for reference in fused.input if not reference.startswith("^")]
    controls = [reference for reference in fused.input if reference.startswith("^")]
    dtype = fused.attr["T"].type if "T" in fused.attr else 0
    if len(inputs) != 2 or not dtype:
        raise GraphFileError(
            f"{where}: node `{fused.name}`, {fused.op}, must have two inputs and a dtype `T`, got "
            f"{len(inputs)} inputs and {_tf.enum_name(dtype) if dtype else 'no dtype'}."
        )
    common = {key: fused.attr[key] for key in fused.attr if key.startswith("_") and key not in _OWN}
    scope = names.unique(f"{fused.name}/logsumexp")
    nodes = stock_formula.Nodes(graph_def, names, scope, fused.device, common)
    outputs = stock_formula.loss_and_gradient(
        nodes, fused.op, dtype, _labels_type(fused), inputs, controls
    )
    become_identity(fused, outputs, [dtype, dtype])
    return nodes.tensors


def _labels_type(fused: Any) -> int:
    return fused.attr["Tlabels"].type if "Tlabels" in fused.attr else _DEFAULT_LABELS_TYPE
