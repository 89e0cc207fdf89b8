"""Our gradients where TensorFlow looks those of its own ops up: for the process, and back.

Other tools write into the same registry. Some swap the function in an entry for a while and then
put back what they found, maybe after we have come or gone. So our entries under TensorFlow's names
are our own objects, what stands in one is judged by its function, and what was there comes back as
the very object.
"""

import threading
from typing import Any, Dict, List, Set

from tf1xent._tf.process import kept_in_process
from tf1xent._tf.registry import (
    GRADIENT_NAMES,
    GUARD_OP,
    STOCK_GRADIENTS,
    entry_function,
    entry_like,
    forget_forward_mode_traces,
    gradient_entry,
    guards_cross_entropy,
    set_entry_function,
    set_gradient_entry,
)


def _process_gradient(op_type):
    """The function of our registry entry for `op_type`.

    A tool that found it there may put it back after the override's end: then it calls TensorFlow's.
    """

    def gradient(op, *cotangents):
        return _gradient_in_force(op_type, op)(op, *cotangents)

    return gradient


class _State:
    """What is overridden.

    Attributes:
      lock: held while anything of this is read or changed.
      holders: who wants the lookup overridden: "override_gradients", "patch".
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


def hold_process_override(holder):
    """Overrides the process's gradient lookup for as long as anybody holds it.

    Returns whether the holder is new; and what of somebody else's ours took the place of, in words.
    """
    conflicts: List[str] = []
    with _STATE.lock:
        for op_type, stock in STOCK_GRADIENTS.items():
            if not _STATE.holders:
                conflicts += _put_ours(op_type)
            elif entry_function(gradient_entry(op_type)) is stock:
                # Put back by a tool that had found it before we came.
                _set_ours(op_type)
        is_new = holder not in _STATE.holders
        _STATE.holders.add(holder)
    return is_new, conflicts


def _put_ours(op_type):
    before = gradient_entry(op_type)
    stock = STOCK_GRADIENTS[op_type]
    if entry_function(before) is _STATE.functions[op_type]:
        # Put back by a tool that had found it while we were there.
        set_entry_function(before, stock)
    _STATE.entries_before[op_type] = before
    _set_ours(op_type)
    if entry_function(before) is stock:
        return []
    return [
        f"somebody else has replaced the gradient of {op_type}; until this is undone, ours is used"
    ]


def _set_ours(op_type):
    set_entry_function(_STATE.entries[op_type], _STATE.functions[op_type])
    set_gradient_entry(op_type, _STATE.entries[op_type])
    forget_forward_mode_traces()


def release_process_override(holder):
    """Releases one holder; the last release restores the entries that were there.

    Returns what somebody else replaced in between and what was therefore left, in words.
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


def _put_back(op_type):
    before = _STATE.entries_before.pop(op_type)
    entry = gradient_entry(op_type)
    function = entry_function(entry)
    if function is _STATE.functions[op_type]:
        set_gradient_entry(op_type, before)
        return []
    if entry is _STATE.entries[op_type] and before is not None:  # theirs was written into our entry
        set_entry_function(before, function)
        set_gradient_entry(op_type, before)
        entry = before
    if entry is before and function is STOCK_GRADIENTS[op_type]:
        return []
    return [replaced_in_between(f"the gradient of {op_type}")]


def _gradient_in_force(op_type, op):
    """What our registry entry for `op_type` computes the gradient of `op` by."""
    stock = STOCK_GRADIENTS[op_type]
    if not _STATE.holders:
        return stock
    if op_type == GUARD_OP and not guards_cross_entropy(op):
        return entry_function(_STATE.entries_before.get(op_type)) or stock
    return entry_function(gradient_entry(GRADIENT_NAMES[op_type]))


def replaced_in_between(what):
    """A conflict in words."""
    return f"somebody else replaced {what} in between; theirs was left"


def process_override():
    """Whether the process's lookup is overridden; and the op types whose gradient is not ours."""
    with _STATE.lock:
        foreign = [
            op_type
            for op_type, function in _STATE.functions.items()
            if _STATE.holders and entry_function(gradient_entry(op_type)) is not function
        ]
        return bool(_STATE.holders), foreign
