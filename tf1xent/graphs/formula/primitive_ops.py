"""Recognises the values of `tf1xent._math.softmax` in saved graphs that were built under `patch()`.

Such a value is an IdentityN with the name of its gradient as an attribute. It takes and returns the
value, the tensors that the value was computed from, and what its gradient reuses (residuals).
"""

from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from tf1xent import _tf
from tf1xent._math import label_gap, softcap, softmax
from tf1xent._typing import NodeDef
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.graphs.wiring import CONTROL, Wiring

OP = "IdentityN"


class Primitive(NamedTuple):
    """A kind of value.

    Attributes:
      kind: a short name for reports.
      inputs: names of the tensors that it is computed from, in order.
    """

    kind: str
    inputs: Tuple[str, ...]


SPARSE_LOSS = softmax.sparse_loss.gradient_name
SPARSE_GRADIENT = softmax.sparse_gradient.gradient_name
DENSE_LOSS = softmax.dense_loss.gradient_name
DENSE_LOSS_OF_LOGITS = softmax.dense_loss_of_logits.gradient_name
DENSE_GRADIENT = softmax.dense_gradient.gradient_name
LABEL_GRADIENT = softmax.label_gradient.gradient_name
HESSIAN_PRODUCT = softmax.hessian_product.gradient_name

# By name of the gradient: the values that a rewrite computes anew, by stock ops that TensorFlow can
# differentiate.
PRIMITIVES = {
    SPARSE_LOSS: Primitive("sparse", ("logits", "labels")),
    SPARSE_GRADIENT: Primitive("sparse gradient", ("logits", "labels", "scale")),
    DENSE_LOSS: Primitive("dense", ("logits", "labels")),
    DENSE_LOSS_OF_LOGITS: Primitive("dense", ("logits", "labels")),
    DENSE_GRADIENT: Primitive("dense gradient", ("logits", "labels", "scale")),
    LABEL_GRADIENT: Primitive("label gradient", ("logits", "labels", "scale")),
    HESSIAN_PRODUCT: Primitive("product", ("logits", "vectors", "scale")),
}
# The gradients of each loss.
LOSSES = {
    SPARSE_LOSS: (SPARSE_GRADIENT,),
    DENSE_LOSS: (DENSE_GRADIENT, LABEL_GRADIENT),
    DENSE_LOSS_OF_LOGITS: (DENSE_GRADIENT,),
}
# All other values: the stock ops that compute them have right gradients already.
DIFFERENTIABLE = frozenset(
    {
        label_gap.label_gap.gradient_name,
        label_gap.label_gap_direction.gradient_name,
        softmax.log_partition.gradient_name,
        softmax.softmax.gradient_name,
        softmax.centre.gradient_name,
        softmax.mean.gradient_name,
        softcap.squared_sech.gradient_name,
        softcap.tanh.gradient_name,
        _tf.TIED_GRADIENT,
    }
)

# Outputs of these do not vary with the values of their inputs.
_NO_DERIVATIVE = frozenset("Const Shape ShapeN Size Rank".split())


def is_primitive(node: NodeDef) -> bool:
    """Tells whether a node is a value that tf1xent built, of any kind."""
    return node.op == OP and (_tf.gradient_attribute(node) or "").startswith("Tf1xent")


def primitive_name(node: NodeDef) -> Optional[str]:
    """Returns the key of a node in PRIMITIVES, or None."""
    name = _tf.gradient_attribute(node) if node.op == OP else None
    return name if name in PRIMITIVES else None


def is_loss(node: NodeDef) -> bool:
    """Tells whether a node is a loss that tf1xent built."""
    return primitive_name(node) in LOSSES


def primitives(wiring: Wiring) -> Dict[int, str]:
    """Returns the nodes with a key in PRIMITIVES: {position: key}."""
    names = ((p, primitive_name(wiring.nodes[p])) for p in wiring.of_types((OP,)))
    return {position: name for position, name in names if name is not None}


def recorded_gradients(wiring: Wiring, position: int, found: Dict[int, str]) -> List[str]:
    """Returns the names of the nodes that are gradients of the loss at a position.

    `found` is what `primitives` returns for the wiring.
    """
    wanted, of = LOSSES[found[position]], _read(wiring, position)
    return [
        wiring.nodes[other].name
        for other, name in found.items()
        if name in wanted and _read(wiring, other) == of
    ]


def _read(wiring: Wiring, position: int) -> List[Tuple[int, int]]:
    """Returns the sources of the logits and labels of a loss or gradient."""
    return list(wiring.inputs(position))[1:3]


def checks_of_labels(wiring: Wiring) -> Set[int]:
    """Returns the fused ops by which tf1xent only checks labels and shapes.

    Their logits depend on shapes only, not on values. They are never differentiated.
    """
    fused = wiring.of_types((_tf.SPARSE_OP,))
    if not fused or not (wiring.of_types(KERNEL_OPS) or any(_ours(wiring))):
        return set()
    sources = {
        op
        for position, op in enumerate(wiring.ops)
        if op not in _NO_DERIVATIVE and all(i == CONTROL for _, i in wiring.inputs(position))
    }
    varies = wiring.depending_on(sources, ends=_NO_DERIVATIVE)
    found = set()
    for position in fused:
        logits = next((s for s, i in wiring.inputs(position) if i != CONTROL), None)
        if logits is not None and not varies[logits]:
            found.add(position)
    return found


def _ours(wiring: Wiring) -> Iterator[bool]:
    return (is_primitive(wiring.nodes[position]) for position in wiring.of_types((OP,)))


def checks_waited_for(wiring: Wiring, found: Dict[int, str]) -> Dict[int, Set[int]]:
    """Returns the checks that the labels of sparse losses wait for, by position of the labels.

    In the original graph the value of the loss is computed from its checks too, so that no
    optimisation drops them.
    """
    waited: Dict[int, Set[int]] = {}
    for position, name in found.items():
        if name != SPARSE_LOSS:
            continue
        sources = [source for source, index in wiring.inputs(position) if index != CONTROL]
        value, logits, labels = (sources + [position] * 3)[:3]
        controls = {source for source, index in wiring.inputs(labels) if index == CONTROL}
        if wiring.ops[labels] == "Identity" and controls:
            checks = controls & _computed_from(wiring, value, {logits, labels})
            waited.setdefault(labels, set()).update(checks)
    return waited


def _computed_from(wiring: Wiring, value: int, ends: Set[int]) -> Set[int]:
    """Returns the nodes that a node depends on by data, the node too, not past `ends`."""
    found, pending = set(ends), [value]
    while pending:
        position = pending.pop()
        if position not in found:
            found.add(position)
            pending += [source for source, index in wiring.inputs(position) if index != CONTROL]
    return found - ends
