"""All state of the patch, and every query about it.

That is: who requests a patch, which function replaces which, where that was done, and where it was
refused. The gradient override that comes with a patch has its state in the gradient registry.
"""

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from tf1xent import _tf

# "nn": the functions of tf.nn. "losses": those of tf.losses.
Layer = str
LAYERS = ("nn", "losses")


class PatchRequest(NamedTuple):
    """What `patch`, or a `with patched()` block that is open, requests.

    Attributes:
      layers: what to replace.
      implementation: of the replaced functions, or None.
      control_flow_v2: whether to switch v2 control flow on.
    """

    layers: Set[Layer]
    implementation: Optional[str]
    control_flow_v2: bool = False


class Binding(NamedTuple):
    """A name in a module that holds our function in the place of TensorFlow's."""

    module: str
    holder: Any
    name: str
    stock: Callable[..., Any]
    ours: Callable[..., Any]


class Refusal(NamedTuple):
    """A name that refused to be replaced, or to be put back."""

    name: str
    reason: str


NOTHING = PatchRequest(set(), None)


class State:
    """What the patch remembers.

    Attributes:
      lock: held while any of this is read or changed.
      requested: by `patch`, since the last `unpatch`.
      blocks: requests of the `with patched()` blocks that are open, the innermost last. Two of them
        may be equal, so a block ends by identity.
      replacements: by layer, (TensorFlow's function, ours). There is more than one of ours for a
        function if tf1xent was imported anew: the last is put in place, all are removed.
      installed: the layers of which something may be in place.
      bindings: by layer, what was replaced.
      refusals: by layer, what refused.
      control_flow_before: while v2 control flow is switched on, what TensorFlow's switch was.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.requested = NOTHING
        self.blocks: List[PatchRequest] = []
        self.replacements: Dict[Layer, List[Tuple[Any, Any]]] = {layer: [] for layer in LAYERS}
        self.installed: Set[Layer] = set()
        self.bindings: Dict[Layer, List[Binding]] = {layer: [] for layer in LAYERS}
        self.refusals: Dict[Layer, List[Refusal]] = {layer: [] for layer in LAYERS}
        self.control_flow_before: Any = None


STATE: State = _tf.kept_in_process("patching", State)


def wanted_layers() -> Set[Layer]:
    """The layers that `patch` or an open block requests."""
    with STATE.lock:
        return STATE.requested.layers.union(*(block.layers for block in STATE.blocks))


def implementation_in_force() -> Optional[str]:
    """The innermost `patched()` block's implementation, else `patch()`'s, else None."""
    with STATE.lock:
        requests = [STATE.requested, *STATE.blocks]
    chosen = (request.implementation for request in reversed(requests))
    return next((implementation for implementation in chosen if implementation is not None), None)


def wants_control_flow_v2() -> bool:
    """Whether `patch` or an open block requests v2 control flow."""
    with STATE.lock:
        return any(request.control_flow_v2 for request in (STATE.requested, *STATE.blocks))


def control_flow() -> str:
    """What new loops and branches of graphs are built of, and who says so."""
    with STATE.lock:
        switch = _tf.control_flow_v2()
        if switch is _tf.ON:
            return "v2, by tf1xent"
        return "v2" if switch else "v1"


def end_block(block: PatchRequest) -> None:
    """Removes the request of a block."""
    with STATE.lock:
        STATE.blocks[:] = [other for other in STATE.blocks if other is not block]


def is_replaced(stock: Optional[Callable[..., Any]] = None) -> bool:
    """Whether TensorFlow's function `stock`, or with None any, is replaced somewhere."""
    with STATE.lock:
        return any(
            stock is None or binding.stock is stock
            for bindings in STATE.bindings.values()
            for binding in bindings
        )


def replaced_names() -> List[Tuple[str, str]]:
    """Sorted (module, name in it) of all replaced functions."""
    with STATE.lock:
        layers = STATE.bindings.values()
        return sorted((binding.module, binding.name) for layer in layers for binding in layer)


def refusals() -> List[Tuple[str, str]]:
    """Sorted (name, reason) of what could not be replaced, or not be put back."""
    with STATE.lock:
        layers = STATE.refusals.values()
        return sorted({(refusal.name, refusal.reason) for layer in layers for refusal in layer})
