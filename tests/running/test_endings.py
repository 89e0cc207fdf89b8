"""A program ends under `tf1xent run` as it ends under Python itself: status, output, tracebacks."""

import os
import signal
import subprocess
import sys

import pytest

from tests.running.processes import STARTER, environment, plain, run
from tests.support.without_tensorflow import hide

BEFORE = """
import atexit, os, signal, sys, threading, time, warnings
print("begins")
"""
# What programs do in the end.
ENDINGS = {
    "the last line": "print('ends')",
    "exit with a number": "sys.exit(3)",
    "exit with a text": "sys.exit('a text')",
    "exit with nothing": "sys.exit()",
    "exit without a clean-up": "sys.stdout.flush()\nos._exit(5)",
    "an exception": "def inner():\n    raise ValueError('é')\n\n\ninner()",
    "a chain": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e",
    "no such module": "import no_such_module_here",
    "interrupted": "raise KeyboardInterrupt",
    "SIGINT": "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)",
    "SIGTERM": "sys.stdout.flush()\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(20)",
    "abort": "sys.stdout.flush()\nos.abort()",
    "a thread's exception": (
        "thread = threading.Thread(target=lambda: 1 / 0, name='x')\nthread.start()\nthread.join()"
    ),
    "at exit": (
        "atexit.register(print, 'first')\natexit.register(print, 'last')\n"
        "atexit.register(int, 'x')\nsys.exit(4)"
    ),
    "a warning": "warnings.warn('of the program')\nwarnings.warn('2', DeprecationWarning, 2)",
    "a syntax error": "x = = 1",
    "a closed output": "os.close(1)\nprint('lost')",
    "an own hook": "sys.excepthook = lambda *error: print('hook', error[0])\n1 / 0",
}


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_a_program_ends_as_it_would(ending, tmp_path, default_handlers):
    (tmp_path / "program.py").write_text(BEFORE + ENDINGS[ending], encoding="utf-8")
    options = {"cwd": str(tmp_path), "variables": {"PYTHONIOENCODING": "utf-8"}}
    assert run("program.py", **options) == plain("program.py", **options)


@pytest.mark.parametrize("ending", ["an exception", "exit with a number", "at exit"])
def test_the_report_comes_after_all_that_the_program_prints(ending, tmp_path):
    (tmp_path / "program.py").write_text(BEFORE + ENDINGS[ending], encoding="utf-8")
    options = {"cwd": str(tmp_path), "variables": {"PYTHONIOENCODING": "utf-8"}}
    want, found = plain("program.py", **options), run("--report", "program.py", **options)
    assert (found.code, found.out) == (want.code, want.out)
    assert found.err == want.err + "tf1xent run: the program has not imported TensorFlow.\n"


# What Python says itself.
NOT_THERE = {
    "no such file": ["none.py"],
    "no such module": ["-m", "none"],
    "no such package": ["-m", "json.none"],
    "a package without a main module": ["-m", "json"],
    "a folder without a main module": ["."],
}


@pytest.mark.parametrize("what", sorted(NOT_THERE))
def test_python_itself_says_what_is_not_there(what, tmp_path):
    want = plain(*NOT_THERE[what], cwd=str(tmp_path))
    assert want.code != 0
    assert run(*NOT_THERE[what], cwd=str(tmp_path)) == want


# What an import of TensorFlow does, by the folder that stands for it; None: it is hidden.
IMPORTS = {
    "not installed": None,
    "a missing library": "import ctypes\nctypes.CDLL('libnone.so.0')",
    "an import error": "def load():\n    raise ImportError('cannot load')\nload()",
    "another error": "from tensorflow import part",
    "interrupted": "raise KeyboardInterrupt",
    "ends": "import sys\nsys.exit(7)",
    "a warning": "import warnings\nwarnings.warn('of the importer', UserWarning, 2)\nimport sys\n"
    "sys.exit(0)",
}
IMPORTER = """
def first():
    import tensorflow.compat.v1 as tf

first()
"""


@pytest.mark.parametrize("how", sorted(IMPORTS))
def test_an_import_that_fails_looks_as_it_would(how, tmp_path):
    (tmp_path / "program.py").write_text(IMPORTER)
    if IMPORTS[how] is None:
        hide(tmp_path, "tensorflow")
    else:
        (tmp_path / "tensorflow").mkdir()
        (tmp_path / "tensorflow" / "__init__.py").write_text(IMPORTS[how])
        (tmp_path / "tensorflow" / "part.py").write_text("def f():\n    {}['x']\n\n\nf()\n")
    options = {"cwd": str(tmp_path), "variables": {"PYTHONPATH": str(tmp_path)}}
    want = plain("program.py", **options)
    assert want.code != 0 or how == "a warning"
    assert run("program.py", **options) == want


WAITING = """
import sys, time
try:
    print("waits", flush=True)
    time.sleep(60)
finally:
    print("cleans up", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_the_program_gets_the_signals_that_the_command_gets(name, tmp_path, default_handlers):
    (tmp_path / "program.py").write_text(WAITING)
    ends = []
    for command in ([], [str(STARTER), "run"]):
        process = subprocess.Popen(
            [sys.executable, *command, "program.py"],
            cwd=str(tmp_path),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
        # The line of the program at which the signal comes is a matter of chance.
        ends.append((process.returncode, out, err.splitlines()[-1:]))
    assert ends[0] == ends[1]
    assert ends[0][0] != 0
