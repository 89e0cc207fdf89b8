"""Leaves out the functions of a module in which no rule can find anything.

libcst's analysis of scopes takes a hundred times as long as Python's own parser, so that most of
the time would go to functions that have none of the rules' words. The body of such a function is
replaced by one line that has all on which code outside of it can depend: the names of the module
that it reads, those that tell the version of TensorFlow, and the attributes that it gives a value.
"""

import ast
import bisect
import re
import symtable
import warnings
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from tf1xent.migrate.scanning import Statement
from tf1xent.migrate.versions import VERSION_NAMES

_MARK = "#tf1xent-body"
_LEFT_OUT = re.compile(rf"^.*{_MARK} (\d+)\n", re.MULTILINE)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Reduced(NamedTuple):
    """A module without the bodies of some functions.

    Attributes:
      text: what is left.
      bodies: what is left out.
      starts: the first line of `text` behind each body, and how many lines more the module has
        before it.
    """

    text: str
    bodies: Tuple[str, ...] = ()
    starts: Tuple[Tuple[int, int], ...] = ()

    def restored(self, text: str) -> str:
        """Returns the module that a text belongs to which came from this one."""
        return _LEFT_OUT.sub(lambda found: self.bodies[int(found.group(1))], text)

    def line(self, line: int) -> int:
        """Returns the line of the module that a line of `text` is."""
        before = bisect.bisect([start for start, _ in self.starts], line)
        return line + (self.starts[before - 1][1] if before else 0)


def reduce_module(
    text: str, statements: Sequence[Statement], concerns: Callable[[str], bool]
) -> Reduced:
    """Leaves out the bodies of functions that do not concern the rules.

    Args:
      text: the module.
      statements: all of its statements.
      concerns: whether a part of the text may concern the rules; it is asked about each body.
    """
    bodies = _bodies(statements)
    symbols = _symbols(text)
    if [body.name for body in bodies] != [name for name, *_ in symbols]:
        return Reduced(text)  # this Python cannot read it, though libcst may
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    result: List[str] = []
    left_out: List[str] = []
    starts: List[Tuple[int, int]] = []
    end = 0
    for body, (_, table, node) in zip(bodies, symbols):
        old = "".join(lines[body.first_line - 1 : body.last_line])
        stub = None if not old.endswith("\n") or concerns(old) else _stub(table, node)
        if stub is None:
            continue
        result += lines[end : body.first_line - 1]
        result.append(f"{body.indent}{stub}{_MARK} {len(left_out)}\n")
        left_out.append(old)
        end = body.last_line
        starts.append((len(result) + 1, end - len(result)))
    return Reduced("".join([*result, *lines[end:]]), tuple(left_out), tuple(starts))


class _Body(NamedTuple):
    """The block of a function that is in no other function."""

    name: str
    indent: str
    first_line: int
    last_line: int


def _bodies(statements: Sequence[Statement]) -> List[_Body]:
    """Returns the bodies in the text, in their order; one on the line of its `def` has no lines."""
    found = []
    code = [statement for statement in statements if not statement.is_comment]
    place = 0
    while place < len(code):
        head = code[place]
        place += 1
        words = [token.text for token in head.tokens[:3]]
        if "def" not in (words[0], *(words[1:2] if words[0] == "async" else ())):
            continue
        width = head.width
        first = place
        while place < len(code) and code[place].width > width:
            place += 1
        name, below = words[words.index("def") + 1], code[first:place]
        last_line = below[-1].last_line if below else head.last_line
        indent = below[0].indent if below else ""
        found.append(_Body(name, indent, head.last_line + 1, last_line))
    return found


def _symbols(text: str) -> List[Tuple[str, symtable.SymbolTable, Any]]:
    """Returns name, symbols and syntax of the same functions; nothing for what is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(text)
            top = symtable.symtable(text, "<module>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
    tables: Dict[Tuple[str, int], symtable.SymbolTable] = {}
    waiting = [top]
    while waiting:
        for child in waiting.pop().get_children():
            if child.get_type() == "function":
                tables[child.get_name(), child.get_lineno()] = child
            else:
                waiting.append(child)
    nodes = sorted(_outermost_functions(tree), key=lambda node: (node.lineno, node.col_offset))
    return [
        (node.name, tables[node.name, node.lineno], node)
        for node in nodes
        if (node.name, node.lineno) in tables
    ]


def _outermost_functions(node: ast.AST) -> Iterator[Any]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTIONS):
            yield child
        elif not isinstance(child, ast.expr):
            yield from _outermost_functions(child)


def _stub(table: symtable.SymbolTable, node: Any) -> Optional[str]:
    """Returns a line that stands for a function's body; None if it must stay."""
    reads = set()
    tables = [table]
    while tables:
        here = tables.pop()
        for symbol in here.get_symbols():
            if symbol.is_global():
                if symbol.is_assigned() or symbol.is_imported():
                    return None  # it gives a name of the module a value
                reads.add(symbol.get_name())
        tables += here.get_children()
    gives, tells = set(), set()
    for inner in ast.walk(node):
        dotted = _dotted(inner)
        if dotted is None or not isinstance(inner, ast.Attribute):
            continue
        if not isinstance(inner.ctx, ast.Load):
            gives.add(dotted)
        elif inner.attr in VERSION_NAMES and dotted.split(".")[0] in reads:
            tells.add(dotted)
    read = f"({', '.join(sorted(reads | tells))},); " if reads else ""
    return read + " = ".join([*sorted(gives), "0"])


def _dotted(node: Any) -> Optional[str]:
    """Returns the dotted name of an attribute, or None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not parts or not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])
