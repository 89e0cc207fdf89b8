"""What a comparison found, as text and as JSON."""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from tf1xent._table import aligned, count, wrapped
from tf1xent.verification.findings import (
    BEFORE_WRONG,
    BOTH_WRONG,
    DIFFERENT,
    MISSING,
    VERDICTS,
    Finding,
)

__all__ = ["Report"]

WIDTH = 100
_HEADER = (
    "quantity",
    "dtype",
    "largest difference",
    "ulp",
    "on batch",
    "BEFORE's error",
    "AFTER's",
    "",
)
# A number has no more units of the last place than this; what differs by more has another sign.
_ALL_DIGITS = 2.0**53


class SideFacts(NamedTuple):
    """What is said of a side: as the user named it, versions, inputs, precision by dtype."""

    name: str
    versions: str
    parameters: Dict[str, str]
    precisions: Dict[str, str]
    refusals: Dict[str, str]


class Report(NamedTuple):
    """The outcome of a comparison.

    Attributes:
      before, after: facts about both sides.
      formula: the formula that BEFORE computes, in words; None where it is none that is known.
      reference: what both are judged by, in words.
      findings: one `findings.Finding` for each quantity on each batch.
      notes: what else is to be known, each a sentence.
      strict: whether BEFORE must be right too, and AFTER as accurate in small entries as BEFORE.
    """

    before: SideFacts
    after: SideFacts
    formula: Optional[str]
    reference: str
    findings: List[Finding]
    notes: List[str]
    strict: bool = False

    @property
    def equal(self) -> bool:
        """Whether AFTER computes what BEFORE does, or what BEFORE should."""
        failed = {DIFFERENT, MISSING, BEFORE_WRONG} if self.strict else {DIFFERENT}
        if any(finding.verdict in failed for finding in self.findings):
            return False
        return not (self.strict and any(map(_loses, self.findings)))

    @property
    def before_is_wrong(self) -> bool:
        """Whether BEFORE misses exact results, or breaks, on some batch."""
        return any(finding.verdict == BEFORE_WRONG for finding in self.findings)

    def to_dict(self) -> Dict[str, Any]:
        """Returns everything as what JSON can hold; inf and NaN as strings."""
        return {
            "equal": self.equal,
            "before_is_wrong": self.before_is_wrong,
            "strict": self.strict,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "formula": self.formula,
            "reference": self.reference,
            "notes": self.notes,
            "findings": [
                {k: _jsonable(v) for k, v in finding._asdict().items()} for finding in self.findings
            ],
        }

    def to_json(self) -> str:
        """Returns `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_text(self) -> str:
        """Returns a table with a line for each quantity and dtype, and what is to be said."""
        heads = [
            (side, facts.name, facts.versions, ", ".join(map("=".join, facts.parameters.items())))
            for side, facts in (("BEFORE", self.before), ("AFTER", self.after))
        ]
        lines = [*aligned(heads), f"judged by {self.reference}", "", *aligned(self._rows()), ""]
        for verdict in (DIFFERENT, MISSING, BEFORE_WRONG, BOTH_WRONG):
            lines += self._said(verdict)
        lines += self._accuracy()
        for note in self.notes:
            lines += wrapped(f"note: {note}", WIDTH)
        batches = {(finding.dtype, finding.batch) for finding in self.findings}
        compared = f"{count(len(self.findings), 'comparison')}, {len(batches)} batches"
        verdict = "equal" if self.equal else "different"
        wrong = ", but BEFORE is wrong" if self.before_is_wrong else ""
        return "\n".join([*lines, f"{verdict}{wrong} ({compared})"])

    def _rows(self) -> List[Sequence[str]]:
        groups: Dict[Tuple[str, str], List[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.quantity, finding.dtype), []).append(finding)
        rows: List[Sequence[str]] = [_HEADER]
        for (quantity, dtype), found in groups.items():
            worst = min(found, key=_badness)
            errors = (worst.before_error, worst.after_error)
            rows.append(
                (
                    quantity,
                    dtype,
                    _number(worst.relative),
                    _ulps(worst.ulp),
                    worst.batch,
                    *("-" if error is None else _number(error) for error in errors),
                    worst.verdict,
                )
            )
        return rows

    def _said(self, verdict: str) -> List[str]:
        """A line for each quantity and reason with a verdict."""
        groups: Dict[Tuple[str, str], List[Finding]] = {}
        for finding in self.findings:
            if finding.verdict == verdict:
                groups.setdefault((finding.quantity, finding.reason), []).append(finding)
        lines = []
        for (quantity, reason), found in groups.items():
            worst = max(found, key=lambda finding: finding.relative)
            where = "; ".join(dict.fromkeys(finding.batch for finding in found))
            why = f" ({reason})" if reason else ""
            lines += wrapped(f"{verdict}: {quantity}{worst.example}{why}. Batches: {where}.", WIDTH)
        return lines

    def _accuracy(self) -> List[str]:
        """Who keeps the digits of small entries, where the entries are equal otherwise."""
        lines = []
        gains = [f for f in self.findings if f.after_exact and f.before_exact is False]
        gains = [f for f in gains if f.verdict != BEFORE_WRONG]
        losses = [f for f in self.findings if _loses(f) and f.verdict != DIFFERENT]
        for found, text in (
            (gains, "AFTER keeps digits of small entries that BEFORE rounds away"),
            (losses, "AFTER rounds away digits of small entries that BEFORE keeps"),
        ):
            if found:
                where = "; ".join(dict.fromkeys(finding.batch for finding in found))
                what = ", ".join(dict.fromkeys(finding.quantity for finding in found))
                lines += wrapped(f"accuracy: {text}: {what}. Batches: {where}.", WIDTH)
        return lines


def _loses(finding: Finding) -> bool:
    return bool(finding.before_exact) and finding.after_exact is False


def _badness(finding: Finding) -> Tuple[int, float]:
    return VERDICTS.index(finding.verdict), -finding.relative


def _number(value: float) -> str:
    if value == float("inf"):
        return "not finite"
    return f"{value:.1e}" if value else "0"


def _ulps(value: float) -> str:
    if value >= _ALL_DIGITS:
        return "all digits"
    return f"{value:.2g}" if value < 100 else f"{value:.0f}" if value < 1e6 else f"{value:.1e}"


def _jsonable(value: Any) -> Any:
    """inf and NaN as strings: JSON has neither."""
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return str(value)
    return value
