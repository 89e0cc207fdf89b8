"""What a rule may ask about the module that it looks at, and how it makes new code."""

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import libcst as cst
from libcst.metadata import ParentNodeProvider, ScopeProvider

from tf1xent.migrate.definitions import Definitions
from tf1xent.migrate.finding import STOCK, Options
from tf1xent.migrate.names import TensorFlowName, qualified_name, tensorflow_name

# The modules that new code may need, by what it calls them where the source has no name for them.
_IMPORTED_AS = {"tf1xent": "tf1xent", "tensorflow": "tf", "tensorflow.compat.v1": "tf"}

Arguments = Dict[str, cst.BaseExpression]


class Context:
    """One module, for the rules.

    Attributes:
      module: its tree.
      options: what is asked of the migration.
      parents: the node around each node.
    """

    def __init__(self, module: cst.Module, metadata: Mapping[Any, Any], options: Options) -> None:
        self.module = module
        self.options = options
        self.parents: Mapping[cst.CSTNode, cst.CSTNode] = metadata[ParentNodeProvider]
        self._scopes = metadata[ScopeProvider]
        self._definitions = Definitions(self.parents, self._scopes)
        self._answers: Dict[Tuple[Any, cst.CSTNode], Any] = {}
        self._imported: Dict[str, str] = {}
        self._note_imports()
        # The first name of a path to a module, as `path` made it, and what that module is.
        self.made: List[Tuple[cst.Name, str]] = []

    @property
    def to_stock(self) -> bool:
        """Whether TensorFlow's own functions are wanted."""
        return self.options.target == STOCK

    def value(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """Returns what a name certainly holds here, or the node itself."""
        return self._definitions.value(node)

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
        """Returns the name of TensorFlow's function that a call calls, as "tf.nn.softmax"."""
        if not isinstance(node, cst.Call):
            return None
        name = self.name(node.func)
        return None if name is None else name.name

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
                module, rest = "tensorflow", ["compat", "v1", *rest] if self.to_stock else rest
            else:
                module = "tensorflow.compat.v1"
        name, *inner = self._imported.get(module, _IMPORTED_AS[module]).split(".")
        start = cst.Name(name)
        self.made.append((start, module))
        result: cst.BaseExpression = start
        for part in [*inner, *rest]:
            result = cst.Attribute(result, cst.Name(part))
        return result

    def call(self, dotted: str, arguments: Sequence[Tuple[str, cst.BaseExpression]]) -> cst.Call:
        """Returns a call with keywords; "" stands before what is positional."""
        made = []
        for position, (keyword, value) in enumerate(arguments):
            last = position == len(arguments) - 1
            comma = (
                cst.MaybeSentinel.DEFAULT
                if last
                else cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
            )
            made.append(
                cst.Arg(
                    value,
                    keyword=cst.Name(keyword) if keyword else None,
                    equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
                    if keyword
                    else cst.MaybeSentinel.DEFAULT,
                    comma=comma,
                )
            )
        return cst.Call(self.path(dotted), made)

    def missing_import(self, module: str) -> Optional[str]:
        """Returns the statement that gives new code the name of a module, or None."""
        if module in self._imported:
            return None
        name = _IMPORTED_AS[module]
        return f"import {module}" if name == module else f"import {module} as {name}"

    def _note_imports(self) -> None:
        """Notes what the module itself, at its top, calls the modules that new code needs."""
        for statement in self.module.body:
            if not isinstance(statement, cst.SimpleStatementLine):
                continue
            for small in statement.body:
                if isinstance(small, cst.Import):
                    for alias in small.names:
                        self._note(_dotted(alias.name), alias)
                elif isinstance(small, cst.ImportFrom) and not isinstance(
                    small.names, cst.ImportStar
                ):
                    base = "" if small.module is None else _dotted(small.module)
                    for alias in small.names:
                        self._note(f"{base}.{_dotted(alias.name)}", alias, from_import=True)

    def _note(self, full: str, alias: cst.ImportAlias, from_import: bool = False) -> None:
        if full not in _IMPORTED_AS:
            return
        if alias.asname is not None:
            name = alias.asname.name
            self._imported[full] = name.value if isinstance(name, cst.Name) else full
        else:
            self._imported[full] = full.rsplit(".", 1)[-1] if from_import else full


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


def _dotted(node: cst.CSTNode) -> str:
    parts: List[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if isinstance(node, cst.Name):
        parts.append(node.value)
    return ".".join(reversed(parts))
