"""What a rule says of a place in the source, and what is asked of a migration."""

from typing import FrozenSet, NamedTuple, Optional, Tuple

from tf1xent._modes import TF1XENT


class Options(NamedTuple):
    """What a migration does.

    Attributes:
      target: "tf1xent": calls of tf1xent's explicit functions; "stock": the best form that
        TensorFlow's own compat.v1 has.
      fix: codes of the rules that change what the program computes, and are to be applied.
      codes: the rules to ask; None for all.
    """

    target: str = TF1XENT
    fix: FrozenSet[str] = frozenset()
    codes: Optional[FrozenSet[str]] = None


DEFAULTS = Options()


class Finding(NamedTuple):
    """One place, and what a rule says of it.

    Attributes:
      line: from 1, of the source as it was.
      column: from 1, in characters.
      code: of the rule.
      message: one line.
      changed: whether the place is rewritten.
      fixable: whether `Options.fix` with this code would rewrite it.
    """

    line: int
    column: int
    code: str
    message: str
    changed: bool
    fixable: bool


class Result(NamedTuple):
    """The source after a migration.

    Attributes:
      text: the new source; the very same string if nothing changes.
      findings: by line and column.
    """

    text: str
    findings: Tuple[Finding, ...]
