"""What a name or an attribute holds where it is used, if that is certain."""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

import libcst as cst
from libcst.metadata import Assignment, ImportAssignment, Scope

_LOOPS = (cst.For, cst.While)
_FUNCTIONS = (cst.FunctionDef, cst.Lambda)
_BORDERS = (*_FUNCTIONS, cst.ClassDef, cst.Module)
_TRIES: Tuple[type, ...] = tuple(
    getattr(cst, name) for name in ("Try", "TryStar") if hasattr(cst, name)
)
_TARGETS = (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For, cst.CompFor, cst.Del)
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
    value. An attribute is followed within one function only.
    """

    def __init__(self, parents: Parents, scopes: Mapping[cst.CSTNode, Any]) -> None:
        self._parents = parents
        self._scopes = scopes
        self._held: Dict[cst.BaseExpression, Optional[cst.BaseExpression]] = {}
        self._index: Optional[_Index] = None

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Returns the expression behind a name, followed as far as it is certain; else the node."""
        seen = set()
        while isinstance(node, (cst.Name, cst.Attribute)) and node not in seen:
            seen.add(node)
            if node not in self._held:
                self._held[node] = self._definition(node)
            found = self._held[node]
            if found is None:
                break
            node = found
        return node

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
        line = self._statement(target)
        found: List[cst.CSTNode] = []
        for one in self._assigned(target):
            if isinstance(one, Assignment):
                found += [access.node for access in one.references]
                found.append(one.node)
        names = {one for one in found if isinstance(one, cst.Name) and one is not target}
        targets = (cst.AssignTarget, cst.AnnAssign)
        reads = [one for one in names if not isinstance(self._parents[one], targets)]
        return [one for one in reads if line is not None and self.line(one, one) is line]

    def function(self, node: cst.BaseExpression) -> Optional[cst.FunctionDef]:
        """Returns the function behind a name that nothing but its `def` gives a value."""
        found = self._assigned(node) if isinstance(node, cst.Name) else []
        definition = getattr(found[0], "node", None) if len(found) == 1 else None
        return definition if isinstance(definition, cst.FunctionDef) else None

    def _assigned(self, name: cst.Name) -> List[Any]:
        scope: Optional[Scope] = self._scopes.get(name)
        return [] if scope is None else list(scope[name.value])

    def _definition(self, name: cst.BaseExpression) -> Optional[cst.BaseExpression]:
        line, dotted = self.line(name, name), _dotted(name)
        return None if line is None or dotted is None else _assigned(line, dotted)

    def _reaching(self, name: cst.BaseExpression, place: cst.CSTNode) -> Any:
        """Returns the line that gives a name its value at a place, a _Start, or None: uncertain."""
        if isinstance(name, cst.Attribute):
            return self._reaching_attribute(name, place)
        assert isinstance(name, cst.Name)
        scope: Optional[Scope] = self._scopes.get(name)
        there: Optional[Scope] = self._scopes.get(place)
        assigned = self._assigned(name)
        if scope is None or there is None or set(there[name.value]) != set(assigned):
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
        targets = {self._statement(one.node) for one in assigned}
        in_expressions = any(
            isinstance(self._parents.get(one.node), cst.NamedExpr) for one in assigned
        )
        if None in targets or in_expressions:
            return None
        if scope is not home:  # seen from a function inside: it may run at any time
            only = self._statement(assigned[0].node)
            certain = len(assigned) == 1 and only is not None and not self._in_loop(only)
            return only if certain else None
        return self._walk_back(place, targets, name.value, set())

    def _reaching_attribute(self, chain: cst.Attribute, place: cst.CSTNode) -> Any:
        dotted, base = _dotted(chain), _base(chain)
        assigned = [] if base is None else self._assigned(base)
        if dotted is None or base is None or len(assigned) != 1:
            return None
        if isinstance(assigned[0], ImportAssignment):
            return _Start(None)
        function = self._function(place)
        if function is None or function is not self._function(chain):
            return None
        if self._index is None:
            self._index = _Index(self._parents)
        beginnings = [dotted[:end] for end in range(len(dotted) + 1) if _ends(dotted, end)]
        found = [one for name in beginnings for one in self._index.targets.get(name, ())]
        targets = {self._statement(one) for one in found if self._function(one) is function}
        if None in targets:
            return None
        in_the_way: Set[cst.CSTNode] = set()
        home = self._class(chain)
        if any(self._function(one) is not function and self._class(one) is home for one in found):
            # A method that is called between may set it.
            in_the_way = {
                one for call in self._index.calls.get(base.value, ()) for one in self._upwards(call)
            }
        return self._walk_back(place, targets, dotted, in_the_way)

    def _walk_back(
        self, place: cst.CSTNode, targets: Any, dotted: str, in_the_way: Set[cst.CSTNode]
    ) -> Any:
        """Looks for the last target's line before a place, with nothing in the way after it."""
        around = {one for target in targets for one in self._upwards(target)}
        inner = place
        while inner in self._parents:
            outer = self._parents[inner]
            body = _statements(outer)
            if body is not None and inner in body:
                for statement in self._backwards(body[: body.index(inner)]):
                    if statement in around:
                        return statement if _gives(statement, dotted) else None
                    if statement in in_the_way:
                        return None
            unsure = isinstance(outer, _LOOPS) or (
                isinstance(outer, _TRIES) and inner is not getattr(outer, "body", None)
            )
            if unsure and outer in around:
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
        lines = (cst.SimpleStatementLine, cst.WithItem, cst.BaseCompoundStatement)
        return self._first(node, lines)

    def _function(self, node: cst.CSTNode) -> Optional[cst.CSTNode]:
        return self._first(node, _FUNCTIONS)

    def _class(self, node: cst.CSTNode) -> Optional[cst.CSTNode]:
        return self._first(node, (cst.ClassDef,))

    def _first(self, node: cst.CSTNode, types: Tuple[type, ...]) -> Optional[cst.CSTNode]:
        return next((one for one in self._upwards(node) if isinstance(one, types)), None)

    def _in_loop(self, node: cst.CSTNode) -> bool:
        for outer in self._upwards(node):
            if isinstance(outer, _LOOPS):
                return True
            if isinstance(outer, _BORDERS) and outer is not node:
                return False
        return False

    def _upwards(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while True:
            yield node
            if node not in self._parents:
                return
            node = self._parents[node]


class _Index:
    """The attributes that a module gives values, and what it calls with each name.

    Attributes:
      targets: by dotted name, the nodes of targets.
      calls: by name, calls of its methods, and calls that are handed it.
    """

    def __init__(self, parents: Parents) -> None:
        self.targets: Dict[str, List[cst.CSTNode]] = {}
        self.calls: Dict[str, List[cst.CSTNode]] = {}
        for node in parents:
            if isinstance(node, cst.Call):
                self._note_call(node)
            elif isinstance(node, _TARGETS):
                self._note_target(node.target)
            elif isinstance(node, cst.AsName):
                self._note_target(node.name)

    def _note_target(self, target: cst.CSTNode) -> None:
        dotted = _dotted(target)
        if isinstance(target, cst.Attribute) and dotted is not None:
            self.targets.setdefault(dotted, []).append(target)
        elif isinstance(target, (cst.Tuple, cst.List)):
            for element in target.elements:
                self._note_target(element.value)

    def _note_call(self, call: cst.Call) -> None:
        base = _base(call.func) if isinstance(call.func, cst.Attribute) else None
        handed = [one.value for one in call.args if isinstance(one.value, cst.Name)]
        for name in handed if base is None else [base, *handed]:
            self.calls.setdefault(name.value, []).append(call)


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
