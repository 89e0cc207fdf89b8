"""TensorFlow's own cross-entropy functions, and ours in their place."""

import functools
import inspect
from typing import Any, Callable, Sequence, TypeVar

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import nn_ops
from tensorflow.python.ops.losses import losses_impl
from tensorflow.python.util import deprecation, dispatch, tf_decorator, tf_export

from tf1xent._tf.process import kept_in_process

# TensorFlow's functions refuse a None, or nothing, for these in words of their own.
_REQUIRED = ("labels", "logits")

_Function = TypeVar("_Function", bound=Callable[..., Any])

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

# As they were when the process first imported this module: later ours may stand there.
STOCK_FUNCTIONS = kept_in_process(
    "stock functions",
    lambda: {
        name: getattr(nn_ops, name)
        for name in SPARSE_FUNCTIONS + DENSE_STOPPED_FUNCTIONS + DENSE_FUNCTIONS
        if hasattr(nn_ops, name)
    },
)


# By name, what Keras' functional models look up when they are loaded; 1.x has no such models.
EXPORTED_FUNCTIONS = getattr(tf_export, "_NAME_TO_SYMBOL_MAPPING", None)
EXPORTS_MODULE = tf_export.__name__


def stock_public_function(name):
    """TensorFlow's function that `tf.compat.v1.nn` has under `name`."""
    # There the one with labels that get a gradient goes by another name than in `nn_ops`.
    return STOCK_FUNCTIONS.get(name + "_helper", STOCK_FUNCTIONS[name])


def is_stock_function(name):
    """Whether `name` is that of a cross-entropy of `tf.compat.v1.nn`, or "tf.losses." and one."""
    return name.startswith("tf.losses.") or bool({name, name + "_helper"} & STOCK_FUNCTIONS.keys())


# TensorFlow's reduced losses, likewise.
STOCK_LOSSES = kept_in_process(
    "stock losses",
    lambda: {
        name: getattr(losses_impl, name)
        for name in ("sparse_softmax_cross_entropy", "softmax_cross_entropy")
    },
)


def convert_to_tensor(value, name=None, preferred_dtype=None):
    """tf.convert_to_tensor without dispatch on types: what Keras means to take whole raises."""
    return ops.convert_to_tensor(value, name=name, preferred_dtype=preferred_dtype)


def remove_squeezable_dimensions(labels, logits, weights):
    """Labels or weights with an axis of size 1 too many lose it, as in tf.losses."""
    return losses_impl._remove_squeezable_dimensions(labels, logits, weights, expected_rank_diff=1)


def note_loss_reduction(reduction):
    """Leaves a note of a loss's reduction where optimizers look for it when there are replicas."""
    ops.get_default_graph()._last_loss_reduction = reduction


def lookup_deprecated_axis(axis, dim):
    """The one of `axis` and its old name `dim` that is given; ValueError if both are."""
    return deprecation.deprecated_argument_lookup("axis", axis, "dim", dim)


def as_drop_in(stock_name: str) -> Callable[[_Function], _Function]:
    """Decorator: gives a function the signature of TensorFlow's function on this TensorFlow.

    Arguments of the function that are keyword-only, TensorFlow's has not; they are kept.
    """

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
    own = [] if documentation is None else _keyword_only(documentation)
    documentation = documentation or stock
    signature = inspect.signature(stock)
    required = [name for name in signature.parameters if name.split("_")[-1] in _REQUIRED]
    earlier_dispatcher = getattr(stock, "_tf_type_based_dispatcher", None)

    def replacement(*args, **kwargs):
        ours = {p.name: kwargs.pop(p.name) for p in own if p.name in kwargs}
        if earlier_dispatcher is not None:  # for types that were registered with TensorFlow's own
            result = earlier_dispatcher.Dispatch(args, kwargs)
            if result is not NotImplemented:
                return result
        arguments = signature.bind(*args, **kwargs).arguments
        refused = arguments.pop("_sentinel", None) is not None or any(
            arguments.get(name) is None for name in required
        )
        if refused or uses_stock():
            return stock(*args, **kwargs)
        return implementation(**arguments, **ours)

    shown = signature.replace(parameters=[*signature.parameters.values(), *own])
    _dress(replacement, documentation, shown)
    return _exported_as(stock, _dispatched(not_converted(replacement), {p.name for p in own}))


def taken_whole(
    exported: str = "", closed_over: Sequence[str] = ("implementation",)
) -> Callable[[_Function], _Function]:
    """Decorator: dispatch on types takes the function as a whole, wherever it is called from.

    Functional Keras models of TF 2.x make one layer of it. Else they make one of every op in it,
    and the gradient, which belongs to the whole, is lost. For that the function has to convert its
    labels and logits with `convert_to_tensor` of this module before it does anything else with
    them. `exported` is the function in `nn_ops` or of tf.losses under whose exported name a saved
    model finds the layer's function again. That function lacks the keyword arguments
    `closed_over`, so each choice of them gets a function of its own.
    """

    def decorate(function):
        if not hasattr(dispatch, "add_dispatch_support"):
            return not_converted(function)
        wholes = {}

        @functools.wraps(function)
        def call(*args, **kwargs):
            fixed = {name: kwargs.pop(name) for name in closed_over if name in kwargs}
            choice = tuple(fixed.items())
            if choice not in wholes:
                wholes[choice] = _whole(function, fixed, exported)
            return wholes[choice](*args, **kwargs)

        return not_converted(call)

    return decorate


def _whole(function, fixed, exported):
    def compute(*args, **kwargs):
        return function(*args, **fixed, **kwargs)

    # TF 2.11's dispatch refuses keyword-only arguments.
    signature = inspect.signature(function)
    parameters = [
        p.replace(kind=p.POSITIONAL_OR_KEYWORD) if p.kind == p.KEYWORD_ONLY else p
        for p in signature.parameters.values()
    ]
    _dress(compute, function, signature.replace(parameters=parameters))
    stock = {**STOCK_FUNCTIONS, **STOCK_LOSSES}.get(exported)
    return _exported_as(stock, dispatch.add_dispatch_support(not_converted(compute)))


def _dress(function, like, signature):
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(function, attribute, getattr(like, attribute))
    setattr(function, "__signature__", signature)  # noqa: B010 - functions have no such field


def _exported_as(stock, function):
    """`function`, under the names under which TensorFlow exports `stock`."""
    undecorated = tf_decorator.unwrap(stock)[1], tf_decorator.unwrap(function)[1]
    for attribute in ("_tf_api_names", "_tf_api_names_v1"):
        for theirs, ours in ((stock, function), undecorated):
            if hasattr(theirs, attribute):
                setattr(ours, attribute, getattr(theirs, attribute))
    return function


def _dispatched(function, own):
    """`function` with TensorFlow's dispatch on types, where there is one.

    Calls with arguments of our `own` go without: TF 2.11's dispatch refuses keyword-only ones.
    """
    if not hasattr(dispatch, "add_dispatch_support"):
        return function
    dispatched = dispatch.add_dispatch_support(function)
    if not own:
        return dispatched

    @functools.wraps(dispatched)
    def replacement(*args, **kwargs):
        called = dispatched if own.isdisjoint(kwargs) else function
        return called(*args, **kwargs)

    return not_converted(replacement)


def _keyword_only(function):
    parameters = inspect.signature(function).parameters.values()
    return [parameter for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]


def not_converted(function: _Function) -> _Function:
    """Decorator: AutoGraph leaves the function, and what it calls, as they are."""
    if hasattr(tf, "autograph") and hasattr(tf.autograph.experimental, "do_not_convert"):
        return tf.autograph.experimental.do_not_convert(function)
    return function  # on 1.13 only what is handed to AutoGraph is converted


def raise_as_stock(name, tensors, axis=-1):
    """Calls TensorFlow's own function on tensors like these, for the error that it raises.

    So that a refusal has the type and the wording of the TensorFlow at hand. Returns if it accepts
    them, or cannot be asked: tf.losses know no axis.
    """
    module, _, loss = name.rpartition(".")
    stock = STOCK_LOSSES[loss] if module else stock_public_function(name)
    known = inspect.signature(stock).parameters
    if axis != -1 and "axis" not in known:
        return
    arguments = {"axis": axis} if axis != -1 else {}
    if "onehot_labels" in known:
        tensors = {"onehot_labels": tensors["labels"], "logits": tensors["logits"]}
    if tf.executing_eagerly():
        stock(**tensors, **arguments)
        return
    with tf.Graph().as_default():
        inputs = {key: tf.placeholder(t.dtype, t.shape, key) for key, t in tensors.items()}
        stock(**inputs, **arguments)
