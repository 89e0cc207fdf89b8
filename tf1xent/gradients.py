"""Gradients for TensorFlow's own fused ops: exact from the second order on, the first untouched.

``SparseSoftmaxCrossEntropyWithLogits`` and ``SoftmaxCrossEntropyWithLogits`` return the loss and,
as a second output, its gradient. TensorFlow's first-order gradient is that output times the
incoming gradient, and stays so here, bit by bit. What changes is the derivative of the second
output, which TensorFlow 1.x refuses, and which is wrong in the labels for the dense op:

    d <v, output 1> / d logits = S H(x) v        S = 1 for the sparse op
    d <v, output 1> / d labels = <p, v> - v      dense op only

The functions are registered under public names of their own (`SPARSE_GRADIENT`, `DENSE_GRADIENT`,
`GUARD_GRADIENT`) when tf1xent is imported, for ``graph.gradient_override_map`` and for saved graphs
that carry the names. `override_gradients` makes them TensorFlow's default.
"""

import threading
import warnings
import weakref
from typing import Any, Callable, List, Optional, Set, Tuple

from tf1xent import _tf
from tf1xent._math import softmax
from tf1xent._math.dtypes import is_half
from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Tensor
from tf1xent.errors import MissingDerivativeError, PatchConflictWarning

__all__ = [
    "DENSE_GRADIENT",
    "GUARD_GRADIENT",
    "SPARSE_GRADIENT",
    "override_gradients",
    "restore_gradients",
]

# By op type; "tag" of `tf1xent.graphs` gives the same names.
GRADIENT_NAMES = _tf.GRADIENT_NAMES
SPARSE_GRADIENT = GRADIENT_NAMES[_tf.SPARSE_OP]
DENSE_GRADIENT = GRADIENT_NAMES[_tf.DENSE_OP]
GUARD_GRADIENT = GRADIENT_NAMES[_tf.GUARD_OP]


def _input(op: Operation, index: int, what: str) -> Tensor:
    """An input of `op`. Eager tapes keep only the inputs that TensorFlow's own gradient needs."""
    tensor = None if op.inputs is None else op.inputs[index]
    if tensor is None:
        raise MissingDerivativeError(
            f"{op.type}: a second derivative needs the {what}, which this eager tape has not kept. "
            "Compute the loss with tf1xent.nn, or after tf1xent.patch()."
        )
    return tensor


def _times_rows(row_factors: Tensor, matrix: Tensor) -> Tensor:
    # The same ops in the same order as in TensorFlow's own gradient keep first-order values
    # bit-identical.
    return tf.expand_dims(row_factors, -1) * matrix


def _sum(first: Optional[Tensor], second: Tensor) -> Tensor:
    return second if first is None else first + second


@_tf.gradient_of(SPARSE_GRADIENT)
def _sparse_gradient(
    op: Operation, loss_cotangent: Optional[Tensor], backprop_cotangent: Optional[Tensor]
) -> Tuple[Optional[Tensor], None]:
    in_logits = None
    if loss_cotangent is not None:
        in_logits = _times_rows(loss_cotangent, _tf.in_place_of_guard(op))
    if not _tf.is_zero(backprop_cotangent):
        logits = _input(op, 0, "logits")
        backprop_cotangent = _tf.with_static_shape(backprop_cotangent, op.outputs[1].shape)
        one = tf.ones_like(backprop_cotangent[:, 0])
        second = hessian_product(logits, backprop_cotangent, one)
        in_logits = _sum(in_logits, second)
    return in_logits, None


@_tf.gradient_of(DENSE_GRADIENT)
def _dense_gradient(
    op: Operation, loss_cotangent: Optional[Tensor], backprop_cotangent: Optional[Tensor]
) -> Tuple[Optional[Tensor], Optional[Tensor]]:
    logits = _input(op, 0, "logits")
    in_logits = in_labels = None
    if loss_cotangent is not None:
        in_logits = _times_rows(loss_cotangent, op.outputs[1])
        in_labels = _times_rows(loss_cotangent, -tf.nn.log_softmax(logits))
    if not _tf.is_zero(backprop_cotangent):
        backprop_cotangent = _tf.with_static_shape(backprop_cotangent, op.outputs[1].shape)
        shape = tf.shape(backprop_cotangent)
        rows = _tf.broadcast_to(logits, shape)
        second = hessian_product(rows, backprop_cotangent, _labels_sum(op, shape))
        in_logits = _sum(in_logits, second)
        in_labels = _sum(in_labels, -centre(rows, backprop_cotangent))
    labels = op.inputs[1]
    in_logits = _tf.sum_to_shape(in_logits, logits)
    return in_logits, in_labels if labels is None else _tf.sum_to_shape(in_labels, labels)


def _labels_sum(op: Operation, shape: Tensor) -> Tensor:
    """S of each row. Eager tapes of TF 2.x keep no labels; there it is 1 - sum of TF's p - l."""
    if op.inputs[1] is None:
        return 1 - tf.reduce_sum(tf.stop_gradient(op.outputs[1]), axis=1)
    return tf.reduce_sum(_tf.broadcast_to(op.inputs[1], shape), axis=1)


def _in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` of tensors that are half or bfloat16, computed in float32 and cast back."""

    def apply(*tensors: Tensor) -> Tensor:
        dtype = tensors[0].dtype.base_dtype
        if not is_half(tensors[0]):
            return function(*tensors)
        return tf.cast(function(*(tf.cast(t, tf.float32) for t in tensors)), dtype)

    return apply


hessian_product = _in_float32(softmax.hessian_product)
centre = _in_float32(softmax.centre)


# The gradient name of ops whose higher derivatives need gradients that TensorFlow lacks.
FILLING_GRADIENT = _tf.gradient_name("HigherOrders")


def _fillable() -> Set[str]:
    """The op types for which TensorFlow lacks a gradient, and those whose gradient makes them."""
    gaps = _tf.filled_gaps()
    return set(gaps).union(*gaps.values())


@_tf.gradient_of(FILLING_GRADIENT)
def _filling_gradient(op: Operation, *cotangents: Optional[Tensor]) -> Any:
    """TensorFlow's gradient of the op, or ours if it lacks one, fit for further derivatives."""
    ours = op.type in _tf.filled_gaps()
    function = _tf.gradient_to_call(_tf.gradient_name(op.type) if ours else op.type)
    if function is None:
        raise LookupError(f"No gradient defined for operation '{op.name}' (op type: {op.type})")
    own = {t: FILLING_GRADIENT for t in _fillable() if not _tf.names_own_gradient(t)}
    with tf.get_default_graph().gradient_override_map(own):
        return function(op, *cotangents)


@_tf.gradient_of(GUARD_GRADIENT)
def _guard_gradient(op: Operation, cotangent: Tensor) -> Optional[Tensor]:
    """Passes the gradient on if the guarded tensor's own gradient is one of ours."""
    if _tf.guards_what_has_a_gradient(op):
        return cotangent
    return _tf.STOCK_GRADIENTS[_tf.GUARD_OP](op, cotangent)


# --- Where TensorFlow looks gradients up ------------------------------------------------------

_lock = threading.RLock()
# By graph or function: the names of its ops that carry the attribute set here.
_graph_ops: "weakref.WeakKeyDictionary[Any, Set[str]]" = _tf.kept_in_process(
    "graphs with our gradients", weakref.WeakKeyDictionary
)


def override_gradients(graph: Optional[Graph] = None) -> None:
    """Corrects the second and higher derivatives of TensorFlow's own cross-entropy ops.

    Use it where first-order numbers must stay TensorFlow's, or where a graph exists already;
    `tf1xent.patch` makes values and first derivatives exact too. The ops, their values and their
    first-order gradients stay the same, bit by bit. No op is added to any graph, and first-order
    gradients have as many ops as TensorFlow's, so that random ops keep their seeds. Gradients built
    after the call, with `tf.gradients`, `tf.hessians` or a tape, can be differentiated to any
    order. This includes graphs that were built or imported before the call, and the gradient
    tensors that they hold::

        H v = S p (v - <p, v>)      d2 loss / d labels d logits = p - e_j

    For dense labels that do not sum to 1, S != 1, TensorFlow's first-order gradient ``p - l``
    stays, though the exact one is ``S p - l``; second derivatives are those of the loss.
    `tf1xent.patch` makes the first order exact too.

    Args:
      graph: a `tf.Graph`. Only the ops that it and its functions hold now are changed, by their
        gradient attribute, which is saved with the graph. Default: every graph of the process, and
        eager tapes, by TensorFlow's gradient registry.

    **Derivatives**: of every order, in logits and (dense op) labels. Under an eager tape TensorFlow
      keeps only what its own gradient needs: the sparse op on TF 1.x then raises LookupError for a
      second derivative, and the dense op on TF 2.x treats S as a constant from the third order on.

    Raises:
      TypeError: `graph` is not a `tf.Graph`.

    Warns:
      PatchConflictWarning: other code has replaced one of TensorFlow's gradients in the process's
        registry. Ours takes its place until `restore_gradients`.

    Returns:
      None. Repeating the call is harmless; with `graph` it includes ops added since.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> with tf.Graph().as_default() as graph, tf.Session() as session:
    ...     logits = tf.constant([[0.0, 0.0]])
    ...     loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)
    ...     tf1xent.override_gradients(graph)
    ...     print(session.run(tf.hessians(loss, logits)[0][0, :, 0]))
    [[ 0.25 -0.25]
     [-0.25  0.25]]

    Source: the formulas are derived in `tf1xent._math.softmax`.
    """
    with _lock:
        if graph is None:
            _override_process()
            return
        _check_graph("override_gradients", graph)
        names_by_type = dict.fromkeys(_fillable(), FILLING_GRADIENT)
        names_by_type.update({t: _tf.gradient_name(t) for t in _tf.STOCK_GRADIENTS})
        for holder, ops in _tf.gradient_sites(graph):
            names = _graph_ops.setdefault(holder, set())
            for op in ops:
                op_type = _tf.op_type(op)
                if op_type not in names_by_type or _tf.gradient_attribute(op) is not None:
                    continue
                if op_type == _tf.GUARD_OP and not _tf.guards_what_has_a_gradient(op):
                    continue
                _tf.set_gradient_attribute(op, names_by_type[op_type])
                names.add(op.name)


def restore_gradients(graph: Optional[Graph] = None) -> None:
    """Undoes `override_gradients`: the gradient functions that were there before are back.

    Args:
      graph: as given to `override_gradients`; default: the process.

    Gradients built before the call stay as they are. While `tf1xent.patch` is in force, the
    process's gradients stay overridden, because the patch includes them.

    Raises:
      TypeError: `graph` is not a `tf.Graph`.

    Warns:
      PatchConflictWarning: other code has replaced one of the gradients since the override. Its
        gradient stays.

    Returns:
      None. Without an override it does nothing.

    Example:

    >>> import tf1xent
    >>> tf1xent.override_gradients()
    >>> tf1xent.restore_gradients()
    """
    with _lock:
        if graph is None:
            conflicts = _tf.release_process_override("override_gradients")
            warn_of_conflicts("restore_gradients", conflicts, stacklevel=3)
            return
        _check_graph("restore_gradients", graph)
        for holder, ops in _tf.gradient_sites(graph):
            names = _graph_ops.pop(holder, set())
            for op in ops:
                if op.name in names:
                    _tf.set_gradient_attribute(op, None)


def _check_graph(function: str, graph: Graph) -> None:
    if not isinstance(graph, tf.Graph):
        raise TypeError(
            f"{function}: `graph` must be a tf.Graph, got {type(graph).__name__}. "
            "For the whole process leave it out."
        )


def _override_process() -> None:
    name = "override_gradients"
    newly, conflicts = _tf.hold_process_override(name)
    try:
        warn_of_conflicts(name, conflicts, stacklevel=4)
    except BaseException:  # a warning, where those are errors
        if newly:
            _tf.release_process_override(name)
        raise


def warn_of_conflicts(function: str, conflicts: List[str], stacklevel: int) -> None:
    """Warns of each conflict. Call it last, because a warning may be an error."""
    for conflict in conflicts:
        warnings.warn(f"{function}: {conflict}.", PatchConflictWarning, stacklevel=stacklevel)
