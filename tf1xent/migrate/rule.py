"""What a rule is: a row of a table, with the function that recognises a form."""

import enum
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Tuple, Type

import libcst as cst

if TYPE_CHECKING:
    from tf1xent.migrate.context import Context


class Verdict(enum.Enum):
    """What becomes of a form."""

    REWRITTEN = "computes the same: rewritten"
    FIXED = "changes what is computed: reported, and rewritten with --fix"
    REPORTED = "reported, never rewritten"


class Match(NamedTuple):
    """A place where a rule applies.

    Attributes:
      message: one line: what is there, and what it should be.
      replacement: what takes the node's place; None if this place cannot be rewritten. Nodes of the
        source that it holds are kept as they are written, and other rules are asked about them.
    """

    message: str
    replacement: Optional[cst.CSTNode] = None


class Rule(NamedTuple):
    """A form, how it is recognised, and what it becomes.

    Attributes:
      code: "TX" and three digits; the first says the family.
      title: what is found, in a few words.
      verdict: what becomes of it.
      meaning: what is wrong with the form, or gained; a few sentences.
      before: an example; `import tensorflow as tf` and the inputs are understood.
      after: what it becomes; None for REPORTED.
      words: a file that has none of these is not parsed for the rule. One that ends with "(" is
        a function's whole name, and not NumPy's.
      nodes: the types of nodes that `match` is asked about.
      match: returns a Match, or None.
      besides: of these the file must have one too; of none, none.
    """

    code: str
    title: str
    verdict: Verdict
    meaning: str
    before: str
    after: Optional[str]
    words: Tuple[str, ...]
    nodes: Tuple[Type[cst.CSTNode], ...]
    match: "Callable[[cst.CSTNode, Context], Optional[Match]]"
    besides: Tuple[str, ...] = ()
