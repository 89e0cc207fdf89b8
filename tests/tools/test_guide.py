"""The guide tools/docs/from_tf1_to_tf2.md: its commands run in order, and print what it shows."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests import ROOT

GUIDE = ROOT / "tools" / "docs" / "from_tf1_to_tf2.md"
PROGRAM = ROOT / "tools" / "examples" / "legacy_digits.py"
if not GUIDE.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)

TEXT = GUIDE.read_text(encoding="utf-8")
# A trained number may differ by as much, relatively, between processors.
TOLERANCE = 0.05
NUMBER = r"(?<![\d.])\d+\.\d{2}(?![\d.])"
LOG = re.compile(
    r"WARNING|[IWE]\d{4} |\d{4}-\d\d-\d\d |Instructions for updating|non-resource variables"
)


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
    words[0] = sys.executable if words[0] == "python" else words[0]
    done = subprocess.run(
        words,
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if not LOG.match(line)]
    return done.returncode, "".join(line + "\n" for line in lines)


def test_there_is_a_step_for_each_command():
    commands = [command.split()[3] for command, _ in steps(TEXT) if "tf1xent" in command]
    assert list(dict.fromkeys(commands)) == ["doctor", "run", "migrate", "verify"]


def test_the_code_is_that_of_the_program():
    program = PROGRAM.read_text(encoding="utf-8")
    program = re.sub(r'    """.*?"""\n', "", program)
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        assert block in program


def test_a_wrong_output_is_caught():
    assert difference(["loss 1.00"], "loss 1.20\n") is not None
    assert difference(["a", "b"], "a\nx\nb\n") is not None


@pytest.mark.exhaustive
def test_the_commands_print_what_the_guide_shows(tmp_path):
    shutil.copy(str(PROGRAM), str(tmp_path))
    for command, wanted in steps(TEXT):
        code, printed = run(command, tmp_path)
        assert code == (1 if command == "python legacy_digits.py" else 0), printed
        assert difference(wanted, printed) is None, (command, printed)
