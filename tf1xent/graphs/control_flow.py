"""The v1 branches and loops that the nodes of a graph run in.

Derived from the nodes, as TensorFlow's executor does: Enter leads into a loop and Exit out of it,
Switch leads into a branch and Merge out of it. Only a MetaGraphDef records the same in collections,
and those may disagree with its nodes.
"""

from typing import List, NamedTuple, Optional, Set

from tf1xent.errors import GraphFileError
from tf1xent.graphs.wiring import Wiring

WHILE, COND = "while", "cond"
# Real graphs nest a few hundred branches at most, made by tf.case.
_MOST_DEPTH = 2000


class Context(NamedTuple):
    """A control-flow context: a v1 loop or branch, inside the context `outer`.

    Attributes:
      depth: 1 for an outermost context.
      kind: WHILE or COND.
      name: the loop's frame name, or the tensor that decides the branch, ``position:index``.
      outer: the context around it, or None.
    """

    depth: int
    kind: str
    name: str
    outer: Optional["Context"]


_ENTERS, _EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
_SWITCHES, _MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")


def contexts(wiring: Wiring) -> List[Optional[Context]]:
    """Returns the innermost context of every node, by position; None outside all contexts."""
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
    """Returns the kinds, WHILE and COND, of a context and of all contexts around it."""
    found: Set[str] = set()
    while context is not None:
        found.add(context.kind)
        context = context.outer
    return found


def _context(wiring: Wiring, position: int, before: List[Optional[Context]]) -> Optional[Context]:
    """Returns the context of a node, given the contexts of its inputs."""
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
    """Returns the context around the innermost loop, or branch, that a node is in."""
    found = context
    while found is not None:
        if found.kind == kind:
            return found.outer
        found = found.outer
    return context
