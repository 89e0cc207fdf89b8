"""Data that are not finite."""

from typing import Optional

import numpy as np

from tf1xent.diagnostics.evidence import Evidence
from tf1xent.diagnostics.finding import Cause, Finding


def _probe(evidence: Evidence) -> Optional[Finding]:
    for tensor in evidence.program.sources:
        value = evidence.step.feeds.get(tensor.name)
        if value is None or value.dtype.kind != "f" or np.isfinite(value).all():
            continue
        bad = np.argwhere(~np.isfinite(value))
        rows = sorted({int(index[0]) for index in bad}) if value.ndim else []
        first = tuple(int(i) for i in bad[0])
        what = (
            f"{len(bad)} of {value.size} entries of `{tensor.name}` are not finite; the first is "
            f"{value[first]} at {list(first)}."
        )
        numbers = {"count": len(bad), "first": list(first), "rows": rows[:20]}
        line = evidence.program.line_of(tensor.name)
        row = rows[0] if rows else None
        return Finding(
            INPUTS.name, what, tensor.name, tensor.op.type, line, row, numbers, INPUTS.remedy
        )
    return None


INPUTS = Cause(
    "inputs not finite",
    "A batch holds NaN or inf.",
    "Remove or replace these rows where the data are read.",
    _probe,
)
