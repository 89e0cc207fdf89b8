"""A diagnosis as text for a terminal, a log or TensorBoard."""

import os
import textwrap
from typing import TYPE_CHECKING, Any, List, Tuple

from tf1xent import _table

if TYPE_CHECKING:
    from tf1xent.diagnostics.diagnosis import Diagnosis
    from tf1xent.diagnostics.finding import Finding, Trial

_WIDTH = 100
_MOST_LISTED = 6


def diagnosis_text(diagnosis: "Diagnosis") -> str:
    """Returns the report: in the first line the problem, its cause and where; then all of it."""
    rows = [("run again", _run_again(diagnosis))]
    if diagnosis.findings:
        first, *others = diagnosis.findings
        rows = finding_rows(first) + [("also", _short(finding)) for finding in others] + rows
    width = max(len(label) for label, _ in rows)
    lines = [headline(diagnosis)]
    for label, text in rows:
        lines += _filled(label.ljust(width + 2), text)
    return "\n".join(lines)


def headline(diagnosis: "Diagnosis") -> str:
    """Returns the problem, its cause and where it shows, in a line."""
    problem = diagnosis.problem or "no loss, gradient or parameter is seen to be wrong"
    if diagnosis.step is not None:
        problem += f" at step {diagnosis.step}"
    if diagnosis.findings:
        finding = diagnosis.findings[0]
        places = _places(finding)
        problem += f": {finding.cause}" + (f" ({'; '.join(places)})" if places else "")
    elif diagnosis.problem:
        problem += ": no cause found"
    return _table.shortened(problem, None)


def finding_rows(finding: "Finding") -> List[Tuple[str, str]]:
    """Returns what a finding says, as rows of a label and a text."""
    rows = [("what", finding.what)]
    if finding.tensor is not None:
        op = f" ({finding.op_type})" if finding.op_type else ""
        rows.append(("where", f"`{finding.tensor}`{op}"))
    if finding.numbers:
        rows.append(("numbers", ", ".join(f"{k} {_number(v)}" for k, v in finding.numbers.items())))
    rows.append(("remedy", finding.remedy))
    if finding.trial is not None:
        rows.append(("tried", trial_text(finding.trial)))
    return rows


def trial_text(trial: "Trial") -> str:
    """Returns what was tried, what came out before and after, and whether it helped."""
    end = "It helps." if trial.helped else "It does not help."
    return f"{trial.change}: before {trial.before}, after {trial.after}. {end}"


def place_of(line: str) -> str:
    """Returns ``file:line, in function``, the file seen from the current folder if it is in it."""
    here = os.path.join(os.getcwd(), "")
    return line[len(here) :] if line.startswith(here) else line


def _places(finding: "Finding") -> List[str]:
    places = [] if finding.line is None else [place_of(finding.line)]
    return places + ([] if finding.row is None else [f"row {finding.row}"])


def _short(finding: "Finding") -> str:
    places = _places(finding)
    where = f" ({'; '.join(places)})" if places else ""
    tried = "" if finding.trial is None else f" Tried: {trial_text(finding.trial)}"
    return f"{finding.cause}{where}: {finding.what} {finding.remedy}{tried}"


def _run_again(diagnosis: "Diagnosis") -> str:
    if diagnosis.problem is None:
        return f"{diagnosis.how}."
    seen = "It went wrong there too" if diagnosis.reproduced else "It did not go wrong there"
    return f"{diagnosis.how}. {seen}."


def _number(value: Any) -> str:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return ", ".join(f"{name} {_number(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        shown = [_number(entry) for entry in value[:_MOST_LISTED]]
        more = len(value) - _MOST_LISTED
        return f"[{', '.join(shown)}{f', and {more} more' if more > 0 else ''}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _filled(label: str, text: str) -> List[str]:
    indent = " " * len(label)
    printable = _table.shortened(text, None)
    return textwrap.wrap(
        label + printable,
        _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
