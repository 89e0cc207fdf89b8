"""Why a variable does not change in a step: one reason for each trainable variable."""

from typing import Any, Callable, Dict, NamedTuple, Optional

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.program.connections import Connections
from tf1xent.diagnostics.program.program import Update, ancestors
from tf1xent.diagnostics.replaying.recording import TensorRecord


class Reason(NamedTuple):
    """Why a variable does not change.

    Attributes:
      kind: one of the names below, the same for variables that stand still for the same reason.
      text: the reason in words; a sentence about "they".
      remedy: what to do, in a sentence.
      op: the op where it shows, or None.
      numbers: what was counted.
    """

    kind: str
    text: str
    remedy: str
    op: Optional[Operation]
    numbers: Dict[str, Any]


def reasons(evidence: Evidence) -> Dict[str, Reason]:
    """Returns why the trainable variables that this step does not change stay as they are."""
    program = evidence.program
    updates = {u.variable: u for u in reversed(program.updates)}
    names = {u.variable: u.gradient_name for u in program.updates}
    gradients = {variable: name for variable, name in names.items() if name is not None}
    connections = Connections(program)
    rounded = _behind_rounded_softmax(evidence)
    found: Dict[str, Reason] = {}
    after: Optional[Dict[str, np.ndarray]] = None
    for name in program.trainable:
        if name not in updates:
            found[name] = _without_update(evidence, connections, name)
            continue
        if name in gradients and evidence.recording.is_zero(gradients[name]):
            found[name] = _zero_gradient(evidence, gradients[name])
            continue
        if name in gradients and name in rounded:
            found[name] = _at_softmax(rounded[name])
            continue
        if after is None:
            after = evidence.copy.steps(evidence.step, 1).variables
        before = evidence.step.variables.get(name)
        if before is not None and name in after and after[name].tobytes() == before.tobytes():
            found[name] = _lost_update(evidence, updates[name])
    return found


def _without_update(evidence: Evidence, connections: Connections, name: str) -> Reason:
    connection = connections.of(evidence.program, name)
    if not connection.is_used:
        return Reason(
            "unused",
            "the loss is not computed from them",
            "Use them in the loss, or make them with trainable=False.",
            None,
            {},
        )
    if connection.is_differentiable:
        return Reason(
            "left out",
            "they have a gradient, but the optimizer does not update them",
            "Add them to var_list of the optimizer's minimize or compute_gradients.",
            None,
            {},
        )
    cut = connection.end
    where = "" if cut is None else f" at `{cut.name}` ({cut.type})"
    return Reason(
        "cut off",
        f"the gradient of the loss with respect to them is None: the way back to them ends{where}",
        "Compute the loss without stop_gradient, argmax, rounding or casts to int on the way.",
        cut,
        {},
    )


def _lost_update(evidence: Evidence, update: Update) -> Reason:
    rate = None
    if update.rate is not None:
        rate = float(np.max(evidence.copy.rates(evidence.step).get(update.rate.name, np.nan)))
    if rate == 0:
        return Reason(
            "rate",
            "the learning rate is 0",
            "Give a learning rate above 0; a schedule may have decayed it away.",
            None if update.rate is None else update.rate.op,
            {"rate": rate},
        )
    value = evidence.step.variables[update.variable]
    size = float(np.max(np.abs(value.astype(np.float64)))) if value.size else 0.0
    spacing = float(np.spacing(value.dtype.type(size))) if value.dtype.kind == "f" else 0.0
    given = "" if rate is None else f" with a learning rate of {rate:.3g}"
    return Reason(
        "rounding",
        f"their updates are lost in rounding{given}: {value.dtype.name} numbers as large as "
        f"theirs lie {spacing:.3g} apart, and each update is less than half of that",
        "Raise the learning rate, or keep the variables in a dtype of more digits.",
        None,
        {"rate": rate, "spacing": spacing, "largest": size},
    )


def _zero_gradient(evidence: Evidence, gradient: str) -> Reason:
    """Finds the op of the backward pass at which the gradient becomes 0."""
    tensor = evidence.tensor(gradient)
    ops = [] if tensor is None else ancestors([tensor])
    for op in ops:
        if evidence.needed_by_loss(op.name) or not op.outputs:
            continue
        if not evidence.recording.is_zero(op.outputs[0].name):
            continue
        arriving = _gradient_input(evidence, op)
        if arriving is not None and evidence.recording.is_zero(arriving):
            continue
        reason = _BECOMES_ZERO.get(op.type, _at_product)(evidence, op)
        if reason is not None:
            return reason
    return Reason(
        "zero",
        "their gradient is exactly 0",
        "Look for zeros among the weights, masks and activations between them and the loss.",
        None if tensor is None else tensor.op,
        {},
    )


def _gradient_input(evidence: Evidence, op: Operation) -> Optional[str]:
    """Returns the input of an op that comes from the backward pass, or None."""
    for tensor in op.inputs:
        if not evidence.needed_by_loss(tensor.op.name) and evidence.recording.of(tensor.name):
            return str(tensor.name)
    return None


def _value(evidence: Evidence, tensor: Tensor) -> Optional[np.ndarray]:
    try:
        return np.asarray(evidence.copy.run(evidence.step, [tensor.name])[0])
    except (tf.errors.OpError, ValueError):  # in a loop or a branch
        return None


def _dead(evidence: Evidence, tensor: Tensor) -> Reason:
    value = _value(evidence, tensor)
    numbers: Dict[str, Any] = {}
    share = ""
    if value is not None and value.size:
        alive = (value > 0).reshape(-1, value.shape[-1] if value.ndim > 1 else 1).any(axis=0)
        numbers = {"units": int(alive.size), "dead_units": int((~alive).sum())}
        share = f" ({numbers['dead_units']} of {numbers['units']} units are 0 in the whole batch)"
    return Reason(
        "dead relu",
        f"the relu `{tensor.op.name}` is dead{share}: it lets no gradient through",
        "Lower the learning rate, start the biases at 0 or above, or take a leaky relu.",
        tensor.op,
        numbers,
    )


def _saturated(evidence: Evidence, tensor: Tensor) -> Reason:
    value = _value(evidence, tensor)
    numbers: Dict[str, Any] = {}
    if value is not None and value.size:
        wide = value.astype(np.float64)
        numbers = {"smallest": float(wide.min()), "largest": float(wide.max())}
    kind = str(tensor.op.type).lower()
    return Reason(
        f"saturated {kind}",
        f"the {kind} `{tensor.op.name}` is saturated: rounded to its limit in all entries, it "
        "lets no gradient through",
        "Scale its inputs down: normalise the data, or start with smaller weights.",
        tensor.op,
        numbers,
    )


def _at_product(evidence: Evidence, op: Operation) -> Optional[Reason]:
    """A product of the gradient with zeros: of a mask, of weights, of activations."""
    softmax = next((t.op for t in op.inputs if t.op.type == "Softmax"), None)
    if softmax is not None:
        return _at_softmax(softmax)
    zero = next(
        (
            tensor
            for tensor in op.inputs
            if evidence.needed_by_loss(tensor.op.name) and evidence.recording.is_zero(tensor.name)
        ),
        None,
    )
    if zero is None:
        return None
    first = _first_zero(evidence, zero)
    if first.op.type in _FORWARD:
        return _FORWARD[first.op.type](evidence, first)
    return Reason(
        "zero factor",
        f"their gradient is multiplied by `{first.name}`, which is 0 in all entries",
        "Look where this mask, weight or activation is made: all of it is 0.",
        first.op,
        {},
    )


def _first_zero(evidence: Evidence, tensor: Tensor) -> Tensor:
    """Goes back from a tensor that is 0 to the first op that makes it so."""
    while True:
        behind = [t for t in tensor.op.inputs if evidence.recording.is_zero(t.name)]
        if not behind or tensor.op.type in _FORWARD:
            return tensor
        tensor = behind[0]


def _behind_rounded_softmax(evidence: Evidence) -> Dict[str, Operation]:
    """Returns the softmax that cuts off a variable, by the variable's name.

    All its entries are 0 or 1 up to rounding. Without oneDNN, TensorFlow computes 1 - 6e-8 where 1
    is meant, and what comes back through it is that error, not 0.
    """
    program, record = evidence.program, evidence.recording.of
    found: Dict[str, Operation] = {}
    for op in ancestors([program.loss]):
        if op.type != "Softmax" or not all(map(_one_entry_a_row, record(op.outputs[0].name))):
            continue
        beside = {other.name for other in ancestors([program.loss], without=op)}
        for behind in ancestors([op]):
            if behind.name not in beside:
                found.setdefault(behind.name, op)
    return found


def _one_entry_a_row(softmax: TensorRecord) -> bool:
    """Tells whether each row has one entry that is not 0: the rows sum to 1."""
    size = int(np.prod(softmax.shape))
    return size > 0 and softmax.zeros == size - size // softmax.shape[-1]


def _at_softmax(softmax: Operation) -> Reason:
    return Reason(
        "saturated softmax",
        f"the softmax `{softmax.name}` is saturated: all its entries are 0 or 1, and it lets no "
        "gradient through",
        "Use a cross-entropy of the logits, and scale the logits down.",
        softmax,
        {},
    )


# By type of an op of the forward pass, what it means that all its entries are 0.
_FORWARD: Dict[str, Callable[[Evidence, Tensor], Reason]] = {
    "Relu": _dead,
    "Relu6": _dead,
    "Sigmoid": _saturated,
}
# By type of an op of the backward pass at which a gradient becomes 0.
_BECOMES_ZERO: Dict[str, Callable[[Evidence, Operation], Reason]] = {
    "ReluGrad": lambda evidence, op: _dead(evidence, op.inputs[1]),
    "Relu6Grad": lambda evidence, op: _dead(evidence, op.inputs[1]),
    "SigmoidGrad": lambda evidence, op: _saturated(evidence, op.inputs[0]),
    "TanhGrad": lambda evidence, op: _saturated(evidence, op.inputs[0]),
}
