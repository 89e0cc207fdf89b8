"""What a local name holds where it is used, if that is certain."""

from typing import Any, Iterator, List, Mapping, Optional

import libcst as cst
from libcst.metadata import Assignment, Scope

_LOOPS = (cst.For, cst.While)
_BORDERS = (cst.FunctionDef, cst.Lambda, cst.ClassDef, cst.Module)


class Definitions:
    """Follows names to the expressions that they hold.

    An answer is certain or it is None: the definition stands before the use, in the same block or
    one around it, and nothing between them, no branch and no loop, may give the name another value.
    """

    def __init__(
        self, parents: Mapping[cst.CSTNode, cst.CSTNode], scopes: Mapping[cst.CSTNode, Any]
    ) -> None:
        self._parents = parents
        self._scopes = scopes

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Returns the expression behind a name, followed as far as it is certain; else the node."""
        seen = set()
        while isinstance(node, cst.Name) and node not in seen:
            seen.add(node)
            found = self._definition(node)
            if found is None:
                break
            node = found
        return node

    def function(self, node: cst.BaseExpression) -> Optional[cst.FunctionDef]:
        """Returns the function behind a name that nothing but its `def` gives a value."""
        if not isinstance(node, cst.Name) or not self.is_assigned_once(node):
            return None
        (found,) = self._scopes[node][node.value]
        definition = getattr(found, "node", None)
        return definition if isinstance(definition, cst.FunctionDef) else None

    def is_assigned_once(self, name: cst.Name) -> bool:
        """Whether one place gives a name its value."""
        scope: Optional[Scope] = self._scopes.get(name)
        return scope is not None and len(scope[name.value]) == 1

    def _definition(self, name: cst.Name) -> Optional[cst.BaseExpression]:
        scope: Optional[Scope] = self._scopes.get(name)
        if scope is None:
            return None
        assigned: List[Any] = list(scope[name.value])
        if not assigned or not all(isinstance(one, Assignment) for one in assigned):
            return None
        home = assigned[0].scope
        if any(one.scope is not home for one in assigned):
            return None
        if scope is not home:  # seen from a function inside: it may run at any time
            statements = [self._statement(one.node) for one in assigned]
            if len(statements) == 1 and statements[0] is not None:
                return _assigned(statements[0], name.value)
            return None
        targets = {self._statement(one.node): one for one in assigned}
        if None in targets:
            return None
        return self._walk_back(name, set(targets))

    def _walk_back(self, name: cst.Name, targets: Any) -> Optional[cst.BaseExpression]:
        inner: cst.CSTNode = name
        while inner in self._parents:
            outer = self._parents[inner]
            body = _statements(outer)
            if body is not None and inner in body:
                for statement in reversed(body[: body.index(inner)]):
                    if any(self._within(target, statement) for target in targets):
                        return _assigned(statement, name.value)
            if isinstance(outer, _LOOPS) and any(self._within(one, outer) for one in targets):
                return None  # an earlier round may have given the value
            if isinstance(outer, _BORDERS):
                return None
            inner = outer
        return None

    def _statement(self, node: cst.CSTNode) -> Optional[cst.CSTNode]:
        """Returns the line of the block, or the compound statement, that a target belongs to."""
        for outer in self._upwards(node):
            if isinstance(outer, (cst.SimpleStatementLine, cst.BaseCompoundStatement)):
                return outer
        return None

    def _within(self, node: cst.CSTNode, outer: cst.CSTNode) -> bool:
        return any(one is outer for one in self._upwards(node))

    def _upwards(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while True:
            yield node
            if node not in self._parents:
                return
            node = self._parents[node]


def _statements(node: cst.CSTNode) -> Any:
    body = (
        getattr(node, "body", None) if isinstance(node, (cst.IndentedBlock, cst.Module)) else None
    )
    return None if body is None else list(body)


def _assigned(statement: cst.CSTNode, name: str) -> Optional[cst.BaseExpression]:
    """Returns the value of a line `name = value` and nothing else, or None."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    small = statement.body[0]
    if isinstance(small, cst.Assign) and len(small.targets) == 1:
        target, value = small.targets[0].target, small.value
    elif isinstance(small, cst.AnnAssign) and small.value is not None:
        target, value = small.target, small.value
    else:
        return None
    return value if isinstance(target, cst.Name) and target.value == name else None
