"""In which branches and v1 loops the nodes of a graph run, found out as TensorFlow's executor does.

Enter leads into a loop and Exit out of it, Switch into a branch and Merge out of it. The file's
collections say the same for a MetaGraph only, and say it in words that may not fit its nodes.
"""

from typing import Any, Dict, Iterable, List, Tuple

from tf1xent.graphs.wiring import CONTROL, Wiring, split_reference

WHILE, COND = "while", "cond"
# From the outside to the inside: ("while", frame name) or ("cond", what decides).
Context = Tuple[Tuple[str, str], ...]

_ENTERS, _EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
_SWITCHES, _MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")
_BACK_EDGES = ("NextIteration", "RefNextIteration")


def contexts(wiring: Wiring, names: Iterable[str]) -> Dict[str, Context]:
    """The contexts of the nodes of these names."""
    names = list(names)
    if not wiring.of_types(_ENTERS + _SWITCHES):
        return {name: () for name in names}
    found: Dict[str, Context] = {}
    for name in names:
        _find(wiring, name, found)
    return {name: found[name] for name in names}


def _find(wiring: Wiring, start: str, found: Dict[str, Context]) -> None:
    pending = [start]
    while pending:
        node = wiring[pending[-1]]
        before = _before(wiring, node)
        missing = [name for name in before if name not in found]
        if missing:
            pending += missing
            continue
        pending.pop()
        found[node.name] = _context(wiring, node, [found[name] for name in before])


def _before(wiring: Wiring, node: Any) -> List[str]:
    names = [split_reference(reference)[0] for reference in node.input]
    if node.op in _MERGES:
        names = [name for name in names if wiring[name].op not in _BACK_EDGES]
    return names


def _context(wiring: Wiring, node: Any, before: List[Context]) -> Context:
    around = max(before, key=len, default=())
    if node.op in _ENTERS:
        return around + ((WHILE, node.attr["frame_name"].s.decode("utf-8", "replace")),)
    if node.op in _EXITS:
        return _outside(around, WHILE)
    if node.op in _SWITCHES:
        decides, index = split_reference(node.input[1]) if len(node.input) > 1 else ("", CONTROL)
        decision = (COND, f"{decides}:{index}")
        is_loop = decides in wiring and wiring[decides].op == "LoopCond"
        return around if is_loop or decision in around else around + (decision,)
    if node.op in _MERGES and len(before) == len(node.input):
        return _outside(around, COND)
    return around


def _outside(context: Context, kind: str) -> Context:
    """What is around the innermost loop or branch of a context."""
    for position in reversed(range(len(context))):
        if context[position][0] == kind:
            return context[:position]
    return context
