"""The logarithm of a probability that has become 0, and functions taken outside their domain."""

from typing import Any, Dict, Optional

import numpy as np

from tf1xent.diagnostics.causes.masked_rows import masked_row
from tf1xent.diagnostics.causes.singular_points import POINTS, Point, kept_away, singular_operand
from tf1xent.diagnostics.finding import Cause, Finding
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import row_of
from tf1xent.diagnostics.judging.suspects import Suspect, line_of, suspects
from tf1xent.diagnostics.replaying.recording import TensorRecord

_LOGARITHMS = ("Log", "Log1p", "Xlogy", "Xlog1py")
_OTHERS = ("Pow", "Acos", "Asin", "Atanh", "Acosh", "Erfinv", "Lgamma", "Digamma")
# Infinite at 0, which is a division by 0; NaN below.
_ROOTS = ("Sqrt", "Rsqrt")
# What makes probabilities of logits, and the loss that reads the logits themselves.
_LOSSES = {
    "Softmax": "tf.nn.softmax_cross_entropy_with_logits_v2",
    "Sigmoid": "tf.nn.sigmoid_cross_entropy_with_logits",
}
# How far above the logarithm the probabilities may be made.
_NEAR = 6


def _probe(evidence: Evidence) -> Optional[Finding]:
    for suspect in suspects(evidence):
        if not suspect.loss_is_bad:  # the gradient alone: a singular gradient
            continue
        kind = suspect.record.op_type
        point = POINTS.get(kind)
        if point is None or kind not in (*_LOGARITHMS, *_OTHERS, *_ROOTS):
            continue
        read = singular_operand(evidence, suspect)
        if read is None:
            continue
        if masked_row(evidence, suspect) is not None:  # a mask: another cause's
            continue
        if kind in _ROOTS and not read.smallest < 0:
            continue
        return _finding(evidence, suspect, point, read)
    return None


def _finding(evidence: Evidence, suspect: Suspect, point: Point, read: TensorRecord) -> Finding:
    record = suspect.record
    numbers: Dict[str, Any] = {"nans": record.nans, "infinities": record.infinities}
    numbers.update(zeros=read.zeros, smallest=read.smallest, largest=read.largest)
    what = f"{_held(suspect, read)}, and `{record.name}` is {point.words} it."
    trial = kept_away(evidence, record.op_type, read)
    line, row = line_of(evidence, suspect), row_of(evidence, record)
    remedy = _remedy(evidence, suspect, point)
    name = LOG_OF_ZERO.name
    return Finding(name, what, record.name, record.op_type, line, row, numbers, remedy, trial)


def _held(suspect: Suspect, read: TensorRecord) -> str:
    if suspect.record.op_type in _LOGARITHMS and read.zeros and read.smallest >= 0:
        size = int(np.prod(read.shape))
        return f"{read.zeros} of {size} entries of `{read.name}` are 0"
    if read.smallest < 0:
        return f"`{read.name}` holds negative numbers, down to {read.smallest:.6g}"
    return f"`{read.name}` holds numbers from {read.smallest:.6g} to {read.largest:.6g}"


def _remedy(evidence: Evidence, suspect: Suspect, point: Point) -> str:
    if suspect.record.op_type not in _LOGARITHMS:
        return point.remedy
    loss = _loss_from_logits(evidence, suspect.node.inputs[point.operand])
    if loss is not None:
        return f"Compute the loss from the logits: {loss}."
    return "Keep the logarithm's input above 0: tf.log(tf.maximum(p, 1e-12))."


def _loss_from_logits(evidence: Evidence, tensor: str) -> Optional[str]:
    """Returns the loss that reads the logits of which probabilities are made, or None."""
    wiring = evidence.program.wiring
    waiting = [tensor]
    for _ in range(_NEAR):
        nodes = [wiring.node_of(name) for name in waiting]
        for node in nodes:
            if node.op_type in _LOSSES:
                return _LOSSES[node.op_type]
        read = [name for node in nodes for name in node.inputs]
        waiting = [name for name in read if wiring.dtype_of(name).is_floating]
    return None


LOG_OF_ZERO = Cause(
    "log of 0",
    "A hand-written loss takes the log of a probability that has become 0, or of a negative one.",
    "Compute the loss from the logits: tf.nn.softmax_cross_entropy_with_logits_v2.",
    _probe,
)
