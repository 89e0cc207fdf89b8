"""Numbers that float16 does not have: above 65504, or so small that they are 0 there."""

from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from tf1xent import _tf
from tf1xent.diagnostics.causes.singular_points import POINTS, singular_operand
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import row_of
from tf1xent.diagnostics.judging.suspects import Suspect, line_of, operands, suspects
from tf1xent.diagnostics.judging.trials import in_float32, with_values
from tf1xent.diagnostics.program.updating import Update
from tf1xent.diagnostics.replaying.recording import Recording, TensorRecord
from tf1xent.diagnostics.replaying.replay import Replay

_HALF = "float16"
_LARGEST = 65504.0
# log, 1/x and 1/sqrt(x) of it are numbers of float16.
_EPSILON = 1e-4
_MOST_SHOWN = 20
_ADDS = ("Add", "AddV2", "Sub", "Maximum", "Minimum")
# What passes a constant on, with its value.
_PASSES = ("Cast", "Identity", "Reshape", "ExpandDims", "BroadcastTo", "Fill")


class Vanished(NamedTuple):
    """A constant that lost its meaning in float16.

    Attributes:
      tensor: the name of what the program's operation reads.
      meant: the value before it became float16, or None if it was lost when the graph was built.
      is_now: its value in float16.
    """

    tensor: str
    meant: Optional[float]
    is_now: float


def _probe(evidence: Evidence) -> Optional[Finding]:
    if not any(record.dtype == _HALF for record in evidence.recording.records):
        return None
    found = suspects(evidence)
    for suspect in found:
        finding = _of_epsilon(evidence, suspect)
        if finding is not None:
            return finding
    of_half = [suspect for suspect in found if _comes_from_half(evidence, suspect)]
    if of_half:
        return _of_range(evidence, of_half[0])
    return None if found else _of_update(evidence) or _of_underflow(evidence)


def _of_epsilon(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Looks for the epsilon that should have kept the suspect's input off its singular point."""
    node = suspect.forward
    point = None if node is None else POINTS.get(node.op_type)
    if node is None or point is None:
        return None
    lost = _vanished(evidence, node.inputs[point.operand])
    if lost is None:
        return None
    name = lost.tensor
    was = "A constant" if lost.meant is None else f"The constant {lost.meant:g}"
    what = (
        f"{was} (`{name}`) is {lost.is_now:g} in float16, so it does not keep the input of "
        f"`{node.name}` away from 0: the least number that float16 tells from 0 is 6e-08, and "
        f"from 1 it tells none that is nearer than 0.0005."
    )
    better = _EPSILON if lost.is_now == 0 else 1 - 1e-3
    trial = with_values(
        evidence,
        f"`{name}` is {better:g}",
        {name: lambda value: np.full_like(value, better)},
    )
    numbers = {"epsilon": lost.meant, "epsilon_in_float16": lost.is_now, "tried": better}
    remedy = f"Take an epsilon that float16 has, such as {_EPSILON:g}, or compute this in float32."
    return _finding(evidence, suspect, what, numbers, remedy, trial)


def _vanished(evidence: Evidence, tensor: str, depth: int = 4) -> Optional[Vanished]:
    """Looks among what is added to a tensor, or bounds it, for a constant that became 0 or 1."""
    wiring = evidence.program.wiring
    node = wiring.node_of(tensor)
    if depth == 0:
        return None
    if node.op_type in _ADDS and wiring.dtype_of(tensor).name == _HALF:
        for read in node.inputs:
            found = _constant(evidence, read, 1.0 if node.op_type == "Minimum" else 0.0)
            if found is not None:
                return found
    for read in node.inputs:
        if wiring.dtype_of(read).is_floating:
            found = _vanished(evidence, read, depth - 1)
            if found is not None:
                return found
    return None


def _constant(evidence: Evidence, tensor: str, wanted: float) -> Optional[Vanished]:
    records = evidence.recording.of(tensor)
    if not records or not records[0].smallest == records[0].largest == wanted:
        return None
    record: Optional[TensorRecord] = records[0]
    while record is not None and record.op_type in _PASSES:
        record = evidence.input_at(record, 1 if record.op_type == "Fill" else 0)
        if record is not None and record.dtype != _HALF:
            is_lost = record.op_type == "Const" and record.largest != wanted
            return Vanished(tensor, record.largest, wanted) if is_lost else None
    is_constant = record is not None and record.op_type == "Const"
    return Vanished(tensor, None, wanted) if is_constant else None


def _of_range(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Asks whether the step is right once all of it is float32."""
    tried = in_float32(evidence)
    if tried is None or not tried[0].helped:
        return None
    record = suspect.record
    reads = operands(evidence, suspect)
    largest = max((_magnitude(r) for r in reads), default=None)
    of_zero = singular_operand(evidence, suspect) is not None
    if record.infinities and record.dtype == _HALF and not of_zero:
        why = f"is above {_LARGEST:g}, the largest number of float16"
    else:
        why = "needs numbers that are 0 in float16"
    what = (
        f"`{record.name}` is not finite: what `{record.op_type}` computes here {why}. The same "
        f"step in float32 is finite."
    )
    numbers = {
        "infinities": record.infinities,
        "nans": record.nans,
        "largest_of_inputs": largest,
        "largest_of_float16": _LARGEST,
    }
    return _finding(evidence, suspect, what, numbers, HALF_PRECISION.remedy, tried[0])


def _comes_from_half(evidence: Evidence, suspect: Suspect) -> bool:
    if suspect.record.dtype == _HALF:
        return True
    wiring = evidence.program.wiring
    nodes = wiring.ancestors([suspect.node.name], effects=False)
    return any(d.name == _HALF for name in nodes for d in wiring.nodes[name].dtypes)


def _magnitude(record: TensorRecord) -> float:
    return max(abs(record.smallest), abs(record.largest))


def _of_update(evidence: Evidence) -> Optional[Finding]:
    """Looks for an optimizer whose epsilon is 0, so that its update divides by 0."""
    epsilons = [(u, _epsilon_of(evidence, u)) for u in evidence.program.updates]
    if all(epsilon is None for _, epsilon in epsilons):
        return None
    recording = evidence.replay.run(evidence.step, update=True)
    bad = _bad_variables(recording)
    for update, epsilon in epsilons:
        if epsilon is not None and update.variable in bad and _is_zero(recording, epsilon):
            return _of_optimizer(evidence, update, epsilon, bad)
    return None


def _epsilon_of(evidence: Evidence, update: Update) -> Optional[str]:
    """Returns the name of the epsilon that an optimizer's op reads in float16, or None."""
    wiring = evidence.program.wiring
    node = wiring.nodes[update.op.name]
    definition = _tf.op_definition(node.op_type)
    names = [] if definition is None else [a.name for a in definition.input_arg]
    name = dict(zip(names, node.inputs)).get("epsilon")
    return name if name is not None and wiring.dtype_of(name).name == _HALF else None


def _of_optimizer(evidence: Evidence, update: Update, epsilon: str, bad: List[str]) -> Finding:
    change = f"`{epsilon}` is {_EPSILON:g}"
    with Replay(evidence.program, {epsilon: lambda v: np.full_like(v, _EPSILON)}) as replay:
        after = _bad_variables(replay.run(evidence.step, update=True))
    shown = "{} variables are not finite after the update"
    trial = Trial(change, shown.format(len(bad)), shown.format(len(after)), not after)
    op_type = update.op.type
    what = (
        f"The epsilon of `{update.op.name}` ({op_type}) is 0 in float16: where the squares of the "
        f"gradients are 0 there too, the update of `{update.variable}` divides by 0. Loss and "
        f"gradients are finite, {len(bad)} variables are not after the update."
    )
    line = evidence.program.line_of(update.op.name)
    remedy = f"Give the optimizer an epsilon that float16 has, such as {_EPSILON:g}."
    numbers = {"epsilon_in_float16": 0.0, "variables": bad[:_MOST_SHOWN]}
    name = HALF_PRECISION.name
    return Finding(name, what, epsilon, op_type, line, None, numbers, remedy, trial)


def _bad_variables(recording: Recording) -> List[str]:
    """Returns the variables that are not finite after a run that has updated them."""
    values = {name: np.asarray(value) for name, value in recording.variables.items()}
    return [n for n, v in values.items() if v.dtype.kind == "f" and not np.isfinite(v).all()]


def _of_underflow(evidence: Evidence) -> Optional[Finding]:
    """Looks for a gradient that is 0 in float16, all of it, and is not in float32."""
    updates = [(u.variable, u.gradient_name) for u in evidence.program.updates]
    zero = [(v, g) for v, g in updates if g is not None and _is_zero(evidence.recording, g)]
    if not zero or evidence.recording.loss is None:
        return None
    tried = in_float32(evidence)
    if tried is None:
        return None
    for variable, gradient in zero:
        records = tried[1].of(gradient)
        if not records or records[0].zeros == np.prod(records[0].shape) or records[0].is_bad:
            continue
        name, now = gradient, _magnitude(records[0])
        what = (
            f"The gradient of `{variable}` is 0 in float16, and up to {now:.3g} in float32: "
            f"on its way are numbers below 6e-08, which are 0 in float16."
        )
        trial = Trial(tried[0].change, "the gradient is 0", f"it is up to {now:.3g}", True)
        line = evidence.program.line_of(variable)
        remedy = "Multiply the loss by a constant such as 1024 and divide the gradients by it."
        numbers = {"largest_in_float32": now, "variable": variable}
        op_type = records[0].op_type
        name_of_cause = HALF_PRECISION.name
        return Finding(name_of_cause, what, name, op_type, line, None, numbers, remedy, trial)
    return None


def _is_zero(recording: Recording, name: str) -> bool:
    records = recording.of(name)
    return bool(records) and all(r.zeros == np.prod(r.shape) and r.zeros > 0 for r in records)


def _finding(
    evidence: Evidence,
    suspect: Suspect,
    what: str,
    numbers: Dict[str, Any],
    remedy: str,
    trial: Optional[Trial],
) -> Finding:
    record = suspect.record
    line, row = line_of(evidence, suspect), row_of(evidence, record)
    name = HALF_PRECISION.name
    return Finding(name, what, record.name, record.op_type, line, row, numbers, remedy, trial)


HALF_PRECISION = Cause(
    "half precision",
    "A number is above 65504, or so small that it is 0: float16 does not have it.",
    "Compute this in float32, or in bfloat16, which has the range of float32.",
    _probe,
)
