"""The inputs of every node of a graph, by position.

References have the form of a GraphDef: ``name``, ``name:1`` and, for control inputs, ``^name``.
`tf1xent.graphs.functions` brings function bodies into this form. Positions and output indices are
kept in arrays, so that walks over a large graph do not parse its nodes again.
"""

import array
import bisect
import re
import sys
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent._typing import NodeDef
from tf1xent.errors import GraphFileError
from tf1xent.graphs.raw import NodeList

# The output index of a control input.
CONTROL = -1
_BACK_EDGES = ("NextIteration", "RefNextIteration")
_MERGES = ("Merge", "RefMerge")
# The most ops between a guard and what it guards. TensorFlow puts a few there.
_MOST_STEPS = 1000
_INDEX = re.compile("[0-9]{1,9}")


def split_reference(reference: str) -> Tuple[str, int]:
    """Returns (node name, output index); for a control input, (node name, CONTROL)."""
    if reference.startswith("^"):
        return reference[1:], CONTROL
    name, colon, index = reference.rpartition(":")
    if colon and _INDEX.fullmatch(index):
        return name, int(index)
    return reference, 0


def join_reference(name: str, index: int) -> str:
    """Inverts `split_reference`."""
    if index == CONTROL:
        return f"^{name}"
    return f"{name}:{index}" if index else name


def split_inputs(node: NodeDef) -> Tuple[List[str], List[str]]:
    """Returns the data inputs and the control inputs of a node, as references."""
    data = [reference for reference in node.input if not reference.startswith("^")]
    return data, [reference for reference in node.input if reference.startswith("^")]


class Wiring:
    """The names, op types and inputs of a graph's nodes; errors name the graph by `where`.

    Raises GraphFileError for nodes without a name or op, for two nodes of the same name, for
    missing inputs and for cycles other than the back edges of loops.
    """

    def __init__(self, nodes: NodeList, where: str) -> None:
        self.nodes, self.where = nodes, where
        self.positions: Dict[str, int] = {}
        self.ops: List[str] = []
        # The inputs of node i stand from starts[i] to starts[i + 1].
        self._starts = array.array("i", [0])
        self._sources, self._outputs = array.array("i"), array.array("i")
        # (place among the inputs, name of the source) of inputs whose node comes later in the list.
        early: List[Tuple[int, str]] = []
        for position, node in enumerate(nodes):
            name, op = node.name, node.op
            if not name or not op:
                what = f"`{name}`" if name else f"number {position}"
                raise GraphFileError(f"{where}: node {what} has no name or no op.")
            if self.positions.setdefault(name, position) != position:
                raise GraphFileError(f"{where}: two nodes are named `{name}`.")
            self.ops.append(sys.intern(op))
            for reference in node.input:
                source, index = split_reference(reference)
                if source not in self.positions:
                    early.append((len(self._sources), source))
                self._sources.append(self.positions.get(source, -1))
                self._outputs.append(index)
            self._starts.append(len(self._sources))
        for place, source in early:
            if source not in self.positions:
                reader = nodes[bisect.bisect_right(self._starts, place) - 1].name
                raise GraphFileError(
                    f"{where}: node `{reader}` reads `{source}`, which is missing."
                )
            self._sources[place] = self.positions[source]
        # Positions in topological order; back edges of loops do not count.
        self.order = self._ordered()

    def of_types(self, op_types: Iterable[str]) -> List[int]:
        """Returns the positions of the nodes of some op types."""
        wanted = frozenset(op_types)
        return [position for position, op in enumerate(self.ops) if op in wanted]

    def inputs(self, position: int) -> Iterator[Tuple[int, int]]:
        """Yields (position, output index or CONTROL) of each input of a node."""
        for i in range(self._starts[position], self._starts[position + 1]):
            yield self._sources[i], self._outputs[i]

    def readers(self, positions: Iterable[int]) -> Dict[int, List[Tuple[int, int]]]:
        """Returns the readers of some nodes, by position, as (position, output index read)."""
        found: Dict[int, List[Tuple[int, int]]] = {position: [] for position in positions}
        if found:
            for reader in range(len(self.ops)):
                for source, index in self.inputs(reader):
                    if source in found:
                        found[source].append((reader, index))
        return found

    def before(self, position: int) -> List[int]:
        """Returns the positions of a node's inputs, control inputs too, without back edges."""
        sources = [source for source, _ in self.inputs(position)]
        if self.ops[position] in _MERGES:
            return [source for source in sources if self.ops[source] not in _BACK_EDGES]
        return sources

    def _ordered(self) -> "array.array[int]":
        finished, open_ = 1, 2
        state = bytearray(len(self.ops))
        order = array.array("i")
        for start in range(len(state)):
            if state[start]:
                continue
            state[start] = open_
            stack = [(start, iter(self.before(start)))]
            while stack:
                position, before = stack[-1]
                following = next(before, None)
                if following is None:
                    state[position] = finished
                    order.append(position)
                    stack.pop()
                elif state[following] == open_:
                    name = self.nodes[following].name
                    raise GraphFileError(f"{self.where}: node `{name}` depends on itself.")
                elif not state[following]:
                    state[following] = open_
                    stack.append((following, iter(self.before(following))))
        return order

    def depending_on(self, op_types: Iterable[str], ends: Iterable[str] = ()) -> bytearray:
        """Returns, by position, whether a node is of some op types or depends on one by data.

        The walk does not go through nodes of the types `ends`.
        """
        wanted, ends = frozenset(op_types), frozenset(ends)
        found = bytearray(len(self.ops))
        if wanted.isdisjoint(self.ops):
            return found
        for position in self.order:
            op = self.ops[position]
            found[position] = op in wanted or (
                op not in ends
                and any(found[s] for s, index in self.inputs(position) if index != CONTROL)
            )
        return found

    def downstream(self, positions: Iterable[int]) -> bytearray:
        """Returns, by position, whether a node is one of some nodes or depends on one by data.

        Unlike `depending_on` it follows the back edges of loops.
        """
        found = bytearray(len(self.ops))
        for position in positions:
            found[position] = True
        count = -1
        while count < sum(found):  # another round for what comes back into a loop
            count = sum(found)
            for position in self.order if count else ():
                sources = self.inputs(position)
                found[position] |= any(found[s] for s, index in sources if index != CONTROL)
        return found

    def guards(self) -> List[int]:
        """Returns the positions of the PreventGradient nodes of cross-entropy gradients."""
        return [p for p in self.of_types((_tf.GUARD_OP,)) if self.guarded(p) is not None]

    def guarded(self, position: int) -> Optional[int]:
        """Returns the position of the fused op whose gradient output this PreventGradient guards.

        CONTROL if that output comes in from elsewhere, through a loop or a function argument; then
        only the guard's message tells what it guards. None if the node guards something else.
        `tf1xent._tf.guards_cross_entropy` does the same for live ops.
        """
        guard = self.nodes[position]
        index = 0
        handed_on: Optional[int] = 0
        for _ in range(_MOST_STEPS):  # bounded, because a loop's Merge could lead round forever
            sources = list(self.inputs(position))
            if handed_on is None or handed_on >= len(sources):
                break
            position, index = sources[handed_on]
            handed_on = _tf.handed_on(self.ops[position], index)
        if not _tf.is_second_output(self.ops[position], index, guard.attr["message"].s):
            return None
        return position if self.ops[position] in _tf.FUSED_OPS else CONTROL


class Names:
    """The names taken in one graph; makes new ones."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._counts: Dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Returns and takes `name`, or the first free one of `name_1`, `name_2` and so on."""
        candidate = name
        while candidate in self._taken:
            self._counts[name] = self._counts.get(name, 0) + 1
            candidate = f"{name}_{self._counts[name]}"
        self._taken.add(candidate)
        return candidate
