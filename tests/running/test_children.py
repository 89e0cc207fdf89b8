"""Processes that a program starts: patched with `--children`, and if forked; reports of each."""

import re
import shutil
import sys

import pytest

from tests.running.processes import PROGRAMS, plain, run
from tests.support.processes import WITHOUT_KERAS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")

FORKED = {"program", "fork", "pool"}
STARTED = {"spawn", "forkserver", "subprocess", "grandchild"}
ALONE = {"isolated"}  # -I: Python does not look at PYTHONPATH


def answers(process):
    assert process.code == 0, process.err
    assert process.err == ""
    return dict(line.split() for line in process.out.splitlines())


@pytest.fixture
def folder(tmp_path):
    shutil.copy(str(PROGRAMS / "parent.py"), str(tmp_path))
    return str(tmp_path)


def test_nothing_is_prepared_without_the_command(folder):
    assert set(answers(plain("parent.py", cwd=folder)).values()) == {"plain"}


@pytest.mark.parametrize("option, prepared", [([], FORKED), (["--children"], FORKED | STARTED)])
def test_which_processes_are_prepared(option, prepared, folder):
    found = answers(run(*option, "parent.py", cwd=folder))
    assert set(found) == FORKED | STARTED | ALONE
    assert {name for name, answer in found.items() if answer == "prepared"} == prepared


def test_another_python_is_left_alone(folder):
    """It has other packages, perhaps no TensorFlow at all, and passes the settings on."""
    program = """
import os, subprocess, sys
settings = os.environ["TF1XENT_RUN"]
assert sys.prefix in settings
os.environ["TF1XENT_RUN"] = settings.replace(sys.prefix, "/another")
code = "import parent, os; parent.answer(sorted(set(os.environ) & {'TF1XENT_RUN'})[0])"
subprocess.check_call([sys.executable, "-c", code])
"""
    with open(folder + "/program.py", "w") as file:
        file.write(program)
    assert answers(run("--children", "program.py", cwd=folder)) == {"TF1XENT_RUN": "plain"}


def test_the_command_in_a_process_of_the_program(folder):
    """The inner command's settings count, and its program has its own PYTHONPATH again."""
    program = """
import os, subprocess, sys
print("path", os.environ.get("PYTHONPATH"), flush=True)
if len(sys.argv) > 1:
    command = [sys.executable, sys.argv[1], "run", "program.py"]
    subprocess.check_call(command, env=dict(os.environ, INNER="1"))
"""
    with open(folder + "/program.py", "w") as file:
        file.write(program)
    starter = str(PROGRAMS / "tf1xent_command.py")
    process = run("--children", "program.py", starter, cwd=folder)
    assert (process.code, process.err) == (0, "")
    outer, inner = process.out.splitlines()
    assert outer.endswith("startup") and inner == "path None"


@pytest.mark.lengthy
def test_each_process_prints_its_own_report():
    process = run("--children", "--report", str(PROGRAMS / "builders.py"), variables=WITHOUT_KERAS)
    assert process.code == 0, process.err
    built = dict(map(int, line.split()) for line in process.out.splitlines())
    assert sorted(built.values()) == [1, 2, 3, 4]
    reports = re.findall(r"^tf1xent run: process (\d+): (\d+) calls?", process.err, re.MULTILINE)
    assert {int(process): int(calls) for process, calls in reports} == built
    assert len(reports) == 4


def test_without_children_only_the_program_prints_a_report(folder):
    program = """
import multiprocessing, os, sys
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=print)
        process.start()
        process.join()
    if os.fork() == 0:
        sys.exit()
    os.wait()
"""
    with open(folder + "/program.py", "w") as file:
        file.write(program)
    process = run("--report", "program.py", cwd=folder)
    assert process.err == "tf1xent run: the program has not imported TensorFlow.\n"
