"""`tf1xent verify`: two processes, what they leave behind, what it prints and refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests import ROOT
from tests.support import processes
from tests.support.without_tensorflow import hide
from tests.verification import planted
from tf1xent import cli
from tf1xent.verification import compare_functions, comparing

LOSSES = """
import sys
print("what a program prints"); print("and says", file=sys.stderr)
import tensorflow.compat.v1 as tf
import beside


def before(labels, logits):
    p = tf.nn.softmax(logits)
    picked = tf.one_hot(labels, beside.CLASSES, dtype=p.dtype)
    return -tf.reduce_mean(tf.reduce_sum(picked * tf.log(p + 1e-7), axis=1))


class Losses:
    @staticmethod
    def after(logits, y):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        return tf.reduce_mean(losses)
"""
SLEEPING = "import os, time; open({path!r} + str(os.getpid()), 'w').close(); time.sleep(600)"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A folder with losses, which is the current one; temporary folders are made in another."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "losses.py").write_text(LOSSES)
    (folder / "beside.py").write_text("CLASSES = 7\n")
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def run(capfd, *arguments):
    """Runs the command; returns its exit code, output and errors."""
    code = cli.main(["verify", *map(str, arguments)])
    output, errors = capfd.readouterr()
    return code, output, errors


def left(program):
    """What is in the temporary folder, and beside the program's files."""
    there = {path.name for path in program.iterdir()} - {"losses.py", "beside.py"}
    return there | {path.name for path in (program.parent / "temporary").iterdir()}


@pytest.mark.exhaustive
def test_two_processes_measure_and_the_report_is_json(program, capfd):
    arguments = [
        "losses.py:before",
        "losses:Losses.after",
        "--num-classes",
        7,
        "--patched",
        "after",
    ]
    code, output, errors = run(capfd, *arguments, "--json", "--dtypes", "float64")
    found = json.loads(output)
    assert (code, found["equal"], found["before_is_wrong"]) == (0, True, True)
    assert found["after"]["parameters"] == {"logits": "logits", "y": "sparse"}
    assert "BEFORE computes log(p + 1e-07) where it means log(p)." in found["notes"]
    # The other side is patched: it alone keeps the digits of small entries.
    confident = [f for f in found["findings"] if f["batch"] == "confident, right"]
    assert [f["after_exact"] for f in confident] == [True] * 3
    said = "tf1xent verify: warning: BEFORE is wrong on some batches; the report says how.\n"
    assert errors == said
    assert left(program) == set()


def test_a_difference_is_a_table_and_exit_code_1(capfd, monkeypatch):
    report = compare_functions(*planted.DIFFERENT["a sign"][:2], dtypes=["float32"])
    monkeypatch.setattr(comparing, "compare", lambda *sides, **options: report)
    code, output, errors = run(capfd, "a:b", "c:d")
    assert (code, errors) == (1, "")
    lines = output.splitlines()
    assert lines[0].startswith("BEFORE  mean     Python ")
    assert lines[2].endswith("mean over the rows, softmax cross-entropy with sparse labels")
    assert any(line.startswith("different: value: BEFORE ") for line in lines)
    assert lines[-1].startswith("different (")


REFUSED = {
    "none.py:f losses:before": "none.py: there is no such file.",
    "losses.py losses:before": "losses.py: name a function in it, as in losses.py:loss.",
    "nowhere losses:before": "'nowhere' must be module:function, file.py:function, or the path of "
    "a graph; there is no such path.",
    "losses:before losses:before --before-python none": "BEFORE's Python, none, cannot be started: "
    "No such file or directory.",
    "losses:before losses:before --without none": "`without` must name batches, got 'none'. There",
    "losses:before losses:before --input y=none": "an input must be [SIDE.]NAME=KIND[:SHAPE], got",
    "losses:before losses:before --num-classes 1": "`num_classes` must be at least 2, got 1.",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_run_is_a_line_and_exit_code_2(arguments, program, capfd):
    code, output, errors = run(capfd, *arguments.split())
    assert (code, output) == (2, "")
    assert errors.startswith(f"tf1xent verify: {REFUSED[arguments]}")
    assert len(errors.splitlines()) == 1
    assert left(program) == set()


# What stands for TensorFlow in a child, and what is said.
CHILDREN = {
    "raise OSError('libcudart.so.10: cannot open\\nand more')": "losses:before: OSError: "
    "libcudart.so.10: cannot open.",
    "import os; os.abort()": "losses:before: its process ended with signal 6",
    "import sys; sys.exit('no')": "losses:before: its import ends Python with 'no'.",
}


@pytest.mark.parametrize("text", CHILDREN)
def test_a_child_that_fails_is_a_line(text, program, capfd, monkeypatch):
    (program.parent / "tensorflow.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(program.parent))
    code, output, errors = run(capfd, "losses:before", "losses:before")
    assert (code, output) == (2, "")
    assert CHILDREN[text] in errors and len(errors.splitlines()) == 1
    assert left(program) == set()


def test_a_python_without_tensorflow_is_named(program, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(hide(program.parent, "tensorflow")))
    code, output, errors = run(capfd, "losses:before", "losses:before")
    assert (code, output) == (2, "")
    assert f"its Python, {sys.executable}, has no tensorflow." in errors


def started(program, tmp_path):
    """Starts the command with a TensorFlow that sleeps; waits until both children are there."""
    (tmp_path / "pids").mkdir()
    text = SLEEPING.format(path=str(tmp_path / "pids") + os.sep)
    (tmp_path / "tensorflow.py").write_text(text)
    # A shell without job control ignores SIGINT for what it starts in the background.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "sitecustomize.py").write_text(handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "tf1xent", "verify", "losses:before", "losses:before"],
        env=dict(processes.environment(), PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    while len(list((tmp_path / "pids").iterdir())) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process, [int(path.name) for path in (tmp_path / "pids").iterdir()]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that nobody has waited for yet is there, but does not run.
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_leaves_no_process_and_no_file(name, program, tmp_path):
    process, children = started(program, tmp_path)
    process.send_signal(getattr(signal, name))
    output, errors = process.communicate(timeout=60)
    said = "interrupted" if name == "SIGINT" else "stopped by SIGTERM"
    assert (process.returncode, output) == (128 + getattr(signal, name), "")
    assert errors == f"tf1xent: {said}.\n"
    assert not any(map(is_running, children))
    assert left(program) == set()


def test_a_killed_command_leaves_no_process(program, tmp_path):
    process, children = started(program, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    for _ in range(1000):
        if not any(map(is_running, children)):
            return
        time.sleep(0.02)
    raise AssertionError("a child outlives the command")
