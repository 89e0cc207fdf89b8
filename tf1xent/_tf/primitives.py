"""Values with a gradient of their own: computed by stock ops, differentiated by a closed form."""

import functools
import inspect
from typing import Any, Callable, List, Optional, Sequence, Tuple

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import tensor_util

from tf1xent._tf.modules import module_if_there
from tf1xent._tf.registry import as_tensors, register_gradient
from tf1xent._tf.static_shapes import with_static_shape
from tf1xent._typing import Name, Operation, Tensor

# What gradient tapes record: moved in 2.12.
tape = module_if_there("eager.record") or module_if_there("eager.tape")


Residuals = Sequence[Tensor]
# What the function below `primitive` returns: its value and residuals.
Computed = Tuple[Tensor, Residuals]
# A gradient or None for each input of a primitive.
Gradients = List[Optional[Tensor]]
_PullBack = Callable[[List[Tensor], List[Optional[Tensor]], Sequence[Tensor], Residuals], Gradients]


class Primitive:
    """A function of tensors with a gradient of its own; made by `primitive` and `primitive_list`.

    Attributes:
      gradient_name: under which the gradient is registered with TensorFlow; saved graphs carry it.
    """

    def __init__(
        self,
        gradient_name: str,
        compute: Callable[..., Tuple[Any, Residuals]],
        num_inputs: Optional[int],
        num_values: Optional[int],
    ) -> None:
        """`num_values` None: one value, which is returned by itself and not in a list."""
        self.gradient_name = gradient_name
        self._compute = compute
        self._num_inputs = _count_inputs(compute) if num_inputs is None else num_inputs
        self._num_values = num_values
        self._pull_back: Optional[_PullBack] = None
        self.__name__ = compute.__name__
        functools.update_wrapper(self, compute)

    def gradient(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: the function below it computes the gradient. See `primitive`."""

        def of_one_value(
            values: List[Tensor],
            cotangents: List[Optional[Tensor]],
            inputs: Sequence[Tensor],
            residuals: Residuals,
        ) -> Gradients:
            cotangent = with_static_shape(cotangents[0], values[0].shape)
            return list(function(cotangent, tuple(inputs), tuple(residuals)))

        self._pull_back = of_one_value if self._num_values is None else function
        self._register(self._pull_back)
        return function

    def _register(self, pull_back: _PullBack) -> None:
        num_values = self._num_values or 1
        end = num_values + self._num_inputs

        def registered(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
            # Residuals are read from the outputs: nothing else uses those, so TensorFlow may hand
            # their buffers on to the first op that reads them.
            inputs, residuals = list(op.inputs)[num_values:end], op.outputs[end:]
            values = op.outputs[:num_values]
            gradients = pull_back(values, list(cotangents[:num_values]), inputs, residuals)
            return [None] * num_values + gradients + [None] * len(residuals)

        register_gradient(self.gradient_name, registered)

    def __call__(self, *inputs: Tensor, name: Name = None, **constants: Any) -> Any:
        """The value, or the list of values; `name` is that of the op that carries the gradient."""
        pull_back = self._pull_back
        if pull_back is None:
            raise NotImplementedError(
                f"{self.__module__}.{self.__name__}: the primitive {self.gradient_name} must have "
                f"a gradient, got none. Register one with `@{self.__name__}.gradient`."
            )
        with tape.stop_recording():
            with tf.name_scope(self.gradient_name):
                computed, residuals = self._compute(*inputs, **constants)
            values = [computed] if self._num_values is None else list(computed)
            if not tf.executing_eagerly():
                values, residuals = self._carried(values, inputs, residuals, name)
        if tape.could_possibly_record():
            tape.record_operation(
                self.gradient_name,
                values,
                list(inputs),
                lambda *cotangents: pull_back(values, as_tensors(cotangents), inputs, residuals),
            )
        return values[0] if self._num_values is None else values

    def _carried(
        self, values: List[Tensor], inputs: Sequence[Tensor], residuals: Residuals, name: Name
    ) -> Tuple[List[Tensor], Residuals]:
        """Values and residuals as outputs of an op that names the gradient and reads the inputs."""
        bundle = values + list(inputs) + list(residuals)
        with tf.get_default_graph().gradient_override_map({"IdentityN": self.gradient_name}):
            carried = tf.identity_n(bundle, name=name)
        return list(carried[: len(values)]), carried[len(values) + len(inputs) :]


def _count_inputs(compute: Callable[..., Any]) -> int:
    """The number of positional parameters; keyword-only ones are constants."""
    parameters = inspect.signature(compute).parameters.values()
    return sum(parameter.kind == parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)


def primitive(
    gradient_name: str, num_inputs: Optional[int] = None
) -> Callable[[Callable[..., Any]], Primitive]:
    """Decorator: a function of tensors whose value stock ops compute, and whose gradient is given.

    The gradient stands below the function, and derivatives of every order are made of it::

        @primitive("Tf1xentTanh")
        def tanh(values):
            return tf.tanh(values), ()

        @tanh.gradient
        def _(cotangent, inputs, residuals):
            return [cotangent * squared_sech(*inputs)]

    The function takes tensors as positional arguments and constants by keyword. It returns its
    value and a tuple of residuals: tensors that the gradient reuses. The gradient returns one
    tensor or None for each input, and is made of primitives and stock ops. Constants and residuals
    are not differentiated. Without a gradient a call raises NotImplementedError.

    `gradient_name` is plain CamelCase, because TensorFlow 1.x refuses anything else. `num_inputs`
    is needed for a function that takes `*inputs`.
    """

    def decorate(compute: Callable[..., Any]) -> Primitive:
        return Primitive(gradient_name, compute, num_inputs, None)

    return decorate


def primitive_list(
    gradient_name: str, num_values: int, num_inputs: Optional[int] = None
) -> Callable[[Callable[..., Any]], Primitive]:
    """Decorator: as `primitive`, for a function that returns a list of `num_values` values.

    The gradient is ``gradient(values, cotangents, inputs, residuals)``. It gets the values too, and
    a cotangent of None for a value that nothing uses.
    """

    def decorate(compute: Callable[..., Any]) -> Primitive:
        return Primitive(gradient_name, compute, num_inputs, num_values)

    return decorate


def is_zero(cotangent: Optional[Tensor]) -> bool:
    """Whether a cotangent is known to be zero: the three shapes in which TensorFlow says so."""
    if cotangent is None or getattr(cotangent, "_is_zeros_tensor", False):
        return True
    if tf.executing_eagerly() or not hasattr(cotangent, "op"):
        return False
    if cotangent.op.type in ("ZerosLike", "Zeros"):
        return True
    constant = tensor_util.constant_value(cotangent)
    return constant is not None and not constant.any()


# Of the same number of bytes, and not differentiable.
_INTEGERS = {2: tf.int16, 4: tf.int32, 8: tf.int64}


def detached(tensors: Sequence[Tensor]) -> List[Tensor]:
    """Copies invisible to tapes, forward accumulators and `tf.gradients`.

    What is computed from the copies may be differentiated inside a primitive without anything
    around it recording that. An inner v1 while loop is then on no path of `tf.gradients`, which
    would ask for the loop's gradient even where the result has a gradient of its own.
    """
    with tape.stop_recording():
        return [_without_path(tensor) for tensor in tensors]


def _without_path(tensor: Tensor) -> Tensor:
    if not tensor.dtype.is_floating:
        return tf.identity(tensor)
    return tf.bitcast(tf.bitcast(tensor, _INTEGERS[tensor.dtype.size]), tensor.dtype.base_dtype)
