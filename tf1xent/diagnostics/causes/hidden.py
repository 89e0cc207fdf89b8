"""NaN that an op turns into a number, so that the loss does not show it."""

from typing import Optional

from tf1xent.diagnostics.finding import Cause, Finding
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.replaying.comparing import is_finite


def _probe(evidence: Evidence) -> Optional[Finding]:
    hiding = evidence.hiding
    if hiding is None:
        return None
    op = hiding.output.op
    how = ", fused with its layer," if hiding.fused else ""
    what = (
        f"{hiding.nans} of {hiding.size} entries of `{hiding.read.name}` are NaN, and `{op.name}` "
        f"({op.type}){how} makes numbers of them: the loss stays finite, and no check of the loss "
        "sees it."
    )
    origin = next((o.record for o in evidence.origins if not o.in_gradient and o.record.nans), None)
    if origin is not None and origin.name != hiding.read.name:
        what += f" They come from `{origin.name}` ({origin.op_type})."
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
            "count": hiding.nans,
            "size": hiding.size,
            "fused": hiding.fused,
            "origin": None if origin is None else origin.name,
            "variables": bad[:20],
            "loss": evidence.own.together,
        },
        remedy,
    )


HIDDEN = Cause(
    "NaN hidden",
    "An op turns NaN into numbers: the loss is finite while parameters or gradients are not.",
    "Find where the NaN comes from; watch gradients and parameters, not only the loss.",
    _probe,
)
