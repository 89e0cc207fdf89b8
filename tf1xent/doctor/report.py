"""The findings as text for a terminal."""

from typing import Any, Dict, List, Mapping, Optional

from tf1xent import _table
from tf1xent.doctor.findings import settings_in_words

COLUMNS = 80
_WIDTHS = (42, 18, 16)  # of the table's columns, with two gaps between them


def text(found: Mapping[str, Any]) -> str:
    """Returns the report, at most `COLUMNS` wide."""
    parts = [[_title(found), *_versions(found)], _verdict(found)]
    parts += [_problem(problem) for problem in found["problems"]]
    parts += [_table.wrapped(note, COLUMNS) for note in found["notes"]]
    parts += [_checks(found), _machine(found), _next(found)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _title(found: Mapping[str, Any]) -> str:
    return f"tf1xent {found['tf1xent']}, Python {found['python']['version']}"


def _versions(found: Mapping[str, Any]) -> List[str]:
    tensorflow = found["tensorflow"]
    names = ", ".join(tensorflow["distributions"])
    packages = [f"{name} {version}" for name, version in found["packages"].items() if version]
    absent = [name for name, version in found["packages"].items() if not version]
    rows = [
        ("Python", found["python"]["executable"]),
        ("TensorFlow", f"{tensorflow['version']} ({names})" if names else "-"),
        ("packages", ", ".join(packages)),
        ("not there", ", ".join(absent)),
        ("environment", ", ".join(f"{n}={v}" for n, v in found["environment"].items())),
        ("defaults", ", ".join(settings_in_words(found))),
    ]
    return [line for name, value in rows if value for line in _row(name, value)]


def _row(name: str, value: str) -> List[str]:
    indent = " " * 14
    lines = _table.wrapped(value, COLUMNS - len(indent))
    return [f"{name:<12}  {lines[0]}", *(indent + line.strip() for line in lines[1:])]


def _verdict(found: Mapping[str, Any]) -> List[str]:
    checks = found["checks"]
    if not checks:
        return ["TensorFlow does not work here."]
    stock = [check for check in checks if (check["tensorflow"] or {}).get("verdict") != "right"]
    ours = [check["tf1xent"]["verdict"] for check in checks if check["tf1xent"] is not None]
    version = found["tensorflow"]["version"]
    line = f"TensorFlow {version} works. As it is, {len(stock)} of {len(checks)} answers are wrong"
    if ours:
        line += f"; with tf1xent, {len(ours) - ours.count('right')} of {len(ours)}"
    return _table.wrapped(line + ".", COLUMNS)


def _problem(problem: Mapping[str, str]) -> List[str]:
    lines = _table.wrapped("problem: " + problem["what"], COLUMNS)
    if problem["detail"]:
        lines += _table.wrapped("  it says: " + problem["detail"], COLUMNS)
    return lines + _table.wrapped("  what to do: " + problem["remedy"], COLUMNS)


def _checks(found: Mapping[str, Any]) -> List[str]:
    if not found["checks"]:
        return []
    rows = [["measured here, in a session", "TensorFlow", "tf1xent"]]
    for check in found["checks"]:
        answers = [_answer(check[side], check) for side in ("tensorflow", "tf1xent")]
        rows.append([check["question"], *answers])
    cut = [[_table.shortened(c, width) for c, width in zip(row, _WIDTHS)] for row in rows]
    return _table.aligned(cut)


def _answer(answer: Optional[Mapping[str, Any]], check: Mapping[str, Any]) -> str:
    """Returns a verdict, and of a wrong number what it is instead."""
    if answer is None:
        return "-"
    if answer["verdict"] != "wrong":
        return answer["verdict"]
    computed, exact = _flat(answer["computed"]), _flat(check["exact"])
    for word in ("nan", "inf"):
        if word in computed and word not in exact:
            return f"wrong: {'NaN' if word == 'nan' else word}"
    differing = [c for c, e in zip(computed, exact) if c != e]
    if all(number == 0 for number in differing):
        return "wrong: 0"
    if isinstance(answer["error"], float):
        percent = 100 * answer["error"]
        return f"wrong by {percent:.0f} %" if percent >= 1 else f"wrong by {percent:.0e} %"
    return "wrong"


def _flat(numbers: Any) -> List[Any]:
    if isinstance(numbers, list):
        return [number for part in numbers for number in _flat(part)]
    return [numbers]


def _machine(found: Mapping[str, Any]) -> List[str]:
    rows: List[Any] = []
    kernels: Dict[str, Any] = found["kernels"] or {}
    if "loaded" in kernels:
        if kernels["loaded"]:
            right = kernels["asked"] - len(kernels["wrong"])
            said = f"loaded, level {kernels['level']}; {right} of {kernels['asked']} answers right"
        else:
            said = kernels["reason"]
        rows.append(("kernels", said))
        rows.append(("compiler", kernels["compiler"] or "none"))
    devices = (found["devices"] or {}).get("devices", [])
    if devices:
        kinds = [device["type"] for device in devices]
        listed = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        rows.append(("devices", listed))
    if found["processor"] is not None:
        flags = " ".join(found["processor"]) or "no AVX"
        rows.append(("processor", f"{found['python']['machine']}: {flags}"))
    return [line for name, value in rows for line in _row(name, value)]


def _next(found: Mapping[str, Any]) -> List[str]:
    if not found["next"]:
        return []
    lines = ["what to do next"]
    for advice in found["next"]:
        first, *rest = _table.wrapped(advice, COLUMNS - 4)
        lines += ["- " + first, *("  " + line.strip() for line in rest)]
    return lines
