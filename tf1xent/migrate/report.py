"""What a migration found, for people and for programs."""

import difflib
import textwrap
from typing import Any, Dict, List, Optional, Sequence

from tf1xent.migrate.contents import Located
from tf1xent.migrate.files import Outcome
from tf1xent.migrate.rule import Rule
from tf1xent.migrate.source import Fault

_NO_NEWLINE = b"\n\\ No newline at end of file\n"
_WIDTH = 80


def finding_line(path: str, located: Located) -> str:
    """Returns `path:line:column: CODE message`; a notebook's has `cell N` before the line."""
    finding = located.finding
    offer = f" (--fix {finding.code})" if finding.fixable and not finding.changed else ""
    place = _place(path, located.cell, finding.line, finding.column)
    return f"{place}: {finding.code} {finding.message}{offer}"


def fault_line(path: str, fault: Fault) -> str:
    """Returns `path:line:column: message`, with as much of the place as is known."""
    return f"{_place(path, fault.cell, fault.line, fault.column)}: {fault.message}."


def _place(path: str, cell: Optional[int], line: Optional[int], column: Optional[int]) -> str:
    parts = [path, None if cell is None else f"cell {cell}", line, column]
    return ":".join(str(part) for part in parts if part is not None)


def unified_diff(path: str, before: bytes, after: bytes) -> bytes:
    """Returns a diff that `patch` and `git apply` take, in the encoding of the file."""

    def lines(content: bytes) -> List[str]:
        # One character a byte, whatever the encoding; lines as `patch` sees them.
        return [line.decode("latin-1") for line in content.split(b"\n")]

    old, new = lines(before), lines(after)
    name = path.encode("utf-8", "surrogateescape").decode("latin-1")
    diff = difflib.unified_diff(
        _ended(old), _ended(new), f"a/{name.lstrip('/')}", f"b/{name.lstrip('/')}"
    )
    return b"".join(
        line.encode("latin-1") if line.endswith("\n") else line.encode("latin-1") + _NO_NEWLINE
        for line in diff
    )


def _ended(parts: List[str]) -> List[str]:
    """Returns lines with their newlines, of what is between newlines."""
    return [part + "\n" for part in parts[:-1]] + [part for part in parts[-1:] if part]


def summary(outcomes: Sequence[Outcome], written: bool) -> str:
    """Returns one line about all files."""
    changed = [outcome for outcome in outcomes if outcome.changes]
    findings = [located.finding for outcome in outcomes for located in outcome.findings]
    left_out = sum(outcome.fault is not None for outcome in outcomes)
    parts = [
        _counted(len(outcomes), "file"),
        f"{len(changed)} changed" if written else f"{len(changed)} would change",
        _counted(len(findings), "finding"),
    ]
    offered = sum(finding.fixable and not finding.changed for finding in findings)
    if offered:
        parts.append(f"{offered} of them --fix can rewrite")
    if left_out:
        parts.append(f"{_counted(left_out, 'file')} left out")
    return ", ".join(parts) + "."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_json(outcomes: Sequence[Outcome]) -> Dict[str, Any]:
    """Returns what there is to say of the files, for `json.dumps`."""
    return {
        "files": len(outcomes),
        "outcomes": [
            _outcome_json(outcome)
            for outcome in outcomes
            if outcome.findings or outcome.fault is not None
        ],
    }


def _outcome_json(outcome: Outcome) -> Dict[str, Any]:
    fault = outcome.fault
    return {
        "path": outcome.path,
        "changed": outcome.changes,
        "findings": [
            {"cell": located.cell, **located.finding._asdict()} for located in outcome.findings
        ],
        "fault": None
        if fault is None
        else {
            "cell": fault.cell,
            "line": fault.line,
            "column": fault.column,
            "message": fault.message,
        },
    }


def rules_text(rules: Sequence[Rule]) -> str:
    """Returns the rules, each with its before and after."""
    return "\n\n".join(map(_rule_text, sorted(rules, key=lambda rule: rule.code)))


def _rule_text(rule: Rule) -> str:
    def indented(text: str) -> str:
        return textwrap.indent(text.strip("\n"), "      ")

    parts = [
        f"{rule.code}  {rule.title}",
        f"  {rule.verdict.value}",
        textwrap.fill(rule.meaning, _WIDTH, initial_indent="  ", subsequent_indent="  "),
        "  before:",
        indented(rule.before),
    ]
    if rule.after is not None:
        parts += ["  after:", indented(rule.after)]
    return "\n".join(parts)


def rules_json(rules: Sequence[Rule]) -> List[Dict[str, Any]]:
    """Returns the rules for `json.dumps`."""
    return [
        {
            "code": rule.code,
            "title": rule.title,
            "verdict": rule.verdict.name.lower(),
            "meaning": rule.meaning,
            "before": rule.before,
            "after": rule.after,
        }
        for rule in sorted(rules, key=lambda rule: rule.code)
    ]
