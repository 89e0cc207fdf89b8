"""Puts the functions of `tf1xent.nn` in the place of TensorFlow's own, everywhere, and back.

TensorFlow holds each of its functions under many names: ``tf.nn``, ``tf.compat.v1.nn``, the modules
that its losses, Keras and distributions call through, and the globals of every module that has
imported one by name. All of them are found by identity, in the modules that are loaded. What holds
the function elsewhere (a default argument, a `functools.partial`), or calls the raw op, still gets
its derivatives right by the gradient override that comes with the patch.
"""

import contextlib
import functools
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from tf1xent import _tf, gradients, kernels
from tf1xent._loss.implementation import KERNEL, check_implementation
from tf1xent.losses import cross_entropy
from tf1xent.nn import drop_ins
from tf1xent.patching import rebinding, state
from tf1xent.patching.state import NOTHING, STATE, Wish

__all__ = ["get_original", "is_patched", "patch", "patched", "unpatch"]

# Which of TensorFlow's functions is replaced by which of ours, and the fused op that it builds.
_IMPLEMENTATIONS: Dict[str, Tuple[Callable[..., Any], str]] = {}
for _name in _tf.SPARSE_FUNCTIONS:
    _IMPLEMENTATIONS[_name] = drop_ins.sparse_implementation, _tf.SPARSE_OP
for _name in _tf.DENSE_STOPPED_FUNCTIONS:
    _IMPLEMENTATIONS[_name] = drop_ins.dense_stopped_implementation, _tf.DENSE_OP
for _name in _tf.DENSE_FUNCTIONS:
    _IMPLEMENTATIONS[_name] = drop_ins.dense_implementation, _tf.DENSE_OP

_LOSSES: Dict[str, Tuple[Callable[..., Any], str]] = {
    name: (functools.partial(implementation, function="tf.losses." + name), op_type)
    for name, implementation, op_type in (
        ("sparse_softmax_cross_entropy", cross_entropy.sparse_implementation, _tf.SPARSE_OP),
        ("softmax_cross_entropy", cross_entropy.dense_implementation, _tf.DENSE_OP),
    )
}

_open_blocks = STATE.blocks


def _make_replacements(stock_functions, implementations):
    replacements = []
    for name, stock in stock_functions.items():
        function, op_type = implementations[name]

        def replacement(*args, function=function, **kwargs):
            return function(*args, implementation=state.implementation_in_force(), **kwargs)

        def uses_stock(op_type=op_type):
            # A program's own gradient for the fused op needs the fused op.
            return _tf.names_own_gradient(op_type)

        replacements.append((stock, _tf.drop_in(stock, replacement, uses_stock=uses_stock)))
    return replacements


if not state.wanted_layers():  # else a patch by an earlier import of this module is in force
    STATE.replacements["nn"] += _make_replacements(_tf.STOCK_FUNCTIONS, _IMPLEMENTATIONS)
    STATE.replacements["losses"] += _make_replacements(_tf.STOCK_LOSSES, _LOSSES)


def patch(losses: bool = False, *, implementation: Optional[str] = None) -> None:
    """Replaces TensorFlow's softmax cross-entropy functions by those of `tf1xent.nn`, process-wide.

    Every module that holds one of them, TensorFlow's own and the program's, gets ours under the
    same name, and the gradients of TensorFlow's fused ops are overridden as by
    `tf1xent.override_gradients`, so that graphs built earlier and callers that kept the old
    function have exact higher derivatives too. Where a program's own `gradient_override_map` names
    a fused op, TensorFlow's function stays in force inside that map.

    The patch builds other ops than TensorFlow's function. Op-level random seeds that TensorFlow
    derives from the number of ops in a graph, for random ops built after a loss without a seed of
    their own, are then others than in the unpatched program. A program that goes by the types of
    ops, such as one with an automatic differentiation of its own, finds others. A graph saved while
    patched runs without tf1xent, and so do the gradients that it holds; for new gradients of its
    losses a process has to ``import tf1xent``. `tf1xent.override_gradients` adds no ops.

    Args:
      losses: whether tf.losses.sparse_softmax_cross_entropy and tf.losses.softmax_cross_entropy
        become those of `tf1xent.losses` too: the same values, but computed in float64 for float64
        logits. Without it they call ours for the losses by row, and cast those to float32.
      implementation: "graph", "kernel" or "auto", as in
        `tf1xent.nn.sparse_softmax_cross_entropy_with_logits`; default: what the environment
        variable TF1XENT_IMPLEMENTATION says, or "graph".

    **Derivatives**: those of `tf1xent.nn`.

    Raises:
      ValueError: another implementation.
      tf1xent.errors.KernelsError: "kernel", and the kernels are not there.
      Whatever it raises, nothing is patched then. A module that refuses to be changed is left out,
      and `status` names it. If somebody else has replaced the gradient of a fused op, ours takes
      its place until `unpatch`, and a `tf1xent.errors.PatchConflictWarning` says so.

    Returns:
      None. A second call only takes in what has been imported since, and `losses` or the
      `implementation` if that is new.

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

    Source: none.
    """
    wish = _wish("patch", losses, implementation)
    with STATE.lock:
        before = STATE.asked_for
        kept = before.implementation if implementation is None else implementation
        STATE.asked_for = Wish(before.layers | wish.layers, kept)
        try:
            _install("patch", stacklevel=3)
        except BaseException:
            STATE.asked_for = before
            _remove_unwanted("patch", stacklevel=3)
            raise


def unpatch() -> None:
    """Undoes `patch`: every binding holds the very function that was there.

    Args:
      None.

    **Derivatives**: none are computed here.

    Raises:
      Nothing. If somebody else replaced a binding in between, theirs stays, and if a module
      refuses to be changed back, ours stays there, as good as before; a
      `tf1xent.errors.PatchConflictWarning` says so.

    Returns:
      None. Without a patch it does nothing; while a `with tf1xent.patched():` block is open
      anywhere in the process, the patch stays until that ends.

    Example:

    >>> import tf1xent
    >>> tf1xent.patch()
    >>> tf1xent.unpatch()
    >>> tf1xent.is_patched()
    False

    Source: none.
    """
    with STATE.lock:
        STATE.asked_for = NOTHING
        _remove_unwanted("unpatch", stacklevel=3)


@contextlib.contextmanager
def patched(losses: bool = False, *, implementation: Optional[str] = None) -> Iterator[None]:
    """Context manager: `patch` inside the block; afterwards what was in force before it.

    Args:
      losses: as for `patch`.
      implementation: as for `patch`; default: what is in force outside of the block.

    **Derivatives**: those of `tf1xent.nn`.

    Raises:
      ValueError, tf1xent.errors.KernelsError: as `patch`. Exceptions of the block pass through.

    Returns:
      A context manager. Blocks may be nested, and open in several threads; the patch is the
      process's, and ends with the last of them.

    Example:

    >>> import tf1xent
    >>> with tf1xent.patched():
    ...     tf1xent.is_patched()
    True
    >>> tf1xent.is_patched()
    False

    Source: none.
    """
    block = _wish("patched", losses, implementation)
    try:
        with STATE.lock:
            _open_blocks.append(block)
            _install("patched", stacklevel=4)
        yield
    finally:
        with STATE.lock:
            state.end_block(block)
            _remove_unwanted("patched", stacklevel=4)


def is_patched(name: Optional[str] = None) -> bool:
    """Whether the patch is in force.

    Args:
      name: one of the three functions' names in ``tf.compat.v1.nn``, or one of the two in
        ``tf.compat.v1.losses``; default: any.

    **Derivatives**: none are computed here.

    Raises:
      ValueError: no function of that name is patched by tf1xent.

    Returns:
      bool.

    Example:

    >>> import tf1xent
    >>> tf1xent.is_patched("sparse_softmax_cross_entropy_with_logits")
    False

    Source: none.
    """
    return state.is_replaced(None if name is None else get_original(name))


def get_original(name: str) -> Callable[..., Any]:
    """Returns TensorFlow's own function, whether patched or not.

    Args:
      name: one of the three functions' names in ``tf.compat.v1.nn``, or one of the two in
        ``tf.compat.v1.losses``.

    **Derivatives**: TensorFlow's own, and those of `tf1xent.override_gradients` where in force.

    Raises:
      ValueError: no function of that name is patched by tf1xent.

    Returns:
      The very function object that TensorFlow held when tf1xent was imported.

    Example:

    >>> import tf1xent
    >>> tf1xent.get_original("softmax_cross_entropy_with_logits").__name__
    'softmax_cross_entropy_with_logits'

    Source: none.
    """
    names = drop_ins.__all__ + list(_LOSSES)
    if name not in names:
        raise ValueError(f"get_original: `name` must be one of {', '.join(names)}, got {name!r}.")
    return _tf.STOCK_LOSSES[name] if name in _LOSSES else _tf.stock_public_function(name)


def in_force():
    """What is replaced, as sorted (module name, name in it); and the implementation asked for."""
    with STATE.lock:
        return state.replaced_names(), state.implementation_in_force()


def _wish(function, losses, implementation):
    check_implementation(function, implementation)
    if implementation == KERNEL:
        kernels.library()
    return Wish({"nn", "losses"} if losses else {"nn"}, implementation)


def _install(function, stacklevel):
    for layer in state.wanted_layers():
        STATE.installed.add(layer)
        replacements, bindings = STATE.replacements[layer], STATE.bindings[layer]
        STATE.refusals[layer] = rebinding.rebind(replacements, bindings)
    conflicts = _tf.hold_process_override("patch")[1]
    gradients.warn_of_conflicts(function, conflicts, stacklevel + 1)


def _remove_unwanted(function, stacklevel):
    conflicts = []
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
    gradients.warn_of_conflicts(function, conflicts, stacklevel + 1)
