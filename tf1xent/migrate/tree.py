"""Walks through a tree without making it anew, as libcst's own visitors and providers do."""

from typing import Any, Dict, List, Mapping, Tuple

import libcst as cst

# No rule asks about what is between tokens.
_BETWEEN = (
    cst.BaseParenthesizableWhitespace,
    cst.Comment,
    cst.EmptyLine,
    cst.Newline,
    cst.TrailingWhitespace,
)
_fields: Dict[type, Tuple[str, ...]] = {}


def children(node: cst.CSTNode) -> List[cst.CSTNode]:
    """Returns the nodes right below one, without white space and comments."""
    kind = type(node)
    names = _fields.get(kind)
    if names is None:
        names = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        _fields[kind] = names
    found: List[cst.CSTNode] = []
    for name in names:
        value: Any = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [one for one in value if isinstance(one, cst.CSTNode)]
    return [one for one in found if not isinstance(one, _BETWEEN)]


def parents_of(module: cst.Module) -> Mapping[cst.CSTNode, cst.CSTNode]:
    """Returns the node around each node of a module."""
    parents: Dict[cst.CSTNode, cst.CSTNode] = {}
    waiting: List[cst.CSTNode] = [module]
    while waiting:
        node = waiting.pop()
        below = children(node)
        for child in below:
            parents[child] = node
        waiting += below
    return parents
