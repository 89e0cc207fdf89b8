"""Parameters that no longer change."""

from typing import Dict, List, Optional

from tf1xent.diagnostics.finding import Cause, Finding
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.problems import forgotten_averages, size_of
from tf1xent.diagnostics.judging.stillness import Reason, reasons


def _probe(evidence: Evidence) -> Optional[Finding]:
    problem = evidence.problem
    if problem is not None and problem.kind == "averages":
        return _of_averages(evidence)
    if problem is None or problem.kind != "still" or not evidence.program.updates:
        return None
    found = reasons(evidence) if evidence.step.is_training else {}
    if not found:
        return _of_updates_not_run(evidence)
    by_kind: Dict[str, List[str]] = {}
    for name, reason in found.items():
        by_kind.setdefault(reason.kind, []).append(name)
    sizes = {
        kind: sum(size_of(evidence.program, name) for name in names)
        for kind, names in by_kind.items()
    }
    kind = max(sizes, key=lambda k: sizes[k])
    names = by_kind[kind]
    return _finding(evidence, names, found[names[0]], {k: len(v) for k, v in by_kind.items()})


def _finding(
    evidence: Evidence, names: List[str], reason: Reason, kinds: Dict[str, int]
) -> Finding:
    program = evidence.program
    shown = ", ".join(f"`{name}`" for name in names[:4])
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    what = f"{shown}{more} do not change: {reason.text}."
    op = reason.op if reason.op is not None else evidence.op(names[0])
    history = evidence.history
    numbers = {
        "variables": names,
        "unchanged": max((history.unchanged.get(name, 0) for name in names), default=0),
        "kinds": kinds,
        **reason.numbers,
    }
    return Finding(
        STANDING_STILL.name,
        what,
        None if op is None else op.outputs[0].name,
        None if op is None else op.type,
        None if op is None else program.line_of(op.name),
        None,
        numbers,
        reason.remedy,
    )


def _of_updates_not_run(evidence: Evidence) -> Optional[Finding]:
    """The step, run again, changes the variables that did not change in the program's session."""
    unchanged, is_training = evidence.history.unchanged, evidence.step.is_training
    names = [name for name in evidence.program.trainable if unchanged.get(name, 0) > 0]
    if not names or (evidence.history.same_batch and is_training):
        return None
    reason = Reason(
        "not run",
        "run again, the step changes them, so the program does not run the optimizer's op"
        if is_training
        else "the step does not run the optimizer's op",
        "Fetch the train op in session.run.",
        None,
        {},
    )
    return _finding(evidence, names, reason, {reason.kind: len(names)})


def _of_averages(evidence: Evidence) -> Finding:
    names = forgotten_averages(evidence.program)
    op = evidence.program.graph.get_operation_by_name(names[0])
    return Finding(
        STANDING_STILL.name,
        f"The moving averages of batch normalization do not change: {len(names)} ops of UPDATE_OPS "
        "are not run, so evaluation uses the initial ones.",
        op.outputs[0].name if op.outputs else None,
        op.type,
        evidence.program.line_of(op.name),
        None,
        {"ops": names[:20]},
        "Make train_op under tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)).",
    )


STANDING_STILL = Cause(
    "parameters do not change",
    "Variables keep their values: no gradient, a gradient of 0, or updates that change nothing.",
    "Find what keeps the gradient from them: see the variables and the op that are named.",
    _probe,
)
