"""Rows of logits that are -inf in every class: masks that leave nothing."""

from typing import Iterator, NamedTuple, Optional

import numpy as np

from tf1xent._typing import Operation
from tf1xent.diagnostics.evidence import Evidence
from tf1xent.diagnostics.suspects import Suspect, input_record, probed, readers

_SOFTMAX = (
    "Softmax",
    "LogSoftmax",
    "SoftmaxCrossEntropyWithLogits",
    "SparseSoftmaxCrossEntropyWithLogits",
    "Tf1xentKernelSparseLoss",
    "Tf1xentKernelDenseLoss",
    # x - max(x), by hand: -inf - -inf
    "Sub",
)


class MaskedRow(NamedTuple):
    """Rows that are masked wholly.

    Attributes:
      logits: the name of the tensor.
      reader: the name of the op that takes their softmax.
      rows: how many there are.
      classes: the number of classes.
      line: the program's line that takes the softmax, or None.
    """

    logits: str
    reader: str
    rows: int
    classes: int
    line: Optional[str]


def masked_row(evidence: Evidence, suspect: Suspect) -> Optional[MaskedRow]:
    """Returns the rows by which infinities become NaN in a softmax, or None.

    The suspect is where the -inf comes from: a constant, or the logarithm of a mask.
    """
    if suspect.op is None or suspect.record.nans or not suspect.record.infinities:
        return None
    for op in _downstream(evidence, suspect.op):
        if op.type not in _SOFTMAX:
            continue
        read = input_record(evidence, op, 0)
        made = [r for tensor in op.outputs for r in evidence.recording.of(tensor.name)]
        if read is None or read.nans or not read.infinities or not any(r.nans for r in made):
            continue
        found = _counted(evidence, op)
        if found is not None:
            return found
    return None


def _downstream(evidence: Evidence, op: Operation) -> Iterator[Operation]:
    """Yields the ops of the loss that an op's infinities reach, the nearest first."""
    waiting, seen = [op], {op.name}
    while waiting:
        current = waiting.pop(0)
        for reader in readers(current):
            if reader.name in seen or not evidence.needed_by_loss(reader.name):
                continue
            seen.add(reader.name)
            yield reader
            records = [r for t in reader.outputs for r in evidence.recording.of(t.name)]
            if any(r.is_bad for r in records) or not records:
                waiting.append(reader)


def _counted(evidence: Evidence, op: Operation) -> Optional[MaskedRow]:
    name = probed(op.inputs[0]).name
    kept = evidence.replay.run(evidence.step, keep=[name]).kept.get(name, [])
    for value in kept:
        wide = np.asarray(value).astype(np.float32)
        rows = (wide == -np.inf).all(axis=-1) if wide.ndim else np.zeros([], bool)
        if rows.any():
            line = evidence.program.line_of(op.name)
            return MaskedRow(name, op.name, int(rows.sum()), wide.shape[-1], line)
    return None
