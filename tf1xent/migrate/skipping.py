"""The comments that keep rules from a place: ``# tf1xent: skip``.

===============================  ==================================================================
``x = f(y)  # tf1xent: skip``    the statement in which the comment stands, all its lines
``# tf1xent: skip``              on a line of its own: the next statement, with its whole block
``# tf1xent: skip-file``         anywhere: the whole file or notebook
``# tf1xent: skip=TX101,TX201``  each of them also for some rules only
===============================  ==================================================================
"""

import re
from typing import Callable, FrozenSet, List, NamedTuple, Optional, Tuple

from tf1xent.migrate.scanning import COMMENT, Statement, statements

# What each of these comments has.
MARK = "tf1xent:"
_COMMENT = re.compile(
    rf"#\s*{MARK}\s*skip(?P<file>-file)?(?:\s*=\s*(?P<codes>\w+(?:\s*,\s*\w+)*))?(?![-\w=])"
)
# What a statement goes on with in the column where it began.
_GOES_ON = frozenset(["elif", "else", "except", "finally"])


class _Skip(NamedTuple):
    first_line: int
    last_line: float
    codes: Optional[FrozenSet[str]]


def skipped(text: str) -> Callable[[int, str], bool]:
    """Reads a module's comments.

    Returns:
      A function that tells whether findings of a rule are skipped, by line (from 1) and code.

    Example:

    >>> is_skipped = skipped("x = 1  # tf1xent: skip=TX101")
    >>> is_skipped(1, "TX101"), is_skipped(1, "TX201"), is_skipped(2, "TX101")
    (True, False, False)
    """
    # The scanner takes longer than this on the many files that have no such comment.
    skips = []
    if MARK in text:
        skips = _skips(list(statements(text.replace("\r\n", "\n"))))

    def is_skipped(line: int, code: str) -> bool:
        return any(
            skip.first_line <= line <= skip.last_line and (skip.codes is None or code in skip.codes)
            for skip in skips
        )

    return is_skipped


def _skips(found: List[Statement]) -> List[_Skip]:
    skips = []
    for number, statement in enumerate(found):
        for token in statement.tokens:
            said = _COMMENT.search(token.text) if token.kind == COMMENT else None
            if said is None:
                continue
            codes = said.group("codes")
            lines: Optional[Tuple[int, float]] = (statement.line, statement.last_line)
            if said.group("file"):
                lines = (1, float("inf"))
            elif statement.is_comment:
                lines = _next_block(found[number + 1 :])
            if lines is not None:
                skips.append(_Skip(*lines, frozenset(re.findall(r"\w+", codes)) if codes else None))
    return skips


def _next_block(rest: List[Statement]) -> Optional[Tuple[int, float]]:
    """Returns the first and the last line of the first statement, with its decorators and blocks.

    An indented line belongs to what stands above it, whatever its depth: that is all that is needed
    here of Python's rules.
    """
    code = [statement for statement in rest if not statement.is_comment]
    if not code:
        return None
    first, last = code[0], code[0]
    is_decorator = first.tokens[0].text == "@"
    for statement in code[1:]:
        goes_on = statement.tokens[0].text in _GOES_ON
        if statement.width < first.width or (
            statement.width == first.width and not (goes_on or is_decorator)
        ):
            break
        if statement.width == first.width and is_decorator:
            is_decorator = statement.tokens[0].text == "@"
        last = statement
    return first.line, last.last_line
