"""What a rule may ask about the module that it looks at, and how it makes new code."""

from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

import libcst as cst
from libcst.metadata import ImportAssignment

from tf1xent._modes import STOCK
from tf1xent.migrate.definitions import Definitions
from tf1xent.migrate.finding import Options
from tf1xent.migrate.names import (
    TensorFlowName,
    dotted_name,
    qualified_name,
    tensorflow_name,
)
from tf1xent.migrate.tree import parents_of, scopes_of
from tf1xent.migrate.versions import written_for

# The modules that new code may need, by what it calls them where the source has no name for them.
_IMPORTED_AS = {"tf1xent": "tf1xent", "tensorflow": "tf", "tensorflow.compat.v1": "tf"}

_WIDTH = 100

# What compat.v1 and TF 2.x both have.
_SAME_IN_V2 = frozenset(
    """tf.one_hot tf.reshape tf.stop_gradient tf.nn.log_softmax
    tf.nn.sparse_softmax_cross_entropy_with_logits""".split()
)

Arguments = Dict[str, cst.BaseExpression]


class Context:
    """One module, for the rules.

    Attributes:
      module: its tree.
      options: what is asked of the migration.
      parents: the node around each node.
    """

    def __init__(self, module: cst.Module, options: Options) -> None:
        self.module = module
        self.options = options
        self.parents = parents_of(module)
        self._scopes = scopes_of(module)
        self._definitions = Definitions(self.parents, self._scopes)
        self._called: Dict[cst.CSTNode, Optional[str]] = {}
        self._imported_as: Dict[FrozenSet[str], FrozenSet[str]] = {}
        self._written_for: List[Optional[str]] = []  # once it is known
        self._answers: Dict[Tuple[Any, cst.CSTNode], Any] = {}
        self._imported: Dict[str, str] = {}
        self._note_imports(module.body)
        # The first name of a path to a module, as `path` made it, and what that module is.
        self.made: List[Tuple[cst.Name, str]] = []

    @property
    def to_stock(self) -> bool:
        """Whether TensorFlow's own functions are wanted."""
        return self.options.target == STOCK

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Returns what a name certainly holds here, or the node itself."""
        return self._definitions.value(node)

    def function(self, node: cst.BaseExpression) -> Optional[cst.FunctionDef]:
        """Returns the only definition of a name, if it is that of a function."""
        return self._definitions.function(node)

    def line(self, name: cst.BaseExpression, place: cst.CSTNode) -> Optional[cst.CSTNode]:
        """Returns the line ``name = ...`` or ``name *= ...`` that gives the value at a place."""
        return self._definitions.line(name, place)

    def uses(self, target: cst.Name) -> List[cst.Name]:
        """Returns where the value that a line gives a name is read, or changed in place."""
        return self._definitions.uses(target)

    def usable(self, expression: cst.BaseExpression, root: cst.CSTNode) -> bool:
        """Whether new code in the place of `root` may use an expression: it stands there, or can
        be repeated there.
        """
        node: cst.CSTNode = expression
        while node is not root:
            if node not in self.parents:
                return self._definitions.repeatable(expression, root)
            node = self.parents[node]
        return True

    def once(self, function: "Callable[[cst.CSTNode, Context], Any]", node: cst.CSTNode) -> Any:
        """Returns what a function says of a node, which several rules ask."""
        key = (function, node)
        if key not in self._answers:
            self._answers[key] = function(node, self)
        return self._answers[key]

    def name(self, node: cst.CSTNode) -> Optional[TensorFlowName]:
        """Returns which of TensorFlow's names an expression is, through imports and aliases."""
        full = self.full_name(node)
        return None if full is None else tensorflow_name(full)

    def full_name(self, node: cst.CSTNode) -> Optional[str]:
        """Returns the dotted name of an expression behind imports and aliases, or None."""
        rest: List[str] = []
        while True:
            found = qualified_name(node, self._scopes, self.parents)
            if found is not None:
                return ".".join([found, *reversed(rest)])
            if isinstance(node, cst.Attribute):
                rest.append(node.attr.value)
                node = node.value
                continue
            behind = self.value(node) if isinstance(node, cst.Name) else node
            if behind is node or not isinstance(behind, (cst.Name, cst.Attribute)):
                return None
            node = behind

    def called(self, node: cst.CSTNode) -> Optional[str]:
        """Returns the name of the function that a call calls, as "tf.nn.softmax", or None.

        tf1xent's functions have theirs, as "tf1xent.nn.softmax_cross_entropy_with_logits".
        """
        if not isinstance(node, cst.Call):
            return None
        if node not in self._called:
            name = self.name(node.func)
            self._called[node] = None if name is None else name.name
        return self._called[node]

    def api(self, node: cst.CSTNode) -> Optional[str]:
        """Returns "v1" or "v2": which TensorFlow's a name is, as its import or the module says."""
        name = self.name(node)
        if name is None or name.api is not None:
            return None if name is None else name.api
        if not self._written_for:
            self._written_for.append(written_for(self))
        return self._written_for[0]

    def imported_as(self, last_names: FrozenSet[str]) -> FrozenSet[str]:
        """Returns what the module calls the imports whose own names end in one of `last_names`."""
        if last_names not in self._imported_as:
            self._imported_as[last_names] = frozenset(
                one.name
                for scope in set(self._scopes.values())
                for one in scope.assignments
                if isinstance(one, ImportAssignment)
                for full in one.get_qualified_names_for(one.name)
                if full.name.rpartition(".")[-1] in last_names
            )
        return self._imported_as[last_names]

    def is_imported(self, node: cst.CSTNode) -> bool:
        """Whether an expression's first name is an import, not a variable that holds one."""
        return qualified_name(node, self._scopes, self.parents) is not None

    def code(self, node: cst.CSTNode) -> str:
        """Returns the source of a node."""
        return self.module.code_for_node(node)

    def path(self, dotted: str) -> cst.BaseExpression:
        """Returns an expression for "tf1xent.nn.x" or "tf.nn.x"; the import is added if needed."""
        first, *rest = dotted.split(".")
        module = first
        if first == "tf":  # compat.v1: what the source calls so, or by way of what it calls TF
            if "tensorflow.compat.v1" in self._imported:
                module = "tensorflow.compat.v1"
            elif "tensorflow" in self._imported:
                module = "tensorflow"
                if self.to_stock and dotted not in _SAME_IN_V2:
                    rest = ["compat", "v1", *rest]
            else:
                module = "tensorflow.compat.v1"
        name, *inner = self._imported.get(module, _IMPORTED_AS[module]).split(".")
        start = cst.Name(name)
        self.made.append((start, module))
        result: cst.BaseExpression = start
        for part in [*inner, *rest]:
            result = cst.Attribute(result, cst.Name(part))
        return result

    def call(
        self,
        dotted: str,
        arguments: Sequence[Tuple[str, cst.BaseExpression]],
        indent: Optional[str] = None,
    ) -> cst.Call:
        """Returns a call with keywords; "" stands before what is positional.

        With `indent`, that of the line which it begins in, the arguments are on lines of their own.
        """
        between = cst.SimpleWhitespace("")
        before: cst.BaseParenthesizableWhitespace = between
        after: cst.BaseParenthesizableWhitespace = between
        space: cst.BaseParenthesizableWhitespace = cst.SimpleWhitespace(" ")
        if indent is not None:
            before, after = _line_break(indent + "    "), _line_break(indent)
            width = sum(len(self.code(value) + keyword) + 3 for keyword, value in arguments)
            space = before if len(indent) + 4 + width > _WIDTH else space
        made = [
            cst.Arg(
                value,
                keyword=cst.Name(keyword) if keyword else None,
                equal=cst.AssignEqual(between, between) if keyword else cst.MaybeSentinel.DEFAULT,
                comma=cst.Comma(whitespace_after=space),
            )
            for keyword, value in arguments
        ]
        made[-1] = made[-1].with_changes(
            comma=cst.MaybeSentinel.DEFAULT, whitespace_after_arg=after
        )
        return cst.Call(self.path(dotted), made, whitespace_before_args=before)

    def call_in_place(
        self, root: cst.CSTNode, dotted: str, arguments: Sequence[Tuple[str, cst.BaseExpression]]
    ) -> cst.Call:
        """Returns a call for the place of `root`, on several lines if it is too wide for one."""
        new = self.call(dotted, arguments)
        indent = self.indent_if_too_wide(new, root)
        return new if indent is None else self.call(dotted, arguments, indent)

    def indent_if_too_wide(self, new: cst.CSTNode, root: cst.CSTNode) -> Optional[str]:
        """Returns the indentation of the line in which `root` begins, beyond that of its block.

        None if no line of what would be written in its place is too wide.
        """
        statement, levels = root, 0
        for outer in self._around(root):
            if isinstance(outer, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
                statement = statement if levels else outer
            levels += isinstance(outer, cst.IndentedBlock)
        before, _, after = self.code(statement).partition(self.code(root))
        *above, first = before.split("\n")
        lines = (first + self.code(new) + after.split("\n")[0]).split("\n")
        if max(map(len, lines)) + 4 * levels <= _WIDTH:
            return None
        return first[: len(first) - len(first.lstrip())] if above else ""

    def _around(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def missing_import(self, module: str) -> Optional[str]:
        """Returns the statement that gives new code the name of a module, or None."""
        if module in self._imported:
            return None
        name = _IMPORTED_AS[module]
        return f"import {module}" if name == module else f"import {module} as {name}"

    def _note_imports(self, body: Sequence[cst.CSTNode]) -> None:
        """Notes what the module calls, at its top, the modules that new code needs."""
        for statement in body:
            if isinstance(statement, cst.Try):  # `except` or `else` may import the same
                for part in (statement, *statement.handlers, statement.orelse):
                    self._note_imports([] if part is None else part.body.body)
            if not isinstance(statement, cst.SimpleStatementLine):
                continue
            for small in statement.body:
                if isinstance(small, cst.Import):
                    for alias in small.names:
                        self._note(dotted_name(alias.name), alias)
                elif isinstance(small, cst.ImportFrom) and not isinstance(
                    small.names, cst.ImportStar
                ):
                    base = "" if small.module is None else dotted_name(small.module)
                    for alias in small.names:
                        self._note(f"{base}.{dotted_name(alias.name)}", alias, from_import=True)

    def _note(self, full: str, alias: cst.ImportAlias, from_import: bool = False) -> None:
        if full not in _IMPORTED_AS:
            return
        if alias.asname is not None:
            name = alias.asname.name
            self._imported[full] = name.value if isinstance(name, cst.Name) else full
        else:
            self._imported[full] = full.rsplit(".", 1)[-1] if from_import else full


def _line_break(indent: str) -> cst.ParenthesizedWhitespace:
    return cst.ParenthesizedWhitespace(indent=True, last_line=cst.SimpleWhitespace(indent))


def arguments(call: cst.Call, names: Sequence[str]) -> Optional[Arguments]:
    """Returns a call's arguments by parameter; None if it has stars, or too many.

    Args:
      call: the call.
      names: the parameters in order.
    """
    found: Arguments = {}
    for position, argument in enumerate(call.args):
        if argument.star:
            return None
        if argument.keyword is not None:
            found[argument.keyword.value] = argument.value
        elif position < len(names):
            found[names[position]] = argument.value
        else:
            return None
    return found
