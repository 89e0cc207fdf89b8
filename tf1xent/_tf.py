"""The seam: the one file that knows TensorFlow's private modules and that its versions differ.

Everything else in the package imports ``tf`` from here (the ``tensorflow.compat.v1`` names, which
all supported versions share) and calls the functions below. What a TensorFlow can do is probed, not
looked up by version number.

The central tool is `primitive`: a value computed by stock ops whose gradient is not the one that
TensorFlow would derive from those ops, but a closed form of ours. In graphs the gradient rides on
an ``IdentityN`` op that names it in its ``_gradient_op_type`` attribute, so that it survives export
and import; under eager tapes and forward accumulators, which do not look at that attribute, the
operation is recorded by hand.
"""

import functools
import importlib
import inspect
from typing import Any, Callable, TypeVar

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops, tensor_util
from tensorflow.python.ops import gen_array_ops, gen_nn_ops, nn_ops
from tensorflow.python.util import deprecation, dispatch


def _module_if_there(name):
    try:
        return importlib.import_module("tensorflow.python." + name)
    except ImportError:
        return None


# What gradient tapes record: moved in 2.12. 1.13 has no `config`, 1.x no forward mode.
tape = _module_if_there("eager.record") or _module_if_there("eager.tape")
config = _module_if_there("framework.config")
forwardprop = _module_if_there("eager.forwardprop")

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"
GUARD_OP = "PreventGradient"

_Function = TypeVar("_Function", bound=Callable[..., Any])

_GRADIENT_ATTRIBUTE = "_gradient_op_type"


def version():
    """Returns the version string of the TensorFlow in this process."""
    return tf.VERSION if hasattr(tf, "VERSION") else tf.version.VERSION


# --- The gradient registry --------------------------------------------------------------------


def _registry():
    return ops._gradient_registry._registry


def register_gradient(name, function):
    """Registers `function` as the gradient named `name`; a second time, replaces it."""
    _registry().pop(name, None)
    ops.RegisterGradient(name)(function)


def gradient_entry(name):
    """Returns the registry's own entry for `name`, to be put back later as the very same object."""
    return _registry().get(name)


def set_gradient_entry(name, entry):
    """Puts an entry that `gradient_entry` returned back in its place."""
    _registry()[name] = entry


def entry_function(entry):
    """Returns the gradient function in a registry entry, or None where there is no entry."""
    return None if entry is None else entry["type"]


def forget_forward_mode_traces():
    """Makes forward mode look gradients up anew: it keeps traces of those that it once found."""
    cache = getattr(forwardprop, "_jvp_function_cache", None)
    if cache is not None:  # 2.13 and later
        cache.clear()
        return
    for name in ("_jvp_exact_shapes", "_jvp_relaxed_shapes"):
        traced = getattr(forwardprop, name, None)
        if traced is not None:
            traced._function_cache = type(traced._function_cache)()


def gradient_attribute(op):
    """Returns the gradient name that `op`, an operation or a NodeDef, carries, or None."""
    if isinstance(op, tf.NodeDef):
        return op.attr[_GRADIENT_ATTRIBUTE].s.decode() if _GRADIENT_ATTRIBUTE in op.attr else None
    try:
        name = op.get_attr(_GRADIENT_ATTRIBUTE)
    except ValueError:
        return None
    return name.decode() if isinstance(name, bytes) else name


def set_gradient_attribute(op, name):
    """Makes `op` carry the gradient name `name`; None takes the attribute away."""
    if isinstance(op, tf.NodeDef):
        if name is None:
            del op.attr[_GRADIENT_ATTRIBUTE]
        else:
            op.attr[_GRADIENT_ATTRIBUTE].s = name.encode()
        return
    if name is None:
        if hasattr(op, "_clear_attr"):
            op._clear_attr(_GRADIENT_ATTRIBUTE)
            return
        name = op.type  # the registry's entry for the op type is what no attribute means
    encoded = name.encode()
    op._set_attr(_GRADIENT_ATTRIBUTE, tf.AttrValue(s=encoded))


def names_own_gradient(op_type):
    """Whether a `gradient_override_map` in force names `op_type`; eagerly there is none."""
    if tf.executing_eagerly():
        return False
    return op_type in tf.get_default_graph()._gradient_override_map


def op_type(op):
    """The type of an operation or a NodeDef."""
    return op.op if isinstance(op, tf.NodeDef) else op.type


def gradient_sites(graph):
    """Yields (holder, its ops) for `graph` and the functions that it holds, with theirs.

    A function holds the graph that it was traced in, and a definition, from which TF 1.x builds
    that graph anew for each gradient of a v2 cond or while loop: then its ops are NodeDefs.
    """
    seen = {id(graph)}
    pending = [graph]
    while pending:
        part = pending.pop()
        yield part, part.get_operations()
        for function in list(getattr(part, "_functions", {}).values()):
            definition = getattr(function, "__dict__", {}).get("definition")
            if definition is not None and id(function) not in seen:
                seen.add(id(function))
                yield function, definition.node_def
            body = getattr(function, "graph", None) or getattr(function, "_func_graph", None)
            if body is not None and id(body) not in seen:
                seen.add(id(body))
                pending.append(body)


# TensorFlow's own gradient functions, as they were when this module was imported.
STOCK_GRADIENTS = {
    op_type: entry_function(gradient_entry(op_type)) for op_type in (SPARSE_OP, DENSE_OP, GUARD_OP)
}

# Ops that hand a tensor on, and those by which it comes in from another graph or a stack.
_HANDING_ON = ("Identity", "Switch", "RefSwitch", "Enter", "RefEnter", "Merge", "Exit")
_COMING_IN = ("Placeholder", "StackPopV2", "StackPop", "TensorListPopBack", "Arg", "_Arg")


def guards_cross_entropy(op):
    """Whether a PreventGradient op guards the second output of a fused cross-entropy op.

    Inside loops and functions that output comes in from elsewhere; there the guard's own message,
    which names the function, tells.
    """
    if isinstance(op, tf.NodeDef):
        return _names_cross_entropy(op.attr["message"].s)
    tensor = None if tf.executing_eagerly() else op.inputs[0]
    while tensor is not None and tensor.op.type in _HANDING_ON:
        tensor = tensor.op.inputs[0]
    if tensor is not None and tensor.op.type not in _COMING_IN:
        return tensor.op.type in (SPARSE_OP, DENSE_OP) and tensor.value_index == 1
    return _names_cross_entropy(op.get_attr("message"))


def _names_cross_entropy(message):
    message = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
    return "softmax_cross_entropy_with_logits" in message


# --- Values with a gradient of their own ------------------------------------------------------


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

        def pull_back(value, cotangent, inputs, residuals):
            cotangent = with_static_shape(cotangent, value.shape)
            return list(gradient(cotangent, tuple(inputs), tuple(residuals)))

        def registered(op, cotangent, *_):
            # Residuals are read from the outputs: nothing else uses those, so that TensorFlow may
            # hand their buffers on to the first op that reads them.
            inputs, residuals = op.inputs[1 : 1 + count], op.outputs[1 + count :]
            gradients = pull_back(op.outputs[0], cotangent, inputs, residuals)
            return [None] + gradients + [None] * len(residuals)

        register_gradient(gradient_name, registered)

        @functools.wraps(compute)
        def apply(*inputs, **constants):
            name = constants.pop("name", None)
            with tape.stop_recording():
                with tf.name_scope(gradient_name):
                    value, residuals = compute(*inputs, **constants)
                if not tf.executing_eagerly():
                    with tf.get_default_graph().gradient_override_map({"IdentityN": gradient_name}):
                        carried = tf.identity_n([value] + list(inputs) + list(residuals), name=name)
                    value, residuals = carried[0], carried[1 + count :]
            if tape.could_possibly_record():
                tape.record_operation(
                    gradient_name,
                    [value],
                    list(inputs),
                    lambda cotangent: pull_back(value, cotangent, inputs, residuals),
                )
            return value

        return apply

    return decorate


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


# --- Stock ops under their several names ------------------------------------------------------

# tf.where of operands of one shape; 1.15 warns of its own tf.where, 1.13 has no other.
where = getattr(tf, "where_v2", None) or tf.where


def put(vector, positions, values, increments):
    """`vector` with `values` at `positions`; `increments` are what it lacks of them there.

    Updated in place where TensorFlow may; 1.13's op for that fails on a vector of one number.
    """
    update = getattr(tf, "tensor_scatter_nd_update", None)
    if update is not None:
        return update(vector, positions[:, tf.newaxis], values)
    shape = tf.shape(vector, out_type=positions.dtype)
    return vector + tf.scatter_nd(positions[:, tf.newaxis], increments, shape)


def multiply_no_nan(values, weights):
    """`values * weights`, 0 wherever the weight is 0, whatever the value (1.13 has no such op)."""
    if hasattr(tf.math, "multiply_no_nan"):
        return tf.math.multiply_no_nan(values, weights)
    return where(tf.equal(weights, 0), tf.zeros_like(values), values * weights)


def sum_to_shape(gradient, operand):
    """Sums `gradient` over the axes along which `operand` was broadcast to its shape."""
    known = operand.shape.is_fully_defined() and gradient.shape.is_fully_defined()
    if known and gradient.shape.as_list() == operand.shape.as_list():
        return gradient
    shape = tf.shape(operand)
    axes, _ = gen_array_ops.broadcast_gradient_args(shape, tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), shape)


def stock_sparse_op(logits, labels, name=None):
    """TensorFlow's own fused op, not differentiated: its loss, one number per row."""
    return gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, labels, name=name)[0]


def op_determinism_enabled():
    """Whether the user asked TensorFlow for deterministic ops (2.8 and later)."""
    enabled = getattr(config, "is_op_determinism_enabled", None)
    return bool(enabled is not None and enabled())


# --- TensorFlow's own functions, and ours in their place ----------------------------------------

# TensorFlow's functions, by their name in `nn_ops`: what is exported, and where, varies.
SPARSE_FUNCTIONS = (
    "sparse_softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits_v2",
)
DENSE_STOPPED_FUNCTIONS = ("softmax_cross_entropy_with_logits",)
DENSE_FUNCTIONS = (
    "softmax_cross_entropy_with_logits_v2_helper",
    "softmax_cross_entropy_with_logits_v2",
)

# As they were when this module was imported.
STOCK_FUNCTIONS = {
    name: getattr(nn_ops, name)
    for name in SPARSE_FUNCTIONS + DENSE_STOPPED_FUNCTIONS + DENSE_FUNCTIONS
    if hasattr(nn_ops, name)
}


def stock_public_function(name):
    """TensorFlow's function that `tf.compat.v1.nn` has under `name`."""
    # There the one with labels that get a gradient goes by another name than in `nn_ops`.
    return STOCK_FUNCTIONS.get(name + "_helper", STOCK_FUNCTIONS[name])


def lookup_deprecated_axis(axis, dim):
    """The one of `axis` and its old name `dim` that is given; ValueError if both are."""
    return deprecation.deprecated_argument_lookup("axis", axis, "dim", dim)


def as_drop_in(stock_name: str) -> Callable[[_Function], _Function]:
    """Decorator: gives a function the signature of TensorFlow's function on this TensorFlow."""

    def decorate(implementation):
        return drop_in(
            stock_public_function(stock_name), implementation, documentation=implementation
        )

    return decorate


def drop_in(stock, implementation, documentation=None, uses_stock=lambda: False):
    """Returns `implementation` with the signature, the refusals and the dispatch of `stock`.

    The result bears the name and the docstring of `documentation`, by default those of `stock`.
    Where ``uses_stock()`` is true, a call goes to `stock` instead.
    """
    documentation = documentation or stock
    signature = inspect.signature(stock)
    earlier_dispatcher = getattr(stock, "_tf_type_based_dispatcher", None)

    def replacement(*args, **kwargs):
        if earlier_dispatcher is not None:  # for types that were registered with TensorFlow's own
            result = earlier_dispatcher.Dispatch(args, kwargs)
            if result is not NotImplemented:
                return result
        arguments = signature.bind(*args, **kwargs).arguments
        refused = arguments.pop("_sentinel", None) is not None or any(
            arguments.get(name) is None for name in ("labels", "logits")
        )
        if refused or uses_stock():
            return stock(*args, **kwargs)
        return implementation(**arguments)

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(replacement, attribute, getattr(documentation, attribute))
    setattr(replacement, "__signature__", signature)  # noqa: B010 - functions have no such field
    if hasattr(tf, "autograph") and hasattr(tf.autograph.experimental, "do_not_convert"):
        replacement = tf.autograph.experimental.do_not_convert(replacement)
    if hasattr(dispatch, "add_dispatch_support"):
        replacement = dispatch.add_dispatch_support(replacement)
    for attribute in ("_tf_api_names", "_tf_api_names_v1"):  # where TensorFlow exports it
        if hasattr(stock, attribute):
            setattr(replacement, attribute, getattr(stock, attribute))
    return replacement


def raise_as_stock(name, tensors):
    """Calls TensorFlow's own function on tensors like these, for the error that it raises.

    So that a refusal has the type and the wording of the TensorFlow at hand. Returns if it accepts
    them.
    """
    stock = stock_public_function(name)
    if tf.executing_eagerly():
        stock(**tensors)
        return
    with tf.Graph().as_default():
        stock(**{key: tf.placeholder(t.dtype, t.shape, key) for key, t in tensors.items()})
