"""The README tells the truth: its Python runs, and the files and commands it names are there."""

import os
import re
import subprocess
import sys

import pytest

from tests import ROOT

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
SHELLS = ("bash", "console", "sh", "shell")
# Where the path of a file of the checkout starts, in a command.
FOLDERS = ("./", ".ci/", "ops/", "tests/", "tf1xent/", "tools/")


def fenced_blocks(text):
    """Return the fenced blocks of a text: [(line, language, code)].

    >>> fenced_blocks("One:\\n\\n```python\\nx = 1\\n```\\n")
    [(3, 'python', 'x = 1\\n')]
    """
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, m.start()) + 1, m.group(1), m.group(2)) for m in found]


def files_named(code):
    """Return the files of the checkout that shell commands name.

    >>> files_named("python3 tools/run.py test -- tests/test_nn.py::test_x  # or: pip install .")
    ['tools/run.py', 'tests/test_nn.py']
    """
    words = (word.strip("'\"").split("::")[0] for word in code.split())
    return [word for word in words if word.startswith(FOLDERS)]


def linked_files(text):
    """Return the files that a text links to, addresses and anchors aside.

    >>> linked_files("[a](CHANGELOG.md#one) [b](https://example.org) [c](#two)")
    ['CHANGELOG.md']
    """
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t.split("#")[0] for t in targets if not re.match(r"\w+:|#", t)]


def run_block(code, folder):
    """Run a block as a script, or as a doctest if it has prompts; return (exit code, output)."""
    is_session = code.lstrip().startswith(">>>")
    path = folder / ("block.txt" if is_session else "block.py")
    path.write_text(code, encoding="utf-8")
    # As after an installation, whatever folder the reader is in.
    paths = [str(ROOT)] + [p for p in [os.environ.get("PYTHONPATH")] if p]
    done = subprocess.run(
        [sys.executable] + (["-m", "doctest"] if is_session else []) + [str(path)],
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


BLOCKS = fenced_blocks(TEXT)
PYTHON = [pytest.param(code, id=f"line{line}") for line, kind, code in BLOCKS if kind == "python"]


@pytest.mark.lengthy
def test_all_python_runs_pasted_into_one_session(tmp_path):
    sessions = [code for _, kind, code in BLOCKS if kind == "python" and code.startswith(">>>")]
    exit_code, output = run_block("\n".join(sessions), tmp_path)
    assert exit_code == 0, output


@pytest.mark.exhaustive
@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code, tmp_path):
    exit_code, output = run_block(code, tmp_path)
    assert exit_code == 0, output


def test_there_is_something_to_run():
    assert PYTHON
    assert [kind for _, kind, _ in BLOCKS if kind in SHELLS]


def test_every_block_says_its_language():
    assert [line for line, kind, _ in BLOCKS if not kind] == []


def test_files_exist():
    names = [name for _, kind, code in BLOCKS if kind in SHELLS for name in files_named(code)]
    assert [name for name in names + linked_files(TEXT) if not (ROOT / name).exists()] == []


def test_both_commands_stand_in_it_and_ci_runs_the_same():
    commands = [line for _, kind, code in BLOCKS if kind in SHELLS for line in code.splitlines()]
    assert "python3 tools/run.py demo" in commands
    assert "python3 tools/run.py test" in commands
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python3 tools/run.py test --require-all" in ci


def test_a_block_that_fails_is_caught(tmp_path):
    assert run_block("assert 1 + 1 == 3\n", tmp_path)[0] != 0
    assert run_block(">>> 1 + 1\n3\n", tmp_path)[0] != 0
    assert run_block(">>> 1 + 1\n2\n", tmp_path)[0] == 0
