"""Overrides, in the process's gradient registry, the gradients of TensorFlow's own ops.

Other tools write into the same registry. Some replace the function of an entry for a while and then
restore what they found, perhaps after our override began or ended. So our entries are objects of
our own, an entry is recognised by its function, and the end of the override restores the object
that was there before.
"""

import threading
from typing import Any, Dict, List, Set, Tuple

from tf1xent._tf.process import kept_in_process
from tf1xent._tf.registry import (
    GRADIENT_NAMES,
    GUARD_OP,
    STOCK_GRADIENTS,
    GradientFunction,
    entry_function,
    entry_like,
    forget_forward_mode_traces,
    gradient_entry,
    guards_cross_entropy,
    set_entry_function,
    set_gradient_entry,
)
from tf1xent._typing import Operation, Tensor


def _process_gradient(op_type: str) -> GradientFunction:
    """The function of our registry entry for `op_type`.

    Another tool may put it back after the override has ended; then it calls TensorFlow's gradient.
    """

    def gradient(op: Operation, *cotangents: Tensor) -> Any:
        return _gradient_in_force(op_type, op)(op, *cotangents)

    return gradient


class _State:
    """What is overridden.

    Attributes:
      lock: held while any of the others is read or changed.
      holders: who keeps the override in force: "override_gradients", "patch".
      functions: by op type, the function of our registry entry.
      entries: by op type, our registry entry.
      entries_before: by op type, while the lookup is overridden, the entry that was there.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.holders: Set[str] = set()
        self.functions = {op_type: _process_gradient(op_type) for op_type in GRADIENT_NAMES}
        self.entries = {
            op_type: entry_like(gradient_entry(op_type), function)
            for op_type, function in self.functions.items()
        }
        self.entries_before: Dict[str, Any] = {}


_STATE: _State = kept_in_process("process override", _State)


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


def _set_ours(op_type: str) -> None:
    set_entry_function(_STATE.entries[op_type], _STATE.functions[op_type])
    set_gradient_entry(op_type, _STATE.entries[op_type])
    forget_forward_mode_traces()


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
        for op_type in _STATE.functions:
            conflicts += _put_back(op_type)
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
    if entry is before and function is STOCK_GRADIENTS[op_type]:
        return []
    return [replaced_in_between(f"the gradient of {op_type}")]


def _gradient_in_force(op_type: str, op: Operation) -> Any:
    """The gradient function that applies to `op` now."""
    stock = STOCK_GRADIENTS[op_type]
    if not _STATE.holders:
        return stock
    if op_type == GUARD_OP and not guards_cross_entropy(op):
        return entry_function(_STATE.entries_before.get(op_type)) or stock
    return entry_function(gradient_entry(GRADIENT_NAMES[op_type]))


def replaced_in_between(what: str) -> str:
    """The message for something that other code replaced during the override."""
    return f"somebody else replaced {what} in between; theirs was left"


def process_override() -> Tuple[bool, List[str]]:
    """Whether the override is in force, and the op types whose gradient is nevertheless foreign."""
    with _STATE.lock:
        foreign = [
            op_type
            for op_type, function in _STATE.functions.items()
            if _STATE.holders and entry_function(gradient_entry(op_type)) is not function
        ]
        return bool(_STATE.holders), foreign
