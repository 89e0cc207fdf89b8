"""Rows of logits that are -inf in every class: masks that leave nothing."""

from typing import Iterator, List, NamedTuple, Optional

import numpy as np

from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.suspects import Suspect
from tf1xent.diagnostics.replaying.recording import TensorRecord
from tf1xent.kernels import op_names

_SOFTMAX = (
    "Softmax",
    "LogSoftmax",
    "SoftmaxCrossEntropyWithLogits",
    "SparseSoftmaxCrossEntropyWithLogits",
    op_names.SPARSE_LOSS,
    op_names.DENSE_LOSS,
    # x - max(x), by hand: -inf - -inf
    "Sub",
)


class MaskedRow(NamedTuple):
    """Rows that are masked wholly.

    Attributes:
      logits: the name of the tensor.
      softmax: the record of what is computed of them, the first that is NaN.
      rows: how many there are.
      classes: the number of classes.
    """

    logits: str
    softmax: TensorRecord
    rows: int
    classes: int


def masked_row(evidence: Evidence, suspect: Suspect) -> Optional[MaskedRow]:
    """Returns the rows by which infinities become NaN in a softmax, or None.

    The suspect is where the -inf comes from: a constant, or the logarithm of a mask.
    """
    if suspect.record.nans or not suspect.record.infinities:
        return None
    for made in _downstream(evidence, suspect.record):
        read = evidence.input_at(made, 0)
        if made.op_type not in _SOFTMAX or not made.nans or read is None:
            continue
        if read.infinities and not read.nans:
            found = _counted(evidence, made, read)
            if found is not None:
                return found
    return None


def _downstream(evidence: Evidence, record: TensorRecord) -> Iterator[TensorRecord]:
    """Yields the bad records of the loss that an op's infinities reach, the nearest first."""
    waiting: List[TensorRecord] = [record]
    seen = {id(record)}
    while waiting:
        for reader in evidence.readers_of(waiting.pop(0)):
            if reader.is_bad and id(reader) not in seen and evidence.needed_by_loss(reader.name):
                seen.add(id(reader))
                waiting.append(reader)
                yield reader


def _counted(evidence: Evidence, made: TensorRecord, read: TensorRecord) -> Optional[MaskedRow]:
    kept = evidence.replay.run(evidence.step, keep=[read.name]).kept.get(read.name, [])
    for value in kept:
        wide = np.asarray(value).astype(np.float32)
        rows = (wide == -np.inf).all(axis=-1) if wide.ndim else np.zeros([], bool)
        if rows.any():
            return MaskedRow(read.name, made, int(rows.sum()), wide.shape[-1])
    return None
