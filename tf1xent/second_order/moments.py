"""The one stop in TensorFlow's own code that a second derivative must not stop at.

`tf.nn.moments` computes::

    mean = Mean(x)        variance = Mean(SquaredDifference(x, StopGradient(mean)))

The derivative of the variance in the mean is ``-2 mean(x - mean) = 0``, so stopping it saves work.
But the second derivative there is 2, and TensorFlow's leaves it out without a word: in batch and
layer normalization.
"""

from typing import Container, NamedTuple, Optional

from tf1xent._typing import Operation, Tensor

STOP = "StopGradient"
# They keep values of branches and loops for the way back.
_KEEPERS = ("OptionalFromValue", "StackPush", "StackPushV2", "TensorListPushBack")


class Moments(NamedTuple):
    """The ops of one call of `tf.nn.moments`, and its tensor."""

    x: Tensor
    mean: Operation
    stop: Operation
    variance: Operation


def moments_of(variance: Operation) -> Optional[Moments]:
    """Returns the call that has made a Mean as its variance, or None."""
    if variance.type != "Mean" or variance.inputs[0].op.type != "SquaredDifference":
        return None
    x, stopped = variance.inputs[0].op.inputs
    if stopped.op.type != STOP or stopped.op.inputs[0].op.type != "Mean":
        return None
    mean = stopped.op.inputs[0].op
    is_same = read_from(mean.inputs[0]) is read_from(x)
    return Moments(x, mean, stopped.op, variance) if is_same else None


def read_from(tensor: Tensor) -> Tensor:
    """Returns what a tensor is read from; each use of a resource variable is a read of its own."""
    while tensor.op.type in ("Identity", "ReadVariableOp"):
        tensor = tensor.op.inputs[0]
    return tensor


def stops_a_mean(op: Operation, ops: Container[Operation]) -> bool:
    """Whether a StopGradient is that of a call of `tf.nn.moments`, and of nothing else in `ops`.

    A program may stop the gradient of its mean for reasons of its own.
    """
    if op.type != STOP:
        return False
    readers = [reader for reader in op.outputs[0].consumers() if reader in ops]
    readers = [reader for reader in readers if reader.type not in _KEEPERS]
    if any(reader.type != "SquaredDifference" for reader in readers):
        return False
    means = [mean for reader in readers for mean in reader.outputs[0].consumers()]
    return any(found is not None and found.stop is op for found in map(moments_of, means))
