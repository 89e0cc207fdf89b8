"""Which node reads which: NodeDefs, whose references are ``name``, ``name:1`` and ``^name``.

That is the form of a GraphDef; function bodies are brought into it by `tf1xent.graphs.functions`.
"""

from typing import Any, Dict, Iterator, List, Optional, Tuple

from tf1xent import _tf
from tf1xent.errors import GraphFileError

CONTROL = -1
_BACK_EDGES = ("NextIteration", "RefNextIteration")


def split_reference(reference: str) -> Tuple[str, int]:
    """Returns (node name, output index); of a control input, (node name, CONTROL)."""
    if reference.startswith("^"):
        return reference[1:], CONTROL
    name, colon, index = reference.rpartition(":")
    if colon and index.isdigit():
        return name, int(index)
    return reference, 0


def join_reference(name: str, index: int) -> str:
    """The inverse of `split_reference`."""
    if index == CONTROL:
        return f"^{name}"
    return f"{name}:{index}" if index else name


class Wiring:
    """The nodes of one graph by name; `where` says in errors which graph it is."""

    def __init__(self, nodes: Any, where: str):
        self.nodes, self.where = nodes, where
        self.positions: Dict[str, int] = {}
        for position, node in enumerate(nodes):
            name = node.name
            if not name or not node.op:
                what = f"`{name}`" if name else f"number {position}"
                raise GraphFileError(f"{where}: node {what} has no name or no op.")
            if name in self.positions:
                raise GraphFileError(f"{where}: two nodes are named `{name}`.")
            self.positions[name] = position

    def __getitem__(self, name: str) -> Any:
        return self.nodes[self.positions[name]]

    def __contains__(self, name: str) -> bool:
        return name in self.positions

    def of_types(self, op_types: Any) -> List[Any]:
        """The nodes of some op types, in their order."""
        return [node for node in self.nodes if node.op in op_types]

    def data_inputs(self, node: Any) -> Iterator[Tuple[Any, int]]:
        """(node, output index) of what a node reads, without control inputs."""
        for reference in node.input:
            name, index = split_reference(reference)
            if index != CONTROL:
                yield self[name], index

    def readers(self, names: Any) -> Dict[str, List[Tuple[Any, int]]]:
        """By node name, of those asked for: the (node, output index read) that read it."""
        found: Dict[str, List[Tuple[Any, int]]] = {name: [] for name in names}
        if found:
            for node in self.nodes:
                for reference in node.input:
                    name, index = split_reference(reference)
                    if name in found:
                        found[name].append((node, index))
        return found

    def check(self) -> None:
        """Raises GraphFileError for an input that is not there, and for a cycle that is no loop."""
        finished, open_ = 1, 2
        state = bytearray(len(self.positions))
        for start in range(len(state)):
            if state[start]:
                continue
            stack = [(start, self._input_positions(start))]
            state[start] = open_
            while stack:
                position, inputs = stack[-1]
                following = next(inputs, None)
                if following is None:
                    state[position] = finished
                    stack.pop()
                elif state[following] == open_:
                    name = self.nodes[following].name
                    raise GraphFileError(f"{self.where}: node `{name}` depends on itself.")
                elif not state[following]:
                    state[following] = open_
                    stack.append((following, self._input_positions(following)))

    def _input_positions(self, position: int) -> Iterator[int]:
        node = self.nodes[position]
        is_merge = node.op in ("Merge", "RefMerge")
        for reference in node.input:
            name = split_reference(reference)[0]
            found = self.positions.get(name)
            if found is None:
                raise GraphFileError(
                    f"{self.where}: node `{node.name}` reads `{reference}`, which is not there."
                )
            if not (is_merge and self.nodes[found].op in _BACK_EDGES):
                yield found

    def ancestors(self, references: Any, ends: Any = ()) -> Iterator[Any]:
        """The nodes that some references depend on by data, up to those of the types `ends`."""
        pending = [split_reference(reference)[0] for reference in references]
        seen = set(pending)
        while pending:
            node = self[pending.pop()]
            yield node
            if node.op in ends:
                continue
            for before, _ in self.data_inputs(node):
                if before.name not in seen:
                    seen.add(before.name)
                    pending.append(before.name)

    def guarded(self, guard: Any) -> Optional[str]:
        """Whose second output a PreventGradient node guards: the name of a fused cross-entropy op.

        "" where that output comes in from elsewhere, None for what is no guard of such an op. As
        `tf1xent._tf.guards_cross_entropy` tells of live ops.
        """
        node, index = guard, 0
        position: Optional[int] = 0
        for _ in range(len(self.positions)):  # a loop's Merge might lead round for ever
            if position is None or position >= len(node.input):
                break
            name, index = split_reference(node.input[position])
            node = self[name]
            position = _tf.handed_on(node, index)
        if not _tf.is_second_output(node, index, guard.attr["message"].s):
            return None
        return node.name if node.op in _tf.FUSED_OPS else ""


class Names:
    """The names taken in one graph, and new ones."""

    def __init__(self, taken: Any):
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
