"""Puts functions in the place of others wherever a loaded module holds them, and back."""

import sys


def remove(bindings, replacements):
    """Puts TensorFlow's functions back; returns the names that somebody else has replaced since."""
    conflicts = []
    for module, name, stock, ours in bindings:
        now = _namespace(module).get(name)
        if now is ours:
            setattr(module, name, stock)
        elif now is not stock:
            conflicts.append(f"{module.__name__}.{name}")
    del bindings[:]
    # Modules imported in between have taken ours by name.
    rebind([(ours, stock) for stock, ours in replacements], [])
    return conflicts


def rebind(replacements, done):
    """Puts new for old wherever a loaded module holds old; appends (module, name, old, new)."""
    new_for = {id(old): (old, new) for old, new in replacements}
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").split(".")[0] == "tf1xent":
            continue
        for name, value in list(_namespace(module).items()):
            if id(value) in new_for:
                old, new = new_for[id(value)]
                setattr(module, name, new)
                done.append((module, name, old, new))


def _namespace(module):
    # Not vars(): a lazily loaded module must not be loaded for this.
    try:
        return object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
