"""Puts functions in the place of others wherever a loaded module holds them, and back.

sys.modules holds what programs put there: modules that load at the first access to an attribute,
objects that answer every attribute, modules that refuse to be changed. Only namespaces are read,
which runs nobody's code, and whoever refuses an assignment is left out and named.
"""

import sys
import types
from typing import List, Tuple

from tf1xent import _tf
from tf1xent.patching.state import Binding


def rebind(replacements, done):
    """Puts new for old wherever it is held, for every (old, new); appends a `Binding` to `done`.

    Returns what refused, as (name, reason).
    """
    unreadable: List[Tuple[str, str]] = []
    refusals = _rebind(replacements, done, _holders(unreadable))
    return unreadable + refusals


def _rebind(replacements, done, holders):
    new_for = {id(old): (old, new) for old, new in replacements}
    refusals = []
    for module, holder in holders:
        for name, value in list(_namespace(holder).items()):
            if id(value) not in new_for:
                continue
            old, new = new_for[id(value)]
            reason = _assign(holder, name, new)
            if reason is None:
                done.append(Binding(module, holder, name, old, new))
            else:
                refusals.append((f"{module}.{name}", reason))
    return refusals


def remove(bindings, replacements):
    """Puts TensorFlow's functions back.

    Returns the names that somebody else has replaced since, and what refused as (name, reason).
    """
    conflicts = []
    refusals = {}
    for module, holder, name, stock, ours in bindings:
        now = _namespace(holder).get(name)
        reason = _assign(holder, name, stock) if now is ours else None
        if reason is not None:
            refusals[f"{module}.{name}"] = reason
        elif now is not ours and now is not stock:
            conflicts.append(f"{module}.{name}")
    del bindings[:]
    # Modules imported in between have taken ours by name.
    refusals.update(_rebind([(ours, stock) for stock, ours in replacements], [], _holders([])))
    return conflicts, list(refusals.items())


def _holders(unreadable):
    """List of (module's name, what holds names), for all that may hold a function by name.

    Appends (name, reason) to `unreadable` for what does not even show its names.
    """
    holders = []
    for key, module in list(sys.modules.items()):
        module_name = key if isinstance(key, str) else type(key).__name__
        try:
            namespace = _namespace(module)
        except Exception as error:  # whatever a `__dict__` of somebody's making raises
            unreadable.append((module_name, _in_words(error)))
            continue
        own_name = namespace.get("__name__")
        if isinstance(own_name, str):
            module_name = own_name
        if module_name.split(".")[0] != "tf1xent":
            holders.append((module_name, module))
    if _tf.EXPORTED_FUNCTIONS is not None:
        holders.append((_tf.EXPORTS_MODULE, _tf.EXPORTED_FUNCTIONS))
    return holders


def _namespace(holder):
    """The names that a holder holds itself; empty for what is not a module or like one."""
    if type(holder) is dict:
        return holder
    try:
        # Not vars(): a lazily loaded module must not be loaded for this.
        namespace = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        return {}
    if type(namespace) not in (dict, types.MappingProxyType):
        raise TypeError(f"its __dict__ is a {type(namespace).__name__}")
    return namespace


def _assign(holder, name, function):
    """Makes a holder hold `function`; returns why it refuses, or None."""
    try:
        if type(holder) is dict:
            holder[name] = function
        else:
            setattr(holder, name, function)
    except Exception as error:  # whatever a `__setattr__` of somebody's making raises
        return _in_words(error)
    return None if _namespace(holder).get(name) is function else "an assignment has no effect"


def _in_words(error):
    return f"{type(error).__name__}: {error}"
