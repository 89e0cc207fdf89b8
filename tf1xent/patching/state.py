"""What the process's patch is: who asks for it, what is replaced by what, what could not be."""

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from tf1xent import _tf


class Wish(NamedTuple):
    """What patch(), or a `with patched()` block that is open, asks for."""

    layers: Set[str]
    implementation: Optional[str]


class Binding(NamedTuple):
    """A name that holds our function in the place of TensorFlow's."""

    module: str
    holder: Any
    name: str
    stock: Callable[..., Any]
    ours: Callable[..., Any]


NOTHING = Wish(set(), None)


class State:
    """All that the patch remembers.

    Attributes:
      lock: held while anything of this is read or changed.
      asked_for: by patch(), since the last unpatch().
      blocks: by `with patched()` blocks that are open, the innermost last. Two may be equal: one
        ends by identity.
      replacements: by layer, (TensorFlow's function, ours). More than one of ours for a function,
        if tf1xent was imported anew: the last one is put in place, all are taken out.
      installed: the layers of which something may be in place.
      bindings: by layer, what was replaced.
      refusals: by layer, (name, reason): what refused to be replaced, or to be put back.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.asked_for = NOTHING
        self.blocks: List[Wish] = []
        self.replacements: Dict[str, List[Tuple[Any, Any]]] = {"nn": [], "losses": []}
        self.installed: Set[str] = set()
        self.bindings: Dict[str, List[Binding]] = {"nn": [], "losses": []}
        self.refusals: Dict[str, List[Tuple[str, str]]] = {"nn": [], "losses": []}


STATE: State = _tf.kept_in_process("patching", State)


def wanted_layers():
    """The layers that somebody asks for."""
    return STATE.asked_for.layers.union(*(block.layers for block in STATE.blocks))


def implementation_in_force():
    """The innermost `patched()` block's implementation, else `patch()`'s, else None."""
    wishes = [STATE.asked_for, *STATE.blocks]
    asked = (wish.implementation for wish in reversed(wishes))
    return next((implementation for implementation in asked if implementation is not None), None)


def end_block(block):
    """Forgets what a block asked for."""
    STATE.blocks[:] = [other for other in STATE.blocks if other is not block]


def is_replaced(stock=None):
    """Whether TensorFlow's function `stock`, or with None any, is replaced somewhere."""
    with STATE.lock:
        return any(
            stock is None or binding.stock is stock
            for bindings in STATE.bindings.values()
            for binding in bindings
        )


def replaced_names():
    """Sorted (module, name in it): where ours stands."""
    with STATE.lock:
        layers = STATE.bindings.values()
        return sorted((binding.module, binding.name) for layer in layers for binding in layer)


def refusals():
    """(name, reason): what could not be replaced, or not be put back."""
    with STATE.lock:
        return sorted({refusal for layer in STATE.refusals.values() for refusal in layer})
