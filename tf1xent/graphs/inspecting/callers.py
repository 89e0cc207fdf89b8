"""What lies between a graph and its functions, as far as second derivatives are concerned."""

from typing import Dict, NamedTuple, Optional, Union

from tf1xent import _tf
from tf1xent._typing import Graph, NodeDef
from tf1xent.graphs.control_flow import WHILE, contexts, kinds
from tf1xent.graphs.functions import Library
from tf1xent.graphs.wiring import Wiring

# TensorFlow's gradient of a call. It names the called function, but does not compute its loss.
GRADIENT_OF_CALL = "SymbolicGradient"


class CallPath(NamedTuple):
    """The calls, branches and loops through which a graph reaches a function.

    Attributes:
      opaque: whether there is a call of which TensorFlow has no second derivative, but which can be
        inlined.
      in_loop: whether there is a v1 while loop.
      obstacle: why there is no second derivative, even after a rewrite, in a sentence; or None.
    """

    opaque: bool = False
    in_loop: bool = False
    obstacle: Optional[str] = None

    def joined(self, other: "CallPath") -> "CallPath":
        """Returns a path with what is on either of the two."""
        return CallPath(
            self.opaque or other.opaque,
            self.in_loop or other.in_loop,
            self.obstacle or other.obstacle,
        )


class CallPaths:
    """The paths from the graph `main` to the functions of its library.

    Args:
      bodies: by function name, the wiring of a function that holds something to report, or, as
        text, the error that says why its body cannot be followed.
      live: the graph, if it is a tf.Graph of this process.
    """

    def __init__(
        self,
        library: Library,
        main: Wiring,
        bodies: Dict[str, Union[Wiring, str]],
        live: Optional[Graph],
    ) -> None:
        self._library, self._live = library, live
        self._found: Dict[str, CallPath] = {}
        order, recursive = library.holding()
        for name in recursive:
            text = f"function `{library.on_a_cycle(recursive)}`, which leads to it, calls itself."
            self._add(name, CallPath(obstacle=text))
        self._follow(main, CallPath(), is_main=True)
        for name in [*recursive, *reversed(order)]:  # callers first
            body, path = bodies.get(name), self.to(name)
            if isinstance(body, Wiring):
                self._follow(body, path, is_main=False)
            elif body is not None:
                for node in library.functions[name].node_def:
                    for callee in library.callees(node):
                        self._add(callee, path.joined(CallPath(obstacle=body)))

    def to(self, name: Optional[str]) -> CallPath:
        """Returns all paths to a function, joined; an empty path for None, the graph itself."""
        return self._found.get(name or "", CallPath())

    def _add(self, name: str, path: CallPath) -> None:
        self._found[name] = self.to(name).joined(path)

    def _follow(self, wiring: Wiring, path: CallPath, is_main: bool) -> None:
        """Extends `path`, which leads to a graph or body, to the functions that its nodes name."""
        callers = list(self._library.callers(wiring))
        around = contexts(wiring) if callers else []
        for position, names in callers:
            step = self._step(wiring.nodes[position], path, is_main)
            if step is not None:
                in_loop = CallPath(in_loop=WHILE in kinds(around[position]))
                for name in names:
                    self._add(name, path.joined(step).joined(in_loop))

    def _step(self, node: NodeDef, path: CallPath, is_main: bool) -> Optional[CallPath]:
        """Returns what a node adds to the path to the functions that it names.

        None if it does not lead to their loss.
        """
        if node.op == GRADIENT_OF_CALL:
            return None
        if self._library.called(node) is not None:
            return CallPath(opaque=self._is_opaque(node, path, is_main))
        if _tf.can_be_differentiated(node.op):
            return CallPath()  # a v2 branch or loop
        return CallPath(
            obstacle=f"node `{node.name}`, {node.op}, runs the function that holds it, and "
            "TensorFlow has no gradient for that op."
        )

    def _is_opaque(self, call: NodeDef, path: CallPath, is_main: bool) -> bool:
        """Tells whether TensorFlow lacks the second derivative of a call.

        It has it only for functions that it traced itself, in a graph of this process, and for
        everything inside those.
        """
        if self._live is None:
            return True
        if not is_main:
            return path.opaque
        return not _tf.call_has_gradients(self._live.get_operation_by_name(call.name))
