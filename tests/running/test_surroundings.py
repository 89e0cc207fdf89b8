"""A program sees the same of how it was started under `tf1xent run` as under Python itself."""

import json
import shutil
import zipfile

import pytest

from tests.running.processes import PROGRAMS, plain, run

FILE = "surroundings.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the program in every form that Python runs."""
    path = tmp_path_factory.mktemp("program")
    source = PROGRAMS / FILE
    shutil.copy(str(source), str(path / FILE))
    shutil.copy(str(source), str(path / "-x.py"))
    (path / "package" / "inner").mkdir(parents=True)
    (path / "package" / "__init__.py").write_text("")
    (path / "package" / "inner" / "__init__.py").write_text("")
    shutil.copy(str(source), str(path / "package" / "module.py"))
    shutil.copy(str(source), str(path / "package" / "inner" / "__main__.py"))
    (path / "a folder").mkdir()
    shutil.copy(str(source), str(path / "a folder" / "__main__.py"))
    with zipfile.ZipFile(str(path / "program.zip"), "w") as archive:
        archive.write(str(source), "__main__.py")
    (path / "customized").mkdir()
    (path / "customized" / "sitecustomize.py").write_text("import sys\nsys.dont_write_bytecode = 1")
    return path


# What is given to Python, and to `tf1xent run` unless "run" says otherwise.
WAYS = {
    "script": {"arguments": [FILE]},
    "script with a path": {"arguments": ["./package/../" + FILE, "a b", "", "*"]},
    "options of the program": {
        "arguments": [FILE, "--help", "--report", "-m", "--", "--x", "-", "--implementation=none"]
    },
    "two dashes": {"arguments": [FILE, "--", "--report"]},
    "two dashes before it": {"arguments": ["--", "-x.py", "--", "-y"]},
    "module": {"arguments": ["-m", "package.module", "-m", "--children", "-h"]},
    "package": {"arguments": ["-m", "package.inner", "--losses"]},
    "folder": {"arguments": ["a folder", "x"]},
    "zip file": {"arguments": ["program.zip"]},
    "standard input": {"arguments": ["-", "x", "-"], "input": (PROGRAMS / FILE).read_text()},
    "input": {"arguments": [FILE], "input": "two\nlines\n"},
    "module that runs a program": {"arguments": ["-m", "cProfile", "-o", "profile", FILE, "-m"]},
    "debugger": {"arguments": ["-m", "pdb", "-c", "continue", FILE, "x"], "input": "q\n"},
    "flags": {"arguments": [FILE], "flags": ["-O", "-Bu", "-W", "error::UserWarning", "-Xdev"]},
    "more flags": {"arguments": [FILE], "flags": ["-OO", "-s", "-v", "-q", "-Wd", "-bX", "utf8"]},
    "flags and a module": {"arguments": ["-m", "package.module"], "flags": ["-uX", "faulthandler"]},
    "PYTHONPATH": {"arguments": [FILE], "variables": {"PYTHONPATH": "package:/none:package"}},
    "empty PYTHONPATH": {"arguments": [FILE], "variables": {"PYTHONPATH": ""}},
    "empty part": {"arguments": ["package/module.py"], "variables": {"PYTHONPATH": "/none:"}},
    "sitecustomize": {"arguments": [FILE], "variables": {"PYTHONPATH": "customized"}},
    "warnings": {"arguments": [FILE], "variables": {"PYTHONWARNINGS": "ignore"}},
    "locale": {"arguments": [FILE, "é\udcff"], "variables": {"LC_ALL": "C", "LANG": None}},
    "settings": {
        "arguments": [FILE],
        "before": ["--report", "--losses", "--implementation", "graph"],
    },
    "other settings": {"arguments": ["-m", "package.module"], "before": ["--override-only"]},
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_program_sees_what_it_would_see(way, folder):
    options = {"cwd": str(folder), **WAYS[way]}
    arguments, before = options.pop("arguments"), options.pop("before", [])
    want = plain(*arguments, **options)
    found = run(*before, *arguments, **options)
    assert want.code == 0, want.err
    assert found.out.splitlines() == want.out.splitlines()
    assert (found.out, found.code) == (want.out, want.code)
    if "-v" not in options.get("flags", []) and "--report" not in before:
        assert found.err == want.err


def test_children_see_the_settings_and_no_more(folder):
    want = json.loads(plain(FILE, cwd=str(folder)).out)
    found = json.loads(run("--children", FILE, cwd=str(folder)).out)
    variables = {name: value for name, value in found.pop("environment")}
    assert variables.pop("PYTHONPATH").endswith("startup") and "TF1XENT_RUN" in variables
    del variables["TF1XENT_RUN"]
    assert variables == dict(want.pop("environment"))
    assert found == want
