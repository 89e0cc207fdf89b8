"""Replaces functions by others in every loaded module that holds them, and back.

Programs put odd things into sys.modules: modules that load when an attribute is first read, objects
that have every attribute, modules that refuse assignments. So only namespaces are read, which runs
no code of theirs, and a module that refuses an assignment is left out and named.
"""

import sys
import types
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent.patching.state import Binding, Refusal

# (the function to replace, the function in its place)
_Replacements = Sequence[Tuple[Any, Any]]
# (a module's name, what holds names for it)
_Holders = Sequence[Tuple[str, Any]]


def rebind(replacements: _Replacements, done: List[Binding]) -> List[Refusal]:
    """Replaces functions in all loaded modules; appends to `done`, returns what refused."""
    unreadable: List[Refusal] = []
    refusals = _rebind(replacements, done, _holders(unreadable))
    return unreadable + refusals


def _rebind(replacements: _Replacements, done: List[Binding], holders: _Holders) -> List[Refusal]:
    new_for = {id(old): (old, new) for old, new in replacements}
    refusals = []
    for module, holder in holders:
        namespace = _namespace(holder)
        # Almost no module holds one of them, which is soonest seen of all its values at once.
        if new_for.keys().isdisjoint(map(id, namespace.values())):
            continue
        for name, value in list(namespace.items()):
            if id(value) not in new_for:
                continue
            old, new = new_for[id(value)]
            reason = _assign(holder, name, new)
            if reason is None:
                done.append(Binding(module, holder, name, old, new))
            else:
                refusals.append(Refusal(f"{module}.{name}", reason))
    return refusals


def remove(bindings: List[Binding], replacements: _Replacements) -> Tuple[List[str], List[Refusal]]:
    """Puts TensorFlow's functions back, and empties `bindings`.

    Returns the names that other code has replaced since, and what refused.
    """
    conflicts = []
    refusals: Dict[str, Refusal] = {}
    for module, holder, name, stock, ours in bindings:
        now = _namespace(holder).get(name)
        reason = _assign(holder, name, stock) if now is ours else None
        if reason is not None:
            refusals[f"{module}.{name}"] = Refusal(f"{module}.{name}", reason)
        elif now is not ours and now is not stock:
            conflicts.append(f"{module}.{name}")
    del bindings[:]
    # Modules imported in between may have imported ours by name.
    for refusal in _rebind([(ours, stock) for stock, ours in replacements], [], _holders([])):
        refusals[refusal.name] = refusal
    return conflicts, list(refusals.values())


def _holders(unreadable: List[Refusal]) -> _Holders:
    """Returns all that may hold a function by name.

    Appends to `unreadable` the modules that do not even show their names.
    """
    holders = []
    for key, module in list(sys.modules.items()):
        module_name = key if isinstance(key, str) else type(key).__name__
        try:
            namespace = _namespace(module)
        except Exception as error:  # whatever a program's own `__dict__` raises
            unreadable.append(Refusal(module_name, _in_words(error)))
            continue
        own_name = namespace.get("__name__")
        if isinstance(own_name, str):
            module_name = own_name
        if module_name.split(".")[0] != "tf1xent":
            holders.append((module_name, module))
    if _tf.EXPORTED_FUNCTIONS is not None:
        holders.append((_tf.EXPORTS_MODULE, _tf.EXPORTED_FUNCTIONS))
    return holders


def _namespace(holder: Any) -> Mapping[str, Any]:
    """Returns the names that a holder itself has; none if it is not like a module."""
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


def _assign(holder: Any, name: str, function: Any) -> Optional[str]:
    """Assigns a function to a name; returns why the holder refuses that, or None."""
    try:
        if type(holder) is dict:
            holder[name] = function
        else:
            setattr(holder, name, function)
    except Exception as error:  # whatever a program's own `__setattr__` raises
        return _in_words(error)
    return None if _namespace(holder).get(name) is function else "an assignment has no effect"


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
