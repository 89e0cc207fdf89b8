"""What a diagnosis says: a cause, where it shows, and what would cure it."""

from typing import TYPE_CHECKING, Any, Callable, Dict, NamedTuple, Optional

if TYPE_CHECKING:
    from tf1xent.diagnostics.judging.evidence import Evidence


class Trial(NamedTuple):
    """The same step, or the next few, with the cure.

    Attributes:
      change: what was changed, in words.
      before: what came out without it.
      after: what came out with it.
      helped: whether the problem is gone.
    """

    change: str
    before: str
    after: str
    helped: bool


class Finding(NamedTuple):
    """A cause that is there.

    Attributes:
      cause: the name of a row of `CAUSES`.
      what: what is wrong, in a sentence, with its numbers.
      tensor: the name of the tensor where it shows first, or of a variable, or None.
      op_type: the type of its op, or None.
      line: ``file:line, in function`` of the user's program that made the op, or None.
      row: the row of the batch, or None if it is not one of a batch's rows.
      numbers: the numbers around it, by name; each a Python number, text, or a list of them.
      remedy: the one change that would cure it, in a sentence.
      trial: a `Trial` of it, or None where it was not tried.
    """

    cause: str
    what: str
    tensor: Optional[str]
    op_type: Optional[str]
    line: Optional[str]
    row: Optional[int]
    numbers: Dict[str, Any]
    remedy: str
    trial: Optional[Trial] = None


class Cause(NamedTuple):
    """A row of the table of causes.

    Attributes:
      name: as in "log of 0".
      meaning: what it is, in a sentence.
      remedy: what to do about it, in a sentence.
      probe: looks for it: takes an `Evidence`, returns a `Finding` or None.
    """

    name: str
    meaning: str
    remedy: str
    probe: Callable[["Evidence"], Optional[Finding]]
