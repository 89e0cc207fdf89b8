"""Which origins have to be explained, and what stands around one of them."""

import re
from typing import List, NamedTuple, Optional, Set

import numpy as np

from tf1xent.diagnostics.judging.evidence import Evidence, Origin
from tf1xent.diagnostics.program.state import DATA, VARIABLES
from tf1xent.diagnostics.program.wiring import Node
from tf1xent.diagnostics.replaying.recording import TensorRecord

# NaN of a logarithm or a division is named by that, also where an op hides it from the loss.
_EXPLAINED = ("Log", "Log1p", "Xlogy", "Xlog1py", "RealDiv", "Div", "Xdivy", "Mean", "Softmax")
# They pass NaN by, and of NaN alone they make the least number of the type.
_POOLS = re.compile(r"MaxPool(V2|3D|WithArgmax)?|Max")
# tf.gradients makes the gradient of NAME in a scope NAME_grad.
_GRADIENT_SCOPE = re.compile(r"(.+)_grad(_\d+)?")


class Suspect(NamedTuple):
    """An origin that has to be explained.

    Attributes:
      origin: the `Origin`.
      record: its record.
      node: its op.
      forward: the op of the loss whose gradient it is part of, or None if that is not known; `node`
        itself outside gradients.
      loss_is_bad: whether the loss is not finite because of it. If not, a gradient is.
    """

    origin: Origin
    record: TensorRecord
    node: Node
    forward: Optional[Node]
    loss_is_bad: bool

    @property
    def is_given(self) -> bool:
        """Tells whether it is data or a variable: computed from nothing."""
        return _is_given(self.node)


def suspects(evidence: Evidence) -> List[Suspect]:
    """Returns the origins that have to be explained, in the order of the computation.

    Where the loss is not finite, the gradient cannot be, so only origins of the loss count.
    """
    origins = evidence.origins
    loss = evidence.recording.loss
    is_bad = loss is not None and not np.all(np.isfinite(loss))
    if is_bad:
        origins = [origin for origin in origins if origin.in_loss] or origins
        origins = _before_pools(evidence, origins) or origins
    if evidence.hiding is not None:
        origins = [origin for origin in origins if not _is_hidden(evidence, origin)]
    return [_suspect(evidence, origin, is_bad) for origin in origins]


def operand(evidence: Evidence, suspect: Suspect, position: int) -> Optional[TensorRecord]:
    """Returns the record of an input of the suspect's op, or None if it is not known."""
    return evidence.input_at(suspect.record, position)


def operands(evidence: Evidence, suspect: Suspect) -> List[TensorRecord]:
    """Returns the records of all inputs of the suspect's op, as far as they are known."""
    found = [operand(evidence, suspect, position) for position in range(len(suspect.node.inputs))]
    return [record for record in found if record is not None]


def forward_operand(evidence: Evidence, suspect: Suspect, position: int) -> Optional[TensorRecord]:
    """Returns the record of an input of the op of the loss that the suspect belongs to."""
    if suspect.forward is None:
        return None
    records = evidence.recording.of(suspect.forward.name + ":0")
    return evidence.input_at(records[-1], position) if records else None


def line_of(evidence: Evidence, suspect: Suspect) -> Optional[str]:
    """Returns the line of the user's program that made the op, or that whose gradient it is."""
    node = suspect.node if suspect.forward is None else suspect.forward
    return evidence.program.line_of(node.name)


def _before_pools(evidence: Evidence, origins: List[Origin]) -> List[Origin]:
    """Returns the origins of NaN of which a max_pool has made -3.4e38, that overflows behind it."""
    pools = [
        record
        for record in evidence.recording.records
        if _POOLS.fullmatch(record.op_type)
        and not record.is_bad
        and any(read.nans for read in evidence.inputs_of(record))
    ]
    if not pools:
        return []
    wiring = evidence.program.wiring
    needed = wiring.ancestors([wiring.node_of(o.record.name).name for o in origins], effects=False)
    pools = [record for record in pools if wiring.node_of(record.name).name in needed]
    known = {id(record) for record in pools}
    others = [o for o in (*evidence.origins, *evidence.dropped) if not (o.in_gradient or o.in_loss)]
    return [origin for origin in others if _leads(evidence, origin, known)]


def _leads(evidence: Evidence, origin: Origin, known: Set[int]) -> bool:
    """Tells whether what is not finite at an origin is read by one of some records."""
    waiting, seen = [origin.record], set()
    while waiting:
        for reader in evidence.readers_of(waiting.pop()):
            if id(reader) in known:
                return True
            if reader.is_bad and id(reader) not in seen:
                seen.add(id(reader))
                waiting.append(reader)
    return False


def _is_hidden(evidence: Evidence, origin: Origin) -> bool:
    """Tells whether an origin is NaN that an op hides, and that no other cause explains better."""
    record = origin.record
    if origin.in_gradient or not record.nans or record.dtype == "float16":
        return False
    node = evidence.program.wiring.node_of(record.name)
    return not _is_given(node) and record.op_type not in _EXPLAINED


def _is_given(node: Node) -> bool:
    is_data = DATA.fullmatch(node.op_type) is not None
    return is_data or not node.inputs or node.op_type in VARIABLES


def _suspect(evidence: Evidence, origin: Origin, loss_is_bad: bool) -> Suspect:
    node = evidence.program.wiring.node_of(origin.record.name)
    forward: Optional[Node] = node
    if origin.in_gradient:
        forward = _forward(evidence, node)
    return Suspect(origin, origin.record, node, forward, loss_is_bad)


def _forward(evidence: Evidence, node: Node) -> Optional[Node]:
    """Returns the op of the loss that an op of the gradient belongs to, by its name; else None."""
    local = _local_name(node).split("/")
    for end in range(len(local) - 1, 0, -1):
        scope = _GRADIENT_SCOPE.fullmatch(local[end - 1])
        if scope is None:
            continue
        names = [*local[: end - 1], scope.group(1)]
        for start in range(len(names)):
            found = _needed_by_loss(evidence, "/".join(names[start:]))
            if found is not None:
                return found
    return None


def _needed_by_loss(evidence: Evidence, local_name: str) -> Optional[Node]:
    nodes = evidence.program.wiring.nodes
    known = nodes.get(local_name)
    # In a function the name stands behind the function's.
    found = [known] if known else [n for n in nodes.values() if _local_name(n) == local_name]
    return next((node for node in found if evidence.needed_by_loss(node.name)), None)


def _local_name(node: Node) -> str:
    return node.name[len(node.place) + 1 :] if node.place else node.name
