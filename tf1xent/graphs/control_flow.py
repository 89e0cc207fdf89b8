"""In which branches and v1 loops the nodes of a graph run, found out as TensorFlow's executor does.

Enter leads into a loop and Exit out of it, Switch into a branch and Merge out of it. The file's
collections say the same for a MetaGraph only, and say it in words that may not fit its nodes.
"""

from typing import List, NamedTuple, Optional, Set

from tf1xent.errors import GraphFileError
from tf1xent.graphs.wiring import Wiring

WHILE, COND = "while", "cond"
# Real graphs nest some hundred branches, those of a tf.case.
_MOST_DEPTH = 2000


class Context(NamedTuple):
    """A loop or branch, inside `outer`; `name` is the loop's frame, or the output that decides."""

    depth: int
    kind: str
    name: str
    outer: Optional["Context"]


_ENTERS, _EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
_SWITCHES, _MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")


def contexts(wiring: Wiring) -> List[Optional[Context]]:
    """The innermost context of every node, by position; None outside of all."""
    found: List[Optional[Context]] = [None] * len(wiring.ops)
    if wiring.of_types(_ENTERS + _SWITCHES):
        for position in wiring.order:
            before = [found[source] for source in wiring.before(position)]
            context = _context(wiring, position, before)
            if context is not None and context.depth > _MOST_DEPTH:
                raise GraphFileError(
                    f"{wiring.where}: node `{wiring.nodes[position].name}` is inside more than "
                    f"{_MOST_DEPTH} branches and loops."
                )
            found[position] = context
    return found


def kinds(context: Optional[Context]) -> Set[str]:
    """What a node is inside of: of its context and of all those around it, WHILE and COND."""
    found = set()
    while context is not None:
        found.add(context.kind)
        context = context.outer
    return found


def _context(wiring: Wiring, position: int, before: List[Optional[Context]]) -> Optional[Context]:
    op = wiring.ops[position]
    around = max(before, key=_depth, default=None)
    if op in _ENTERS:
        frame = wiring.nodes[position].attr["frame_name"].s.decode("utf-8", "replace")
        return Context(_depth(around) + 1, WHILE, frame, around)
    if op in _EXITS:
        return _outside(around, WHILE)
    inputs = list(wiring.inputs(position))
    if op in _SWITCHES and len(inputs) > 1:
        decides = "{}:{}".format(*inputs[1])
        if wiring.ops[inputs[1][0]] == "LoopCond" or _is_inside(around, decides):
            return around
        return Context(_depth(around) + 1, COND, decides, around)
    if op in _MERGES and len(before) == len(inputs):
        return _outside(around, COND)
    return around


def _depth(context: Optional[Context]) -> int:
    return context.depth if context is not None else 0


def _is_inside(context: Optional[Context], decides: str) -> bool:
    while context is not None:
        if context.kind == COND and context.name == decides:
            return True
        context = context.outer
    return False


def _outside(context: Optional[Context], kind: str) -> Optional[Context]:
    """What is around the innermost loop or branch of a context."""
    found = context
    while found is not None:
        if found.kind == kind:
            return found.outer
        found = found.outer
    return context
