"""The guides of tools/docs: their commands run in order, and print what they show."""

import re
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple, Tuple

import pytest

from tests import ROOT
from tests.support import processes
from tests.support.processes import WITHOUT_KERAS

DOCS, EXAMPLES = ROOT / "tools" / "docs", ROOT / "tools" / "examples"
if not DOCS.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)


class Guide(NamedTuple):
    """A page, the program that it is about, and the commands of tf1xent that it shows in order."""

    name: str
    program: str
    commands: Tuple[str, ...]
    exit_with_1: Tuple[str, ...]

    @property
    def text(self):
        return (DOCS / self.name).read_text(encoding="utf-8")


GUIDES = (
    Guide(
        "from_tf1_to_tf2.md",
        "legacy_digits.py",
        ("doctor", "run", "migrate", "verify"),
        ("python legacy_digits.py",),
    ),
    Guide(
        "why_is_my_loss_nan.md",
        "paired_digits.py",
        ("diagnose",),
        ("python -m tf1xent diagnose kept/step-142",),
    ),
)
each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
# A trained number may differ by as much, relatively, between processors.
TOLERANCE = 0.05
NUMBER = r"(?<![\d.])\d+\.\d{2}(?![\d.])"
# TensorFlow's own log lines; what a hook of ours logs is shown.
LOG = re.compile(
    r"WARNING(?!:tensorflow:(the gradients|LossDoctor))|[IWE]\d{4} |\d{4}-\d\d-\d\d "
    r"|Instructions for updating|non-resource variables"
)
# Commands that are about how a process starts.
ABOUT_PROCESSES = {"doctor", "run", "verify"}


def steps(text):
    """Return the commands of the console blocks of a text, each with what it prints.

    >>> steps("x\\n```console\\n$ one\\na\\nb\\n$ two\\n```\\n")
    [('one', ['a', 'b']), ('two', [])]
    """
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def difference(wanted, printed):
    """Return what a command printed if it is not what is wanted, else None.

    >>> difference(["a", "...", "loss 1.00, b..."], "a\\nx\\ny\\nloss 1.01, bc\\n") is None
    True
    >>> difference(["a", "loss 1.00"], "a\\nloss 1.20\\n")
    'a\\nloss 1.20\\n'
    """
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else line_pattern(line) + r"\n" for line in wanted
    )
    match = re.fullmatch(pattern, printed)
    if match is None:
        return printed
    numbers = zip(re.findall(NUMBER, "\n".join(wanted)), match.groups())
    near = [abs(float(a) - float(b)) <= TOLERANCE * float(a) + 0.01 for a, b in numbers]
    return None if all(near) else printed


def line_pattern(line):
    """Return a pattern for a line; numbers of two decimals are groups."""
    parts = re.split(rf"(\.\.\.|{NUMBER})", line)
    patterns = [re.escape(part) for part in parts]
    patterns[1::2] = [".*" if part == "..." else r"(\d+\.\d{2})" for part in parts[1::2]]
    return "".join(patterns) + " *"


def run(command, folder):
    """Run a command of the guide; return (exit code, output without TensorFlow's log)."""
    words = shlex.split(command)
    # oneDNN, which a processor may have or not, changes digits and what a relu shows.
    variables = processes.environment(PYTHONUNBUFFERED="1", TF_ENABLE_ONEDNN_OPTS="1")
    if words[0] == "python" and not ABOUT_PROCESSES.intersection(words):
        done = processes.run_forked(*words[1:], folder=folder, variables=variables, together=True)
    else:
        words[0] = sys.executable if words[0] == "python" else words[0]
        if "doctor" in words:  # looks at Keras too
            variables = {n: value for n, value in variables.items() if n not in WITHOUT_KERAS}
        done = subprocess.run(
            words,
            cwd=str(folder),
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    lines = [line for line in done.stdout.splitlines() if not LOG.match(line)]
    return done.returncode, "".join(line + "\n" for line in lines)


@each_guide
def test_there_is_a_step_for_each_command(guide):
    commands = [command.split()[3] for command, _ in steps(guide.text) if "tf1xent" in command]
    assert tuple(dict.fromkeys(commands)) == guide.commands


@each_guide
def test_the_code_is_that_of_the_program(guide):
    program = (EXAMPLES / guide.program).read_text(encoding="utf-8")
    program = re.sub(r'    """.*?"""\n', "", program)
    blocks = re.findall(r"^```python\n(.*?)^```$", guide.text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert block in program


def test_a_wrong_output_is_caught():
    assert difference(["loss 1.00"], "loss 1.20\n") is not None
    assert difference(["a", "b"], "a\nx\nb\n") is not None


@pytest.mark.exhaustive
@each_guide
def test_the_commands_print_what_the_guide_shows(guide, tmp_path):
    shutil.copy(str(EXAMPLES / guide.program), str(tmp_path))
    for command, wanted in steps(guide.text):
        code, printed = run(command, tmp_path)
        assert code == (1 if command in guide.exit_with_1 else 0), printed
        assert difference(wanted, printed) is None, (command, printed)
