"""The command line: what it prints, its exit codes, and that `python -m tf1xent` is the same."""

import re
import subprocess
import sys

import pytest

import tf1xent
from tests.support.processes import environment
from tf1xent import cli, kernels


def run_python(*arguments):
    """Runs Python with `arguments` in a process of its own; returns (code, output, errors)."""
    process = subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True
    )
    return process.returncode, process.stdout, process.stderr


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as exit_information:
        cli.main(["--version"])
    assert exit_information.value.code == 0
    assert capsys.readouterr().out == f"tf1xent {tf1xent.__version__}\n"


def test_status_is_printed(capsys):
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == f"{tf1xent.status()}\n{kernels.status()}\n"


def test_status_as_a_module_patches_nothing_and_tensorflow_logs_nothing(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    code, output, errors = run_python("-m", "tf1xent", "status")
    assert (code, errors) == (0, "")
    assert re.search(r"^patched +no$", output, re.MULTILINE)


@pytest.mark.parametrize("arguments", [[], ["status", "more"], ["demo", "--epochs", "0"], ["none"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_information:
        cli.main(arguments)
    assert exit_information.value.code == 2
    assert "usage: tf1xent" in capsys.readouterr().err


def test_demo_refuses_an_output_that_is_a_folder(tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path)]) == 2
    assert "`--output` must be a file" in capsys.readouterr().err


def test_demo_refuses_an_output_in_a_folder_that_is_not_there(tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path / "none" / "demo.png")]) == 2
    assert "`--output` must be in a folder that exists" in capsys.readouterr().err


def test_build_kernels_says_in_a_line_what_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(tmp_path / "cache"))
    missing = str(tmp_path / "missing")
    assert cli.main(["build-kernels", "--force", "--compiler", missing]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("tf1xent build-kernels: The C++ compiler must be a command that runs")
    assert missing in said[0]
