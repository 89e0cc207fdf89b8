"""What `tf1xent run` refuses: in one line on stderr, with the exit code 2."""

import os
import subprocess
import sys

import pytest

from tests import ROOT
from tests.running.processes import PROGRAMS, plain, run
from tests.support.processes import WITHOUT_KERAS
from tf1xent import cli

# (options of Python, options of the command, what it says)
REFUSED = {
    "isolated": (["-I"], [], "needs PYTHONPATH, which Python's option -I ignores. Leave it out."),
    "no environment": (
        ["-E"],
        [],
        "needs PYTHONPATH, which Python's option -E ignores. Leave it out.",
    ),
    "losses": (
        [],
        ["--override-only", "--losses"],
        "`--override-only` leaves all functions as they are. Leave out `--losses`.",
    ),
    "implementation": (
        [],
        ["--override-only", "--implementation", "auto"],
        "`--override-only` leaves all functions as they are. Leave out `--implementation`.",
    ),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_it_refuses_in_a_line(what):
    flags, options, said = REFUSED[what]
    process = run(*options, "none.py", flags=flags)
    assert (process.code, process.out, process.err) == (2, "", f"tf1xent run: {said}\n")


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--"], ["--rep", "x.py"], ["-c", "pass"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_information:
        cli.main(["run", *arguments])
    assert exit_information.value.code == 2
    assert "usage: tf1xent" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows starts a process that it waits for")
def test_python_that_cannot_be_started(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert cli.main(["run", "x.py"]) == 2
    said = capsys.readouterr().err
    assert said == f"tf1xent run: cannot start {tmp_path / 'python'}: No such file or directory.\n"


# What stands for a TensorFlow that cannot be patched, and what a program may do then.
UNSUPPORTED = "VERSION = '0.12'"
PROGRAMS_AFTER = {
    "it ends": ("import tensorflow\nprint('unpatched')", ""),
    "it cleans up": (
        "try:\n    import tensorflow\nfinally:\n    print('cleans up')",
        "cleans up\n",
    ),
    "it does without": (
        "try:\n    import tensorflow\nexcept ImportError:\n    print('does without')\n",
        "",
    ),
}


@pytest.mark.parametrize("what", sorted(PROGRAMS_AFTER))
def test_a_tensorflow_that_cannot_be_patched_ends_the_program(what, tmp_path):
    text, out = PROGRAMS_AFTER[what]
    (tmp_path / "tensorflow.py").write_text(UNSUPPORTED)
    (tmp_path / "program.py").write_text(text)
    process = run("program.py", cwd=str(tmp_path))
    assert (process.code, process.out) == (2, out)
    said = "tf1xent run: cannot patch this TensorFlow: ModuleNotFoundError: No module named "
    assert process.err.startswith(said)
    assert len(process.err.splitlines()) == 1


def test_kernels_that_are_not_there_end_the_program(tmp_path):
    variables = {"TF1XENT_KERNEL_CACHE": str(tmp_path), **WITHOUT_KERAS}
    process = run("--implementation", "kernel", str(PROGRAMS / "streams.py"), variables=variables)
    last = process.err.splitlines()[-1]
    assert (process.code, process.out) == (2, "")
    assert last.startswith("tf1xent run: ") and "build-kernels" in last
    assert "Traceback" not in process.err


def test_settings_that_cannot_be_read_end_the_program(tmp_path):
    """They come from a newer tf1xent, or somebody has written them by hand."""
    (tmp_path / "program.py").write_text(
        "import os, subprocess, sys\n"
        "text = os.environ['TF1XENT_RUN'].replace('losses', 'unknown')\n"
        "environment = dict(os.environ, TF1XENT_RUN=text)\n"
        "sys.exit(subprocess.call([sys.executable, '-c', 'print(1)'], env=environment))\n"
    )
    process = run("--children", "program.py", cwd=str(tmp_path))
    assert (process.code, process.out) == (2, "")
    assert process.err.startswith("tf1xent run: cannot prepare the patch: TypeError(")
    assert len(process.err.splitlines()) == 1


def test_the_users_own_sitecustomize_fails_as_it_would(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("1 / 0")
    (tmp_path / "program.py").write_text("print('runs')")
    options = {"cwd": str(tmp_path), "variables": {"PYTHONPATH": str(tmp_path)}}
    want = plain("program.py", **options)
    assert "ZeroDivisionError" in want.err
    found = run("program.py", **options)
    assert (found.code, found.out) == (want.code, want.out)
    assert found.err == 2 * want.err  # the command is a Python too


def test_the_command_runs_as_a_module(tmp_path):
    """`python -m tf1xent run` is the same."""
    (tmp_path / "program.py").write_text("import sys; print(sys.argv, sys.path[0])")
    command = [sys.executable, "-m", "tf1xent", "run", str(tmp_path / "program.py"), "-m"]
    output = subprocess.check_output(command, cwd=str(ROOT), text=True)
    assert output == f"{[str(tmp_path / 'program.py'), '-m']} {tmp_path}\n"
