"""The result of a diagnosis."""

import math
from typing import Any, Dict, List, NamedTuple, Optional

from tf1xent.diagnostics.finding import Finding
from tf1xent.diagnostics.reports.text import diagnosis_text


class Diagnosis(NamedTuple):
    """Why a step went wrong; ``print`` shows a report.

    Attributes:
      problem: what is wrong, as the program sees it, as in "the loss is nan"; None if nothing is.
      step: the global step, or None.
      findings: a list of `Finding`, in the order of cause and effect: the first is the cause.
      how: how the step was run again, in words.
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

    def __str__(self) -> str:
        return diagnosis_text(self)

    def to_dict(self) -> Dict[str, Any]:
        """Returns all of it as what JSON can hold.

        JSON has no word for NaN and infinity: they are the strings "nan", "inf" and "-inf".
        """
        found = self._asdict()
        found["findings"] = [
            {**finding._asdict(), "trial": finding.trial and finding.trial._asdict()}
            for finding in self.findings
        ]
        return {"cause": self.cause, **as_json(dict(found))}


def as_json(value: Any) -> Any:
    """Returns NumPy numbers and arrays, and what holds them, as what JSON can hold."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
