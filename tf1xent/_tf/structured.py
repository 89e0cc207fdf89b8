"""Primitives of many forms under one registered gradient: the form travels with the op."""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import tensor_util

from tf1xent._tf.primitives import Gradients, tape
from tf1xent._tf.registry import as_tensors, register_gradient
from tf1xent._typing import Operation, Tensor

# What a value was computed by, in integers.
Structure = Tuple[int, ...]
_PullBack = Callable[
    [Structure, List[Tensor], Sequence[Optional[Tensor]], Sequence[Tensor]], Gradients
]


class StructuredPrimitive:
    """Values that are computed elsewhere, with a gradient that reads a structure; see `__call__`.

    In graphs the structure is a constant input of the op that carries the gradient, and so is the
    number of values. So a graph saved by another process can be differentiated, to every order,
    with one gradient registered. It is integers: GPUs and XLA take no strings.
    """

    def __init__(self, gradient_name: str, pull_back: _PullBack) -> None:
        self.gradient_name = gradient_name
        self._pull_back = pull_back
        register_gradient(gradient_name, self._registered)

    def _registered(self, op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
        known = tensor_util.constant_value(op.inputs[0])
        if known is None:
            raise LookupError(
                f"{self.gradient_name}: the first input of {op.name} must be a constant, got "
                f"{op.inputs[0].name}. Differentiate the graph as it was built or saved."
            )
        num_values, *structure = known.tolist()
        end = 1 + num_values
        gradients = self._pull_back(
            tuple(structure),
            list(op.outputs[1:end]),
            list(cotangents[1:end]),
            list(op.inputs[end:]),
        )
        return [None] * end + gradients

    def __call__(
        self, structure: Structure, inputs: Sequence[Tensor], values: Sequence[Tensor]
    ) -> List[Tensor]:
        """`values` of `inputs`, differentiated by ``pull_back(structure, values, cotangents,
        inputs)``: one gradient or None for each input. A cotangent may be None."""
        values, inputs = list(values), list(inputs)
        with tape.stop_recording():
            if not tf.executing_eagerly():
                values = self._carried(structure, inputs, values)
        if tape.could_possibly_record():

            def backward(*cotangents: Any) -> Gradients:
                return self._pull_back(structure, values, as_tensors(cotangents), inputs)

            tape.record_operation(self.gradient_name, values, inputs, backward)
        return values

    def _carried(
        self, structure: Structure, inputs: List[Tensor], values: List[Tensor]
    ) -> List[Tensor]:
        described = tf.constant((len(values), *structure), tf.int32, name="structure")
        with tf.get_default_graph().gradient_override_map({"IdentityN": self.gradient_name}):
            carried = tf.identity_n([described] + values + inputs)
        return list(carried[1 : 1 + len(values)])
