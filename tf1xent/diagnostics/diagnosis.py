"""The result of a diagnosis."""

from typing import Any, Dict, List, NamedTuple, Optional

from tf1xent.diagnostics.finding import Finding


class Diagnosis(NamedTuple):
    """Why a step went wrong.

    Attributes:
      problem: what is wrong, as the program sees it, as in "the loss is nan"; None if nothing is.
      step: the global step, or None.
      findings: a list of `Finding`, in the order of cause and effect: the first is the cause.
      how: how the step was run again, in a sentence.
      reproduced: whether the step, run again, went wrong too.
    """

    problem: Optional[str]
    step: Optional[int]
    findings: List[Finding]
    how: str
    reproduced: bool

    @property
    def cause(self) -> Optional[str]:
        """The name of the cause, or None if none was found."""
        return self.findings[0].cause if self.findings else None

    def to_dict(self) -> Dict[str, Any]:
        """Returns all of it as what JSON can hold."""
        raise NotImplementedError
