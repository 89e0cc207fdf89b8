"""Walks through a tree without making it anew, as libcst's own visitors and providers do."""

from typing import Any, Dict, List, Mapping, Tuple

import libcst as cst
from libcst.metadata import ExpressionContext, ExpressionContextProvider, ScopeProvider
from libcst.metadata.expression_context_provider import ExpressionContextVisitor
from libcst.metadata.scope_provider import ScopeVisitor

# No rule asks about what is between tokens.
_BETWEEN = (
    cst.BaseParenthesizableWhitespace,
    cst.Comment,
    cst.EmptyLine,
    cst.Newline,
    cst.TrailingWhitespace,
)
# By the type of a node: the names of its fields; of anything: whether rules may ask about it.
_fields: Dict[type, Tuple[str, ...]] = {}
_is_node: Dict[type, bool] = {}


def children(node: cst.CSTNode) -> List[cst.CSTNode]:
    """Returns the nodes right below one, without white space and comments."""
    kind = type(node)
    if kind not in _fields:
        _fields[kind] = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    found: List[Any] = []
    for name in _fields[kind]:
        value: Any = getattr(node, name)
        if type(value) in (list, tuple):
            found += value
        else:
            found.append(value)
    return [one for one in found if _may_be_asked(type(one))]


def _may_be_asked(kind: type) -> bool:
    # isinstance of libcst's abstract classes takes longer than all the rest.
    if kind not in _is_node:
        _is_node[kind] = issubclass(kind, cst.CSTNode) and not issubclass(kind, _BETWEEN)
    return _is_node[kind]


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


def scopes_of(module: cst.Module) -> Mapping[cst.CSTNode, Any]:
    """Returns the scope of each node, as libcst's ScopeProvider does in a wrapper.

    A wrapper walks through the module twice more, and all walk through white space.
    """
    contexts, scopes = _Contexts(), _Scopes()
    module.visit(_ContextVisitor(contexts, ExpressionContext.LOAD))
    scopes.contexts = contexts.found
    visitor = _ScopeVisitor(scopes)
    module.visit(visitor)
    visitor.infer_accesses()
    return scopes.found


class _ContextVisitor(ExpressionContextVisitor):
    def on_visit(self, node: cst.CSTNode) -> bool:
        return _may_be_asked(type(node)) and super().on_visit(node)


class _ScopeVisitor(ScopeVisitor):
    def on_visit(self, node: cst.CSTNode) -> bool:
        return _may_be_asked(type(node)) and super().on_visit(node)


class _Contexts(ExpressionContextProvider):
    def __init__(self) -> None:
        super().__init__()
        self.found: Dict[cst.CSTNode, Any] = {}

    def set_metadata(self, node: cst.CSTNode, value: Any) -> None:
        self.found[node] = value


class _Scopes(ScopeProvider):
    def __init__(self) -> None:
        super().__init__()
        self.found: Dict[cst.CSTNode, Any] = {}
        self.contexts: Dict[cst.CSTNode, Any] = {}

    def set_metadata(self, node: cst.CSTNode, value: Any) -> None:
        self.found[node] = value

    def get_metadata(self, key: Any, node: cst.CSTNode, default: Any = None) -> Any:
        return self.contexts.get(node, default)
