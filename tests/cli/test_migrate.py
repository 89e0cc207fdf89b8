"""tf1xent migrate: what it prints and writes, its exit codes, signals; no TensorFlow is needed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import ROOT
from tests.support.without_tensorflow import hide
from tf1xent import cli
from tf1xent.migrate.rules import RULES

BEFORE = (
    "import tensorflow as tf\n"
    "loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)\n"
)
AFTER = BEFORE.replace("tf\n", "tf\nimport tf1xent\n").replace("tf.nn", "tf1xent.nn")
OLD = BEFORE + "print loss\n"
FINDING = "2:8: TX101 "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, in which the test is, with files that change, do not change, and are left out."""
    monkeypatch.chdir(str(tmp_path))
    (tmp_path / "a.py").write_text(BEFORE)
    (tmp_path / "b.py").write_text("x = 1\n")
    (tmp_path / "old.py").write_text(OLD)
    (tmp_path / "other.py").write_text(BEFORE)
    cells = [{"cell_type": "code", "source": ["%matplotlib inline\n", BEFORE]}]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}, indent=1))
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs the command; returns its exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = cli.main(["migrate", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        output, errors = capsys.readouterr()
        return code, output, errors

    return run


def contents(folder):
    """The bytes of all files."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Text, diff, JSON --------------------------------------------------------------------------------


def test_by_default_findings_and_a_diff_are_printed_and_nothing_is_written(folder, run):
    before = contents(folder)
    code, output, errors = run("a.py", "b.py")
    assert code == 0 and contents(folder) == before
    lines = output.splitlines()
    assert lines[0].startswith("a.py:" + FINDING)
    assert lines[1:] == [
        "--- a/a.py",
        "+++ b/a.py",
        "@@ -1,2 +1,3 @@",
        " import tensorflow as tf",
        "-" + BEFORE.splitlines()[1],
        "+import tf1xent",
        "+" + AFTER.splitlines()[2],
    ]
    assert errors == "tf1xent migrate: 2 files, 1 would change, 1 finding.\n"


def test_a_file_that_is_left_out_is_a_line_and_code_1(folder, run):
    code, output, errors = run(".")
    assert code == 1
    assert "a.py:" + FINDING in output and "n.ipynb:cell 1:3:8: TX101 " in output
    assert errors.splitlines() == [
        "tf1xent migrate: old.py:3:1: is Python 2: a print statement.",
        "tf1xent migrate: 5 files, 3 would change, 3 findings, 1 file left out.",
    ]


def test_written_files_are_what_the_diff_says_and_a_second_run_changes_nothing(folder, run):
    if shutil.which("patch") is None:
        pytest.skip("there is no command `patch`")
    latin = "# coding: latin-1\n# é\n".replace("\n", "\r\n") + BEFORE
    (folder / "other.py").write_bytes(latin.encode("latin-1"))
    copy = folder.parent / (folder.name + " copy")
    shutil.copytree(str(folder), str(copy))
    command = [sys.executable, "-m", "tf1xent", "migrate", "."]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    diff = subprocess.run(command, cwd=str(copy), env=environment, stdout=subprocess.PIPE).stdout
    subprocess.run(["patch", "-p1", "--binary"], cwd=str(copy), input=diff, check=True)
    code, output, errors = run(".", "--write")
    assert code == 1 and "---" not in output
    assert "5 files, 3 changed, 3 findings, 1 file left out" in errors
    assert contents(folder) == contents(copy)
    assert (folder / "a.py").read_text() == AFTER
    assert (folder / "old.py").read_text() == OLD
    written = contents(folder)
    assert run(".", "--write")[:2] == (1, "") and contents(folder) == written
    assert run("a.py", "--check")[0] == 0


def test_a_last_line_without_newline_is_marked(folder, run):
    (folder / "a.py").write_text(BEFORE.rstrip("\n"))
    assert run("a.py")[1].count("\n\\ No newline at end of file\n") == 2


def test_check_is_1_where_a_file_would_change(folder, run):
    before = contents(folder)
    code, output, errors = run("--check", "a.py", "b.py")
    assert code == 1 and contents(folder) == before
    assert output.count("\n") == 1 and output.startswith("a.py:" + FINDING)
    assert run("--check", "b.py")[:2] == (0, "")


def test_json(folder, run):
    code, output, errors = run(".", "--json")
    assert code == 1
    found = json.loads(output)
    assert found["files"] == 5
    by_path = {outcome["path"]: outcome for outcome in found["outcomes"]}
    assert sorted(by_path) == ["a.py", "n.ipynb", "old.py", "other.py"]
    assert by_path["a.py"]["changed"] and by_path["a.py"]["fault"] is None
    finding = by_path["n.ipynb"]["findings"][0]
    message = finding.pop("message")
    assert "tf1xent.nn" in message
    assert finding == {
        "cell": 1,
        "line": 3,
        "column": 8,
        "code": "TX101",
        "changed": True,
        "fixable": False,
    }
    fault = {"cell": None, "line": 3, "column": 1, "message": "is Python 2: a print statement"}
    assert by_path["old.py"]["fault"] == fault and not by_path["old.py"]["changed"]


def test_a_read_only_file_is_one_error_and_the_others_are_written(folder, run):
    os.chmod("a.py", 0o444)
    code, _, errors = run("a.py", "n.ipynb", "--write")
    assert code == 1
    assert errors.splitlines() == [
        "tf1xent migrate: a.py: cannot be written: it is read-only.",
        "tf1xent migrate: 2 files, 1 changed, 2 findings, 1 file left out.",
    ]
    assert (folder / "a.py").read_text() == BEFORE


# Rules -------------------------------------------------------------------------------------------


def test_rules_are_listed_with_before_and_after(run, folder):
    code, output, errors = run("--list-rules")
    assert (code, errors) == (0, "")
    assert run("list-rules") == (code, output, errors)
    for rule in RULES:
        assert f"{rule.code}  {rule.title}\n" in output
    assert "tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=" in output
    listed = json.loads(run("--list-rules", "--json", "--only", "TX101")[1])
    assert [rule["code"] for rule in listed] == ["TX101"]
    assert set(listed[0]) == {"code", "title", "verdict", "meaning", "before", "after"}


def test_only_and_ignore_choose_rules(folder, run):
    assert run("--ignore", "TX101", "a.py")[:2] == (0, "")
    assert run("--only", "TX102", "--only", "TX103", "a.py")[:2] == (0, "")
    assert "TX101" in run("--only", "TX102", "--only", "TX101", "a.py")[1]


@pytest.mark.parametrize("option", ["--fix", "--only", "--ignore"])
def test_an_unknown_rule_is_one_error_that_lists_them(option, folder, run):
    before = contents(folder)
    code, output, errors = run(option, "TX101", option, "TX999", "--write", ".")
    assert (code, output) == (2, "") and contents(folder) == before
    start = (
        f"tf1xent migrate: `{option}` must be the code of a rule, got 'TX999'. The rules are TX1"
    )
    assert errors.startswith(start) and errors.count("\n") == 1
    assert all(rule.code in errors for rule in RULES)


# Arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a PATH, or --list-rules."),
        (["gone"], "gone: No such file or directory."),
        (["a.py", "gone", "--write"], "gone: No such file or directory."),
        (["-", "a.py"], "- is read from stdin"),
        (["-", "--write"], "- is read from stdin"),
    ],
    ids=str,
)
def test_wrong_arguments_are_one_line_and_nothing_is_written(arguments, said, folder, run):
    before = contents(folder)
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "") and contents(folder) == before
    assert errors.startswith(f"tf1xent migrate: {said}") and errors.count("\n") == 1


def test_write_and_check_exclude_each_other(folder, run):
    assert run("a.py", "--write", "--check")[0] == 2


class Input:
    """Stands for sys.stdin."""

    def __init__(self, content):
        self.buffer = io.BytesIO(content)


def test_stdin_to_stdout(folder, run, monkeypatch):
    for before, after in ((BEFORE, AFTER), ("x = 1\n", "x = 1\n")):
        monkeypatch.setattr(sys, "stdin", Input(before.encode()))
        code, output, errors = run("-")
        assert (code, output) == (0, after)
        assert ("-:" + FINDING in errors) == (before != after)
    monkeypatch.setattr(sys, "stdin", Input(BEFORE.encode()))
    code, output, _ = run("-", "--check")
    assert code == 1 and output.startswith("-:" + FINDING) and output.count("\n") == 1
    monkeypatch.setattr(sys, "stdin", Input(OLD.encode()))
    code, output, errors = run("-")
    assert (code, output) == (1, "") and "-:3:1: is Python 2" in errors


# Processes ---------------------------------------------------------------------------------------


def test_libcst_that_is_missing_is_one_line(tmp_path):
    hidden = hide(tmp_path, "libcst", "tensorflow", "numpy")
    process = subprocess.run(
        [sys.executable, "-m", "tf1xent", "migrate", "x.py"],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(hidden), str(ROOT)])),
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (2, "")
    want = 'tf1xent migrate: needs libcst. Run: pip install "tf1xent[migrate]"\n'
    assert process.stderr == want


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_leaves_whole_files_and_no_processes(name, folder):
    """The group's processes get it, too, as they do from a terminal."""
    for number in range(400):
        (folder / f"f{number:03}.py").write_text(BEFORE + "x = 1\n" * 200)
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (folder / "sitecustomize.py").write_text(handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "tf1xent", "migrate", ".", "--write", "--jobs", "2"],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([".", str(ROOT)])),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
    )
    deadline = time.time() + 120
    while (folder / "f010.py").stat().st_size == len(BEFORE + "x = 1\n" * 200):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.01)
    number = getattr(signal, name)
    os.killpg(process.pid, number) if name == "SIGINT" else process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    said = "interrupted" if name == "SIGINT" else "stopped by SIGTERM"
    assert errors == f"tf1xent: {said}.\n"
    with pytest.raises(ProcessLookupError):  # nobody is left of its group
        os.killpg(process.pid, 0)
    written = {path.read_text()[: len(AFTER)] for path in folder.glob("f*.py")}
    assert written <= {AFTER, (BEFORE + "x = 1\n" * 200)[: len(AFTER)]} and len(written) == 2
    assert not list(folder.glob("*.partial"))
