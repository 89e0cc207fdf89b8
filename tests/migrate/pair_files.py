"""Reads the files of pairs: source before and after, many to a file.

A file of `pairs/` is a list of cases, each in this form::

    == name | TX101 TX104 | fix=TX310 labels=one-hot
    (source before)
    --
    (source after; nothing: it must not change)

In the header stand the codes of all findings, by line, whether they rewrite or not, and options:

=====================  ============================================================================
``to=stock``           the target, of the migration
``fix=TX301,TX302``    the codes to fix
``labels=one-hot``     what `labels` are; also ``time=3``, ``batch=4``, ``classes=7`` and any number
                       of ``input=w=weights:B,1``: as of `tf1xent verify`
``proof=WORD``         what is proved of them by numbers, if not ``equal``: ``other`` (--fix: they
                       differ), ``fails`` (the source before cannot be built, or in the TensorFlow
                       at hand computes something else; the one after is right), ``text`` (nothing:
                       the source defines no loss that can be called)
``api=v2``             `import tensorflow` means TensorFlow 2; else compat.v1, on every TensorFlow
=====================  ============================================================================

Lines before the first header are comments. Empty lines around a source do not count.
"""

import os
import re
from typing import Dict, List, NamedTuple, Tuple

FOLDER = os.path.join(os.path.dirname(__file__), "pairs")
PROOFS = ("equal", "other", "fails", "text")
_HEADER = re.compile(r"== (?P<name>[^|]+?) *(?:\|(?P<codes>[^|]*)(?:\|(?P<options>.*))?)?")
_OPTIONS = ("to", "fix", "labels", "time", "batch", "classes", "input", "proof", "api")


class Pair(NamedTuple):
    """A case.

    Attributes:
      name: with its file's, for messages.
      codes: of all findings, by line.
      options: from the header; each a list of its values.
      before: source.
      after: source; the same where nothing must change.
    """

    name: str
    codes: Tuple[str, ...]
    options: Dict[str, List[str]]
    before: str
    after: str

    def option(self, name: str, default: str = "") -> str:
        """Returns the value of an option of the header."""
        return self.options.get(name, [default])[-1]

    @property
    def proof(self) -> str:
        """What is proved by numbers."""
        return self.option("proof", "equal")


def read_pairs() -> List[Pair]:
    """Returns the cases of all files."""
    pairs: List[Pair] = []
    for file in sorted(os.listdir(FOLDER)):
        with open(os.path.join(FOLDER, file), encoding="utf-8") as stream:
            pairs.extend(parse_pairs(file[: -len(".txt")], stream.read()))
    return pairs


def parse_pairs(group: str, text: str) -> List[Pair]:
    """Returns the cases of a file's text.

    Args:
      group: goes before the names.
      text: of the file.

    Raises:
      ValueError: a header that is none, or a case without its line `--`.
    """
    blocks = re.split(r"^(?=== )", text, flags=re.MULTILINE)[1:]
    return [_pair(group, block) for block in blocks]


def _pair(group: str, block: str) -> Pair:
    header, _, source = block.partition("\n")
    found = _HEADER.fullmatch(header.strip())
    if found is None:
        raise ValueError(f"{group}: {header!r} is no header. See pair_files.py.")
    name = f"{group}: {found.group('name')}"
    options: Dict[str, List[str]] = {}
    for word in (found.group("options") or "").split():
        key, _, value = word.partition("=")
        if key not in _OPTIONS or not value:
            raise ValueError(f"{name}: {word!r} is no option. See pair_files.py.")
        options.setdefault(key, []).append(value)
    sources = re.split(r"^--[ ]*$", source, flags=re.MULTILINE)
    if len(sources) != 2:
        raise ValueError(f"{name}: a case has one line `--`, this one has {len(sources) - 1}.")
    before, after = (source.strip("\n") for source in sources)
    codes = tuple((found.group("codes") or "").split())
    return Pair(name, codes, options, before + "\n", (after or before) + "\n")
