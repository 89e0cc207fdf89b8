"""All that the doctor finds, put together: problems, answers, and what to do next."""

import os
import platform
import sys
from typing import Any, Dict, List, Mapping, Optional

import tf1xent
from tf1xent.doctor import diagnosis, installation, measuring
from tf1xent.doctor.diagnosis import Problem
from tf1xent.doctor.process import Measured, Stop, measure

# What helps where TensorFlow's answer is wrong, by the `remedy` of a check.
ADVICE = {
    "patch": "`python -m tf1xent run SCRIPT ARGS...` runs a program as it is, with the answers of "
    "tf1xent. In code: `import tf1xent; tf1xent.patch()`; for graphs that exist, and first-order "
    "numbers that stay: `tf1xent.override_gradients()`.",
    "losses": "`tf1xent.patch(losses=True)` keeps tf.losses of float64 logits in float64.",
    "loops": "`tf1xent.patch(control_flow_v2=True)`, before loops are built, gives them second "
    "derivatives.",
    "migrate": "`python -m tf1xent migrate PATHS` finds losses that are written by hand, and shows "
    "what they should be.",
    "moments": "Batch and layer normalization: `tf1xent.curvature` completes the second derivative "
    "of tf.nn.moments; `tf1xent.second_order.audit(loss)` names where it is missing.",
    "nan": "`TF_ENABLE_ONEDNN_OPTS=0` in the environment shows the NaN that a relu hides.",
}
_BUILD = (
    "`python -m tf1xent build-kernels` compiles native kernels for CPUs, which are several times "
    "faster."
)
# What commands need besides TensorFlow.
_EXTRAS = {"migrate": ("libcst", "tqdm"), "verify": ("mpmath",), "spectrum": ("scipy", "tqdm")}


def examined(timeout: float) -> Dict[str, Any]:
    """Returns all findings about this Python and its TensorFlow, ready for JSON.

    Args:
      timeout: how many seconds TensorFlow's import and the measuring may take.
    """
    installed = installation.versions()
    found = _surroundings(installed)
    if found["tensorflow"]["place"] is None:
        problems, measured = [_missing(found)], Measured({}, None)
    else:
        measured = measure(timeout)
        problems = _problems(found, measured, timeout)
    results = measured.results
    found["tensorflow"].update(results.get(measuring.TENSORFLOW, {}))
    found["tensorflow"]["patched"] = results.get(measuring.OWN, {}).get("patched")
    for name in ("error", "died"):  # told as a problem
        found["tensorflow"].pop(name, None)
    found["settings"] = results.get(measuring.SETTINGS)
    found["checks"] = _checks(results)
    found["kernels"] = results.get(measuring.KERNELS)
    found["devices"] = results.get(measuring.DEVICES)
    problems += _wrong_answers(found)
    found["problems"] = [problem._asdict() for problem in problems]
    found["works"] = not problems
    found["notes"] = _notes(found)
    found["next"] = [] if problems and not found["checks"] else _next(found)
    return found


def _surroundings(installed: Mapping[str, str]) -> Dict[str, Any]:
    distributions = {name: installed[name] for name in installation.tensorflows(installed)}
    return {
        "tf1xent": tf1xent.__version__,
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "machine": platform.machine(),
            "system": platform.system(),
        },
        "tensorflow": {
            "version": next(iter(distributions.values()), None),
            "distributions": distributions,
            "place": installation.tensorflow_place(),
        },
        "packages": {name: installed.get(name) for name in installation.PACKAGES},
        "environment": installation.settings(),
        "processor": installation.processor_flags(),
    }


# What is wrong -----------------------------------------------------------------------------------


def _missing(found: Mapping[str, Any]) -> Problem:
    what = f"TensorFlow is not installed in {sys.executable}."
    other = installation.other_environment()
    if other is not None:
        return Problem(
            f"{what} The active environment is another: {other}.",
            "run `python -m tf1xent doctor` with the Python of that environment",
        )
    if sys.version_info[:2] > diagnosis.NEWEST_PYTHON:
        newest = "{}.{}".format(*diagnosis.NEWEST_PYTHON)
        return Problem(what, f"use Python {newest} or older, for which TensorFlow is made")
    return Problem(what, "pip install tensorflow")


def _problems(found: Mapping[str, Any], measured: Measured, timeout: float) -> List[Problem]:
    imported = measured.results.get(measuring.TENSORFLOW, {})
    version = imported.get("version") or found["tensorflow"]["version"]
    problems = []
    release = diagnosis.release_of(str(version))
    if release and release < diagnosis.OLDEST:
        oldest = "{}.{}".format(*diagnosis.OLDEST)
        problems.append(
            Problem(
                f"TensorFlow {version} is older than {oldest}, the oldest that tf1xent supports.",
                f'pip install "tensorflow>={oldest}.1"',
            )
        )
    patches = [(s, r) for s, r in measured.results.items() if s.startswith(measuring.PATCH)]
    failed = [(step, result["error"]) for step, result in patches if "error" in result]
    for step, error in failed[:1]:
        remedy = "`python -m tf1xent status` says more"
        problems.append(Problem(f"{step} fails.", remedy, diagnosis.last_error(error)))
    keras = measured.results.get(measuring.KERAS, {})
    if "error" in keras:
        problems.append(_failed_import(found, keras["error"], str(version)))
    if measured.stop is not None and (not problems or not measured.stop.raised):
        problems.append(_stopped(found, measured.stop, str(version), timeout))
    return problems


def _stopped(found: Mapping[str, Any], stop: Stop, version: str, timeout: float) -> Problem:
    """Says what has ended the measuring."""
    doing = f"`{stop.step}`"
    if stop.code is None:
        return Problem(
            f"{doing} takes longer than {timeout:g} s.",
            "give it more time with `--timeout SECONDS`; a slow or unreachable disk, or a GPU's "
            "driver that waits, would explain it",
        )
    if not stop.raised:
        return diagnosis.ended(stop.code, doing, stop.text, found["processor"])
    if stop.step == measuring.OWN:
        return Problem(
            f"TensorFlow {version} works, but tf1xent's import fails on it.",
            "install tf1xent anew, or a TensorFlow from {}.{} to {}.{}".format(
                *diagnosis.OLDEST, *diagnosis.NEWEST
            ),
            diagnosis.last_error(stop.text),
        )
    return _failed_import(found, stop.text, version)


def _failed_import(found: Mapping[str, Any], text: str, version: str) -> Problem:
    installed = {k: v for k, v in found["packages"].items() if v is not None}
    installed.update(found["tensorflow"]["distributions"])
    place = found["tensorflow"]["place"]
    return diagnosis.failed_import(text, diagnosis.facts_of(installed, version, place))


def _wrong_answers(found: Mapping[str, Any]) -> List[Problem]:
    """Returns what tf1xent promises and does not hold here."""
    answers = [(c["question"], c["tf1xent"]) for c in found["checks"] if c["tf1xent"] is not None]
    bad = [(question, answer) for question, answer in answers if answer["verdict"] != "right"]
    problems = []
    if bad:
        listed = "; ".join(f"{question}: {answer['verdict']}" for question, answer in bad[:2])
        listed += f"; and {len(bad) - 2} more" if len(bad) > 2 else ""
        problems.append(
            Problem(
                f"tf1xent's answers are wrong here: {listed}.",
                "do not rely on them; `--json` prints what its developers need to know",
                next((answer["message"] for _, answer in bad if answer["message"]), ""),
            )
        )
    kernels = found["kernels"] or {}
    wrong = kernels.get("wrong", [])
    if kernels and "loaded" not in kernels:
        wrong = [_failure(kernels)]
    if wrong:
        problems.append(
            Problem(
                f"The native kernels are wrong here: {'; '.join(wrong)}.",
                "python -m tf1xent build-kernels --force",
            )
        )
    return problems


# What was measured -------------------------------------------------------------------------------


def _checks(results: Mapping[str, Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Returns the table of checks, a dict for each."""
    table: Dict[str, Dict[str, Any]] = {}
    for step, result in results.items():
        key, _, side = step.partition(": ")
        if side not in (measuring.STOCK, measuring.PATCHED):
            continue
        empty = {"key": key, "question": key, measuring.STOCK: None, measuring.PATCHED: None}
        row = table.setdefault(key, empty)
        if "verdict" in result:
            row.update({name: result[name] for name in ("question", "exact", "remedy")})
        row[side] = {
            "verdict": result.get("verdict") or _failure(result),
            "message": result.get("message", ""),
            "computed": result.get("computed"),
            "error": result.get("error") if "verdict" in result else None,
        }
    return list(table.values())


def _failure(result: Mapping[str, Any]) -> str:
    if "died" in result:
        return f"ends: {result['died']}"
    return "raises " + diagnosis.last_error(result["error"]).split(":")[0]


def _stock_is_wrong(check: Mapping[str, Any]) -> bool:
    return check[measuring.STOCK] is not None and check[measuring.STOCK]["verdict"] != "right"


# What it means -----------------------------------------------------------------------------------


def _notes(found: Mapping[str, Any]) -> List[str]:
    """Returns what is no problem, and still worth a line."""
    notes = []
    tensorflow = found["tensorflow"]
    release = diagnosis.release_of(str(tensorflow["version"]))
    if release and release > diagnosis.NEWEST:
        notes.append(
            f"TensorFlow {tensorflow['version']} is newer than all that tf1xent is tested with; "
            "what is measured below holds."
        )
    notes += filter(None, [diagnosis.clash(tensorflow["version"] or "", found["packages"]["h5py"])])
    if tensorflow.get("patched"):
        notes.append(
            "Something patches TensorFlow when this Python starts; the answers of both show it."
        )
    if len(set(tensorflow["distributions"].values())) > 1:
        listed = ", ".join(f"{n} {v}" for n, v in tensorflow["distributions"].items())
        notes.append(
            f"Several TensorFlows are installed over each other: {listed}. Uninstall all, then "
            "install one."
        )
    place = tensorflow["place"]
    if place is not None and not installation.is_installed_at(place, tensorflow["distributions"]):
        notes.append(f"`import tensorflow` takes what was not installed by pip: {place}")
    devices = (found["devices"] or {}).get("devices", [])
    has_gpu = any(device["type"] == "GPU" for device in devices)
    if devices and not has_gpu and installation.has_nvidia_driver():
        built = (found["settings"] or {}).get("cuda")
        why = "does not find its libraries" if built else "is built without CUDA"
        notes.append(f"This machine has an NVIDIA GPU that TensorFlow does not use: it {why}.")
    if has_gpu:
        notes.append(
            "On GPUs tf1xent computes with TensorFlow's own ops; its kernels are for CPUs."
        )
    return notes


def _next(found: Mapping[str, Any]) -> List[str]:
    """Returns what to do, of `ADVICE` and besides it only what applies."""
    wrong = {check.get("remedy") for check in found["checks"] if _stock_is_wrong(check)}
    lines = [text for remedy, text in ADVICE.items() if remedy in wrong]
    kernels = found["kernels"] or {}
    if kernels.get("loaded") is False:
        compiler: Optional[str] = kernels.get("compiler_error")
        lines.append(f"{_BUILD} They need a compiler: {compiler}" if compiler else _BUILD)
    for command, packages in _EXTRAS.items():
        missing = [name for name in packages if found["packages"][name] is None]
        if missing:
            lines.append(f"`pip install {' '.join(missing)}`, for `python -m tf1xent {command}`.")
    return lines


def settings_in_words(found: Mapping[str, Any]) -> List[str]:
    """Returns what TensorFlow does by default in this environment."""
    settings = found["settings"] or {}
    if "eager" not in settings:
        return []
    words = ["eager" if settings["eager"] else "graphs"]
    words.append("control flow v2" if settings["control_flow_v2"] else "control flow v1")
    if settings["op_determinism"]:
        words.append("deterministic ops")
    if "TF_ENABLE_ONEDNN_OPTS" in os.environ:
        words.append("oneDNN " + os.environ["TF_ENABLE_ONEDNN_OPTS"])
    return words
