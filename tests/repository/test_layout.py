"""The repository keeps the layout of its design; the rules in layout.py catch what breaks it."""

import ast
import importlib
import inspect
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.repository.layout import (
    MOST_LINES_OF_A_FUNCTION,
    MOST_LINES_OF_A_MODULE,
    PACKAGE,
    ROOT,
    SEAM,
    docstring_faults,
    floor_faults,
    imported_modules,
    machine_path_faults,
    made_functions,
    name_faults,
    parsed,
    public_functions,
    python_files,
    seam_faults,
    size_faults,
    syntax_faults,
)
from tests.repository.test_public_api import MODULES

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "ops",
    "setup.cfg",
    "setup.py",
    "tests",
    "tf1xent",
    "tools",
}
SOURCES = python_files("tf1xent") + python_files("tools")


def tracked_files():
    """Return the files that git tracks, or skip where there is no checkout to ask."""
    try:
        asked = subprocess.run(["git", "ls-files", "-z"], cwd=str(ROOT), capture_output=True)
    except OSError as error:
        pytest.skip(f"git does not run here: {error}")
    if asked.returncode != 0:
        pytest.skip("no git checkout: " + asked.stderr.decode().strip())
    return [name for name in asked.stdout.decode().split("\0") if name]


def found(faults_of, things):
    """Return what a rule finds, by the thing: a test for each would cost more than the rule."""
    faults = {thing: faults_of(thing) for thing in things}
    return {thing: those for thing, those in faults.items() if those}


def test_imports_go_down():
    assert found(lambda name: floor_faults(parsed(PACKAGE[name]), name), sorted(PACKAGE)) == {}


def test_only_the_seam_knows_tensorflows_inside_and_version():
    def faults_of(name):
        return seam_faults(parsed(PACKAGE[name]), strings=name.split(".")[1] != "migrate")

    assert found(faults_of, sorted(name for name in PACKAGE if name.split(".")[1] != SEAM)) == {}


@pytest.mark.parametrize(
    "oracle", ["reference", "option_reference", "metric_reference", "curvature_reference"]
)
def test_an_oracle_does_not_know_the_package(oracle):
    tree = parsed(ROOT / "tests" / "oracle" / (oracle + ".py"))
    names = {module.split(".")[0] for _, module in imported_modules(tree, "tests.oracle." + oracle)}
    assert not names & {"tf1xent", "tools", "tensorflow"}


def test_sizes():
    assert found(lambda path: size_faults(path.read_text(encoding="utf-8")), SOURCES) == {}


def test_python_37_reads_it():
    def faults_of(path):
        return syntax_faults(path.read_text(encoding="utf-8"))

    assert found(faults_of, SOURCES + python_files("tests")) == {}


@pytest.mark.parametrize("name, function", public_functions())
def test_public_functions_are_documented(name, function):
    assert docstring_faults(function) == []


@pytest.mark.parametrize("module, name", made_functions())
def test_made_public_functions_are_documented(module, name):
    made = getattr(importlib.import_module(module), name)
    assert (made.__module__, made.__name__, made.__qualname__) == (module, name, name)
    assert docstring_faults(made) == []


def test_every_public_function_is_asked_for_its_docstring():
    asked = {name for name, _ in public_functions()}
    asked.update(f"{module}.{name}" for module, name in made_functions())
    public = {
        f"{found.__module__}.{found.__name__}"
        for module in map(importlib.import_module, MODULES)
        for found in (getattr(module, name) for name in getattr(module, "__all__", ()))
        if inspect.isfunction(found)
    }
    assert {name.replace(".__init__", "") for name in asked} >= public


def test_top_level():
    names = tracked_files()
    assert {name.split("/")[0] for name in names} == TOP_LEVEL


def test_names_of_files():
    assert [name for name in tracked_files() if name_faults(name)] == []


def test_no_file_names_a_place_on_a_machine():
    def faults_of(name):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        return [] if b"\0" in data else machine_path_faults(data.decode("utf-8"))

    assert found(faults_of, tracked_files()) == {}


def test_the_installed_package_is_the_checkout():
    installed = Path(sysconfig.get_path("purelib"), "tf1xent")
    if not installed.is_dir():
        pytest.skip(f"tf1xent is not installed as a copy in this environment: no {installed}")

    def contents(folder, prefix=""):
        return {
            prefix + path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }

    sources = contents(ROOT / "ops", "ops/")  # a wheel has them beside the modules
    assert contents(installed) == {**contents(ROOT / "tf1xent"), **sources}


# The rules catch what they are for.


@pytest.mark.parametrize(
    "snippet, name",
    [
        ("from . import patching", "tf1xent.nn"),
        ("from ..nn import softmax_cross_entropy_with_logits", "tf1xent._math.softmax"),
        ("from tf1xent.gradients import override_gradients", "tf1xent._loss.objective"),
        ("from tf1xent import cli", "tf1xent.patching"),
        ("import tf1xent", "tf1xent.losses"),
        ("def f():\n    from .. import patching", "tf1xent.curvature.hessian"),
        ("from tools import benchmark", "tf1xent.cli"),
        ("import tests.oracle.reference", "tf1xent.cli"),
    ],
)
def test_a_wrong_import_is_caught(snippet, name):
    assert len(floor_faults(ast.parse(snippet), name)) == 1


@pytest.mark.parametrize(
    "snippet, name",
    [
        ("from ._tf import tf\nfrom . import errors, _math", "tf1xent.nn"),
        ("from .rules import RULES", "tf1xent.migrate.rewriter"),
        ("import tf1xent\nimport numpy", "tf1xent.demo.collapse"),
        ("from . import cli", "tf1xent.__main__"),
    ],
)
def test_a_right_import_is_not(snippet, name):
    assert floor_faults(ast.parse(snippet), name) == []


def test_a_module_without_a_floor_is_caught():
    with pytest.raises(LookupError, match="tf1xent.extras stands on no floor"):
        floor_faults(ast.parse("from . import errors"), "tf1xent.extras")


@pytest.mark.parametrize(
    "snippet",
    [
        "from tensorflow.python.ops import nn_ops",
        "import tensorflow.python.framework.ops as ops",
        "from tensorflow import python",
        "importlib.import_module('tensorflow.python.ops.nn_ops')",
        "tf.python.ops",
        "if tf.__version__ < '2': pass",
        "major = _tf.tf.version.VERSION",
        "tf.VERSION",
        "from tensorflow import __version__",
    ],
)
def test_a_second_seam_is_caught(snippet):
    assert len(seam_faults(ast.parse(snippet))) >= 1


@pytest.mark.parametrize(
    "snippet",
    ["'''About tensorflow.python.'''", "np.__version__", "from ._tf import tf\ntf.nn.softmax(x)"],
)
def test_other_uses_are_not_a_second_seam(snippet):
    assert seam_faults(ast.parse(snippet)) == []


def test_names_in_strings_are_no_second_seam_where_they_are_read_in_source():
    tree = ast.parse("NN = 'tensorflow.python.ops.nn'\nfrom tensorflow.python.ops import nn")
    assert len(seam_faults(tree)) == 2
    assert len(seam_faults(tree, strings=False)) == 1


def test_sizes_over_the_limits_are_caught():
    body = "    value = 1\n" * MOST_LINES_OF_A_FUNCTION
    lines = MOST_LINES_OF_A_FUNCTION + 1
    assert size_faults("def f():\n" + body) == [f"line 1: f has {lines} lines"]
    docstring = '    """One line.\n\n' + "    More.\n" * 60 + '    """\n'
    assert size_faults("def f():\n" + docstring + "    return 1\n") == []
    lines = MOST_LINES_OF_A_MODULE + 1
    assert size_faults("value = 1\n" * lines) == [f"the module has {lines} lines"]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="ast judges by feature_version from 3.10 on")
@pytest.mark.parametrize("snippet", ["(n := 1)", "def f(a, /): pass", "match a:\n  case 1: pass"])
def test_syntax_after_37_is_caught(snippet):
    assert len(syntax_faults(snippet)) == 1


def test_vague_names_are_caught():
    assert name_faults("tests/utils.py") == ["utils.py"]
    assert name_faults("tf1xent/common/masks.py") == ["common"]
    assert name_faults("tf1xent/_softmax.py") == []


def test_machine_paths_are_caught():
    for folder in ("root", "home", "Users"):
        assert len(machine_path_faults(f"open('/{folder}/somebody/data.npz')")) == 1
    assert len(machine_path_faults(f"see {ROOT}/setup.cfg")) == 1
    assert machine_path_faults("https://example.org/home/page and docs/root/file") == []


def test_missing_docstring_sections_are_caught():
    text = "def f(labels, logits):\n    '''Compute.'''\n    raise ValueError\n    return labels\n"
    faults = docstring_faults(ast.parse(text).body[0])
    wanted = "Args: Returns: Raises: an Derivatives shapes, the Source:".split()
    assert [fault.split("lacks ")[1].split()[0] for fault in faults] == wanted
    assert docstring_faults(ast.parse("def f(): '''Do.\n\n    >>> f()\n    '''").body[0]) == []


def test_missing_docstring_sections_of_made_functions_are_caught():
    def f(labels, logits):
        """Compute.

        Args:
          labels: what they are, [batch_size, num_classes].
        """

    faults = docstring_faults(f)
    wanted = "Returns: Raises: an the Derivatives the Source:".split()
    assert [fault.split("lacks ")[1].split()[0] for fault in faults] == wanted
    assert "f lacks the argument logits" in faults
