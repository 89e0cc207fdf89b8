"""Runs `measuring` in a process of its own, and outlives it."""

import json
import signal
import subprocess
import sys
import tempfile
from typing import Any, Dict, NamedTuple, Optional, Tuple

from tf1xent.doctor import measuring
from tf1xent.doctor.measuring import IMPORT, NEEDED

# The child imports what this process would. Its program is run as a file: the import of tf1xent's
# package would wait for TensorFlow's, and then register gradients in the middle of it.
_PROGRAM = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "runpy.run_path(sys.argv[2])['main'](sys.argv[3:])"
)


class Stop(NamedTuple):
    """Where the measuring has ended before its end.

    Attributes:
      step: what it was doing.
      code: the exit code of the process, negative for a signal; None: it took too long.
      text: what it has written to stderr, and the traceback if a step raised.
      raised: whether the step raised an exception; then the process has ended by itself.
    """

    step: str
    code: Optional[int]
    text: str
    raised: bool = False


class Measured(NamedTuple):
    """What was measured.

    Attributes:
      results: by step; {"error": traceback} of one that raised, {"died": why} of one that ended the
        process.
      stop: what has ended all, or None.
    """

    results: Dict[str, Dict[str, Any]]
    stop: Optional[Stop]


def measure(timeout: float) -> Measured:
    """Measures all there is; a step that ends the process is left out in the next.

    Args:
      timeout: how many seconds a process may take.
    """
    results: Dict[str, Dict[str, Any]] = {}
    while True:
        stop = _run(results, timeout)
        if stop is None or stop.step.startswith(NEEDED) or stop.step in results:
            return Measured(results, stop)
        if stop.code is None:
            results[stop.step] = {"died": f"took longer than {timeout:g} s"}
            return Measured(results, stop)
        results[stop.step] = {"died": _death(stop.code)}


def _death(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _run(results: Dict[str, Dict[str, Any]], timeout: float) -> Optional[Stop]:
    """Runs one process, adds to the results, and returns what has stopped it."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), measuring.__file__, *results]
    with tempfile.TemporaryFile() as errors:
        output, code = _outputs(command, errors, timeout)
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace")
    step, open_step = "starting Python", True
    for line in output.decode("utf-8", "replace").splitlines():
        said = json.loads(line)
        step, open_step = said["step"], len(said) == 1
        if "error" in said:
            results[step] = {"error": said["error"]}
            if step.startswith(IMPORT):
                return Stop(step, code, text + said["error"], raised=True)
        elif "result" in said:
            results[step] = said["result"]
    if open_step or code is None:
        return Stop(step, code, text)
    return None


def _outputs(command: Any, errors: Any, timeout: float) -> Tuple[bytes, Optional[int]]:
    """Runs a command; returns its output and its exit code, None if it took too long."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        return output, process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], None
    finally:  # also when a signal ends the command
        process.kill()
        process.wait()
