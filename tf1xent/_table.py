"""Tables of text."""

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
