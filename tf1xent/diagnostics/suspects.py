"""Which origins have to be explained, and what stands around one of them."""

import re
from typing import Iterable, List, NamedTuple, Optional, Set

import numpy as np

from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.evidence import Evidence, Origin
from tf1xent.diagnostics.program import ancestors
from tf1xent.diagnostics.recording import TensorRecord

# Ops that hand on what they read, and are not probed.
_HANDS_ON = ("Enter", "RefEnter", "NextIteration", "RefNextIteration", "Switch", "RefSwitch")
# Where the program itself asks whether all is finite, and ends the run.
_CHECKS = ("CheckNumerics", "CheckNumericsV2", "Assert")
# tf.gradients makes the gradient of NAME in a scope NAME_grad.
_GRADIENT_SCOPE = re.compile(r"(.+)_grad(_\d+)?")


class Suspect(NamedTuple):
    """An origin that has to be explained.

    Attributes:
      origin: the `Origin`.
      record: its record.
      op: its op; None inside a function.
      forward: the op whose gradient it is part of; `op` itself outside gradients.
      loss_is_bad: whether the loss is not finite because of it. If not, a gradient is.
    """

    origin: Origin
    record: TensorRecord
    op: Optional[Operation]
    forward: Optional[Operation]
    loss_is_bad: bool

    @property
    def op_type(self) -> str:
        """The type of the op in the loss that it belongs to."""
        return self.record.op_type if self.forward is None else str(self.forward.type)


def suspects(evidence: Evidence) -> List[Suspect]:
    """Returns the origins that have to be explained, in the order of the computation.

    Where the loss is not finite, the gradient cannot be, so only origins of the loss count.
    """
    recording = evidence.recording
    if recording.loss is None:
        return [_suspect(evidence, o, True) for o in _refused(evidence)]
    origins = evidence.origins
    is_bad = not np.all(np.isfinite(recording.loss))
    if is_bad:
        bad = _bad_on_the_way(evidence, [evidence.program.loss])
        of_loss = [o for o in origins if o.record.name in bad]
        origins = of_loss or [o for o in origins if not o.in_gradient] or origins
    return [_suspect(evidence, origin, is_bad) for origin in origins]


def operand(evidence: Evidence, suspect: Suspect, position: int) -> Optional[TensorRecord]:
    """Returns the record of an input of the suspect's op, of the same round; None if unknown."""
    if suspect.op is None:
        inputs = [record for record in suspect.origin.inputs if record is not None]
        return inputs[position] if position < len(inputs) else None
    return input_record(evidence, suspect.op, position, suspect.record.round)


def input_record(
    evidence: Evidence, op: Optional[Operation], position: int, number: int = 0
) -> Optional[TensorRecord]:
    """Returns the record of an input of an op, in a round of a loop; None if there is none."""
    if op is None or position >= len(op.inputs):
        return None
    records = evidence.recording.of(probed(op.inputs[position]).name)
    return records[min(number, len(records) - 1)] if records else None


def probed(tensor: Tensor) -> Tensor:
    """Returns the tensor whose value another hands on, which is the one with a probe."""
    while tensor.op.type in _HANDS_ON:
        tensor = tensor.op.inputs[0]
    return tensor


def line_of(evidence: Evidence, suspect: Suspect) -> Optional[str]:
    """Returns the line of the user's program that made the op, or that whose gradient it is."""
    name = suspect.record.name if suspect.forward is None else suspect.forward.name
    return evidence.program.line_of(name)


def forward_op(evidence: Evidence, op: Operation) -> Optional[Operation]:
    """Returns the op of the loss that an op of the gradient belongs to, by its name; else None."""
    parts = op.name.split("/")
    for end in range(len(parts) - 1, 0, -1):
        scope = _GRADIENT_SCOPE.fullmatch(parts[end - 1])
        if scope is None:
            continue
        names = [*parts[: end - 1], scope.group(1)]
        for start in range(len(names)):
            found = evidence.op("/".join(names[start:]))
            if found is not None and evidence.needed_by_loss(found.name):
                return found
    return None


def readers(op: Operation) -> Iterable[Operation]:
    """Yields the ops that read what an op computes."""
    for tensor in op.outputs:
        yield from tensor.consumers()


def _suspect(evidence: Evidence, origin: Origin, loss_is_bad: bool) -> Suspect:
    op = evidence.op(origin.record.name)
    forward = op
    if op is not None and origin.in_gradient:
        forward = forward_op(evidence, op)
    return Suspect(origin, origin.record, op, forward, loss_is_bad)


def _refused(evidence: Evidence) -> List[Origin]:
    """Returns the origins of what made the program's own check end the run."""
    checked = [
        tensor
        for op in evidence.program.graph.get_operations()
        if op.type in _CHECKS
        for tensor in op.inputs
    ]
    # An assertion reads conditions: what those are computed from.
    needed: Set[str] = {op.name for op in ancestors(checked)} if checked else set()
    found = [*evidence.origins, *evidence.dropped]
    return [origin for origin in found if origin.record.name.split(":")[0] in needed]


def _bad_on_the_way(evidence: Evidence, targets: List[Tensor]) -> Set[str]:
    """Returns the tensors by which the targets are not finite."""
    bad = evidence.recording.bad()
    waiting = [probed(tensor) for tensor in targets]
    found: Set[str] = set()
    while waiting:
        tensor = waiting.pop()
        if tensor.name in found or tensor.name not in bad:
            continue
        found.add(tensor.name)
        waiting += [probed(x) for x in tensor.op.inputs]
    return found
