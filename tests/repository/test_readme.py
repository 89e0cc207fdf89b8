"""The README tells the truth: its Python runs, and the files and commands it names are there."""

import os
import re
import subprocess
import sys

import pytest

from tests import ROOT
from tests.support.processes import run_forked

DOCUMENTS = (
    "README.md",
    "ops/README.md",
    "tools/benchmarks/RESULTS.md",
    "tools/docs/beyond_one_machine.md",
    "tools/examples/README.md",
) + tuple(sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tf1xent/**/README.md")))
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
SHELLS = ("bash", "sh", "shell")
# Commands and what they print; tests/tools/test_guide.py runs those of the guide.
CONSOLE = "console"
GUIDE = ROOT / "tools" / "docs" / "from_tf1_to_tf2.md"
# Commands that run elsewhere: the demo's tests, and what the matrix itself is made of.
RUN_ELSEWHERE = {
    "pip install .": "tox installs the wheel in every environment",
    "python -m tf1xent build-kernels": "the first command of every environment",
    "python3 tools/run.py demo": "makes its environment and runs `python -m tf1xent demo`",
    "python3 tools/run.py test": "the tests themselves",
}
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


def run_sessions(sessions, folder):
    """Run texts of prompts and outputs in one process, each by itself; return (code, output)."""
    paths = []
    for number, session in enumerate(sessions):
        paths.append(folder / f"session{number}.txt")
        paths[-1].write_text(session, encoding="utf-8")
    done = run_forked("-m", "doctest", *paths, folder=folder)
    return done.returncode, done.stdout + done.stderr


def run(arguments, folder):
    """Run Python as after an installation, whatever folder the reader is in."""
    paths = [str(ROOT)] + [p for p in [os.environ.get("PYTHONPATH")] if p]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def commands(text):
    """Return the shell commands of a text, a line each."""
    blocks = [code for _, kind, code in fenced_blocks(text) if kind in SHELLS]
    return [line for code in blocks for line in code.splitlines() if line.strip()]


BLOCKS = [block for text in TEXTS.values() for block in fenced_blocks(text)]
SESSIONS = [code for _, kind, code in BLOCKS if kind == "python"]
MODEL = """
import tensorflow.compat.v1 as tf
tf.disable_eager_execution()
logits = tf.placeholder(tf.float32, [None, 3], name="logits")
labels = tf.placeholder(tf.int32, [None], name="labels")
loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
tf.train.export_meta_graph("model.meta")
"""


@pytest.mark.lengthy
def test_every_block_runs_by_itself(tmp_path):
    exit_code, output = run_sessions(SESSIONS, tmp_path)
    assert exit_code == 0, output


@pytest.mark.exhaustive
def test_all_blocks_of_a_document_run_pasted_into_one_session(tmp_path):
    documents = [fenced_blocks(text) for text in TEXTS.values()]
    sessions = ["\n".join(c for _, kind, c in blocks if kind == "python") for blocks in documents]
    exit_code, output = run_sessions(sessions, tmp_path)
    assert exit_code == 0, output


@pytest.mark.lengthy
def test_every_command_runs(tmp_path):
    lines = [line for text in TEXTS.values() for line in commands(text)]
    lines = [line for line in dict.fromkeys(lines) if line not in RUN_ELSEWHERE]
    assert lines and all(line.startswith("python -m tf1xent ") for line in lines), lines
    program = MODEL + "".join(
        f"from tf1xent.cli import main\nassert main({line.split()[3:]!r}) == 0\n" for line in lines
    )
    exit_code, output = run(["-c", program], tmp_path)
    assert exit_code == 0, output


def test_there_is_something_to_run():
    assert len(SESSIONS) >= 5
    assert all(code.startswith(">>> ") for code in SESSIONS)


def test_every_block_says_its_language():
    assert [line for line, kind, _ in BLOCKS if not kind] == []


def test_what_consoles_show_stands_in_the_guide():
    shown = [line for _, kind, code in BLOCKS if kind == CONSOLE for line in code.splitlines()]
    assert len(shown) >= 8
    assert set(shown) <= set(GUIDE.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_exist(document):
    folder = (ROOT / document).parent
    links = [folder / name for name in linked_files(TEXTS[document])]
    named = [ROOT / name for line in commands(TEXTS[document]) for name in files_named(line)]
    assert [path for path in links + named if not path.exists()] == []


def test_both_commands_stand_in_the_readme_and_ci_runs_the_same():
    assert "python3 tools/run.py demo" in commands(TEXTS["README.md"])
    assert "python3 tools/run.py test" in commands(TEXTS["README.md"])
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python3 tools/run.py test --matrix --require-all" in ci


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 120


def test_a_block_that_fails_is_caught(tmp_path):
    assert run_sessions([">>> 1 + 1\n2\n", ">>> 1 + 1\n3\n"], tmp_path)[0] != 0
    assert run_sessions([">>> 1 + 1\n2\n"], tmp_path)[0] == 0
