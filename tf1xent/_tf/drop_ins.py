"""TensorFlow's own cross-entropy functions, and ours in their place."""

import functools
import inspect
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, TypeVar, cast

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import nn_ops
from tensorflow.python.ops.losses import losses_impl
from tensorflow.python.util import deprecation, dispatch, tf_decorator, tf_export

from tf1xent._tf.process import kept_in_process
from tf1xent._typing import DType, Name, Tensor, TensorLike

# TensorFlow's functions refuse None, or no value, for these with errors of their own.
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

# Recorded when the process first imports this module; later they may be replaced by ours.
STOCK_FUNCTIONS = kept_in_process(
    "stock functions",
    lambda: {
        name: getattr(nn_ops, name)
        for name in SPARSE_FUNCTIONS + DENSE_STOPPED_FUNCTIONS + DENSE_FUNCTIONS
        if hasattr(nn_ops, name)
    },
)


# Keras' functional models look functions up here by name when they are loaded. 1.x has no such
# models.
EXPORTED_FUNCTIONS = getattr(tf_export, "_NAME_TO_SYMBOL_MAPPING", None)
EXPORTS_MODULE = tf_export.__name__


def stock_public_function(name: str) -> Callable[..., Any]:
    """TensorFlow's function that `tf.compat.v1.nn` has under `name`."""
    # The one that differentiates in the labels has another name in `nn_ops`.
    return STOCK_FUNCTIONS.get(name + "_helper", STOCK_FUNCTIONS[name])


def is_stock_function(name: str) -> bool:
    """Whether TensorFlow has a cross-entropy `name` in `tf.compat.v1.nn`, or "tf.losses.NAME"."""
    return name.startswith("tf.losses.") or bool({name, name + "_helper"} & STOCK_FUNCTIONS.keys())


# TensorFlow's reduced losses, recorded in the same way.
STOCK_LOSSES = kept_in_process(
    "stock losses",
    lambda: {
        name: getattr(losses_impl, name)
        for name in ("sparse_softmax_cross_entropy", "softmax_cross_entropy")
    },
)


def convert_to_tensor(
    value: TensorLike, name: Name = None, preferred_dtype: Optional[DType] = None
) -> Tensor:
    """tf.convert_to_tensor without dispatch on types; symbolic tensors of Keras raise TypeError."""
    return ops.convert_to_tensor(value, name=name, preferred_dtype=preferred_dtype)


def remove_squeezable_dimensions(
    labels: Tensor, logits: Tensor, weights: Optional[Tensor]
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Removes a surplus axis of size 1 from labels or weights, as tf.losses do."""
    return losses_impl._remove_squeezable_dimensions(labels, logits, weights, expected_rank_diff=1)


def note_loss_reduction(reduction: str) -> None:
    """Records a loss's reduction where optimizers look for it when there are replicas."""
    ops.get_default_graph()._last_loss_reduction = reduction


def lookup_deprecated_axis(axis: Optional[int], dim: Optional[int]) -> Optional[int]:
    """The one of `axis` and its old name `dim` that is given; ValueError if both are."""
    return deprecation.deprecated_argument_lookup("axis", axis, "dim", dim)


def as_drop_in(stock_name: str) -> Callable[[_Function], _Function]:
    """Decorator: gives a function the signature of TensorFlow's function on this TensorFlow.

    Keyword-only arguments of the function, which TensorFlow's does not have, are kept.
    """

    def decorate(implementation: _Function) -> _Function:
        return drop_in(
            stock_public_function(stock_name), implementation, documentation=implementation
        )

    return decorate


def drop_in(
    stock: Callable[..., Any],
    implementation: Callable[..., Any],
    documentation: Optional[Callable[..., Any]] = None,
    uses_stock: Callable[[], bool] = lambda: False,
) -> Any:
    """Returns `implementation` with the signature, the refusals and the dispatch of `stock`.

    The result has the name and the docstring of `documentation`, by default of `stock`. If
    ``uses_stock()`` is true, a call goes to `stock`.
    """
    own = [] if documentation is None else _keyword_only(documentation)
    documentation = documentation or stock
    signature = inspect.signature(stock)
    required = [name for name in signature.parameters if name.split("_")[-1] in _REQUIRED]
    earlier_dispatcher = getattr(stock, "_tf_type_based_dispatcher", None)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        ours = {p.name: kwargs.pop(p.name) for p in own if p.name in kwargs}
        if earlier_dispatcher is not None:  # for types registered with TensorFlow's function
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

    Functional Keras models of TF 2.x make one layer of the function. Otherwise they make a layer of
    every op in it, and the gradient, which belongs to the whole, is lost. The function must first
    convert its labels and logits with `convert_to_tensor` of this module.

    `exported` is the function in `nn_ops` or in tf.losses under whose exported name a saved model
    finds the layer's function again. That function does not have the keyword arguments
    `closed_over`, so each choice of their values gets a function of its own.
    """

    def decorate(function: _Function) -> _Function:
        if not hasattr(dispatch, "add_dispatch_support"):
            return not_converted(function)
        wholes = {}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            fixed = {name: kwargs.pop(name) for name in closed_over if name in kwargs}
            choice = tuple(fixed.items())
            if choice not in wholes:
                wholes[choice] = _whole(function, fixed, exported)
            return wholes[choice](*args, **kwargs)

        return cast(_Function, not_converted(call))

    return decorate


def _whole(
    function: Callable[..., Any], fixed: Dict[str, Any], exported: str
) -> Callable[..., Any]:
    def compute(*args: Any, **kwargs: Any) -> Any:
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


def _dress(
    function: Callable[..., Any], like: Callable[..., Any], signature: inspect.Signature
) -> None:
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(function, attribute, getattr(like, attribute))
    setattr(function, "__signature__", signature)  # noqa: B010 - functions have no such field


def _exported_as(
    stock: Optional[Callable[..., Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    """`function`, with the names under which TensorFlow exports `stock`."""
    undecorated = tf_decorator.unwrap(stock)[1], tf_decorator.unwrap(function)[1]
    for attribute in ("_tf_api_names", "_tf_api_names_v1"):
        for theirs, ours in ((stock, function), undecorated):
            if hasattr(theirs, attribute):
                setattr(ours, attribute, getattr(theirs, attribute))
    return function


def _dispatched(function: Callable[..., Any], own: Set[str]) -> Callable[..., Any]:
    """`function` with TensorFlow's dispatch on types, if this TensorFlow has one.

    Calls with our `own` arguments go without it, because TF 2.11's refuses keyword-only ones.
    """
    if not hasattr(dispatch, "add_dispatch_support"):
        return function
    dispatched = dispatch.add_dispatch_support(function)
    if not own:
        return dispatched

    @functools.wraps(dispatched)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        called = dispatched if own.isdisjoint(kwargs) else function
        return called(*args, **kwargs)

    return not_converted(replacement)


def _keyword_only(function: Callable[..., Any]) -> List[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]


def not_converted(function: _Function) -> _Function:
    """Decorator: AutoGraph does not convert the function, nor what it calls."""
    if hasattr(tf, "autograph") and hasattr(tf.autograph.experimental, "do_not_convert"):
        return tf.autograph.experimental.do_not_convert(function)
    return function  # 1.13 converts only functions that are passed to AutoGraph


def raise_as_stock(name: str, tensors: Dict[str, Tensor], axis: Optional[int] = -1) -> None:
    """Calls TensorFlow's own function on tensors like these, for the error that it raises.

    The error then has the type and the wording of the TensorFlow at hand. Returns if the function
    accepts the tensors, or has no argument for the axis, as in tf.losses.
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
