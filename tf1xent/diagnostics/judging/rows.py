"""The row of the batch that an entry of a tensor comes from: guessed by shape, then proved.

A tensor need not have the batch on its first axis: there are [batch * time, classes] and
[time, batch, units]. So a guess counts only if the entry becomes finite once this row of the data
is a copy of another one.
"""

from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from tf1xent._typing import Tensor
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.replaying.recording import TensorRecord
from tf1xent.diagnostics.replaying.step import Step


def batch_size(evidence: Evidence) -> Optional[int]:
    """Returns the number of rows of the step's data, or None if they do not agree on one."""
    sizes = {len(value) for value in _batches(evidence).values()}
    return sizes.pop() if len(sizes) == 1 else None


def row_of(evidence: Evidence, record: TensorRecord) -> Optional[int]:
    """Returns the row of the batch by which the record's first bad entry is bad, or None."""
    size = batch_size(evidence)
    if size is None or size < 2 or record.first_bad is None:
        return None
    kept = evidence.replay.run(evidence.step, keep=[record.name]).kept.get(record.name, [])
    if len(kept) <= record.round or kept[record.round].shape != record.shape:
        return None
    rounds = [~np.isfinite(np.asarray(value).astype(np.float32)) for value in kept]
    guesses = list(_guesses(rounds[record.round], record.first_bad, size))
    if len(rounds) == size:  # a loop over the rows, or back over them
        by_round = np.array([bad.any() for bad in rounds])
        guesses += [(record.round, by_round), (size - 1 - record.round, by_round[::-1])]
    for row, by_row in guesses:
        good = np.flatnonzero(~by_row)
        if by_row[row] and len(good) and _proved(evidence, record, row, int(good[0])):
            return row
    return None


def data_of(evidence: Evidence) -> List[Tuple[Tensor, np.ndarray]]:
    """Returns the tensors that brought data into the step, and their values."""
    feeds = dict(evidence.step.feeds)
    found = [(t, feeds.pop(t.name)) for t in evidence.program.sources if t.name in feeds]
    fed = [(evidence.tensor(name), value) for name, value in feeds.items()]
    return found + [(tensor, value) for tensor, value in fed if tensor is not None]


def rows_in_words(rows: Sequence[int]) -> str:
    """Returns "row 3 of the batch", or the first of several rows."""
    shown = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown} of the batch"


def without_rows(evidence: Evidence, rows: Sequence[int]) -> Optional[Tuple[Step, int]]:
    """Returns the step with copies of a good row in the place of `rows`, and which; or None."""
    size = batch_size(evidence)
    good = [row for row in range(size or 0) if row not in set(rows)]
    if not good:
        return None
    return _with_copies(evidence, rows, good[0]), good[0]


def _batches(evidence: Evidence) -> Dict[str, np.ndarray]:
    """Returns the data that have an axis for the batch, which a static shape leaves open."""
    found = [(tensor, value) for tensor, value in data_of(evidence) if value.ndim]
    open_ones = [(tensor, value) for tensor, value in found if _is_open(tensor)]
    return {tensor.name: value for tensor, value in open_ones or found}


def _is_open(tensor: Tensor) -> bool:
    shape = tensor.shape
    return shape.ndims is None or (shape.ndims > 0 and shape.as_list()[0] is None)


def _guesses(
    bad: np.ndarray, index: Tuple[int, ...], size: int
) -> Iterator[Tuple[int, np.ndarray]]:
    """Yields rows that an entry may come from, and which rows have bad entries if it is so."""
    for axis, length in enumerate(bad.shape):
        if length == size:
            yield index[axis], _any_but(bad, axis)
    length = bad.shape[0] if bad.ndim else 0
    if length > size and length % size == 0:
        times = length // size
        yield index[0] // times, _any_but(bad.reshape((size, times, *bad.shape[1:])), 0)
        yield index[0] % size, _any_but(bad.reshape((times, size, *bad.shape[1:])), 1)


def _any_but(bad: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(np.moveaxis(bad, axis, 0).reshape(bad.shape[axis], -1).any(axis=1))


def _proved(evidence: Evidence, record: TensorRecord, row: int, other: int) -> bool:
    records = evidence.replay.run(_with_copies(evidence, [row], other)).of(record.name)
    if len(records) <= record.round:
        return False
    now = records[record.round]
    return now.nans + now.infinities < record.nans + record.infinities


def _with_copies(evidence: Evidence, rows: Sequence[int], other: int) -> Step:
    feeds = dict(evidence.step.feeds)
    for name, value in _batches(evidence).items():
        feeds[name] = np.array(value)
        feeds[name][list(rows)] = value[other]
    return evidence.step._replace(feeds=feeds)
