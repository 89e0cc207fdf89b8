"""Labels that name no class, or that are not what the loss takes for labels."""

import re
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from tf1xent._typing import Tensor
from tf1xent.diagnostics.causes.label_readers import (
    BINARY,
    INDICES,
    ONE_HOT,
    PROBABILITIES,
    Reader,
    entries_behind,
    label_readers,
    passed_on,
)
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import batch_size, data_of, rows_in_words, without_rows
from tf1xent.diagnostics.judging.suspects import suspects
from tf1xent.diagnostics.judging.trials import outcome, with_step

# What TensorFlow and tf1xent say of an index that is out of range.
_ERRORS = (
    re.compile(r"label value of (?P<value>-?\d+) .*valid range of \[0, (?P<classes>\d+)\)"),
    re.compile(r"indices\S* = (?P<value>-?\d+) is not in \[0, (?P<classes>\d+)\)"),
    re.compile(r"= \[(?P<index>[-\d, ]+)\] does not index into.* shape \[(?P<shape>[\d,]+)\]"),
    re.compile(r"`labels` must be in \[0, num_classes\).*\[(?P<classes>\d+)\]"),
)
# Labels by which programs mark rows that are to be left out.
_IGNORED = 255
_MOST_SHOWN = 20


class Data(NamedTuple):
    """Where wrong labels stand in the step's data.

    Attributes:
      tensor: the source that brings them in.
      is_bad: which of its entries are wrong.
    """

    tensor: Tensor
    is_bad: np.ndarray


def _probe(evidence: Evidence) -> Optional[Finding]:
    error = evidence.recording.error or evidence.step.error
    if error is not None:
        return _of_error(evidence, error)
    found = label_readers(evidence)
    loss = np.asarray(evidence.recording.loss)
    explain = [_of_unbounded] if not np.all(loss >= 0) or not np.isfinite(loss).all() else []
    if suspects(evidence):
        explain += [_of_fatal_one_hot]
    else:
        explain += [_of_one_hot, _of_fractions, _of_sums]
    for reader in found:
        for function in explain:
            finding = function(evidence, reader)
            if finding is not None:
                return finding
    return None


def _of_error(evidence: Evidence, error: str) -> Optional[Finding]:
    """Explains a run that ends with the error that an index is out of range."""
    value, classes = _parsed(error)
    if classes is None:
        return None
    readers = [r for r in label_readers(evidence) if r.kind in (INDICES, ONE_HOT)]
    data = _data_out_of_range(evidence, readers, value, classes)
    what = _outside(value, classes)
    op = readers[0].op if readers else None
    return _finding(evidence, what, op, data, {"label": value, "num_classes": classes})


def finding_of_message(error: str) -> Optional[Finding]:
    """Returns what an error alone says, where the data of the step are lost."""
    value, classes = _parsed(error)
    if classes is None:
        return None
    numbers = {"label": value, "num_classes": classes}
    what = _outside(value, classes)
    return Finding(LABELS.name, what, None, None, None, None, numbers, LABELS.remedy)


def _outside(value: Optional[int], classes: int) -> str:
    shown = "A label" if value is None else f"The label {value}"
    return (
        f"{shown} is outside [0, {classes}): the run ends with an error on a CPU, with NaN on a "
        "GPU."
    )


def _parsed(error: str) -> Any:
    """Returns the index that an error names, or None, and the number of classes, or None."""
    for pattern in _ERRORS:
        match = pattern.search(error)
        if match is None:
            continue
        groups = match.groupdict()
        if "index" in groups:
            index = [int(part) for part in groups["index"].split(",")]
            shape = [int(part) for part in groups["shape"].split(",")]
            wrong = [(i, n) for i, n in zip(index, shape) if not 0 <= i < n]
            return wrong[0] if wrong else (None, None)
        value = groups.get("value")
        return None if value is None else int(value), int(groups["classes"])
    return None, None


def _data_out_of_range(
    evidence: Evidence, readers: List[Reader], value: Optional[int], classes: int
) -> Optional[Data]:
    """Returns the data that hold the wrong label: first those that the readers read."""
    behind = {name for reader in readers for name in entries_behind(reader.labels)}
    data = sorted(data_of(evidence), key=lambda pair: pair[0].name not in behind)
    for tensor, found in data:
        if found.dtype.kind not in "iuf" or not found.size:
            continue
        if found.dtype.kind == "f" and tensor.name not in behind:
            continue
        is_bad = (found < 0) | (found >= classes)
        if is_bad.any() and (value is None or (found == value).any()):
            return Data(tensor, is_bad)
    return None


def _of_one_hot(evidence: Evidence, reader: Reader) -> Optional[Finding]:
    """Looks for indices outside tf.one_hot's depth, whose rows are zeros without an error."""
    outside = _outside_depth(evidence, reader)
    if outside is None:
        return None
    # By hand, a row of zeros has no loss and no gradient: that may be meant.
    is_marked = bool(((outside.labels < 0) | (outside.labels == _IGNORED)).all())
    if is_marked and not reader.is_stock or not _counts(evidence, outside.data):
        return None
    they_have = "they have no loss, but a gradient" if reader.is_stock else "they teach nothing"
    found = _of_outside(evidence, reader, outside, they_have)
    # The loss was finite before; what shows is that these rows have a loss now.
    gone = found.trial is not None and outcome(evidence, evidence.recording).is_fine
    return found._replace(trial=found.trial._replace(helped=gone)) if found.trial else found


def _of_fatal_one_hot(evidence: Evidence, reader: Reader) -> Optional[Finding]:
    """Looks for such indices, if the step is finite with others: the log of a sum of none."""
    outside = _outside_depth(evidence, reader)
    if outside is None:
        return None
    feeds = _with_zeros(evidence, outside.data)
    again = evidence.replay.run(evidence.step._replace(feeds=feeds))
    if not outcome(evidence, again).is_fine:
        return None
    return _of_outside(evidence, reader, outside, "the loss is not finite there")


class _Outside(NamedTuple):
    """Labels outside the depth of a tf.one_hot.

    Attributes:
      labels: their values.
      depth: the number of classes.
      size: of how many labels they are.
      data: where they come from.
    """

    labels: np.ndarray
    depth: int
    size: int
    data: Data


def _outside_depth(evidence: Evidence, reader: Reader) -> Optional[_Outside]:
    if reader.kind != ONE_HOT:
        return None
    got = evidence.replay.values(evidence.step, [reader.labels.name, reader.op.inputs[1].name])
    if got is None:
        return None
    indices, depth = np.asarray(got[0]), int(got[1])
    is_bad = (indices < 0) | (indices >= depth)
    data = _data_like(evidence, reader, is_bad) if is_bad.any() else None
    return None if data is None else _Outside(indices[is_bad].ravel(), depth, indices.size, data)


def _of_outside(evidence: Evidence, reader: Reader, outside: _Outside, so: str) -> Finding:
    first, count = int(outside.labels[0]), len(outside.labels)
    what = (
        f"{count} of {outside.size} labels are outside [0, {outside.depth}), the first is {first}: "
        f"tf.one_hot makes rows of zeros of them, without an error, and {so}."
    )
    numbers = {"label": first, "num_classes": outside.depth, "count": count}
    return _finding(evidence, what, reader.op, outside.data, numbers)


def _data_like(evidence: Evidence, reader: Reader, is_bad: np.ndarray) -> Optional[Data]:
    """Returns the data of which the reader's labels are made, entry by entry."""
    behind = entries_behind(reader.labels)
    for tensor, value in data_of(evidence):
        if tensor.name in behind and value.size == is_bad.size:
            return Data(tensor, is_bad.reshape(value.shape))
    return None


def _counts(evidence: Evidence, data: Data) -> bool:
    """Tells whether the loss is another one with other labels there: they are not masked."""
    feeds = _with_zeros(evidence, data)
    loss = evidence.replay.run(evidence.step._replace(feeds=feeds)).loss
    before = evidence.recording.loss
    if loss is None or before is None:
        return True
    return not np.allclose(loss, before, rtol=1e-6, atol=1e-9)


def _of_fractions(evidence: Evidence, reader: Reader) -> Optional[Finding]:
    """Looks for labels that are cut off to integers."""
    if reader.kind not in (INDICES, ONE_HOT):
        return None
    behind = entries_behind(reader.labels)
    for tensor, value in data_of(evidence):
        if tensor.name not in behind or value.dtype.kind != "f":
            continue
        if tensor.dtype.is_floating and not _is_cast(reader, tensor):
            continue
        is_bad = value != np.floor(value)
        if not is_bad.any():
            continue
        first = value[is_bad].ravel()[0]
        what = (
            f"{int(is_bad.sum())} of {value.size} labels in `{tensor.name}` are no integers, the "
            f"first is {first:.6g}: they are cut off to integers without an error."
        )
        numbers = {"label": float(first), "count": int(is_bad.sum()), "dtype": value.dtype.name}
        data = Data(tensor, is_bad)
        return _finding(evidence, what, reader.op, data, numbers, tried=False)
    return None


def _is_cast(reader: Reader, tensor: Tensor) -> bool:
    """Tells whether a source's own entries are cast to labels: not what is computed of them."""
    graph = tensor.graph
    behind = [graph.get_tensor_by_name(name) for name in entries_behind(reader.labels)]
    casts = [read.op for read in behind if read.op.type == "Cast"]
    return any(tensor.name == read.name for op in casts for read in passed_on(op.inputs[0]))


def _of_unbounded(evidence: Evidence, reader: Reader) -> Optional[Finding]:
    """Looks for labels with which a cross-entropy has no least value."""
    if reader.kind not in (PROBABILITIES, BINARY):
        return None
    got = evidence.replay.values(evidence.step, [reader.labels.name])
    if got is None or not np.size(got[0]):
        return None
    labels = np.asarray(got[0], np.float64)
    is_bad = labels < 0 if reader.kind == PROBABILITIES else (labels < 0) | (labels > 1)
    if not is_bad.any():
        return None
    wanted = "at least 0" if reader.kind == PROBABILITIES else "in [0, 1]"
    first = labels[is_bad].ravel()[0]
    what = (
        f"{int(is_bad.sum())} of {labels.size} labels are not {wanted}, the first is {first:.6g}: "
        f"with such labels the loss has no least value, and falls without end."
    )
    numbers = {"label": float(first), "count": int(is_bad.sum())}
    data = _data_like(evidence, reader, is_bad)
    return _finding(evidence, what, reader.op, data, numbers, tried=False)


def _of_sums(evidence: Evidence, reader: Reader) -> Optional[Finding]:
    """Looks for rows that do not sum to 1, for which TensorFlow's gradient is not the loss's."""
    if reader.kind != PROBABILITIES or not reader.is_stock:
        return None
    got = evidence.replay.values(evidence.step, [reader.labels.name])
    if got is None or not np.size(got[0]):
        return None
    sums = np.asarray(got[0], np.float64).sum(axis=-1)
    # A row of zeros may be one that is left out.
    is_bad = (np.abs(sums - 1) > 0.01) & (sums != 0)
    if not is_bad.any():
        return None
    first = sums[is_bad].ravel()[0]
    what = (
        f"The labels of {int(is_bad.sum())} of {sums.size} rows do not sum to 1, the first to "
        f"{first:.6g}: TensorFlow's gradient, softmax - labels, is not that of this loss."
    )
    numbers = {"sum": float(first), "count": int(is_bad.sum())}
    return _finding(evidence, what, reader.op, None, numbers)


def _corrected(evidence: Evidence, data: Data) -> Any:
    """Returns the step without the wrong labels, and what was done, in words."""
    rows = _rows(evidence, data)
    replaced = without_rows(evidence, rows) if rows else None
    if replaced is not None:
        step, good = replaced
        return step, f"{rows_in_words(rows)} replaced by row {good}"
    step = evidence.step._replace(feeds=_with_zeros(evidence, data))
    return step, "0 in the place of the wrong labels"


def _with_zeros(evidence: Evidence, data: Data) -> Dict[str, np.ndarray]:
    feeds = dict(evidence.step.feeds)
    value = feeds[data.tensor.name]
    feeds[data.tensor.name] = np.where(data.is_bad, np.zeros_like(value), value)
    return feeds


def _rows(evidence: Evidence, data: Data) -> List[int]:
    if not data.is_bad.ndim or len(data.is_bad) != batch_size(evidence):
        return []
    return sorted({int(index[0]) for index in np.argwhere(data.is_bad)})


def _finding(
    evidence: Evidence,
    what: str,
    op: Any,
    data: Optional[Data],
    numbers: Dict[str, Any],
    tried: bool = True,
) -> Finding:
    trial: Optional[Trial] = None
    row, name = None, None if op is None else op.name + ":0"
    if data is not None:
        rows = _rows(evidence, data)
        row, name = (rows[0] if rows else None), data.tensor.name
        numbers.update(bad_rows=rows[:_MOST_SHOWN], bad_labels=int(data.is_bad.sum()))
        if tried:
            step, change = _corrected(evidence, data)
            trial = with_step(evidence, change, step)
    source = op if op is not None else None if data is None else data.tensor.op
    line = None if source is None else evidence.program.line_of(source.name)
    op_type = None if source is None else str(source.type)
    return Finding(LABELS.name, what, name, op_type, line, row, numbers, LABELS.remedy, trial)


LABELS = Cause(
    "labels out of range",
    "Labels name no class, are cut off to integers, or are no probabilities.",
    "Correct the labels where the data are read, or mask these rows out of the loss.",
    _probe,
)
