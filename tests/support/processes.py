"""The processes that tests start: by a Python of their own, or forked from one with TensorFlow."""

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests import ROOT

# From 2.15 on TensorFlow imports Keras with itself, which takes as much time again, but where this
# says that the program brings a Keras of its own.
WITHOUT_KERAS = {"TF_USE_LEGACY_KERAS": "1"}
# On a machine that does other things too.
SECONDS_TO_IMPORT = 180.0
SECONDS_TO_START = 60.0
SECONDS_TO_RUN = 600.0


def environment(**variables):
    """Returns the variables of a process that finds this checkout and is not about Keras."""
    return dict(os.environ, PYTHONPATH=str(ROOT), **WITHOUT_KERAS, **variables)


class Starter:
    """The process that others are forked from: TensorFlow is imported once for all tests."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forking_program"],
            # It ends when its input does: with this process, however that ends, and with all tasks.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A process with threads must not be forked; NumPy's linear algebra starts them.
            env=environment(OPENBLAS_NUM_THREADS="1"),
            universal_newlines=True,
        )
        atexit.register(self._end)
        self._answer(SECONDS_TO_IMPORT)

    def ask(self, *request):
        """Returns the answer to a request; forking_program says which there are."""
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._answer(SECONDS_TO_START))

    def run(self, arguments, out, err, calls=(), folder=ROOT, variables=None, seconds=None):
        """Forks a process that runs a program; returns its id."""
        options = {
            "arguments": list(map(str, arguments)),
            "out": str(out),
            "err": str(err),
            "calls": calls,
            "folder": str(folder),
            "variables": environment() if variables is None else variables,
            "seconds": seconds or SECONDS_TO_RUN,
        }
        return self.ask("run", options)

    def _end(self):
        self._process.stdin.close()
        self._process.wait()

    def _answer(self, seconds):
        stdout = self._process.stdout
        if not select.select([stdout], [], [], seconds)[0]:
            self._process.kill()
            raise RuntimeError(f"the process that starts others says nothing for {seconds} s")
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the process that starts others ended: {self._process.wait()}")
        return line


@functools.lru_cache(maxsize=None)
def starter():
    """Returns the one of this process."""
    return Starter()


def run_forked(*arguments, folder=ROOT, variables=None, together=False):
    """Runs Python with `arguments` to its end, in a process that has TensorFlow from the start.

    For programs that are not about how TensorFlow is imported: it spares them the seconds of that.
    Otherwise as subprocess.run, but that nothing runs at the end that `atexit` knows.

    Args:
      *arguments: "-m" and a module, "-c" and code, or a script, and what these take.
      folder: the working directory.
      variables: the environment; by default `environment()`.
      together: whether errors come out with what is printed, as they come.

    Returns:
      A subprocess.CompletedProcess of texts.
    """
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork processes")
    with tempfile.TemporaryDirectory() as made:
        out, err = (Path(made) / name for name in ("out", "out" if together else "err"))
        pid = starter().run(arguments, out, err, folder=folder, variables=variables)
        try:
            status = starter().ask("poll", pid)
            while status is None:
                time.sleep(0.01)
                status = starter().ask("poll", pid)
        finally:
            starter().ask("kill", pid)
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return subprocess.CompletedProcess(arguments, code, *texts)


def output_of(*arguments, variables=None):
    """Returns what `run_forked` prints; fails with its errors if it does not end well."""
    done = run_forked(*arguments, variables=variables)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
