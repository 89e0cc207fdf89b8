"""Tables of text, and lines that fit a terminal."""

import textwrap
from typing import List, Optional, Sequence

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], widths: Optional[Sequence[int]] = None) -> List[str]:
    """Returns a line for each row, its cells in columns; as wide as needed, or as `widths` say.

    >>> aligned([("TensorFlow", "2.21.0"), ("patched", "no")])
    ['TensorFlow  2.21.0', 'patched     no']
    """
    widths = column_widths(rows) if widths is None else widths
    return [GAP.join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]


def column_widths(rows: Sequence[Sequence[str]]) -> List[int]:
    """Returns the length of the longest cell of each column."""
    return [max(map(len, column)) for column in zip(*rows)]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table of rows, the first of which is the header.

    >>> print(markdown([["", "seconds"], ["inspect", "2.0"]]))
    |  | seconds |
    | --- | --- |
    | inspect | 2.0 |
    """
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| {} |".format(" | ".join(line)) for line in lines)


def shortened(text: str, width: Optional[int]) -> str:
    """Makes a text printable and cuts out its middle if it is longer than `width`."""
    return _cut(_printable(text), width)


def _cut(text: str, width: Optional[int]) -> str:
    if width is None or len(text) <= width:
        return text
    width = max(width, len("..."))
    end = (width - len("...")) // 2
    begin = width - len("...") - end
    return f"{text[:begin]}...{text[len(text) - end :]}"


def wrapped(text: str, width: Optional[int]) -> List[str]:
    """Splits a text into lines; a command between backquotes stays on one line."""
    text = _printable(text)
    if width is None:
        return [text]
    parts = text.split("`")
    parts[1::2] = [_cut(part, width - 6).replace(" ", "\0") for part in parts[1::2]]
    words = [_cut(word, width - 4) for word in "`".join(parts).split(" ")]
    lines = textwrap.wrap(
        " ".join(words),
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _printable(text: str) -> str:
    """Escapes characters that could control a terminal; names in files can hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def runs(numbers: Sequence[int]) -> str:
    """Lists increasing numbers; three or more in a row become first-last.

    >>> runs([1, 2, 4, 5, 6, 9])
    '1, 2, 4-6, 9'
    """
    found: List[List[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    parts = [f"{r[0]}-{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in found]
    return ", ".join(parts)


def count(number: int, what: str) -> str:
    """Says how many there are of something, as in "1 op" or "2 ops"."""
    return f"{number} {what}" + ("" if number == 1 else "s")
