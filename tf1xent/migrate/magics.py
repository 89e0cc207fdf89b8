"""What a notebook's cell has that is no Python, masked and put back.

``%matplotlib inline``, ``!pip install x``, ``tf.nn?``, ``files = !ls`` and cells of another
language become Python that means nothing to the rules, on as many lines.
"""

import re
from typing import List, Tuple

from tf1xent.migrate.scanning import COMMENT, MAGIC, Statement, statements

# The magics of a whole cell whose other lines are Python of the same program.
_PYTHON_CELLS = frozenset(["capture", "debug", "memit", "mprun", "prun", "time", "timeit"])
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_MARK = "#tf1xent-magic"
# A statement, or a value that is nothing the rules know.
_STATEMENT, _VALUE = "pass", "get_ipython()"
_MASKED = re.compile(rf"(?:{_STATEMENT}|{re.escape(_VALUE)}){_MARK} (\d+);(?:\n{_MARK})*")


def mask(text: str, masked: List[str]) -> str:
    """Returns a cell's source as Python.

    Args:
      text: the source.
      masked: what the masks stand for, for `unmask`; extended.

    >>> masked = []
    >>> print(mask("%matplotlib inline\\nfiles = !ls\\n", masked))
    pass#tf1xent-magic 0;
    files = get_ipython()#tf1xent-magic 1;
    <BLANKLINE>
    >>> masked
    ['%matplotlib inline', '!ls']
    """
    found = _CELL_MAGIC.match(text)
    if found is not None and found.group(1) not in _PYTHON_CELLS:
        places = [(0, len(text.rstrip("\n")), _STATEMENT)]
    else:
        places = [
            place for statement in statements(text, magics=True) for place in _places(statement)
        ]
    result, end = [], 0
    for start, stop, python in places:
        part = text[start:stop]
        result += [text[end:start], f"{python}{_MARK} {len(masked)};"]
        result += [f"\n{_MARK}"] * part.count("\n")
        masked.append(part)
        end = stop
    return "".join([*result, text[end:]])


def unmask(text: str, masked: List[str]) -> str:
    """Returns the source of a cell with what `mask` took out of it."""
    return _MASKED.sub(lambda found: masked[int(found.group(1))], text)


def _places(statement: Statement) -> List[Tuple[int, int, str]]:
    """Returns the first and last place of what is no Python, and the Python for it."""
    tokens = [token for token in statement.tokens if token.kind != COMMENT]
    if not tokens:
        return []
    start, end = tokens[0].start, tokens[-1].start + len(tokens[-1].text)
    # Help on a name: `tf.nn?`. No other line of Python or of a notebook ends so.
    if tokens[0].kind == MAGIC or tokens[-1].text == "?":
        return [(start, end, _STATEMENT)]
    return [
        (token.start, token.start + len(token.text), _VALUE)
        for token in tokens
        if token.kind == MAGIC
    ]
