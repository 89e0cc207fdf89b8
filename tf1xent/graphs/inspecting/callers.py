"""How what calls a function bears on the second derivatives of what the function holds."""

from typing import Any, Dict, NamedTuple, Optional

from tf1xent import _tf
from tf1xent.graphs.control_flow import WHILE, contexts, kinds
from tf1xent.graphs.functions import Library
from tf1xent.graphs.wiring import Wiring

# The gradient that TensorFlow makes of a call: another way to its function, but none to its loss.
GRADIENT_OF_CALL = "SymbolicGradient"


class Way(NamedTuple):
    """What there is on the ways to a function.

    Attributes:
      opaque: whether a call of which TensorFlow has no second derivative, and whose place the
        function's body can take.
      in_loop: whether a v1 while loop.
      obstacle: why there is no second derivative, nor by a rewrite, in a sentence; or None.
    """

    opaque: bool = False
    in_loop: bool = False
    obstacle: Optional[str] = None

    def joined(self, other: "Way") -> "Way":
        """With what is on the way `other` too."""
        return Way(
            self.opaque or other.opaque,
            self.in_loop or other.in_loop,
            self.obstacle or other.obstacle,
        )


class Ways:
    """The ways to the functions of a library, from the graph `main`.

    Attributes:
      bodies: the wirings of the functions that hold something, by name; the error, as text, of one
        that cannot be followed.
    """

    def __init__(self, library: Library, main: Wiring, bodies: Dict[str, Any], live: Any):
        self._library, self._live = library, live
        self._found: Dict[str, Way] = {}
        order, recursive = library.holding()
        for name in recursive:
            text = f"function `{library.on_a_cycle(recursive)}`, which leads to it, calls itself."
            self._add(name, Way(obstacle=text))
        self._follow(main, Way(), is_main=True)
        for name in [*recursive, *reversed(order)]:  # callers first
            body, way = bodies.get(name), self.to(name)
            if isinstance(body, Wiring):
                self._follow(body, way, is_main=False)
            elif body is not None:
                for node in library.functions[name].node_def:
                    for callee in library.callees(node):
                        self._add(callee, way.joined(Way(obstacle=body)))

    def to(self, name: Optional[str]) -> Way:
        """What is on the ways to a function; to the graph itself, nothing."""
        return self._found.get(name or "", Way())

    def _add(self, name: str, way: Way) -> None:
        self._found[name] = self.to(name).joined(way)

    def _follow(self, wiring: Wiring, way: Way, is_main: bool) -> None:
        callers = list(self._library.callers(wiring))
        around = contexts(wiring) if callers else []
        for position, names in callers:
            step = self._step(wiring.nodes[position], way, is_main)
            if step is not None:
                in_loop = Way(in_loop=WHILE in kinds(around[position]))
                for name in names:
                    self._add(name, way.joined(step).joined(in_loop))

    def _step(self, node: Any, way: Way, is_main: bool) -> Optional[Way]:
        """What a node that names functions adds to the way to these, None if it leads to none."""
        if node.op == GRADIENT_OF_CALL:
            return None
        if self._library.called(node) is not None:
            return Way(opaque=self._is_opaque(node, way, is_main))
        if _tf.can_be_differentiated(node.op):
            return Way()  # a branch or loop
        return Way(
            obstacle=f"node `{node.name}`, {node.op}, runs the function that holds it, and "
            "TensorFlow has no gradient for that op."
        )

    def _is_opaque(self, call: Any, way: Way, is_main: bool) -> bool:
        """Whether TensorFlow does not know the second derivative of a call.

        In a graph of this process it knows it of what it traced itself, with all that is in it.
        """
        if self._live is None:
            return True
        if not is_main:
            return way.opaque
        return not _tf.call_has_gradients(self._live.get_operation_by_name(call.name))
