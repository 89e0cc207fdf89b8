"""Ops that make numbers of NaN, so that the loss does not show it."""

from typing import TYPE_CHECKING, List, NamedTuple, Optional

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.program.program import ancestors
from tf1xent.diagnostics.replaying.comparing import is_finite
from tf1xent.diagnostics.replaying.copies import gradient_names

if TYPE_CHECKING:
    from tf1xent.diagnostics.judging.evidence import Evidence

# Grappler fuses them with the layer before, and the fused op may turn NaN into 0.
_FUSED = ("Relu", "Relu6", "Elu", "LeakyRelu")
_CHOICES = ("Select", "SelectV2")
# They read a shape, or leave out what is not finite by its place and not by its value.
_READ_NO_VALUE = (
    "ZerosLike",
    "OnesLike",
    "Slice",
    "StridedSlice",
    "Gather",
    "GatherV2",
    "GatherNd",
)


class Hiding(NamedTuple):
    """An op that hides NaN.

    Attributes:
      output: its output, which is finite.
      read: its input, which holds NaN.
      nans: how many entries of that are NaN.
      size: of how many.
      fused: whether it hides them only in a session with grappler.
    """

    output: Tensor
    read: Tensor
    nans: int
    size: int
    fused: bool


def find_hiding(evidence: "Evidence") -> Optional[Hiding]:
    """Returns the first op of the loss that reads NaN and gives numbers, or None.

    A ``where`` hides NaN only if it chooses by it. One that chooses by something else leaves out a
    branch, as it is meant to.
    """
    problem = evidence.problem
    if problem is None or problem.kind not in ("gradient", "parameters"):
        return None
    recording = evidence.recording
    ops = [op for op in ancestors([evidence.program.loss]) if op.inputs and op.outputs]
    for op in ops:
        read = next((t for t in op.inputs if _has_nan(evidence, t)), None)
        made = recording.of(op.outputs[0].name)
        if read is None or not made or any(record.nans for record in made):
            continue
        if op.type not in _READ_NO_VALUE and _chooses_by_value(evidence, op):
            return _hiding(evidence, op.outputs[0], read, False)
    if recording.loss is None or is_finite(recording.loss):
        return None
    for op in ops:
        if op.type in _FUSED and _has_nan(evidence, op.outputs[0]):
            if _is_finite_in_own_run(evidence, op.outputs[0]):
                return _hiding(evidence, op.outputs[0], op.inputs[0], True)
    return None


def _has_nan(evidence: "Evidence", tensor: Tensor) -> bool:
    return any(record.nans for record in evidence.recording.of(tensor.name))


def _chooses_by_value(evidence: "Evidence", op: Operation) -> bool:
    if op.type not in _CHOICES:
        return True
    behind = ancestors([op.inputs[0]])
    return any(_has_nan(evidence, tensor) for o in behind for tensor in o.outputs)


def _is_finite_in_own_run(evidence: "Evidence", tensor: Tensor) -> bool:
    names: List[str] = [tensor.name, evidence.program.loss.name]
    names += gradient_names(evidence.program).values()
    try:
        return is_finite(evidence.copy.run(evidence.step, names)[0])
    except (tf.errors.OpError, ValueError):  # it cannot be fetched
        return False


def _hiding(evidence: "Evidence", output: Tensor, read: Tensor, fused: bool) -> Hiding:
    records = [record for record in evidence.recording.of(read.name) if record.nans]
    nans = sum(record.nans for record in records)
    size = int(sum(np.prod(record.shape) for record in records))
    return Hiding(output, read, nans, size, fused)
