"""Splits source into tokens and statements, whatever Python it is for, and whether it parses.

`tokenize` cannot do this: from Python 3.12 on it raises errors for Python 2 (``0755``, backticks),
and no version reads the magic commands of a notebook.
"""

import re
from typing import Iterator, List, NamedTuple

NAME, NUMBER, STRING, COMMENT, OPERATOR, MAGIC = (
    "name",
    "number",
    "string",
    "comment",
    "operator",
    "magic",
)

_TOKEN = re.compile(
    r"""
      (?P<space>   [ \t\f]+ | \\\n )
    | (?P<newline> \n )
    | (?P<comment> \#[^\n]* )
    | (?P<string>  (?i:[bfru]|br|rb|fr|rf|ur)?
                   (?: \"{3} (?:\\.|[^\\])*? (?:\"{3}|\Z)
                     | '{3}  (?:\\.|[^\\])*? (?:'{3}|\Z)
                     | "(?!"") (?:\\.|[^\\"\n])* "
                     | '(?!'') (?:\\.|[^\\'\n])* ' ) )
    | (?P<number>  (?: 0[xX][\da-fA-F_]+ | 0[bBoO][\d_]+
                     | (?: \d[\d_]*\.?[\d_]* | \.\d[\d_]* ) (?:[eE][+-]?\d[\d_]*)? ) [jJlL]? )
    | (?P<name>    [^\W\d]\w* )
    | (?P<operator> \*\*=? | //=? | >>=? | <<=? | <> | != | -> | := | [-+*/%@&|^=<>]= | . )
    """,
    re.VERBOSE | re.DOTALL,
)
# What a line of a notebook begins with that is no Python: up to the end of the line, and of those
# that a backslash joins to it.
_MAGIC = re.compile(r"[%!?](?:\\\n|[^\n])*")
_INDENT = re.compile(r"[ \t\f]*")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


class Token(NamedTuple):
    """A token.

    Attributes:
      kind: one of the names above.
      text: as it is written.
      line: of its first character, from 1.
      column: of its first character, from 1.
      start: its place in the source, from 0.
      depth: in how many brackets it is; the brackets themselves are outside.
    """

    kind: str
    text: str
    line: int
    column: int
    start: int
    depth: int


class Statement(NamedTuple):
    """A logical line: a simple statement or the head of a compound one; or a line of comment.

    Attributes:
      indent: the white space before it.
      tokens: at least one; without white space and newlines.
      last_line: where it ends.
    """

    indent: str
    tokens: List[Token]
    last_line: int

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.tokens[0].line

    @property
    def width(self) -> int:
        """How deep it is indented, in columns."""
        return len(self.indent.expandtabs())

    @property
    def is_comment(self) -> bool:
        """Whether it is a line of its own with nothing but a comment."""
        return self.tokens[0].kind == COMMENT


def statements(text: str, magics: bool = False) -> Iterator[Statement]:
    """Yields the statements of a source.

    Args:
      text: the source; its lines end in "\\n".
      magics: whether it is a notebook's cell: then a line that begins with ``%``, ``!`` or ``?`` is
        a token, and so is what follows an ``=`` if it begins with ``%`` or ``!``.
    """
    tokens: List[Token] = []
    line, line_start, depth, place = 1, 0, 0, 0
    indent = ""
    while place < len(text):
        if place == line_start and not tokens:
            indent = _INDENT.match(text, place).group()  # type: ignore[union-attr]
            place += len(indent)
            if place == len(text):
                break
        found = _MAGIC.match(text, place) if magics and _may_be_magic(tokens, depth) else None
        kind = MAGIC
        if found is None:
            found = _TOKEN.match(text, place)
            assert found is not None  # the last alternative takes any character
            kind = str(found.lastgroup)
        part = found.group()
        if kind == "newline":
            if tokens and not depth:
                yield Statement(indent, tokens, line)
                tokens = []
        elif kind != "space":
            depth -= depth > 0 and part in _CLOSING
            tokens.append(Token(kind, part, line, place - line_start + 1, place, depth))
            depth += part in _OPENING
        place = found.end()
        if "\n" in part:
            line += part.count("\n")
            line_start = found.start() + part.rindex("\n") + 1
    if tokens:
        yield Statement(indent, tokens, line)


def _may_be_magic(tokens: List[Token], depth: int) -> bool:
    return not tokens or (not depth and tokens[-1].text == "=")
