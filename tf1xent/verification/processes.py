"""Starts a process for each side, waits for both, and leaves none behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from tf1xent.verification.batches import Batch, save_batches
from tf1xent.verification.measurement import Measurement

_CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")
_SECONDS_BETWEEN_LOOKS = 0.05


class Side(NamedTuple):
    """What one process measures.

    Attributes:
      target: `module:function`, `file.py:function`, or the path of a graph.
      python: the interpreter; None for this one.
      loss: the name of a graph's loss.
      patched: whether `tf1xent.patch()` is in force.
      compat: whether `tf1xent.running.compat` is.
    """

    target: str
    python: Optional[str] = None
    loss: Optional[str] = None
    patched: bool = False
    compat: bool = False


def measured_in_processes(
    sides: Dict[str, Side], setting: Dict[str, Any], batches: Sequence[Batch]
) -> Dict[str, Measurement]:
    """Measures both sides at once, each in a process of its own.

    Args:
      sides: by "before" and "after".
      setting: the arguments of `comparing.setting_of`.
      batches: those of the setting.

    Returns:
      A `Measurement` of each side.

    Raises:
      ValueError: a side cannot be started or loaded; it says why in a line.
    """
    with tempfile.TemporaryDirectory(prefix="tf1xent-verify-") as folder:
        save_batches(os.path.join(folder, "batches.npz"), batches)
        job = {
            "setting": setting,
            "targets": {name: side.target for name, side in sides.items()},
            "losses": {name: side.loss for name, side in sides.items()},
            "patched": [name for name, side in sides.items() if side.patched],
            "compat": [name for name, side in sides.items() if side.compat],
        }
        with open(os.path.join(folder, "job.json"), "w", encoding="utf-8") as file:
            json.dump(job, file)
        with _started(folder, sides) as children:
            _wait(folder, sides, children)
        return {name: Measurement.load(os.path.join(folder, name)) for name in sides}


@contextlib.contextmanager
def _started(folder: str, sides: Dict[str, Side]) -> Iterator[Dict[str, subprocess.Popen]]:
    """Starts the processes; at the end, however it comes, kills those that are left."""
    children: Dict[str, subprocess.Popen] = {}
    try:
        for name, side in sides.items():
            python = side.python or sys.executable
            with open(os.path.join(folder, name + ".log"), "wb") as log:
                try:
                    children[name] = subprocess.Popen(
                        [python, _CHILD, folder, name],
                        stdin=subprocess.PIPE,
                        stdout=log,
                        stderr=log,
                        # What the program says in TensorFlow's C++ code is dropped with the rest.
                        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"),
                        # A Ctrl-C is for this process, which ends the others, whole groups.
                        start_new_session=True,
                    )
                except OSError as error:
                    raise ValueError(
                        f"{name.upper()}'s Python, {python}, cannot be started: "
                        f"{os.strerror(error.errno or 0)}."
                    ) from error
        yield children
    finally:
        for child in children.values():
            _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _wait(
    folder: str, sides: Dict[str, Side], children: Dict[str, "subprocess.Popen[bytes]"]
) -> None:
    """Waits for all; ValueError as soon as one fails."""
    waiting = dict(children)
    while waiting:
        for name, child in list(waiting.items()):
            code = child.poll()
            if code is None:
                continue
            del waiting[name]
            if code != 0 or not os.path.exists(os.path.join(folder, name + ".json")):
                raise ValueError(_failure(folder, name, sides[name].target, code))
        time.sleep(_SECONDS_BETWEEN_LOOKS if waiting else 0)


def _failure(folder: str, name: str, target: str, code: int) -> str:
    error = os.path.join(folder, name + ".error")
    if os.path.exists(error):
        with open(error, encoding="utf-8") as file:
            return f"{name.upper()}, {file.read()}."
    with open(os.path.join(folder, name + ".log"), "rb") as log:
        text = log.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    last = f": {lines[-1]}" if lines else ""
    return f"{name.upper()}, {target}: its process ended with {ended}{last}."


def names_function(target: str) -> bool:
    """Whether a target is `PLACE:FUNCTION`; else it is a path."""
    place, colon, function = target.rpartition(":")
    names = function.split(".")
    return bool(place and colon) and all(name.isidentifier() for name in names)


def check_target(target: str) -> None:
    """Raises a ValueError or FileNotFoundError for a target that can be no function and no file.

    >>> check_target("json:dumps")
    """
    path = target.rpartition(":")[0] if names_function(target) else target
    if path == target and path.endswith(".py"):
        raise ValueError(f"{path}: name a function in it, as in {path}:loss.")
    if names_function(target) and not path.endswith(".py"):
        return
    if path and (os.path.exists(path) or os.path.exists(path + ".meta")):
        return
    if path.endswith(".py") and names_function(target):
        raise FileNotFoundError(f"{path}: there is no such file.")
    raise FileNotFoundError(
        f"{target!r} must be module:function, file.py:function, or the path of a graph; there is "
        "no such path."
    )


def each_side(value: Optional[str]) -> Tuple[str, ...]:
    """Reads "before", "after", "both" or None as the sides that are meant.

    >>> each_side("both"), each_side(None)
    (('before', 'after'), ())
    """
    return {None: (), "both": ("before", "after")}.get(value, (value,))  # type: ignore
