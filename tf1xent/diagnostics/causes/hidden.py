"""NaN that an op turns into a number, so that the loss does not show it."""

from typing import List, NamedTuple, Optional

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.diagnostics.comparing import is_finite
from tf1xent.diagnostics.copies import gradient_names
from tf1xent.diagnostics.evidence import Evidence
from tf1xent.diagnostics.finding import Cause, Finding
from tf1xent.diagnostics.program import ancestors

# Grappler fuses them with the layer before, and the fused op may turn NaN into 0.
_FUSED = ("Relu", "Relu6", "Elu", "LeakyRelu")
_WHERE = ("Select", "SelectV2", "Where")


class _Hiding(NamedTuple):
    """An op that hides what is not finite.

    Attributes:
      output: its output, which is finite.
      read: its input, which is not.
      bad: how many entries of that are not finite.
      size: of how many.
      fused: whether it hides them only in a session with grappler.
    """

    output: Tensor
    read: Tensor
    bad: int
    size: int
    fused: bool


def _probe(evidence: Evidence) -> Optional[Finding]:
    problem = evidence.problem
    if problem is None or problem.kind not in ("gradient", "parameters"):
        return None
    hiding = _hiding(evidence)
    if hiding is None:
        return None
    op = hiding.output.op
    how = ", fused with its layer," if hiding.fused else ""
    what = (
        f"{hiding.bad} of {hiding.size} entries of `{hiding.read.name}` are not finite, and "
        f"`{op.name}` ({op.type}){how} makes numbers of them: the loss stays finite, and no check "
        "of the loss sees it."
    )
    remedy = HIDDEN.remedy
    if hiding.fused:
        remedy += " With rewrite_options.remapping off in the ConfigProto the loss shows it."
    bad = [n for n, v in evidence.step.variables.items() if not is_finite(v)]
    return Finding(
        HIDDEN.name,
        what,
        hiding.output.name,
        op.type,
        evidence.program.line_of(op.name),
        None,
        {
            "count": hiding.bad,
            "size": hiding.size,
            "fused": hiding.fused,
            "variables": bad[:20],
            "loss": evidence.own.together,
        },
        remedy,
    )


def _hiding(evidence: Evidence) -> Optional[_Hiding]:
    """Returns the first op of the loss that reads NaN or inf and gives numbers."""
    recording = evidence.recording
    ops = [op for op in ancestors([evidence.program.loss]) if op.inputs and op.outputs]
    for op in ops:
        output = op.outputs[0]
        made = recording.of(output.name)
        read = next((t for t in op.inputs if any(r.is_bad for r in recording.of(t.name))), None)
        if read is None or not made:
            continue
        if not any(record.is_bad for record in made):
            return _of(evidence, output, read, False)
    if recording.loss is None or is_finite(recording.loss):
        return None
    fused = [op.outputs[0] for op in ops if op.type in _FUSED]
    bad = [t for t in fused if any(r.is_bad for r in recording.of(t.name))]
    for tensor in bad:
        if _is_finite_in_own_run(evidence, tensor):
            return _of(evidence, tensor, tensor.op.inputs[0], True)
    return None


def _is_finite_in_own_run(evidence: Evidence, tensor: Tensor) -> bool:
    names: List[str] = [tensor.name, evidence.program.loss.name]
    names += gradient_names(evidence.program).values()
    try:
        return is_finite(evidence.copy.run(evidence.step, names)[0])
    except (tf.errors.OpError, ValueError):  # it cannot be fetched
        return False


def _of(evidence: Evidence, output: Tensor, read: Tensor, fused: bool) -> _Hiding:
    records = [record for record in evidence.recording.of(read.name) if record.is_bad]
    count = sum(record.nans + record.infinities for record in records)
    size = int(sum(np.prod(record.shape) for record in records))
    return _Hiding(output, read, count, size, fused)


HIDDEN = Cause(
    "NaN hidden",
    "An op turns NaN into numbers: the loss is finite while parameters or gradients are not.",
    "Find where the NaN comes from; watch gradients and parameters, not only the loss.",
    _probe,
)
