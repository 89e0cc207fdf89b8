"""Values with a gradient of their own: computed by stock ops, differentiated by a closed form."""

import functools
import inspect

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import tensor_util

from tf1xent._tf.modules import module_if_there
from tf1xent._tf.registry import as_tensors, register_gradient

# What gradient tapes record: moved in 2.12.
_tape = module_if_there("eager.record") or module_if_there("eager.tape")


def primitive(gradient_name, gradient):
    """Decorator: gives the function below it the gradient `gradient`, to every order.

    ``compute(*inputs, **constants)``, the function, returns its value and a tuple of residuals:
    tensors that ``gradient(cotangent, inputs, residuals)`` wants to use again. That returns one
    gradient (or None) for each input, and is made of primitives and stock ops, to be differentiable
    itself. Constants and residuals are not differentiated. The gradient is registered under
    `gradient_name`, in plain CamelCase, since TensorFlow 1.x refuses anything else.
    """

    def decorate(compute):
        parameters = inspect.signature(compute).parameters.values()
        count = sum(p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters)

        def pull_back(values, cotangents, inputs, residuals):
            cotangent = with_static_shape(cotangents[0], values[0].shape)
            return list(gradient(cotangent, tuple(inputs), tuple(residuals)))

        register_pull_back(gradient_name, 1, count, pull_back)

        @functools.wraps(compute)
        def apply(*inputs, **constants):
            name = constants.pop("name", None)

            def compute_values():
                value, residuals = compute(*inputs, **constants)
                return [value], residuals

            return with_pull_back(gradient_name, compute_values, inputs, pull_back, name)[0]

        return apply

    return decorate


def register_pull_back(gradient_name, num_values, num_inputs, pull_back):
    """Registers the gradient that `with_pull_back` names, for this and for later processes.

    ``pull_back(values, cotangents, inputs, residuals)`` returns a gradient or None for each input.
    """

    def registered(op, *cotangents):
        # Residuals are read from the outputs: nothing else uses those, so that TensorFlow may
        # hand their buffers on to the first op that reads them.
        end = num_values + num_inputs
        inputs, residuals = list(op.inputs)[num_values:end], op.outputs[end:]
        values = op.outputs[:num_values]
        gradients = pull_back(values, list(cotangents[:num_values]), inputs, residuals)
        return [None] * num_values + gradients + [None] * len(residuals)

    register_gradient(gradient_name, registered)


def with_pull_back(gradient_name, compute, inputs, pull_back, name=None):
    """Returns the list of values that ``compute()`` returns beside its residuals, with a gradient.

    That is the one registered under `gradient_name` by `register_pull_back`, of the same
    `pull_back`. What `compute` does is not differentiated.
    """
    count = len(inputs)
    with _tape.stop_recording():
        with tf.name_scope(gradient_name):
            values, residuals = compute()
        if not tf.executing_eagerly():
            bundle = list(values) + list(inputs) + list(residuals)
            with tf.get_default_graph().gradient_override_map({"IdentityN": gradient_name}):
                carried = tf.identity_n(bundle, name=name)
            values, residuals = carried[: len(values)], carried[len(values) + count :]
    if _tape.could_possibly_record():
        _tape.record_operation(
            gradient_name,
            list(values),
            list(inputs),
            lambda *cotangents: pull_back(values, as_tensors(cotangents), inputs, residuals),
        )
    return list(values)


def with_static_shape(tensor, shape):
    """`tensor`, known to have the static `shape`; the tensor given is left as it is."""
    known = tensor.shape
    if tf.executing_eagerly() or shape.ndims is None:
        return tensor
    if known.ndims is not None and known.as_list() == known.merge_with(shape).as_list():
        return tensor
    shaped = tf.identity(tensor)
    shaped.set_shape(shape)
    return shaped


def is_zero(cotangent):
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


def detached(tensors):
    """The same values, which no tape, forward accumulator or `tf.gradients` follows back.

    What is computed from them may be differentiated on the way to `with_pull_back`, which stops all
    recording where it computes; tapes around see nothing of that. And `tf.gradients` finds no path
    through what is computed: were a v1 while loop on one, it would ask for the loop's gradient,
    even where the result has a gradient of its own.
    """
    with _tape.stop_recording():
        return [_without_path(tensor) for tensor in tensors]


def _without_path(tensor):
    if not tensor.dtype.is_floating:
        return tf.identity(tensor)
    return tf.bitcast(tf.bitcast(tensor, _INTEGERS[tensor.dtype.size]), tensor.dtype.base_dtype)
