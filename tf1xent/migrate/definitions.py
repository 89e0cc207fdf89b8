"""What a name or an attribute holds where it is used, if that is certain."""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import libcst as cst
from libcst.metadata import Assignment, ImportAssignment, Scope

_LOOPS = (cst.For, cst.While)
_FUNCTIONS = (cst.FunctionDef, cst.Lambda)
_BORDERS = (*_FUNCTIONS, cst.ClassDef, cst.Module)
_TRIES: Tuple[type, ...] = tuple(
    getattr(cst, name) for name in ("Try", "TryStar") if hasattr(cst, name)
)
# Context managers that may leave their block early; others run it to its end.
_LEAVING = frozenset(["suppress", "raises", "assertRaises", "assertRaisesRegex", "ignored"])

Parents = Mapping[cst.CSTNode, cst.CSTNode]


class _Start(NamedTuple):
    """No line gives the name its value: a parameter, an import, what the module does not know."""

    border: Optional[cst.CSTNode]


class Definitions:
    """Follows names, and attributes such as ``self.logits``, to the expressions that they hold.

    An answer is certain or there is none: the definition stands before the use, in the same block
    or one around it, and nothing between them, no branch and no loop, may give the name another
    value.
    An attribute is followed within one function only.
    """

    def __init__(self, parents: Parents, scopes: Mapping[cst.CSTNode, Any]) -> None:
        self._parents = parents
        self._scopes = scopes
        self._attributes: Optional[Dict[str, List[cst.CSTNode]]] = None

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Returns the expression behind a name, followed as far as it is certain; else the node."""
        seen = set()
        while isinstance(node, (cst.Name, cst.Attribute)) and node not in seen:
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

    def repeatable(self, expression: cst.BaseExpression, place: cst.CSTNode) -> bool:
        """Whether an expression, written again at another place, certainly has the same value.

        Only names, attributes and numbers are: a call may make new variables or new noise.
        """
        if isinstance(expression, (cst.Integer, cst.Float)):
            return True
        if isinstance(expression, (cst.Name, cst.Attribute)) and _dotted(expression) is not None:
            here, there = self._reaching(expression, expression), self._reaching(expression, place)
            return here is not None and here == there
        return False

    def line(self, name: cst.BaseExpression, place: cst.CSTNode) -> Optional[cst.CSTNode]:
        """Returns the line ``name = ...`` or ``name *= ...`` that gives the value at a place."""
        reaching = self._reaching(name, place)
        return reaching if isinstance(reaching, cst.SimpleStatementLine) else None

    def uses(self, target: cst.Name) -> List[cst.Name]:
        """Returns where the value that a line gives a name is read, or changed in place."""
        scope: Optional[Scope] = self._scopes.get(target)
        line = self._statement(target)
        if scope is None or line is None:
            return []
        found: List[cst.CSTNode] = []
        assigned: List[Any] = list(scope[target.value])
        for one in assigned:
            if isinstance(one, Assignment):
                found += [access.node for access in one.references]
                found.append(one.node)
        names = {one for one in found if isinstance(one, cst.Name) and one is not target}
        return [one for one in names if self.line(one, one) is line and self._is_read(one)]

    def _is_read(self, name: cst.Name) -> bool:
        return not isinstance(self._parents[name], (cst.AssignTarget, cst.AnnAssign))

    def _definition(self, name: cst.BaseExpression) -> Optional[cst.BaseExpression]:
        line, dotted = self.line(name, name), _dotted(name)
        return None if line is None or dotted is None else _assigned(line, dotted)

    def _reaching(self, name: cst.BaseExpression, place: cst.CSTNode) -> Any:
        """Returns the line that gives a name its value at a place, a _Start, or None: uncertain."""
        if isinstance(name, cst.Attribute):
            return self._reaching_attribute(name, place)
        assert isinstance(name, cst.Name)
        scope: Optional[Scope] = self._scopes.get(name)
        if scope is None:
            return None
        assigned: List[Any] = list(scope[name.value])
        place_scope: Optional[Scope] = self._scopes.get(place)
        if place_scope is None or set(place_scope[name.value]) != set(assigned):
            return None  # another variable there
        if any(isinstance(one, ImportAssignment) for one in assigned):
            return _Start(None) if len(assigned) == 1 else None
        if not all(isinstance(one, Assignment) for one in assigned):
            return _Start(None)  # a builtin
        if not assigned:
            return _Start(None)  # the module gives it no value
        if len(assigned) == 1 and isinstance(self._parents.get(assigned[0].node), cst.Parameters):
            return _Start(assigned[0].node)  # a parameter that keeps its value
        home = assigned[0].scope
        if any(one.scope is not home for one in assigned):
            return None
        statements = [self._statement(one.node) for one in assigned]
        in_expressions = any(
            isinstance(self._parents.get(one.node), cst.NamedExpr) for one in assigned
        )
        if None in statements or in_expressions:
            return None
        if scope is not home:  # seen from a function inside: it may run at any time
            only = statements[0]
            certain = len(statements) == 1 and only is not None and not self._in_loop(only)
            return only if certain else None
        return self._walk_back(place, set(statements), name.value)

    def _reaching_attribute(self, chain: cst.Attribute, place: cst.CSTNode) -> Any:
        dotted, base = _dotted(chain), _base(chain)
        if dotted is None or base is None:
            return None
        scope: Optional[Scope] = self._scopes.get(base)
        assigned = [] if scope is None else list(scope[base.value])
        if len(assigned) != 1:
            return None
        if isinstance(assigned[0], ImportAssignment):
            return _Start(None)
        function = self._function(place)
        if function is None or function is not self._function(chain):
            return None
        beginnings = [dotted[:end] for end in range(len(dotted) + 1) if _ends(dotted, end)]
        targets, elsewhere = set(), False
        for beginning in beginnings:
            for target in self._attribute_targets().get(beginning, ()):
                if self._function(target) is function:
                    targets.add(self._statement(target))
                elif self._class(target) is self._class(chain):
                    elsewhere = True  # a method that is called between may set it
        if None in targets:
            return None
        return self._walk_back(place, targets, dotted, base.value if elsewhere else None)

    def _walk_back(
        self, place: cst.CSTNode, targets: Any, dotted: str, calls: Optional[str] = None
    ) -> Any:
        """Looks for the last target's line before a place; `calls` of a name are in the way."""
        inner = place
        while inner in self._parents:
            outer = self._parents[inner]
            body = _statements(outer)
            if body is not None and inner in body:
                for statement in self._backwards(body[: body.index(inner)]):
                    if any(self._within(target, statement) for target in targets):
                        return statement if _gives(statement, dotted) else None
                    if calls is not None and _calls(statement, calls):
                        return None
            unsure = isinstance(outer, _LOOPS) or (
                isinstance(outer, _TRIES) and inner is not getattr(outer, "body", None)
            )
            if unsure and any(self._within(target, outer) for target in targets):
                return None  # an earlier round, or the part that failed, may have given the value
            if isinstance(outer, cst.With) and not targets.isdisjoint(outer.items):
                return None
            if isinstance(outer, _BORDERS):
                return _Start(outer)
            inner = outer
        return None

    def _backwards(self, body: List[cst.CSTNode]) -> Iterator[cst.CSTNode]:
        """Yields statements from the last on, also those of blocks that certainly ran."""
        for statement in reversed(body):
            if isinstance(statement, cst.With) and not _may_leave(statement):
                yield from self._backwards(_statements(statement.body) or [])
                yield from statement.items
            else:
                yield statement

    def _statement(self, node: cst.CSTNode) -> Optional[cst.CSTNode]:
        """Returns the line of the block, or the compound statement, that a target belongs to."""
        for outer in self._upwards(node):
            if isinstance(
                outer, (cst.SimpleStatementLine, cst.WithItem, cst.BaseCompoundStatement)
            ):
                return outer
        return None

    def _function(self, node: cst.CSTNode) -> Optional[cst.CSTNode]:
        return next((one for one in self._upwards(node) if isinstance(one, _FUNCTIONS)), None)

    def _class(self, node: cst.CSTNode) -> Optional[cst.CSTNode]:
        return next((one for one in self._upwards(node) if isinstance(one, cst.ClassDef)), None)

    def _in_loop(self, node: cst.CSTNode) -> bool:
        for outer in self._upwards(node):
            if isinstance(outer, _LOOPS):
                return True
            if isinstance(outer, _BORDERS) and outer is not node:
                return False
        return False

    def _within(self, node: cst.CSTNode, outer: cst.CSTNode) -> bool:
        return any(one is outer for one in self._upwards(node))

    def _upwards(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while True:
            yield node
            if node not in self._parents:
                return
            node = self._parents[node]

    def _attribute_targets(self) -> Dict[str, List[cst.CSTNode]]:
        if self._attributes is None:
            finder = _AttributeTargets()
            module = next(one for one in self._parents.values() if isinstance(one, cst.Module))
            module.visit(finder)
            self._attributes = finder.found
        return self._attributes


class _AttributeTargets(cst.CSTVisitor):
    """Finds the attributes that statements give a value, by their dotted names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Dict[str, List[cst.CSTNode]] = {}

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.CompFor)):
            self._note(node.target)
        elif isinstance(node, cst.AsName):
            self._note(node.name)
        elif isinstance(node, cst.Del):
            self._note(node.target)
        return True

    def _note(self, target: cst.CSTNode) -> None:
        if isinstance(target, cst.Attribute):
            dotted = _dotted(target)
            if dotted is not None:
                self.found.setdefault(dotted, []).append(target)
        elif isinstance(target, (cst.Tuple, cst.List)):
            for element in target.elements:
                self._note(element.value)


def _calls(statement: cst.CSTNode, name: str) -> bool:
    """Whether a statement calls a method of an object, or hands the object to a function."""
    if isinstance(statement, cst.Call):
        base = _base(statement.func)
        arguments = [argument.value for argument in statement.args]
        if isinstance(statement.func, cst.Attribute) and base is not None and base.value == name:
            return True
        if any(isinstance(one, cst.Name) and one.value == name for one in arguments):
            return True
    return any(_calls(child, name) for child in statement.children)


def _may_leave(statement: cst.With) -> bool:
    calls = [item.item for item in statement.items if isinstance(item.item, cst.Call)]
    names = [(_dotted(call.func) or "").rsplit(".", 1)[-1] for call in calls]
    return not _LEAVING.isdisjoint(names)


def _statements(node: cst.CSTNode) -> Any:
    body = (
        getattr(node, "body", None) if isinstance(node, (cst.IndentedBlock, cst.Module)) else None
    )
    return None if body is None else list(body)


def _dotted(node: cst.CSTNode) -> Optional[str]:
    parts = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if not isinstance(node, cst.Name):
        return None
    return ".".join([node.value, *reversed(parts)])


def _base(node: cst.CSTNode) -> Optional[cst.Name]:
    while isinstance(node, cst.Attribute):
        node = node.value
    return node if isinstance(node, cst.Name) else None


def _ends(dotted: str, end: int) -> bool:
    """Whether a dotted name's beginning of some length is one of its own: a.b of a.b.c."""
    return "." in dotted[:end] and (end == len(dotted) or dotted[end] == ".")


def _assigned(statement: cst.CSTNode, dotted: str) -> Optional[cst.BaseExpression]:
    """Returns the value of a line `name = value` and nothing else, or None."""
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    small = statement.body[0]
    if isinstance(small, cst.Assign):
        targets, value = [target.target for target in small.targets], small.value
    elif isinstance(small, cst.AnnAssign) and small.value is not None:
        targets, value = [small.target], small.value
    else:
        return None
    names = [_dotted(target) for target in targets]
    return value if dotted in names and None not in names else None


def _gives(statement: cst.CSTNode, dotted: str) -> bool:
    """Whether a line gives this name a value, and does nothing else."""
    if _assigned(statement, dotted) is not None:
        return True
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return False
    small = statement.body[0]
    return isinstance(small, cst.AugAssign) and _dotted(small.target) == dotted
