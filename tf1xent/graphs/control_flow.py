"""In which branches and v1 loops the nodes of a graph run, found out as TensorFlow's executor does.

Enter leads into a loop and Exit out of it, Switch into a branch and Merge out of it. The file's
collections say the same for a MetaGraph only, and say it in words that may not fit its nodes.
"""

from typing import List, Tuple

from tf1xent.graphs.wiring import Wiring

WHILE, COND = "while", "cond"
# From the outside to the inside: ("while", frame name) or ("cond", the output that decides).
Context = Tuple[Tuple[str, str], ...]

_ENTERS, _EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
_SWITCHES, _MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")


def contexts(wiring: Wiring) -> List[Context]:
    """The context of every node, by position."""
    found: List[Context] = [()] * len(wiring.ops)
    if wiring.of_types(_ENTERS + _SWITCHES):
        for position in wiring.order:
            before = [found[source] for source in wiring.before(position)]
            found[position] = _context(wiring, position, before)
    return found


def _context(wiring: Wiring, position: int, before: List[Context]) -> Context:
    op = wiring.ops[position]
    around = max(before, key=len, default=())
    if op in _ENTERS:
        frame = wiring.nodes[position].attr["frame_name"].s.decode("utf-8", "replace")
        return around + ((WHILE, frame),)
    if op in _EXITS:
        return _outside(around, WHILE)
    inputs = list(wiring.inputs(position))
    if op in _SWITCHES and len(inputs) > 1:
        decision = (COND, "{}:{}".format(*inputs[1]))
        is_loop = wiring.ops[inputs[1][0]] == "LoopCond"
        return around if is_loop or decision in around else around + (decision,)
    if op in _MERGES and len(before) == len(inputs):
        return _outside(around, COND)
    return around


def _outside(context: Context, kind: str) -> Context:
    """What is around the innermost loop or branch of a context."""
    for position in reversed(range(len(context))):
        if context[position][0] == kind:
            return context[:position]
    return context
