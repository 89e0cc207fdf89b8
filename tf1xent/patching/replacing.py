"""Replaces TensorFlow's functions by those of `tf1xent.nn` in all loaded modules, and back.

TensorFlow holds each of its functions under many names: ``tf.nn``, ``tf.compat.v1.nn``, the modules
that its losses, Keras and distributions call through, and the globals of every module that has
imported one by name. All of them are found by identity, in the modules that are loaded. Code that
holds the function elsewhere (a default argument, a `functools.partial`) or calls the raw op is not
reached, but the gradient override that comes with the patch corrects its derivatives.
"""

import contextlib
import functools
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf, errors, gradients, kernels
from tf1xent._loss.implementation import KERNEL, check_implementation
from tf1xent.losses import cross_entropy
from tf1xent.nn import drop_ins
from tf1xent.patching import rebinding, state
from tf1xent.patching.state import NOTHING, STATE, PatchRequest

__all__ = ["get_original", "is_patched", "patch", "patched", "unpatch"]

# By TensorFlow's function: ours, and the fused op that TensorFlow's builds.
_Implementations = Dict[str, Tuple[Callable[..., Any], str]]
_IMPLEMENTATIONS: _Implementations = {}
for _name in _tf.SPARSE_FUNCTIONS:
    _IMPLEMENTATIONS[_name] = drop_ins.sparse_implementation, _tf.SPARSE_OP
for _name in _tf.DENSE_STOPPED_FUNCTIONS:
    _IMPLEMENTATIONS[_name] = drop_ins.dense_stopped_implementation, _tf.DENSE_OP
for _name in _tf.DENSE_FUNCTIONS:
    _IMPLEMENTATIONS[_name] = drop_ins.dense_implementation, _tf.DENSE_OP

_LOSSES: _Implementations = {
    name: (functools.partial(implementation, function="tf.losses." + name), op_type)
    for name, implementation, op_type in (
        ("sparse_softmax_cross_entropy", cross_entropy.sparse_implementation, _tf.SPARSE_OP),
        ("softmax_cross_entropy", cross_entropy.dense_implementation, _tf.DENSE_OP),
    )
}


def _replacement(stock: Callable[..., Any], ours: Callable[..., Any], op_type: str) -> Any:
    """Returns what stands for TensorFlow's function `stock`, which builds ops of type `op_type`."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        _tf.tell_observers(stock)
        return ours(*args, implementation=state.implementation_in_force(), **kwargs)

    def uses_stock() -> bool:
        # A program's own gradient for the fused op needs the fused op.
        return _tf.names_own_gradient(op_type)

    replacement = _tf.drop_in(stock, compute, uses_stock=uses_stock)
    return functools.update_wrapper(replacement, stock, updated=())


def _replacements(
    stock_functions: Dict[str, Callable[..., Any]], implementations: _Implementations
) -> List[Tuple[Any, Any]]:
    return [
        (stock, _replacement(stock, *implementations[name]))
        for name, stock in stock_functions.items()
    ]


if not state.wanted_layers():  # else a patch by an earlier import of this module is in force
    STATE.replacements["nn"] += _replacements(_tf.STOCK_FUNCTIONS, _IMPLEMENTATIONS)
    STATE.replacements["losses"] += _replacements(_tf.STOCK_LOSSES, _LOSSES)


def patch(
    losses: bool = False, *, implementation: Optional[str] = None, control_flow_v2: bool = False
) -> None:
    """Replaces TensorFlow's softmax cross-entropy functions by those of `tf1xent.nn`, process-wide.

    Use it in a program whose code you do not want to change. In every module that holds one of
    these functions, TensorFlow's own and the program's, ours takes its place under the same name.
    The gradients of TensorFlow's fused ops are overridden as by `tf1xent.override_gradients`, so
    graphs built earlier, and callers that kept the old function, have exact higher derivatives too.
    Inside a `gradient_override_map` of the program that names a fused op, TensorFlow's function
    stays in force.

    Our functions build other ops than TensorFlow's, which has three consequences:

    - TensorFlow derives the seed of a random op that has none of its own from the number of ops in
      the graph. Random ops built after a loss get other seeds than in the unpatched program.
    - A program that looks at the types of ops, such as one with an automatic differentiation of its
      own, finds others.
    - A graph saved while patched runs without tf1xent, with the gradients that it holds. A process
      that builds new gradients of its losses has to ``import tf1xent``.

    See also: `tf1xent.override_gradients`, which corrects derivatives and adds no ops; `patched`,
    for a part of a program.

    Args:
      losses: whether to replace tf.losses.sparse_softmax_cross_entropy and
        tf.losses.softmax_cross_entropy by those of `tf1xent.losses` too. These have the same
        values, but compute in float64 for float64 logits. If not replaced, they call our functions
        for the losses of single rows, and cast those to float32.
      implementation: "graph", "kernel" or "auto", as in
        `tf1xent.nn.sparse_softmax_cross_entropy_with_logits`; default: what the environment
        variable TF1XENT_IMPLEMENTATION says, or "graph".
      control_flow_v2: whether to switch TensorFlow's v2 control flow on. Graphs built from then on
        have functional While and If ops for `tf.while_loop`, `tf.cond`, `tf.map_fn`, `tf.scan` and
        `tf.nn.dynamic_rnn`. These have second derivatives, v1 while loops have none. Build all
        gradients before the first `session.run`: they change the ops that they differentiate. For
        graphs that exist already, see `tf1xent.graphs.rewrite_graph_def`.

    **Derivatives**: those of `tf1xent.nn`; with `control_flow_v2` also through loops.

    Raises:
      TypeError: `control_flow_v2` is not a bool.
      ValueError: another implementation.
      tf1xent.errors.KernelsError: "kernel", and the kernels are not there.
      tf1xent.errors.MissingDerivativeError: `control_flow_v2`, and this TensorFlow cannot
        differentiate its v2 loops twice.
      After an exception nothing is patched. A module that refuses to be changed is left out, and
      `status` names it. If other code has replaced the gradient of a fused op, ours takes its place
      until `unpatch`, and a `tf1xent.errors.PatchConflictWarning` says so.

    Returns:
      None. Repeating the call is harmless: it includes modules imported since, and `losses`, an
      `implementation` or `control_flow_v2` if these are new.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> tf1xent.patch()
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.constant([[20.0, 0.0]])
    ...     loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)
    ...     print("{:.6e}".format(session.run(loss)[0]))
    2.061154e-09
    >>> tf1xent.unpatch()
    """
    request = _request("patch", losses, implementation, control_flow_v2)
    with STATE.lock:
        before = STATE.requested
        kept = before.implementation if implementation is None else implementation
        v2 = before.control_flow_v2 or control_flow_v2
        STATE.requested = PatchRequest(before.layers | request.layers, kept, v2)
        try:
            _install("patch", request, stacklevel=3)
        except BaseException:
            STATE.requested = before
            _remove_unwanted("patch", stacklevel=3)
            raise


def unpatch() -> None:
    """Undoes `patch`: every name holds the same function object as before.

    If other code has replaced one of our functions since, its function stays. If a module refuses
    to be changed back, our function stays there and works as before. A
    `tf1xent.errors.PatchConflictWarning` names both. Control flow v2 is switched back to what it
    was; if other code has switched it since, that stays, with the same warning.

    Returns:
      None. Without a patch it does nothing. While a `with tf1xent.patched()` block is open
      anywhere in the process, the patch stays until that ends.

    Example:

    >>> import tf1xent
    >>> tf1xent.patch()
    >>> tf1xent.unpatch()
    >>> tf1xent.is_patched()
    False
    """
    with STATE.lock:
        STATE.requested = NOTHING
        _remove_unwanted("unpatch", stacklevel=3)


@contextlib.contextmanager
def patched(
    losses: bool = False, *, implementation: Optional[str] = None, control_flow_v2: bool = False
) -> Iterator[None]:
    """Context manager: `patch` inside the block; afterwards what was in force before it.

    See also: `patch`, for the rest of the process.

    Args:
      losses: as for `patch`.
      implementation: as for `patch`; default: what is in force outside the block.
      control_flow_v2: as for `patch`; default: what is in force outside the block.

    **Derivatives**: those of `patch`.

    Raises:
      TypeError, ValueError, tf1xent.errors.KernelsError, tf1xent.errors.MissingDerivativeError: as
        `patch`. Exceptions of the block pass through.

    Returns:
      A context manager. Blocks may be nested, and open in several threads. The patch holds for the
      whole process, and ends with the last block.

    Example:

    >>> import tf1xent
    >>> with tf1xent.patched():
    ...     tf1xent.is_patched()
    True
    >>> tf1xent.is_patched()
    False
    """
    block = _request("patched", losses, implementation, control_flow_v2)
    try:
        with STATE.lock:
            STATE.blocks.append(block)
            _install("patched", block, stacklevel=4)
        yield
    finally:
        with STATE.lock:
            state.end_block(block)
            _remove_unwanted("patched", stacklevel=4)


def is_patched(name: Optional[str] = None) -> bool:
    """Whether the patch is in force.

    Args:
      name: of one of the three functions in ``tf.compat.v1.nn`` or of the two in
        ``tf.compat.v1.losses``; default: any.

    Raises:
      ValueError: no function of that name is patched by tf1xent.

    Returns:
      bool.

    Example:

    >>> import tf1xent
    >>> tf1xent.is_patched("sparse_softmax_cross_entropy_with_logits")
    False
    """
    return state.is_replaced(None if name is None else get_original(name))


def get_original(name: str) -> Callable[..., Any]:
    """Returns TensorFlow's own function, whether patched or not.

    Args:
      name: of one of the three functions in ``tf.compat.v1.nn`` or of the two in
        ``tf.compat.v1.losses``.

    **Derivatives**: TensorFlow's own, and those of `tf1xent.override_gradients` where in force.

    Raises:
      ValueError: no function of that name is patched by tf1xent.

    Returns:
      The function object that TensorFlow held when tf1xent was imported, or when TensorFlow was
      if that came later. The function in its place has it as ``__wrapped__``.

    Example:

    >>> import tf1xent
    >>> tf1xent.get_original("softmax_cross_entropy_with_logits").__name__
    'softmax_cross_entropy_with_logits'
    """
    names = drop_ins.__all__ + list(_LOSSES)
    if name not in names:
        raise ValueError(f"get_original: `name` must be one of {', '.join(names)}, got {name!r}.")
    return _tf.STOCK_LOSSES[name] if name in _LOSSES else _tf.stock_public_function(name)


def _request(
    function: str, losses: bool, implementation: Optional[str], control_flow_v2: bool
) -> PatchRequest:
    """Checks the arguments of the public `function` before anything is changed."""
    check_implementation(function, implementation)
    if not isinstance(control_flow_v2, bool):
        raise TypeError(f"{function}: `control_flow_v2` must be a bool, got {control_flow_v2!r}.")
    refusal = _tf.control_flow_v2_refusal() if control_flow_v2 else None
    if refusal is not None:
        raise errors.MissingDerivativeError(
            f"{function}: `control_flow_v2` must be False, got True: TensorFlow {_tf.version()} "
            f"{refusal}. Use a newer TensorFlow."
        )
    if implementation == KERNEL:
        kernels.library()  # raises if they are not there
    layers = {"nn", "losses"} if losses else {"nn"}
    return PatchRequest(layers, implementation, control_flow_v2)


def _install(function: str, request: PatchRequest, stacklevel: int) -> None:
    """Replaces what is wanted; `function` is the public one that warnings name.

    `request` is the newest. Only it switches v2 control flow on again after other code has switched
    it off.
    """
    for layer in state.wanted_layers():
        STATE.installed.add(layer)
        replacements, bindings = STATE.replacements[layer], STATE.bindings[layer]
        STATE.refusals[layer] = rebinding.rebind(replacements, bindings)
    if request.control_flow_v2 and _tf.control_flow_v2() is not _tf.ON:
        STATE.control_flow_before = _tf.control_flow_v2()
        _tf.set_control_flow_v2(_tf.ON)
    conflicts = _tf.hold_process_override("patch")[1]
    gradients.warn_of_conflicts(function, conflicts, stacklevel + 1)


def _remove_unwanted(function: str, stacklevel: int) -> None:
    """Puts back what is no longer wanted; `function` is the public one that warnings name."""
    conflicts: List[str] = []
    for layer in STATE.installed - state.wanted_layers():
        STATE.installed.remove(layer)
        replaced, refusals = rebinding.remove(STATE.bindings[layer], STATE.replacements[layer])
        STATE.refusals[layer] = refusals
        conflicts += [_tf.replaced_in_between(name) for name in replaced]
        conflicts += [
            f"{name} refused to hold TensorFlow's function again ({reason}); ours was left"
            for name, reason in refusals
        ]
        if layer == "nn":
            conflicts += _tf.release_process_override("patch")
    if STATE.control_flow_before is not None and not state.wants_control_flow_v2():
        if _tf.control_flow_v2() is _tf.ON:
            _tf.set_control_flow_v2(STATE.control_flow_before)
        else:
            conflicts.append(_tf.replaced_in_between("the switch of control flow v2"))
        STATE.control_flow_before = None
    gradients.warn_of_conflicts(function, conflicts, stacklevel + 1)
