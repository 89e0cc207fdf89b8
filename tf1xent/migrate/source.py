"""A file's bytes as text, and back: encoding, byte order mark and newlines stay as they are."""

import codecs
import difflib
import io
import re
import tokenize
from typing import List, NamedTuple, Optional

_NEWLINE = re.compile(r"\r\n|\r|\n")


class Fault(Exception):
    """A file, or a place in it, that cannot be read; the others can.

    Attributes:
      message: one line.
      line: from 1; None where it is the whole file.
      column: from 1.
      cell: of a notebook, from 1.
    """

    def __init__(
        self,
        message: str,
        line: Optional[int] = None,
        column: Optional[int] = None,
        cell: Optional[int] = None,
    ) -> None:
        super().__init__(message, line, column, cell)
        self.message, self.line, self.column, self.cell = message, line, column, cell


class Source(NamedTuple):
    """The text of a file, and how the file writes it.

    Attributes:
      text: with "\\n" at the end of each line, and without the byte order mark.
      original: the text with the file's own newlines.
      encoding: as Python's codecs call it.
      mark: the byte order mark, or nothing.
    """

    text: str
    original: str
    encoding: str
    mark: bytes

    def content(self, text: str) -> bytes:
        """Returns the bytes of the file with another text; lines that stay keep their newlines."""
        return self.mark + self._with_newlines(text).encode(self.encoding)

    def _with_newlines(self, text: str) -> str:
        newlines = _NEWLINE.findall(self.original)
        if len(set(newlines)) < 2:
            return text.replace("\n", newlines[0]) if newlines else text
        old, new = self.text.split("\n"), text.split("\n")
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        result: List[str] = []
        for _, first_old, end_old, first_new, end_new in matcher.get_opcodes():
            ends = newlines[first_old:end_old]
            for number, line in enumerate(new[first_new:end_new]):
                end = ends[number] if number < len(ends) else newlines[0]
                result += [line, end]
        return "".join(result[:-1])  # the last line, which may be empty, has none


def read_source(content: bytes) -> Source:
    """Reads the bytes of a Python file or a notebook.

    Args:
      content: the file's bytes.

    Returns:
      A Source, whose `content(text)` are the same bytes.

    Raises:
      Fault: it is not in the encoding that its first two lines name, or in UTF-8 if they name none.

    Example:

    >>> source = read_source("# coding: latin-1\\r\\nname = 'Erdős'".encode("utf-8"))
    >>> source.encoding
    'iso-8859-1'
    >>> source.content(source.text) == "# coding: latin-1\\r\\nname = 'Erdős'".encode("utf-8")
    True
    """
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        encoding = "utf-8" if mark else encoding
        text = content[len(mark) :].decode(encoding)
        # Codecs such as UTF-7 have several spellings of one text.
        same = text.encode(encoding) == content[len(mark) :]
    except UnicodeDecodeError as error:
        line = content[len(mark) :][: error.start].count(b"\n") + 1
        raise Fault(f"is not encoded in {error.encoding}", line) from error
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise Fault(f"cannot be decoded: {_said(error)}") from error
    if not same:
        raise Fault(f"is encoded in {encoding}, which cannot be written back as it is")
    return Source(_NEWLINE.sub("\n", text), text, encoding, mark)


def _said(error: Exception) -> str:
    return (error.msg if isinstance(error, SyntaxError) else str(error)) or type(error).__name__
