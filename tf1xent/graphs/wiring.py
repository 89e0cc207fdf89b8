"""Which node reads which: NodeDefs, whose references are ``name``, ``name:1`` and ``^name``.

That is the form of a GraphDef; function bodies are brought into it by `tf1xent.graphs.functions`.
Nodes go by position, in arrays of numbers, so that a graph of any size can be walked without
reading its nodes again.
"""

import array
import bisect
import re
import sys
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent.errors import GraphFileError
from tf1xent.graphs.raw import NodeList

CONTROL = -1
_BACK_EDGES = ("NextIteration", "RefNextIteration")
_MERGES = ("Merge", "RefMerge")
# From a guard to what it guards: TensorFlow puts a few ops between them.
_MOST_STEPS = 1000
_INDEX = re.compile("[0-9]{1,9}")


def split_reference(reference: str) -> Tuple[str, int]:
    """Returns (node name, output index); of a control input, (node name, CONTROL)."""
    if reference.startswith("^"):
        return reference[1:], CONTROL
    name, colon, index = reference.rpartition(":")
    if colon and _INDEX.fullmatch(index):
        return name, int(index)
    return reference, 0


def join_reference(name: str, index: int) -> str:
    """The inverse of `split_reference`."""
    if index == CONTROL:
        return f"^{name}"
    return f"{name}:{index}" if index else name


def split_inputs(node: Any) -> Tuple[List[str], List[str]]:
    """Returns the references of what a node reads, and its control inputs."""
    data = [reference for reference in node.input if not reference.startswith("^")]
    return data, [reference for reference in node.input if reference.startswith("^")]


class Wiring:
    """The names, op types and inputs of a graph's nodes; `where` says in errors which graph it is.

    Raises GraphFileError for nodes without or of the same name, inputs that are not there, and
    cycles that are no loops.
    """

    def __init__(self, nodes: NodeList, where: str):
        self.nodes, self.where = nodes, where
        self.positions: Dict[str, int] = {}
        self.ops: List[str] = []
        # The inputs of node i are those from starts[i] to starts[i + 1].
        self._starts = array.array("i", [0])
        self._sources, self._outputs = array.array("i"), array.array("i")
        # (its place among the inputs, name of its source) of what is read before it is there.
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
                    f"{where}: node `{reader}` reads `{source}`, which is not there."
                )
            self._sources[place] = self.positions[source]
        # Every node after those that it reads, but for the back edges of loops.
        self.order = self._ordered()

    def of_types(self, op_types: Iterable[str]) -> List[int]:
        """The positions of the nodes of some op types."""
        wanted = frozenset(op_types)
        return [position for position, op in enumerate(self.ops) if op in wanted]

    def inputs(self, position: int) -> Iterator[Tuple[int, int]]:
        """(position, output index or CONTROL) of what a node reads."""
        for i in range(self._starts[position], self._starts[position + 1]):
            yield self._sources[i], self._outputs[i]

    def readers(self, positions: Iterable[int]) -> Dict[int, List[Tuple[int, int]]]:
        """By position, of those asked for: the (position, output index read) of who reads them."""
        found: Dict[int, List[Tuple[int, int]]] = {position: [] for position in positions}
        if found:
            for reader in range(len(self.ops)):
                for source, index in self.inputs(reader):
                    if source in found:
                        found[source].append((reader, index))
        return found

    def before(self, position: int) -> List[int]:
        """The positions that a node waits for, control inputs too; not the back edge of a loop."""
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
        """By position, whether a node is of some types or depends on such by data.

        What lies before a node of the types `ends` does not count.
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

    def behind(self, positions: Iterable[int]) -> bytearray:
        """By position, whether a node is one of some or depends on them by data, in loops too."""
        found = bytearray(len(self.ops))
        for position in positions:
            found[position] = True
        count = -1
        while count < sum(found):  # a second round for what leads back into a loop
            count = sum(found)
            for position in self.order if count else ():
                sources = self.inputs(position)
                found[position] |= any(found[s] for s, index in sources if index != CONTROL)
        return found

    def guards(self) -> List[int]:
        """Positions of the PreventGradient nodes that guard the gradient of a cross-entropy op."""
        return [p for p in self.of_types((_tf.GUARD_OP,)) if self.guarded(p) is not None]

    def guarded(self, position: int) -> Optional[int]:
        """Whose second output a PreventGradient node guards: a fused cross-entropy op's position.

        CONTROL where that output comes in from elsewhere, None for what is no guard of such an op.
        As `tf1xent._tf.guards_cross_entropy` tells of live ops.
        """
        guard = self.nodes[position]
        index = 0
        handed_on: Optional[int] = 0
        for _ in range(_MOST_STEPS):  # a loop's Merge might lead round for ever
            sources = list(self.inputs(position))
            if handed_on is None or handed_on >= len(sources):
                break
            position, index = sources[handed_on]
            handed_on = _tf.handed_on(self.ops[position], index)
        if not _tf.is_second_output(self.ops[position], index, guard.attr["message"].s):
            return None
        return position if self.ops[position] in _tf.FUSED_OPS else CONTROL


class Names:
    """The names taken in one graph, and new ones."""

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)
        self._counts: Dict[str, int] = {}

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2` and so on where that is taken; it is taken from now on."""
        candidate = name
        while candidate in self._taken:
            self._counts[name] = self._counts.get(name, 0) + 1
            candidate = f"{name}_{self._counts[name]}"
        self._taken.add(candidate)
        return candidate
