"""Derivatives that are infinite, or 0 * inf, at a point where the function itself is finite."""

from typing import Dict, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.causes.singular_points import POINTS, holds_singular, kept_away
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import row_of
from tf1xent.diagnostics.judging.suspects import (
    Suspect,
    forward_operand,
    line_of,
    operand,
    suspects,
)
from tf1xent.diagnostics.judging.trials import held_at, with_values
from tf1xent.diagnostics.program.wiring import Node
from tf1xent.diagnostics.replaying.recording import TensorRecord

# Ops of gradients that divide by an input: which one.
_DIVISORS: Dict[str, int] = {
    "SqrtGrad": 0,
    "Reciprocal": 0,
    "Inv": 0,
    "Rsqrt": 0,
    "Log": 0,
    "RealDiv": 1,
    "Div": 1,
    "Xdivy": 1,
    "Pow": 0,
}
# What takes one of two values, and the other's gradient times 0.
_CHOOSES = ("Select", "SelectV2", "Minimum", "Maximum", "MulNoNan", "ClipByValue", "Merge")
_DOUBLE_WHERE = (
    "Give the function a harmless input where its result is dropped: "
    "tf.where(ok, f(tf.where(ok, x, tf.ones_like(x))), zeros)."
)


def _probe(evidence: Evidence) -> Optional[Finding]:
    for suspect in suspects(evidence):
        if suspect.loss_is_bad:
            continue
        if not suspect.origin.in_gradient:
            finding = _of_dropped(evidence, suspect)
        else:
            finding = _of_divisor(evidence, suspect)
        if finding is not None:
            return finding
    return None


def _of_divisor(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Explains an op of the gradient that divides by 0."""
    found = singular_input(evidence, suspect)
    if found is None:
        return None
    read, forward = found, suspect.forward
    dropped = forward is not None and _value_is_dropped(evidence, forward)
    of = f"`{suspect.record.name}`" if forward is None else f"`{forward.name}` ({forward.op_type})"
    what = (
        f"The derivative of {of} does not exist at a value that `{read.name}` has in this step "
        f"({_singular_value(forward, read):.6g}): the loss is finite, its gradient is not."
    )
    if dropped:
        what += " A branch that is dropped, as by tf.where, has a gradient too: 0 * inf = NaN."
    trial = None if forward is None else kept_away(evidence, forward.op_type, read)
    if trial is None or not trial.helped:
        trial = _divisor_held(evidence, suspect) or trial
    return _finding(evidence, suspect, what, read, _remedy(forward, dropped), trial)


def singular_input(evidence: Evidence, suspect: Suspect) -> Optional[TensorRecord]:
    """Returns the record of the input at which the derivative does not exist, or None."""
    forward = suspect.forward
    point = None if forward is None else POINTS.get(forward.op_type)
    # x ** 2 has a derivative at 0: its gradient is no power of 0.
    if point is not None and forward is not None and forward.op_type != "Pow":
        read = forward_operand(evidence, suspect, point.operand)
        if read is not None and holds_singular(point, read):
            return read
    position = _DIVISORS.get(suspect.record.op_type)
    read = None if position is None else operand(evidence, suspect, position)
    return read if read is not None and _holds_zero(read) else None


def _singular_value(forward: Optional[Node], read: TensorRecord) -> float:
    point = None if forward is None else POINTS.get(forward.op_type)
    if point is None:
        return 0.0
    values = [0.0] if read.zeros else []
    values += [read.smallest, read.largest]
    return next(v for v in values if point.is_singular(np.array(v, np.float32)))


def _holds_zero(read: TensorRecord) -> bool:
    return bool(read.zeros or 0 <= read.smallest < np.finfo(np.float32).tiny)


def _divisor_held(evidence: Evidence, suspect: Suspect) -> Optional[Trial]:
    position = _DIVISORS.get(suspect.record.op_type)
    read = None if position is None else operand(evidence, suspect, position)
    if read is None:
        return None
    name = read.name
    cure = {name: lambda value: np.where(value == 0, np.ones_like(value), value)}
    return with_values(evidence, f"`{name}` is 1 where it was 0", cure)


def _of_dropped(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Explains an op of the loss whose value is not finite, and is dropped on the way to it."""
    record = suspect.record
    if suspect.is_given or not is_dropped(evidence, record):
        return None
    read = _largest_input(evidence, suspect)
    what = (
        f"`{record.name}` ({record.op_type}) is not finite, in {record.nans + record.infinities} "
        f"entries, in a branch that is dropped: the loss is finite, but the gradient of what is "
        f"dropped is 0 * inf = NaN."
    )
    trial = kept_away(evidence, record.op_type, read) or _exponent_held(evidence, suspect, read)
    return _finding(evidence, suspect, what, read, _DOUBLE_WHERE, trial)


def _value_is_dropped(evidence: Evidence, node: Node) -> bool:
    records = evidence.recording.of(node.name + ":0")
    return any(record.is_bad and is_dropped(evidence, record) for record in records)


def is_dropped(evidence: Evidence, record: TensorRecord) -> bool:
    """Tells whether an op that chooses drops what is not finite in a value of the loss."""
    waiting, seen = [record], set()
    while waiting:
        for reader in evidence.readers_of(waiting.pop()):
            if id(reader) in seen or not evidence.needed_by_loss(reader.name):
                continue
            seen.add(id(reader))
            if reader.is_bad:
                waiting.append(reader)
            elif reader.op_type in _CHOOSES:
                return True
    return False


def _largest_input(evidence: Evidence, suspect: Suspect) -> Optional[TensorRecord]:
    point = POINTS.get(suspect.record.op_type)
    return operand(evidence, suspect, 0 if point is None else point.operand)


def _exponent_held(
    evidence: Evidence, suspect: Suspect, read: Optional[TensorRecord]
) -> Optional[Trial]:
    if read is None or suspect.record.op_type not in ("Exp", "Expm1", "Cosh", "Sinh"):
        return None
    return with_values(evidence, f"`{read.name}` is held at 80", {read.name: held_at(80)})


def _remedy(forward: Optional[Node], dropped: bool) -> str:
    if dropped:
        return _DOUBLE_WHERE
    point = None if forward is None else POINTS.get(forward.op_type)
    if forward is not None and forward.op_type in ("Log", "Xlogy"):
        return "Keep the logarithm's input above 0: tf.log(tf.maximum(p, 1e-12))."
    return SINGULAR_GRADIENT.remedy if point is None else point.remedy


def _finding(
    evidence: Evidence,
    suspect: Suspect,
    what: str,
    read: Optional[TensorRecord],
    remedy: str,
    trial: Optional[Trial],
) -> Finding:
    record, numbers = suspect.record, _numbers(suspect.record, read)
    line, row = line_of(evidence, suspect), row_of(evidence, record)
    name = SINGULAR_GRADIENT.name
    return Finding(name, what, record.name, record.op_type, line, row, numbers, remedy, trial)


def _numbers(record: TensorRecord, read: Optional[TensorRecord]) -> Dict[str, float]:
    pairs: Tuple[Tuple[str, float], ...] = (
        ("nans", record.nans),
        ("infinities", record.infinities),
    )
    numbers: Dict[str, float] = dict(pairs)
    if read is not None:
        numbers.update(zeros=read.zeros, smallest=read.smallest, largest=read.largest)
    return numbers


SINGULAR_GRADIENT = Cause(
    "singular gradient",
    "The loss is finite, but a derivative does not exist at a value that it takes.",
    "Move the function's input off the point where its derivative is infinite.",
    _probe,
)
