"""Notebooks: their code cells as one module, and back into the same JSON.

A name that one cell imports is known in the later ones, so the code cells are joined. The JSON is
not written anew: only the strings of lines that change are replaced, so that a diff shows nothing
else.
"""

import difflib
import json
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from tf1xent.migrate.magics import mask, unmask
from tf1xent.migrate.python2 import python2_sign
from tf1xent.migrate.scanning import statements
from tf1xent.migrate.source import Fault

_BETWEEN = "#tf1xent-cell"
_MARK = re.compile(rf"{_BETWEEN} \d+\n")
_DECODER = json.JSONDecoder()
_WHITE = re.compile(r"[ \t\r\n]*")

# Where the JSON has a value: its first place and the one behind it.
_Span = Tuple[int, int]


class Cell(NamedTuple):
    """A code cell.

    Attributes:
      number: from 1, among all cells of the notebook, those of text too.
      text: its source.
      span: where the JSON has the source: a string, or a list of them.
      strings: where it has each string of the list; None where it is one string.
    """

    number: int
    text: str
    span: _Span
    strings: Optional[Tuple[_Span, ...]]


class Notebook:
    """A notebook as a module.

    Attributes:
      module: the source of all code cells.
    """

    def __init__(self, text: str) -> None:
        """Reads a notebook's JSON, of version 3 or 4.

        Raises:
          Fault: it is no notebook, or one of its cells is Python 2.
        """
        self._json = text
        self._cells = _code_cells(text)
        self._masked: List[str] = []
        self._starts: List[int] = []
        self.module = ""
        for cell in self._cells:
            masked = mask(_ended(cell.text), self._masked)
            sign = python2_sign(statements(masked))
            if sign is not None:
                raise Fault(f"is Python 2: {sign.what}", sign.line, sign.column, cell.number)
            self._starts.append(self.module.count("\n") + 1)
            self.module += f"{_BETWEEN} {cell.number}\n{masked}"

    def place(self, line: int) -> Tuple[int, int]:
        """Returns the number of the cell in which a line of the module is, and the line in it."""
        before = [pair for pair in zip(self._cells, self._starts) if pair[1] < line]
        cell, start = before[-1]
        return cell.number, line - start

    def rebuilt(self, module: str) -> str:
        """Returns the JSON with the cells of a module that came from this one."""
        _, *parts = _MARK.split(module)
        if len(parts) != len(self._cells):
            raise ValueError(f"rebuilt: {len(self._cells)} cells became {len(parts)}.")
        pieces, end = [], 0
        for cell, part in zip(self._cells, parts):
            new = unmask(part, self._masked)
            if not cell.text.endswith("\n"):
                new = new[:-1]
            if new != cell.text:
                pieces += [
                    self._json[end : cell.span[0]],
                    _source(self._json, self._cells, cell, new),
                ]
                end = cell.span[1]
        return "".join([*pieces, self._json[end:]])


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


# JSON and its places -----------------------------------------------------------------------------


def _code_cells(text: str) -> List[Cell]:
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or not _is_python(content):
            return []
        arrays = _arrays_of_cells(text)
    except json.JSONDecodeError as error:
        raise Fault(f"is no JSON: {error.msg}", error.lineno, error.colno) from error
    cells = [span for array in arrays for _, *span in _children(text, array)]
    found = []
    for number, (start, _) in enumerate(cells, 1):
        parts: Dict[Any, _Span] = {key: (a, b) for key, a, b in _children(text, start)}
        source = parts.get("source", parts.get("input"))
        if "cell_type" not in parts or source is None:
            raise Fault("is no notebook: a cell has no type or source", cell=number)
        if _decoded(text, parts["cell_type"]) != "code":
            continue
        value = _decoded(text, source)
        strings = None
        if not isinstance(value, str):
            strings = tuple((a, b) for _, a, b in _children(text, source[0]))
            value = "".join(value)
        found.append(Cell(number, value, source, strings))
    return found


def _is_python(content: Any) -> bool:
    """Whether a notebook's language is Python, or it does not say."""
    metadata = content.get("metadata", {})
    info, kernel = metadata.get("language_info", {}), metadata.get("kernelspec", {})
    language = info.get("name") or kernel.get("language") or "python"
    return "python" in language.lower()


def _arrays_of_cells(text: str) -> List[int]:
    top = {key: start for key, start, _ in _children(text, _skip_white(text, 0))}
    if "cells" in top:
        return [top["cells"]]
    if "worksheets" not in top:
        raise Fault("is no notebook: it has no cells")
    sheets = [start for _, start, _ in _children(text, top["worksheets"])]
    return [start for sheet in sheets for key, start, _ in _children(text, sheet) if key == "cells"]


def _children(text: str, place: int) -> Iterator[Tuple[Optional[str], int, int]]:
    """Yields the key (of an object) and the span of each child of the value at a place."""
    is_object = text[place] == "{"
    place = _skip_white(text, place + 1)
    while text[place] not in "]}":
        key = None
        if is_object:
            key, place = _DECODER.raw_decode(text, place)
            place = _skip_white(text, _skip_white(text, place) + 1)
        _, end = _DECODER.raw_decode(text, place)
        yield key, place, end
        place = _skip_white(text, end)
        if text[place] == ",":
            place = _skip_white(text, place + 1)


def _skip_white(text: str, place: int) -> int:
    return _WHITE.match(text, place).end()  # type: ignore[union-attr]


def _decoded(text: str, span: _Span) -> Any:
    return _DECODER.raw_decode(text, span[0])[0]


def _between(text: str, cells: Sequence[Cell]) -> Optional[str]:
    """Returns what the JSON has between two lines of a source; None if it nowhere has two."""
    for cell in cells:
        if cell.strings and len(cell.strings) > 1:
            return text[cell.strings[0][1] : cell.strings[1][0]]
    return None


def _source(text: str, cells: Sequence[Cell], cell: Cell, new: str) -> str:
    """Returns the JSON of a cell's new source, in the form of the old one."""

    def encoded(string: str) -> str:
        return json.dumps(string, ensure_ascii=text.isascii())

    if not cell.strings:
        return encoded(new)
    first, last = cell.strings[0], cell.strings[-1]
    head, tail = text[cell.span[0] : first[0]], text[last[1] : cell.span[1]]
    old_lines = [_decoded(text, span) for span in cell.strings]
    new_lines = new.splitlines(keepends=True)  # as Jupyter does
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    result = []
    for kind, first_old, end_old, first_new, end_new in matcher.get_opcodes():
        if kind == "equal":
            result.append(text[cell.strings[first_old][0] : cell.strings[end_old - 1][1]])
        else:
            result += map(encoded, new_lines[first_new:end_new])
    between = _between(text, [cell, *cells])
    return head + ("," + head[1:] if between is None else between).join(result) + tail
