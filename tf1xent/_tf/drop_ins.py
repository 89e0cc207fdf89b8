"""TensorFlow's own cross-entropy functions, and ours in their place."""

import functools
import inspect
from typing import Any, Callable, TypeVar

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import nn_ops
from tensorflow.python.ops.losses import losses_impl
from tensorflow.python.util import deprecation, dispatch

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


def is_stock_function(name):
    """Whether `name` is that of a cross-entropy function of `tf.compat.v1.nn`."""
    return name in STOCK_FUNCTIONS or name + "_helper" in STOCK_FUNCTIONS


# TensorFlow's reduced losses, likewise.
STOCK_LOSSES = {
    name: getattr(losses_impl, name)
    for name in ("sparse_softmax_cross_entropy", "softmax_cross_entropy")
}


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

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(replacement, attribute, getattr(documentation, attribute))
    shown = signature.replace(parameters=[*signature.parameters.values(), *own])
    setattr(replacement, "__signature__", shown)  # noqa: B010 - functions have no such field
    replacement = _dispatched(not_converted(replacement), {p.name for p in own})
    for attribute in ("_tf_api_names", "_tf_api_names_v1"):  # where TensorFlow exports it
        if hasattr(stock, attribute):
            setattr(replacement, attribute, getattr(stock, attribute))
    return replacement


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
