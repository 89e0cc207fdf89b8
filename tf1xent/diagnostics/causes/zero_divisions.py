"""Divisions by 0: the mean of nothing, weights that sum to 0, a row that is masked wholly."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.causes.masked_rows import MaskedRow, masked_row
from tf1xent.diagnostics.causes.singular_points import POINTS, kept_away, singular_operand
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import data_of, row_of
from tf1xent.diagnostics.judging.suspects import Suspect, operand, suspects
from tf1xent.diagnostics.judging.trials import with_values
from tf1xent.diagnostics.replaying.recording import TensorRecord

_DIVIDES = ("RealDiv", "Div", "Xdivy", "FloorMod", "Mod", "Reciprocal", "Inv", "Rsqrt")
_OF_NOTHING = ("Mean", "Max", "Min", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# What leaves entries of a sum as they are.
_PASSES = ("Cast", "Identity", "Reshape", "Squeeze", "Sum", "Mean", "ExpandDims", "Maximum")


def _probe(evidence: Evidence) -> Optional[Finding]:
    for suspect in suspects(evidence):
        if not suspect.loss_is_bad:
            continue
        finding = (
            _of_nothing(evidence, suspect)
            or _of_masked_row(evidence, suspect)
            or _of_division(evidence, suspect)
        )
        if finding is not None:
            return finding
    return None


def _of_nothing(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Explains the mean or the maximum of no entries."""
    record = suspect.record
    read = operand(evidence, suspect, 0)
    if read is None or not is_of_nothing(record, read):
        return None
    what = (
        f"`{record.name}` is the {record.op_type.lower()} of `{read.name}`, which has no entries "
        f"in this step: its shape is {list(read.shape)}{_empty_data(evidence)}."
    )
    cure = {record.name: np.zeros_like}
    trial = with_values(evidence, f"`{record.name}` is 0", cure)
    numbers = {"shape": list(read.shape), "empty": [n for n, _ in _empty(evidence)]}
    remedy = "Skip empty batches, or divide the sum by tf.maximum(count, 1)."
    return _finding(evidence, suspect, what, numbers, remedy, trial)


def is_of_nothing(record: TensorRecord, read: Optional[TensorRecord]) -> bool:
    """Tells whether an op reduces a tensor without entries."""
    return record.op_type in _OF_NOTHING and read is not None and 0 in read.shape


def _of_masked_row(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Explains the softmax of a row in which every logit is -inf."""
    found: Optional[MaskedRow] = masked_row(evidence, suspect)
    if found is None:
        return None
    what = (
        f"`{found.logits}` is -inf in every class of {found.rows} row{'s' * (found.rows > 1)}, so "
        f"that the softmax in `{found.softmax.name}` is 0/0."
    )
    cure = {found.logits: lambda x: np.where(_masked_wholly(x), np.zeros_like(x), x)}
    trial = with_values(evidence, f"`{found.logits}` is 0 in these rows", cure)
    numbers = {"rows": found.count, "classes": found.classes}
    remedy = "Mask with a large finite number such as -1e9, or leave these rows out."
    return _finding(evidence, suspect, what, numbers, remedy, trial, found.softmax)


def _masked_wholly(values: np.ndarray) -> np.ndarray:
    wide = values.astype(np.float32)
    return np.asarray((wide == -np.inf).all(axis=-1, keepdims=True))


def _of_division(evidence: Evidence, suspect: Suspect) -> Optional[Finding]:
    """Explains a division by 0."""
    record = suspect.record
    point = POINTS.get(record.op_type)
    if record.op_type not in _DIVIDES or point is None:
        return None
    read = singular_operand(evidence, suspect)
    if read is None or read.smallest < 0 and not read.zeros:
        return None
    if is_sum_of_exponentials(evidence, suspect):
        return None  # the exponentials are too small: another cause's
    above = operand(evidence, suspect, 0) if point.operand else None
    kind = "0/0" if above is not None and above.zeros else "a division by 0"
    zeros = "0" if not read.shape else f"0 in {read.zeros} of {int(np.prod(read.shape))} entries"
    what = (
        f"`{record.name}` ({record.op_type}) is {kind}: `{read.name}` is {zeros}"
        f"{_zero_data(evidence, suspect.node.inputs[point.operand]) or _empty_data(evidence)}."
    )
    numbers: Dict[str, Any] = {"zeros": read.zeros, "smallest": read.smallest}
    numbers.update(largest=read.largest, nans=record.nans, infinities=record.infinities)
    trial = kept_away(evidence, record.op_type, read)
    return _finding(evidence, suspect, what, numbers, ZERO_DIVISION.remedy, trial)


def is_sum_of_exponentials(evidence: Evidence, suspect: Suspect) -> bool:
    """Tells whether a division is that of a softmax that is written by hand."""
    point = POINTS.get(suspect.record.op_type)
    read = None if point is None else operand(evidence, suspect, point.operand)
    summed = None if read is None else evidence.input_at(read, 0)
    return read is not None and read.op_type == "Sum" and getattr(summed, "op_type", "") == "Exp"


def _zero_data(evidence: Evidence, divisor: str) -> str:
    """Says which data are all 0 and make the divisor."""
    wiring = evidence.program.wiring
    nodes = wiring.ancestors([wiring.node_of(divisor).name], effects=False)
    needed = {divisor, *(tensor for name in nodes for tensor in wiring.nodes[name].inputs)}
    for tensor, value in data_of(evidence):
        if tensor.name in needed and value.size:
            if value.dtype.kind in "fiub" and not value.any():
                return f", since all {np.size(value)} entries of the data `{tensor.name}` are 0"
    return ""


def _empty(evidence: Evidence) -> List[Tuple[str, Tuple[int, ...]]]:
    return [(tensor.name, value.shape) for tensor, value in data_of(evidence) if not value.size]


def _empty_data(evidence: Evidence) -> str:
    for name, shape in _empty(evidence):
        return f", since the batch is empty: `{name}` has the shape {list(shape)}"
    return ""


def _finding(
    evidence: Evidence,
    suspect: Suspect,
    what: str,
    numbers: Dict[str, Any],
    remedy: str,
    trial: Optional[Trial],
    record: Optional[TensorRecord] = None,
) -> Finding:
    record = record or suspect.record
    line = evidence.program.line_of(record.name)
    row = row_of(evidence, record)
    name = ZERO_DIVISION.name
    return Finding(name, what, record.name, record.op_type, line, row, numbers, remedy, trial)


ZERO_DIVISION = Cause(
    "0/0",
    "A mean of nothing, weights that sum to 0, or a row that is masked wholly.",
    "Divide by tf.maximum(total, 1), or with tf.math.divide_no_nan.",
    _probe,
)
