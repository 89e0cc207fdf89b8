"""Recognises Python 2, which libcst refuses without saying so, or reads wrongly.

One row of `SIGNS` for each thing that Python 2 has and Python 3 has not. ``except E, e`` is among
them though Python 3.14 reads it again, as a tuple of two exceptions: no program of TensorFlow's
first ten years means that.
"""

import re
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from tf1xent.migrate.scanning import NAME, NUMBER, OPERATOR, STRING, Statement, Token


class Sign(NamedTuple):
    """Something that only Python 2 has.

    Attributes:
      what: what it is, with its spelling.
      line: from 1.
      column: from 1.
    """

    what: str
    line: int
    column: int


# Behind `print` or `exec` these go on with an expression of Python 3.
_OPERATORS_OF_PYTHON_3 = frozenset(["in", "is", "and", "or", "if", "else", "for"])

# Takes the tokens of a simple statement, or of a compound one's head; returns the first sign.
_Find = Callable[[List[Token]], Optional[Token]]


def _statement_of(word: str) -> _Find:
    def find(tokens: List[Token]) -> Optional[Token]:
        if tokens[0].text != word or len(tokens) < 2:
            return None
        after = tokens[1]
        begins_expression = (
            after.kind in (STRING, NUMBER) or after.text in ("`", "{", "~") or after.kind == NAME
        )
        if word == "print" and after.text == ">>":
            return tokens[0]
        if not begins_expression or after.text in _OPERATORS_OF_PYTHON_3:
            return None
        if after.text == "not" and len(tokens) > 2 and tokens[2].text == "in":
            return None
        return tokens[0]

    return find


def _comma_after(word: str) -> _Find:
    def find(tokens: List[Token]) -> Optional[Token]:
        depth = tokens[0].depth
        has_comma = any(token.text == "," and token.depth == depth for token in tokens)
        return tokens[0] if tokens[0].text == word and has_comma else None

    return find


def _any(test: Callable[[Token], bool]) -> _Find:
    return lambda tokens: next((token for token in tokens if test(token)), None)


def _matches(kind: str, pattern: str) -> _Find:
    compiled = re.compile(pattern)
    return _any(lambda token: token.kind == kind and compiled.match(token.text) is not None)


def _unpacked_parameter(tokens: List[Token]) -> Optional[Token]:
    for number, token in enumerate(tokens[:-1]):
        after = tokens[number + 1]
        if token.text == "lambda" and after.text == "(":
            return token
        in_parameters = tokens[0].text == "def" and after.depth == tokens[0].depth + 1
        if in_parameters and token.text in ("(", ",") and after.text == "(":
            return after
    return None


SIGNS: Tuple[Tuple[str, _Find], ...] = (
    ("a print statement", _statement_of("print")),
    ("an exec statement", _statement_of("exec")),
    ("`except E, e`", _comma_after("except")),
    ("`raise E, message`", _comma_after("raise")),
    ("backticks", _matches(OPERATOR, "`")),
    ("the operator `<>`", _matches(OPERATOR, "<>")),
    ("an octal number such as 0755", _matches(NUMBER, r"0[\d_]*[1-9][\d_]*[lL]?$")),
    ("a long number such as 10L", _matches(NUMBER, r".*[lL]$")),
    ('a string such as ur""', _matches(STRING, "[uU][rR]")),
    ("a parameter in brackets", _unpacked_parameter),
)


def python2_sign(source: Iterable[Statement]) -> Optional[Sign]:
    """Returns the first sign of Python 2 in the statements of a source, or None.

    >>> from tf1xent.migrate.scanning import statements
    >>> python2_sign(statements("loss = 1\\nprint loss\\n"))
    Sign(what='a print statement', line=2, column=1)
    >>> python2_sign(statements("# print loss\\nprint(loss)\\n")) is None
    True
    """
    indents = [(0, 0)]
    for statement in source:
        if not statement.is_comment and _is_inconsistent(statement.indent, indents):
            return Sign("tabs mixed with spaces", statement.line, 1)
        for tokens in _simple_statements(statement):
            found = [(find(tokens), what) for what, find in SIGNS]
            places = [(token.start, token, what) for token, what in found if token is not None]
            if places:
                _, token, what = min(places)
                return Sign(what, token.line, token.column)
    return None


def _simple_statements(statement: Statement) -> Iterator[List[Token]]:
    """Splits a line at semicolons, and behind the colon of a compound statement's head."""
    part: List[Token] = []
    lambdas = 0
    for token in statement.tokens:
        if token.depth == 0 and token.text in (";", ":") and not lambdas:
            if part:
                yield part
            part = []
            continue
        if token.depth == 0:
            lambdas += (token.text == "lambda") - (token.text == ":" and lambdas > 0)
        part.append(token)
    if part:
        yield part


def _is_inconsistent(indent: str, indents: List[Tuple[int, int]]) -> bool:
    """Follows Python 3's own test: how deep a line is must not depend on what a tab is worth.

    Args:
      indent: of a statement.
      indents: those of the blocks around it, with tabs of eight columns and of one; changed.
    """
    indent = indent.rsplit("\f", 1)[-1]  # a form feed begins the line anew
    column, narrow = len(indent.expandtabs(8)), len(indent)
    while column < indents[-1][0]:
        indents.pop()
    top, top_narrow = indents[-1]
    if column == top:
        return narrow != top_narrow
    indents.append((column, narrow))
    return narrow <= top_narrow
