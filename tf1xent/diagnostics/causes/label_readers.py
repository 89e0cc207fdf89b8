"""Where a loss reads labels: one row for each way in which TensorFlow's losses do."""

import re
from typing import Iterator, List, NamedTuple, Optional, Set

import numpy as np

from tf1xent import _tf
from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.program.program import ancestors
from tf1xent.kernels import op_names

INDICES, ONE_HOT, PROBABILITIES, BINARY = "indices", "one_hot", "probabilities", "binary"

# Ops that hand a tensor's entries on as they are.
PASSES = ("Identity", "Reshape", "Squeeze", "ExpandDims", "Cast", "StopGradient", "BroadcastTo")
# Ops that read a tensor's shape and nothing else of it.
_SHAPES = ("Shape", "ShapeN", "Size", "Rank")
# Of op types, the position of the labels, and what they are.
_INPUTS = {
    "SparseSoftmaxCrossEntropyWithLogits": (1, INDICES),
    op_names.SPARSE_LOSS: (1, INDICES),
    "SoftmaxCrossEntropyWithLogits": (1, PROBABILITIES),
    op_names.DENSE_LOSS: (1, PROBABILITIES),
}
# The same for the gradients that ride on IdentityN ops: their first input is the value.
_PRIMITIVES = {"Tf1xentSparseLoss": (2, INDICES), "Tf1xentDenseLoss": (2, PROBABILITIES)}
# tf.nn.sigmoid_cross_entropy_with_logits is made of stock ops: this is its logits * labels.
_LOGISTIC = re.compile(r"(.*/)?logistic_loss(_\d+)?/mul")
# By what a loss that is written by hand multiplies a one-hot tensor.
_FACTORS = ("Log", "LogSoftmax", "Log1p", "Neg", "Softmax", "Sigmoid", "RealDiv", "Maximum")


class Reader(NamedTuple):
    """An op that reads labels.

    Attributes:
      op: the op.
      kind: what it takes them for: INDICES of classes, indices that it makes ONE_HOT,
        PROBABILITIES of classes, or BINARY ones.
      labels: the tensor that it reads.
      is_stock: whether TensorFlow's dense op reads them, whose gradient is not that of the loss for
        rows that do not sum to 1.
    """

    op: Operation
    kind: str
    labels: Tensor
    is_stock: bool


def label_readers(evidence: Evidence) -> List[Reader]:
    """Returns the ops that read labels for the loss, outside loops and functions."""
    ops = ancestors([evidence.program.loss])
    found = [reader for reader in map(_reader, ops) if reader is not None]
    dense = [reader for reader in found if reader.kind == PROBABILITIES]
    for op in ops:
        if op.type == "OneHot":
            read = [r for r in dense if op.outputs[0].name in entries_behind(r.labels)]
            if read or _meets_factor(op):
                is_stock = any(reader.is_stock for reader in read)
                found.append(Reader(op, ONE_HOT, op.inputs[0], is_stock))
    return found


def entries_behind(tensor: Tensor) -> Set[str]:
    """Returns the names of the tensors that a tensor's entries come from, its own included.

    Those that only give it its shape are not among them.
    """
    waiting, found = [tensor], set()
    while waiting:
        read = waiting.pop()
        if read.name not in found and read.op.type not in _SHAPES:
            found.add(read.name)
            waiting += read.op.inputs
    return found


def passed_on(tensor: Tensor) -> Iterator[Tensor]:
    """Yields a tensor, and those whose entries it hands on as they are."""
    yield tensor
    while tensor.op.type in PASSES:
        tensor = tensor.op.inputs[0]
        yield tensor


def _reader(op: Operation) -> Optional[Reader]:
    place = _INPUTS.get(op.type)
    if op.type == "IdentityN":
        place = _PRIMITIVES.get(_tf.gradient_attribute(op) or "")
    elif op.type == "Mul" and _LOGISTIC.fullmatch(op.name):
        place = (1, BINARY)
    elif op.type == "Mul":
        target = _target_by_hand(op)
        return None if target is None else Reader(op, BINARY, target, False)
    if place is None:
        return None
    position, kind = place
    return Reader(op, kind, op.inputs[position], op.type == _tf.DENSE_OP)


def _target_by_hand(op: Operation) -> Optional[Tensor]:
    """Returns the target t of a product (1 - t) log(...), or None."""
    for one, other in ((0, 1), (1, 0)):
        left, right = op.inputs[one].op, [t.op for t in passed_on(op.inputs[other])][-1]
        if left.type == "Sub" and right.type in ("Log", "Log1p"):
            first = _tf.static_value(left.inputs[0])
            if first is not None and np.all(first == 1):
                return left.inputs[1]
    return None


def _meets_factor(op: Operation) -> bool:
    """Tells whether a one-hot tensor is multiplied by probabilities or their logarithms."""
    waiting, seen = [op], {op}
    while waiting:
        for reader in waiting.pop().outputs[0].consumers():
            if reader.type in PASSES and reader not in seen:
                seen.add(reader)
                waiting.append(reader)
            elif reader.type == "Mul" and any(_is_factor(t) for t in reader.inputs):
                return True
    return False


def _is_factor(tensor: Tensor) -> bool:
    made = [t.op for t in passed_on(tensor)][-1]
    return made.type in _FACTORS
