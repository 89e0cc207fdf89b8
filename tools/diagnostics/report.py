"""What the runs say together: counts, and tables of them. Needs no TensorFlow."""

import collections
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from diagnostics.names import CAUSES, CLEAN, MODELS
from tf1xent._table import markdown

_NONE, _FAILED = "no alarm", "failed"
TOOLS = ("NanTensorHook", "TerminateOnNaN", "add_check_numerics_ops", "enable_check_numerics")
_INTRODUCTION = """# Results

Written by `python tools/diagnostics --report`, from runs that `python tools/diagnostics`
made on each TensorFlow. In every run a fault with one known cause is planted into a training on
scikit-learn's digits; `python tools/diagnostics --faults` prints all of them with the reason why
the cause is that one. Faults that showed nothing in most trainings were replaced while the tool was
written; one that shows nothing here (loss, parameters and error as they should be, all variables
moving) is made stronger, at most three times. Where two causes are right, only the first counts.
"""

Run = Dict[str, Any]
Results = Dict[str, Any]


def read(paths: Iterable[Path]) -> Dict[Tuple[str, str, str, int], Run]:
    """Returns runs by TensorFlow, cause, model and seed; a torn last line is left out."""
    runs = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                run = json.loads(line)
            except ValueError:
                continue
            plan = run["plan"]
            runs[run["tensorflow"], plan["cause"], plan["model"], plan["seed"]] = run
    return runs


def answer_of(run: Run) -> str:
    return run["answer"] or _NONE


def is_right(run: Run) -> bool:
    """Tells whether the answer is the cause; of a healthy run, whether there is no alarm."""
    cause = run["plan"]["cause"]
    return answer_of(run) == (_NONE if cause == CLEAN else cause)


def line_of(run: Run) -> str:
    """Returns a run in a line."""
    plan = run["plan"]
    mark = "right" if is_right(run) else f"WRONG: {answer_of(run)} `{run['tensor']}` {run['what']}"
    names = ("cause", "fault", "model", "seed", "driver", "variables", "control_flow", "reads")
    choices = ", ".join(str(plan[name]) for name in names)
    patched = ", patched" if plan["patch"] else ""
    seen = f"{run['symptom']} at {run['step']}, judged at {run['judged']}"
    return f"{choices}{patched}: {seen}: {mark[:250]} {run['seconds']}"


# --- Counts ---------------------------------------------------------------------------------------


def summarise(runs: Sequence[Run]) -> Results:
    """Returns all counts that the tables show, by the version of TensorFlow."""
    versions = sorted({run["tensorflow"] for run in runs}, key=_parts)
    return {v: _of_version([r for r in runs if r["tensorflow"] == v]) for v in versions}


def _parts(version: str) -> List[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _of_version(runs: Sequence[Run]) -> Results:
    # A fault that shows nothing even when it is strongest is none.
    faults = [r for r in runs if r["plan"]["cause"] != CLEAN and r["symptom"]]
    clean = [r for r in runs if r["plan"]["cause"] == CLEAN]
    silent = [r for r in runs if r["plan"]["cause"] != CLEAN and not r["symptom"]]
    confusion = {
        c: _counts(answer_of(r) for r in faults if r["plan"]["cause"] == c) for c in CAUSES
    }
    return {
        "confusion": confusion,
        "by model": {c: {m: _rights(_of(faults, c, m)) for m in MODELS} for c in CAUSES},
        "by driver": _by(faults, "driver"),
        "by variables": _by(faults, "variables"),
        "by control flow": _by(faults, "control_flow"),
        "by patch": _by(faults, "patch"),
        "healthy": [_counts(map(answer_of, clean)).get(_NONE, 0), len(clean)],
        "faults": _each([r for r in faults if r["rivals"]]),
        "clean": _each([r for r in clean if r["rivals"]]),
        "without a symptom": _counts(r["plan"]["fault"] for r in silent),
        "seconds": round(sum(sum(r["seconds"]) for r in runs)),
    }


def _of(runs: Sequence[Run], cause: str, model: str) -> List[Run]:
    return [r for r in runs if (r["plan"]["cause"], r["plan"]["model"]) == (cause, model)]


def _counts(names: Iterable[str]) -> Dict[str, int]:
    return dict(collections.Counter(names))


def _rights(runs: Sequence[Run]) -> List[int]:
    return [sum(map(is_right, runs)), len(runs)]


def _by(runs: Sequence[Run], choice: str) -> Dict[str, List[int]]:
    kinds = sorted({str(run["plan"][choice]) for run in runs})
    return {k: _rights([r for r in runs if str(r["plan"][choice]) == k]) for k in kinds}


def _each(runs: Sequence[Run]) -> List[Results]:
    found: Dict[Tuple[str, str], List[Run]] = {}
    for run in runs:
        found.setdefault((run["plan"]["cause"], run["plan"]["fault"]), []).append(run)
    rows = []
    for (cause, name), group in sorted(found.items(), key=_in_order):
        rows.append(
            {
                "cause": cause,
                "fault": name,
                "runs": len(group),
                "answers": _counts(map(answer_of, group)),
                "place": sum(run["found_place"] for run in group),
                "error": sum(run["symptom"] == "error" for run in group),
                "tools": {tool: _said(group, tool) for tool in TOOLS},
            }
        )
    return rows


def _in_order(item: Tuple[Tuple[str, str], Any]) -> Tuple[int, str]:
    cause, name = item[0]
    return (CAUSES.index(cause) if cause in CAUSES else len(CAUSES)), name


def _said(runs: Sequence[Run], tool: str) -> Dict[str, int]:
    """Counts the runs in which a tool raised an alarm, named the place, could not be used."""
    said = [run["rivals"][tool] for run in runs if tool in run["rivals"]]
    return {
        "runs": len(said),
        "alarms": sum(step is not None for step, _, _, _ in said),
        "place": sum(place for _, _, place, _ in said),
        "refused": sum(bool(refused) for _, _, _, refused in said),
    }


# --- Tables ---------------------------------------------------------------------------------------


def to_markdown(results: Results) -> str:
    """Returns the tables of all versions."""
    parts = [_INTRODUCTION]
    for version, found in results.items():
        parts += [f"## TensorFlow {version}\n", _headline(found), _confusion(found["confusion"])]
        parts += ["Right answers by model:\n", _models(found["by model"])]
        kinds = ("by driver", "by variables", "by control flow", "by patch")
        parts += ["; ".join(f"{kind}: {_shares(found[kind])}" for kind in kinds) + ".\n"]
        parts += [_SIDE_BY_SIDE, _tools(found["faults"]), _CLEAN, _healthy(found["clean"])]
        if found["without a symptom"]:
            names = [f"{n} ({count})" for n, count in sorted(found["without a symptom"].items())]
            parts.append(f"Left out, since nothing showed: {', '.join(names)}.\n")
    return "\n".join(parts)


_SIDE_BY_SIDE = """Side by side, on the runs that the other tools watched too: in how many one
raised an alarm, and, after the slash, in how many the op that it names is one at which the fault
shows first (not a later symptom). None of TensorFlow's tools names a cause. "refused": the graph
could not be built or checked. "own error": the program itself ended with an error of TensorFlow.
"""
_CLEAN = "Healthy trainings; every alarm is a false one:\n"


def _percent(right: int, runs: int) -> str:
    return f"{right} of {runs} ({100 * right / runs:.1f} %)" if runs else "none"


def _headline(found: Results) -> str:
    counts = found["confusion"]
    right = sum(answers.get(cause, 0) for cause, answers in counts.items())
    runs = sum(sum(answers.values()) for answers in counts.values())
    shares = {c: a.get(c, 0) / sum(a.values()) for c, a in counts.items() if a}
    worst = min(shares, key=lambda cause: shares[cause]) if shares else ""
    quiet, clean = found["healthy"]
    text = f"Causes named rightly: **{_percent(right, runs)}**"
    if shares:
        text += f"; the cause named least often is {worst!r}, {100 * shares[worst]:.1f} %"
    return f"{text}. Healthy trainings: {clean - quiet} alarms in {clean}.\n"


def _confusion(counts: Mapping[str, Mapping[str, int]]) -> str:
    others = sorted({a for answers in counts.values() for a in answers} - set(CAUSES))
    columns = [*CAUSES, *others]
    header = ["planted, down; named, across", *map(str, range(1, len(CAUSES) + 1)), *others]
    rows = [header]
    for number, cause in enumerate(CAUSES, 1):
        cells = [counts[cause].get(name, 0) for name in columns]
        shown = [f"**{n}**" if c == cause else str(n or "") for n, c in zip(cells, columns)]
        rows.append([f"{number} {cause}", *shown])
    return markdown(rows) + "\n"


def _models(by_model: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    rows = [["cause", *MODELS]]
    for cause in CAUSES:
        rows.append([cause, *(_of_text(by_model[cause][model]) for model in MODELS)])
    return markdown(rows) + "\n"


def _of_text(pair: Sequence[int]) -> str:
    return f"{pair[0]} of {pair[1]}" if pair[1] else ""


def _shares(by: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{kind} {_of_text(pair)}" for kind, pair in by.items())


def _tools(rows: Sequence[Results]) -> str:
    lines = [["cause", "fault", "runs", "own error", "tf1xent: cause, place", *TOOLS]]
    for row in rows:
        right = row["answers"].get(row["cause"], 0)
        mine = f"{right} / {row['place']}"
        own = str(row["error"] or "")
        said = [_said_text(row["tools"][tool]) for tool in TOOLS]
        lines.append([row["cause"], row["fault"], str(row["runs"]), own, mine, *said])
    lines.append(_total(rows))
    return markdown(lines) + "\n"


def _total(rows: Sequence[Results]) -> List[str]:
    runs = sum(row["runs"] for row in rows)
    right = sum(row["answers"].get(row["cause"], 0) for row in rows)
    mine = f"{right} / {sum(row['place'] for row in rows)}"
    own = str(sum(row["error"] for row in rows) or "")
    keys = ("runs", "alarms", "place", "refused")
    sums = [{k: sum(row["tools"][tool][k] for row in rows) for k in keys} for tool in TOOLS]
    return ["**all**", "", str(runs), own, mine, *map(_said_text, sums)]


def _said_text(said: Mapping[str, int]) -> str:
    if not said["runs"]:
        return ""
    if said["refused"] == said["runs"]:
        return "refused"
    text = f"{said['alarms']} / {said['place']}"
    return text + (f", refused {said['refused']}" if said["refused"] else "")


def _healthy(rows: Sequence[Results]) -> str:
    lines = [["training", "runs", "tf1xent", *TOOLS]]
    for row in rows:
        alarms = row["runs"] - row["answers"].get(_NONE, 0)
        said = [_alarms_text(row["tools"][tool]) for tool in TOOLS]
        lines.append([row["fault"], str(row["runs"]), str(alarms), *said])
    return markdown(lines) + "\n"


def _alarms_text(said: Mapping[str, int]) -> str:
    if said["runs"] and said["refused"] == said["runs"]:
        return "refused"
    refused = f", refused {said['refused']}" if said["refused"] else ""
    return f"{said['alarms']}{refused}" if said["runs"] else ""


def table_of_faults() -> str:
    """Returns the table of faults; imports TensorFlow."""
    from diagnostics import clean, faults

    rows = [["cause", "fault", "why it is the cause", "right too, not counted", "models"]]
    for fault in (*faults.FAULTS, *clean.TRAININGS):
        rows.append([fault.cause, fault.name, fault.why, fault.also, ", ".join(fault.models)])
    return markdown(rows)
