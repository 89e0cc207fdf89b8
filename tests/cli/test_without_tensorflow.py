"""The command line where TensorFlow is not installed or broken, and signals at its import."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

import tf1xent
from tests import ROOT
from tests.support.without_tensorflow import hide
from tf1xent.cli.process import COMMANDS, parser

NAMES = [command.__name__.split(".")[-1].replace("_", "-") for command in COMMANDS]
REWRITE = ["rewrite", "in.pb", "out.pb", "--mode", "tag"]
# How each command begins that needs TensorFlow.
SPECTRUM = ["spectrum", "--meta", "in.meta", "-o", "out"]
DIAGNOSE = ["diagnose", "--meta", "in.meta"]
ALONE = [["demo"], ["worker"], ["build-kernels"], ["status"]]
CALLS = [["inspect", "in.pb"], REWRITE, SPECTRUM, DIAGNOSE, *ALONE]

# What stands for TensorFlow, and what is said of it.
NOT_INSTALLED = "needs TensorFlow, which is not installed. Run: pip install tensorflow"
FAILS = "needs TensorFlow, but its import fails: "
BROKEN = {
    "without a library": (
        "import sys; print('noise', file=sys.stderr)\n"
        "raise OSError('libcudart.so.10: cannot open\\nand more')",
        FAILS + "OSError: libcudart.so.10: cannot open",
    ),
    "as TensorFlow 1.x says it": (
        "raise ImportError('Traceback (most recent call last):\\n  File x\\n    import y\\n'\n"
        "'ImportError: libfoo.so: cannot open shared object file\\n\\nSee https://example.org')",
        FAILS + "ImportError: libfoo.so: cannot open shared object file",
    ),
    "without a package of its own": (
        "import no_such_package_of_tensorflow",
        FAILS + "ModuleNotFoundError: No module named 'no_such_package_of_tensorflow'",
    ),
    "without tensorflow.compat": ("", FAILS + "ModuleNotFoundError: No module named"),
    "without a message": ("raise RuntimeError", FAILS + "RuntimeError:"),
}


def run_with(folder, arguments):
    """Runs the command with a folder before all others on Python's path."""
    paths = [str(folder), str(ROOT)]
    process = subprocess.run(
        [sys.executable, "-m", "tf1xent", *arguments],
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
        capture_output=True,
        text=True,
    )
    return SimpleNamespace(
        code=process.returncode,
        output=process.stdout,
        errors=process.stderr,
    )


@pytest.fixture
def hidden(tmp_path):
    """A folder that makes Python find no TensorFlow."""
    return hide(tmp_path, "tensorflow")


def broken(folder, text):
    """Puts a package into a folder that stands for TensorFlow."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_needs_nothing_but_the_standard_library(name, tmp_path):
    """So it is there at once."""
    hidden = hide(tmp_path, "tensorflow", "numpy", "absl")
    arguments = [name, "--help"] if name else ["--help"]
    ran = run_with(hidden, arguments)
    assert (ran.code, ran.errors) == (0, "")
    assert ran.output.startswith("usage: tf1xent " + name)


def test_version_and_help_do_not_care_that_tensorflow_is_broken(tmp_path):
    folder = broken(tmp_path, "raise SystemError('broken')")
    ran = run_with(folder, ["--version"])
    assert (ran.code, ran.output, ran.errors) == (0, f"tf1xent {tf1xent.__version__}\n", "")
    assert run_with(folder, ["inspect", "--help"]).code == 0


@pytest.mark.parametrize("arguments", CALLS, ids=[call[0] for call in CALLS])
def test_a_command_says_in_a_line_that_tensorflow_is_not_installed(arguments, hidden):
    if arguments == ["demo"]:
        for name in ("matplotlib", "sklearn", "tqdm"):
            (hidden / (name + ".py")).write_text("")
    ran = run_with(hidden, arguments)
    assert (ran.code, ran.output) == (2, "")
    assert ran.errors == f"tf1xent {arguments[0]}: {NOT_INSTALLED}\n"


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_command_says_in_a_line_how_the_import_fails(kind, tmp_path):
    text, message = BROKEN[kind]
    ran = run_with(broken(tmp_path, text), ["inspect", "in.pb"])
    assert (ran.code, ran.output) == (2, "")
    assert ran.errors.startswith(f"tf1xent inspect: {message}")
    assert len(ran.errors.splitlines()) == 1


def test_a_crash_of_the_import_is_not_silent(tmp_path):
    ran = run_with(broken(tmp_path, "import os; os.abort()"), ["inspect", "in.pb"])
    assert ran.code not in (0, 1, 2)
    assert "Aborted" in ran.errors and "tensorflow" in ran.errors


def test_demo_names_the_command_that_installs_what_is_missing(tmp_path):
    hide(tmp_path, "matplotlib", "sklearn")
    (tmp_path / "tqdm.py").write_text("")
    ran = run_with(tmp_path, ["demo"])
    assert (ran.code, ran.output) == (2, "")
    assert ran.errors == (
        "tf1xent demo: needs matplotlib, scikit-learn. Run: pip install matplotlib scikit-learn\n"
    )


# TensorFlow's import loses exceptions or makes others of them.
SWALLOWING = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(10)
except BaseException as error:
    {then}
"""


@pytest.mark.parametrize("then", ["pass", "raise ImportError('lost') from None", "raise"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_tensorflow_is_imported_ends_the_command(name, then, tmp_path):
    # A shell without job control ignores SIGINT for what it starts in the background.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "sitecustomize.py").write_text(handler)
    ran = run_with(broken(tmp_path, SWALLOWING.format(name=name, then=then)), ["status"])
    said = "interrupted" if name == "SIGINT" else "stopped by SIGTERM"
    assert (ran.code, ran.output) == (128 + getattr(signal, name), "")
    assert ran.errors == f"tf1xent: {said}.\n"


def test_rewrite_takes_the_modes_and_an_earlier_name(hidden):
    for mode in ("logsumexp", "tag", "untag", "fused"):
        assert parser().parse_args([*REWRITE[:-1], mode]).mode == mode
    assert "--mode {logsumexp,tag,untag,keep}" in run_with(hidden, ["rewrite", "--help"]).output
