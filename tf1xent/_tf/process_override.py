"""Overrides, in the process's gradient registry, the gradients of TensorFlow's own ops.

Two kinds of entries are put there. Those of `STOCK_GRADIENTS` take the place of gradients that
TensorFlow has. Those of `supply_gradient` fill gaps: they are put only where the registry has no
gradient, because there is no entry or one that says "not differentiable"; or one of TensorFlow's
of which derivatives silently lack a part.

Other tools write into the same registry. Some replace the function of an entry for a while and then
restore what they found, perhaps after our override began or ended. So our entries are objects of
our own, an entry is recognised by its function, and the end of the override restores the object
that was there before. Where ours fills a gap a program may register its own, which then counts.
"""

import functools
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from tensorflow.python.framework import ops

from tf1xent._tf.observing import OBSERVERS, tell_observers
from tf1xent._tf.process import kept_in_process
from tf1xent._tf.registry import (
    GUARD_OP,
    STOCK_GRADIENTS,
    GradientFunction,
    entry_function,
    entry_like,
    forget_forward_mode_traces,
    gradient_entry,
    gradient_name,
    guards_what_has_a_gradient,
    register_gradient,
    set_entry_function,
    set_gradient_entry,
)
from tf1xent._typing import Operation, Tensor


def _process_gradient(op_type: str) -> GradientFunction:
    """The function of our registry entry for `op_type`.

    Another tool may put it back after the override has ended; then it does what TensorFlow does.
    """

    def gradient(op: Operation, *cotangents: Tensor) -> Any:
        function = _gradient_in_force(op_type, op)
        if OBSERVERS and _STATE.holders and function is not STOCK_GRADIENTS.get(op_type):
            tell_observers(op_type, op)
        return function(op, *cotangents)

    return gradient


class _State:
    """What is overridden.

    Attributes:
      lock: held while any of the others is read or changed.
      holders: who keeps the override in force: "override_gradients", "patch".
      functions: by op type, the function of our registry entry.
      entries: by op type, our registry entry.
      supplied: the op types of `functions` whose gradient fills a gap, each with the op types whose
        gradient makes such ops.
      instead_of: by op type, where the gradient of TensorFlow's is defined that ours is put for.
      entries_before: by op type, while the lookup is overridden, the entry that was there, or None.
      register: `RegisterGradient.__call__` of TensorFlow, while it is replaced.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.holders: Set[str] = set()
        self.functions: Dict[str, GradientFunction] = {}
        self.entries: Dict[str, Any] = {}
        self.supplied: Dict[str, Tuple[str, ...]] = {}
        self.instead_of: Dict[str, str] = {}
        self.entries_before: Dict[str, Any] = {}
        self.register: Optional[Callable[..., Any]] = None
        for op_type in STOCK_GRADIENTS:
            self.add(op_type, gradient_entry(op_type))

    def add(self, op_type: str, like: Any) -> None:
        """Makes our function and entry for an op type; `like` is another entry."""
        self.functions[op_type] = function = _process_gradient(op_type)
        self.entries[op_type] = entry_like(like, function)


_STATE: _State = kept_in_process("process override", _State)


def supply_gradient(
    op_type: str,
    function: GradientFunction,
    made_by: Sequence[str],
    instead_of: Optional[str] = None,
) -> None:
    """Registers a gradient for an op type for which TensorFlow may have none.

    It has a name of its own, `gradient_name(op_type)`, and fills the gap while the override is in
    force. `made_by` are the op types whose gradient makes ops of this type. `instead_of` is the end
    of the name of a module of TensorFlow's whose gradient of this op type ours replaces.
    """
    name = gradient_name(op_type)
    register_gradient(name, function)
    with _STATE.lock:
        if op_type not in _STATE.functions:
            _STATE.add(op_type, gradient_entry(name))
        _STATE.supplied[op_type] = tuple(made_by)
        if instead_of is not None:
            _STATE.instead_of[op_type] = instead_of
        if _STATE.holders:
            _fill(op_type)


def has_gap(op_type: str) -> bool:
    """Whether there is no gradient for an op type but one that we supply."""
    function = entry_function(gradient_entry(op_type))
    return _is_lacking(op_type, function) or function is _STATE.functions.get(op_type)


def _is_lacking(op_type: str, function: Optional[GradientFunction]) -> bool:
    if function is None:
        return True
    module = _STATE.instead_of.get(op_type)
    return module is not None and str(getattr(function, "__module__", "")).endswith(module)


def filled_gaps() -> Dict[str, Tuple[str, ...]]:
    """The op types that have no gradient but ours, each with those whose gradient makes it."""
    with _STATE.lock:
        return {op_type: made for op_type, made in _STATE.supplied.items() if has_gap(op_type)}


def hold_process_override(holder: str) -> Tuple[bool, List[str]]:
    """Adds a holder of the override, which is in force as long as it has one.

    Returns whether the holder is new, and a message for each foreign gradient that ours replaced.
    """
    conflicts: List[str] = []
    with _STATE.lock:
        for op_type, stock in STOCK_GRADIENTS.items():
            if not _STATE.holders:
                conflicts += _put_ours(op_type)
            elif entry_function(gradient_entry(op_type)) is stock:
                # Restored by a tool that had found it before the override.
                _set_ours(op_type)
        if _STATE.register is None:
            _give_way_to_programs()
        for op_type in _STATE.supplied:
            _fill(op_type)
        is_new = holder not in _STATE.holders
        _STATE.holders.add(holder)
    return is_new, conflicts


def _put_ours(op_type: str) -> List[str]:
    before = gradient_entry(op_type)
    stock = STOCK_GRADIENTS[op_type]
    if entry_function(before) is _STATE.functions[op_type]:
        # Restored by a tool that had found it during an earlier override.
        set_entry_function(before, stock)
    _STATE.entries_before[op_type] = before
    _set_ours(op_type)
    if entry_function(before) is stock:
        return []
    return [
        f"somebody else has replaced the gradient of {op_type}; until this is undone, ours is used"
    ]


def _fill(op_type: str) -> None:
    """Puts our entry for an op type where there is no gradient, or one that lacks a part."""
    before = gradient_entry(op_type)
    if _is_lacking(op_type, entry_function(before)):
        _STATE.entries_before[op_type] = before
        _set_ours(op_type)


def _set_ours(op_type: str) -> None:
    set_entry_function(_STATE.entries[op_type], _STATE.functions[op_type])
    set_gradient_entry(op_type, _STATE.entries[op_type])
    forget_forward_mode_traces()


def _give_way_to_programs() -> None:
    """Lets `tf.RegisterGradient` take the place of an entry of ours that fills a gap.

    It would else refuse, and a program that brings a gradient of its own would end there.
    """
    stock = ops.RegisterGradient.__call__

    @functools.wraps(stock)
    def register(self: Any, function: GradientFunction) -> Any:
        op_type = self._op_type
        with _STATE.lock:
            fills = op_type in _STATE.supplied and op_type in _STATE.entries_before
            if fills and entry_function(gradient_entry(op_type)) is _STATE.functions[op_type]:
                set_gradient_entry(op_type, _STATE.entries_before.pop(op_type))
            try:
                return stock(self, function)
            finally:
                # TensorFlow may have refused. Contrib registers its own when it is first used.
                if op_type in _STATE.supplied:
                    _fill(op_type)

    _STATE.register = stock
    ops.RegisterGradient.__call__ = register


def release_process_override(holder: str) -> List[str]:
    """Releases one holder; the last release restores the entries that were there.

    Returns a message for each gradient that other code replaced in between, which stays.
    """
    conflicts: List[str] = []
    with _STATE.lock:
        if holder not in _STATE.holders:
            return conflicts
        _STATE.holders.remove(holder)
        if _STATE.holders:
            return conflicts
        for op_type in list(_STATE.entries_before):
            conflicts += _put_back(op_type)
        ops.RegisterGradient.__call__ = _STATE.register
        _STATE.register = None
        forget_forward_mode_traces()
    return conflicts


def _put_back(op_type: str) -> List[str]:
    before = _STATE.entries_before.pop(op_type)
    entry = gradient_entry(op_type)
    function = entry_function(entry)
    if function is _STATE.functions[op_type]:
        set_gradient_entry(op_type, before)
        return []
    if entry is _STATE.entries[op_type] and before is not None:  # other code wrote into our entry
        set_entry_function(before, function)
        set_gradient_entry(op_type, before)
        entry = before
    if entry is before and function is STOCK_GRADIENTS.get(op_type):
        return []
    return [replaced_in_between(f"the gradient of {op_type}")]


def _gradient_in_force(op_type: str, op: Operation) -> Any:
    """The gradient function that applies to `op` now."""
    stock = STOCK_GRADIENTS.get(op_type)
    if not _STATE.holders:
        found = stock or entry_function(gradient_entry(op_type))
        if found is None or found is _STATE.functions[op_type]:
            raise LookupError(f"No gradient defined for operation '{op.name}' (op type: {op_type})")
        return found
    if op_type == GUARD_OP and not guards_what_has_a_gradient(op):
        return entry_function(_STATE.entries_before.get(op_type)) or stock
    return entry_function(gradient_entry(gradient_name(op_type)))


def replaced_in_between(what: str) -> str:
    """The message for something that other code replaced during the override."""
    return f"somebody else replaced {what} in between; theirs was left"


def process_override() -> Tuple[bool, List[str]]:
    """Whether the override is in force, and the op types whose gradient is nevertheless foreign."""
    with _STATE.lock:
        foreign = [
            op_type
            for op_type, function in _STATE.functions.items()
            if op_type in _STATE.entries_before
            and entry_function(gradient_entry(op_type)) is not function
        ]
        return bool(_STATE.holders), foreign
