"""Data that are not finite."""

from typing import List, Optional, Tuple

import numpy as np

from tf1xent._typing import Tensor
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import batch_size, data_of, rows_in_words, without_rows
from tf1xent.diagnostics.judging.suspects import suspects
from tf1xent.diagnostics.judging.trials import with_step

_MOST_SHOWN = 20


def _probe(evidence: Evidence) -> Optional[Finding]:
    names = {suspect.record.name for suspect in suspects(evidence)}
    for tensor, value in data_of(evidence):
        if tensor.name in names:
            return _finding(evidence, tensor, _wide(value))
    for tensor in evidence.program.sources:
        if tensor.name in names:
            return _without_values(evidence, tensor)
    return _behind_suspects(evidence) if names else None


def _behind_suspects(evidence: Evidence) -> Optional[Finding]:
    """Looks for data that are not finite, although an op on the way, as max_pool, hides it."""
    for tensor, value in data_of(evidence):
        wide = _wide(value)
        if wide.dtype.kind in "fc" and not np.isfinite(wide).all():
            found = _finding(evidence, tensor, wide)
            if found.trial is not None and found.trial.helped:
                return found
    return None


def _wide(value: np.ndarray) -> np.ndarray:
    # NumPy knows bfloat16 only as a foreign type.
    return value.astype(np.float32) if value.dtype.kind not in "fc" else value


def _finding(evidence: Evidence, tensor: Tensor, value: np.ndarray) -> Finding:
    bad = np.argwhere(~np.isfinite(value))
    first = tuple(int(i) for i in bad[0])
    rows: List[int] = []
    if value.ndim and len(value) == batch_size(evidence):
        rows = sorted({int(index[0]) for index in bad})
    where = f" at {list(first)}" if first else ""
    what = (
        f"{len(bad)} of {value.size} entries of the data `{tensor.name}` are not finite"
        f"{', in ' + rows_in_words(rows) if rows else ''}: the first is {value[first]}{where}."
    )
    numbers = {
        "bad_entries": len(bad),
        "entries": value.size,
        "first": str(value[first]),
        "first_index": list(first),
        "bad_rows": rows[:_MOST_SHOWN],
        "bad_rows_count": len(rows),
    }
    line = evidence.program.line_of(tensor.name)
    row = rows[0] if rows else None
    trial = _trial(evidence, tensor, rows)
    return Finding(
        INPUTS.name, what, tensor.name, tensor.op.type, line, row, numbers, INPUTS.remedy, trial
    )


def _trial(evidence: Evidence, tensor: Tensor, rows: List[int]) -> Trial:
    replaced: Optional[Tuple] = without_rows(evidence, rows) if rows else None
    if replaced is not None:
        step, good = replaced
        return with_step(evidence, f"{rows_in_words(rows)} replaced by row {good}", step)
    feeds = dict(evidence.step.feeds)
    value = feeds[tensor.name]
    feeds[tensor.name] = np.where(np.isfinite(_wide(value)), value, np.zeros_like(value))
    change = f"0 in the place of what is not finite in `{tensor.name}`"
    return with_step(evidence, change, evidence.step._replace(feeds=feeds))


def _without_values(evidence: Evidence, tensor: Tensor) -> Finding:
    """Returns what the record alone says: the data came from an input pipeline."""
    record = next(r for r in evidence.recording.of(tensor.name) if r.is_bad)
    index = list(record.first_bad or ())
    what = (
        f"{record.nans} NaN and {record.infinities} infinite entries are in the data "
        f"`{tensor.name}`; the first is at {index}."
    )
    numbers = {"nans": record.nans, "infinities": record.infinities, "first_index": index}
    line = evidence.program.line_of(tensor.name)
    return Finding(
        INPUTS.name, what, tensor.name, tensor.op.type, line, None, numbers, INPUTS.remedy
    )


INPUTS = Cause(
    "inputs not finite",
    "The data of the step hold NaN or inf.",
    "Remove or replace these rows where the data are read.",
    _probe,
)
