"""The modes "tag" and "untag": names of tf1xent's gradients in TensorFlow's fused ops.

A tag is the attribute `_gradient_op_type` of a node. TensorFlow differentiates the node by the
gradient registered under that name. tf1xent's own ops and values are left as they are.
"""

from typing import Iterable, List, Tuple

from tf1xent import _tf
from tf1xent._typing import NodeDef
from tf1xent.gradients import GRADIENT_NAMES
from tf1xent.graphs.formula.building import Arithmetic
from tf1xent.graphs.formula.primitive_ops import checks_of_labels
from tf1xent.graphs.functions import Library
from tf1xent.graphs.raw import Graph, NodeList
from tf1xent.graphs.rewriting.replacement import (
    LOGITS_TYPES,
    Added,
    checked_inputs,
    checked_type,
    nodes_in_place_of,
)
from tf1xent.graphs.shapes import missed_broadcasts
from tf1xent.graphs.wiring import Names, Wiring


def tag_ops(wiring: Wiring, results: List[str]) -> Added:
    """Tags the fused ops of a graph and their guards; returns the tensors added by broadcasts."""
    del results  # no output moves
    checks = checks_of_labels(wiring)
    fused = [p for p in wiring.of_types(_tf.FUSED_OPS) if p not in checks]
    added = _broadcast(wiring)
    _tag(wiring.nodes, [*wiring.guards(), *fused])
    return added


def _broadcast(wiring: Wiring) -> Added:
    """Broadcasts the inputs of dense ops explicitly where TensorFlow's shape inference errs.

    Returns the tensors added, by name of the dense op.
    """
    added = {}
    names = Names(wiring.positions)
    for position in missed_broadcasts(wiring):
        node = wiring.nodes[position]
        nodes = nodes_in_place_of(node, wiring.nodes, names, "broadcast")
        inputs, controls = checked_inputs(node, 2, wiring.where)
        dtype = checked_type(node, "T", 0, LOGITS_TYPES, wiring.where)
        logits, labels = _broadcast_to_each_other(Arithmetic(nodes, dtype), *inputs)
        node.input[:] = [logits, labels, *controls]
        wiring.nodes[position] = node
        added[node.name] = nodes.tensors
    return added


def _broadcast_to_each_other(a: Arithmetic, logits: str, labels: str) -> Tuple[str, str]:
    """Returns both in their common broadcast shape."""
    zeros = a.op("ZerosLike", a.op("Add", logits, labels))
    return a.op("Add", zeros, logits), a.op("Add", zeros, labels)


def _tag(nodes: NodeList, positions: Iterable[int]) -> None:
    """Tags nodes; one that names a gradient already keeps it."""
    for position in positions:
        node = nodes[position]
        if _tf.gradient_attribute(node) is None:
            _tf.set_gradient_attribute(node, GRADIENT_NAMES[node.op])
            nodes[position] = node


def untag_graph(graph: Graph, library: Library, main: Wiring, wanted: Iterable[str]) -> Added:
    """Removes the tags from a graph and from its functions; adds no tensors."""
    del main, wanted
    for position in list(graph.nodes.mentioning(_tf.GRADIENT_ATTRIBUTE)):
        node = graph.nodes[position]
        if _untag(node):
            graph.nodes[position] = node
    for function in library.functions.values():
        for node in function.node_def:
            _untag(node)
    return {}


def _untag(node: NodeDef) -> bool:
    """Removes the tag of a node; returns whether it had one. Other gradient names stay."""
    is_tagged = (
        node.op in GRADIENT_NAMES and _tf.gradient_attribute(node) == GRADIENT_NAMES[node.op]
    )
    if is_tagged:
        _tf.set_gradient_attribute(node, None)
    return is_tagged
