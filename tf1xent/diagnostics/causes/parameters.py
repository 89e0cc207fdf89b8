"""Parameters that were not finite before the step."""

from typing import Dict, List, Optional

import numpy as np

from tf1xent.diagnostics.finding import Cause, Finding
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.suspects import suspects
from tf1xent.diagnostics.judging.trials import with_step

_MOST_SHOWN = 20


def _probe(evidence: Evidence) -> Optional[Finding]:
    bad = _bad_variables(evidence)
    found = suspects(evidence)
    read = [s.node.name for s in found if s.node.name in bad]
    if found and not read and bad:
        return _behind_suspects(evidence, bad)
    if not found:  # loss and gradients are finite: what the updates read besides
        read = _read_by_updates(evidence, bad)
    return _finding(evidence, read[0], bad) if read else None


def _behind_suspects(evidence: Evidence, bad: Dict[str, int]) -> Optional[Finding]:
    """Looks for variables that are not finite, although an op on the way, as max_pool, hides it."""
    needed = [name for name in bad if evidence.needed_by_loss(name)]
    if not needed:
        return None
    finding = _finding(evidence, needed[0], bad)
    return finding if finding.trial is not None and finding.trial.helped else None


def _bad_variables(evidence: Evidence) -> Dict[str, int]:
    """Returns how many entries of the variables are not finite, by name; those that have some."""
    found = {}
    for name, value in evidence.step.variables.items():
        count = int((~_is_finite(value)).sum())
        if count:
            found[name] = count
    return found


def _read_by_updates(evidence: Evidence, bad: Dict[str, int]) -> List[str]:
    """Returns the bad variables that the updates of trainable ones read: optimizers' slots."""
    program = evidence.program
    found = [
        root
        for update in program.updates
        if update.variable in program.trainable
        for tensor in program.wiring.nodes[update.op.name].inputs
        for root in program.roots.of(tensor)
    ]
    return [name for name in dict.fromkeys(found) if name in bad]


def _finding(evidence: Evidence, name: str, bad: Dict[str, int]) -> Finding:
    variables = evidence.step.variables
    value = np.asarray(variables[name])
    others = f", and so do {len(bad) - 1} other variables" if len(bad) > 1 else ""
    what = (
        f"{bad[name]} of {value.size} entries of `{name}` were not finite before this step"
        f"{others}; {_since_when(evidence)}."
    )
    op = evidence.op(name)
    numbers = {
        "bad_entries": bad[name],
        "entries": value.size,
        "variables": {n: f"{bad[n]} of {np.size(variables[n])}" for n in list(bad)[:_MOST_SHOWN]},
        "variables_count": len(bad),
    }
    cured = {n: np.where(_is_finite(v), v, np.zeros_like(v)) for n, v in variables.items()}
    change = "0 in the place of what is not finite in the variables"
    trial = with_step(evidence, change, evidence.step._replace(variables=cured))
    op_type = None if op is None else str(op.type)
    line = evidence.program.line_of(name)
    remedy = PARAMETERS.remedy
    return Finding(PARAMETERS.name, what, name, op_type, line, None, numbers, remedy, trial)


def _is_finite(value: np.ndarray) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind == "V":
        return np.isfinite(array.astype(np.float32))
    return np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)


def _since_when(evidence: Evidence) -> str:
    if evidence.step.number == 0:
        return "no step was made before, so the initializer or the checkpoint made them so"
    if len(evidence.history.steps):
        return f"an update after step {int(evidence.history.steps[0])} made them so"
    return "an earlier update, the initializer or the checkpoint made them so"


PARAMETERS = Cause(
    "parameters not finite",
    "Variables held NaN or inf before the step.",
    "Go back to the last checkpoint whose variables are finite, and diagnose the step after it.",
    _probe,
)
