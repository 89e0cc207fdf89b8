#!/usr/bin/env python3
"""Run the demo or the tests, or build the documentation; needs nothing but Python 3.9 to 3.13.

    python3 tools/run.py demo [arguments of the demo]
    python3 tools/run.py test [-- arguments of pytest]
    python3 tools/run.py test --matrix [--require-all] [-- arguments of pytest]
    python3 tools/run.py test -e ENVIRONMENT ... [-- arguments of pytest]
    python3 tools/run.py docs

Each makes the private environments that it needs inside the checkout (.venvs and .tox, both
ignored by git), and uses them again while they are up to date. `test` runs on this Python and the
newest TensorFlow for it, all cores at once. `test --matrix` runs every environment of setup.cfg
whose interpreter is on PATH or among pyenv's, long searches included.
"""

import argparse
import collections
import configparser
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 9), (3, 13))
# uv makes environments in a third of pip's time, of Python 3.7 too.
TOX = ("tox==4.23.2", "tox-uv==1.19.1", "uv==0.13.9")
# The newest TensorFlow for each Python, by the name that it has in setup.cfg.
NEWEST = {(3, 9): "tf220"}
NEWEST_OF_ALL = "tf221"
# `test` runs these on every core; `--matrix` keeps the cores busy with several environments.
EVERY_CORE = ("--numprocesses", "auto", "--dist", "loadscope")

# What tox draws over and over on one line while environments run side by side.
SPINNER_FRAME = re.compile(r"\x1b\[K|[\u2800-\u28ff] \[\d+/\d+\].*")

Environment = collections.namedtuple("Environment", "name tensorflow python interpreter")


def private_environment(name, requirements, depends_on=()):
    """Return the Python of .venvs/NAME, which has `requirements`, made anew if out of date."""
    folder = ROOT / ".venvs" / "{}-py{}.{}".format(name, *sys.version_info[:2])
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    content = repr((sys.version, sys.base_prefix, str(folder), requirements)).encode()
    for path in depends_on:
        content += path.read_bytes()
    stamp, state = folder / "up-to-date", hashlib.sha256(content).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == state:
        return str(python)
    print(f"Setting up {folder.relative_to(ROOT)} (once)", flush=True)
    made = subprocess.call([sys.executable, "-m", "venv", "--clear", str(folder)])
    if made != 0:
        sys.exit(
            f"run.py: `{sys.executable} -m venv` must work. On Debian and Ubuntu it comes with "
            "the package python3-venv."
        )
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call(install + list(requirements), cwd=str(ROOT)) != 0:
        sys.exit("run.py: pip could not install {}.".format(" ".join(requirements)))
    stamp.write_text(state)
    return str(python)


def newest_environment():
    """Return the name of the environment of this Python with the newest TensorFlow for it."""
    tensorflow = NEWEST.get(sys.version_info[:2], NEWEST_OF_ALL)
    return "py{}{}-{}".format(*sys.version_info[:2], tensorflow)


def read_configuration():
    """Return setup.cfg, and the versions of TensorFlow by the names that it gives them."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(ROOT / "setup.cfg"), encoding="utf-8")
    return config, dict(re.findall(r"(tf\d+): tensorflow\S*?==(\S+)", config["testenv"]["deps"]))


def run_with_extra(extra, arguments):
    """Run Python with the package, one of its extras and the newest TensorFlow; return the code."""
    version = read_configuration()[1][newest_environment().split("-")[1]]
    # The build without GPU support is a third of the size, but not made for every platform.
    small = sys.platform == "linux" and platform.machine() == "x86_64"
    tensorflow = "{}=={}".format("tensorflow-cpu" if small else "tensorflow", version)
    python = private_environment(
        extra,
        ("--editable", f".[{extra}]", tensorflow),
        depends_on=(ROOT / "setup.cfg", ROOT / "setup.py"),
    )
    # The environment stays private if nothing leads Python to packages outside of it.
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
    return subprocess.call([python, *arguments], env=variables)


def run_demo(arguments):
    """Run `python -m tf1xent demo`."""
    return run_with_extra("demo", ["-m", "tf1xent", "demo", *arguments])


def build_docs():
    """Build the guides and the reference as static pages; a warning is an error."""
    pages = ROOT / "build" / "docs"
    shutil.rmtree(str(pages), ignore_errors=True)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-c", str(ROOT / "tools/docs")]
    code = run_with_extra("docs", ["-m", "sphinx", *options, str(ROOT), str(pages)])
    if code == 0:
        print(f"The pages start at {(pages / 'tools' / 'docs' / 'index.html').relative_to(ROOT)}")
    return code


@functools.lru_cache(maxsize=None)
def find_interpreter(version):
    """Return the path of a Python `version` ("3.7") that answers, or None."""
    command = f"python{version}"
    on_path = [shutil.which(command, path=folder) for folder in os.get_exec_path()]
    candidates = [sys.executable, *filter(None, on_path)]
    pyenv_roots = [os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")]
    if shutil.which("pyenv"):
        asked = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True)
        pyenv_roots.append(asked.stdout.strip())
    # By path and not by pyenv's shims, which answer only for versions that are switched on.
    for root in filter(None, pyenv_roots):
        candidates += map(str, Path(root, "versions").glob(version + ".*/bin/python"))
    question = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
    for candidate in candidates:
        answer = subprocess.run(
            [candidate, "-c", question],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ).stdout.splitlines()
        if len(answer) == 2 and answer[0] == version:
            return answer[1]
    return None


def read_matrix(chosen):
    """Return the environments of setup.cfg, or those `chosen`, each with its interpreter."""
    config, tensorflows = read_configuration()
    names = config["tox:tox"]["env_list"].split()
    # Those that only `-e` runs, like references, have a section of their own.
    own = [name.split(":", 1)[1] for name in config.sections() if name.startswith("testenv:")]
    known = sorted(set(names).union(own, [newest_environment()]))
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        sys.exit(
            "run.py test: `-e` must name environments of the matrix, got {}. They are {}.".format(
                ", ".join(unknown), ", ".join(known)
            )
        )
    return [describe(name, tensorflows, config) for name in chosen or names]


def describe(name, tensorflows, config):
    """Return the Environment of a name like py37-tf115, or of one with a section of its own."""
    factors = re.fullmatch(r"py3(\d+)-(tf\d+)", name)
    if factors:
        python, tensorflow = "3." + factors.group(1), tensorflows[factors.group(2)]
    else:
        python = config["testenv:" + name]["base_python"].replace("python", "")
        tensorflow = "-"
    return Environment(name, tensorflow, python, find_interpreter(python))


def run_tox(environments, arguments):
    """Run tox and return what it says of each environment: {name: whether it passed}."""
    tox = private_environment("tox", TOX)
    result = ROOT / ".tox" / "result.json"
    # setuptools would put modules that are gone by now from its own old output into the wheel.
    shutil.rmtree(str(ROOT / "build"), ignore_errors=True)
    for left in [result, *(file for e in environments for file in junit_files(e))]:
        if left.exists():
            left.unlink()
    command = [tox, "-m", "tox"]
    if len(environments) == 1:
        command += ["run"]
    else:
        # What an environment prints comes out in one piece when it is done.
        command += ["run-parallel", "--parallel", "2"]
    command += ["--result-json", str(result), "--skip-missing-interpreters", "false"]
    command += ["-e", ",".join(environment.name for environment in environments)]
    # Without its spinner, which it also drops where CI is set, tox runs all of them at once.
    variables = dict(os.environ, TOX_PARALLEL_NO_SPINNER="0")
    # uv looks for them on the PATH, and would get others from the network.
    folders = [os.path.dirname(environment.interpreter) for environment in environments]
    variables["PATH"] = os.pathsep.join([*dict.fromkeys(folders), variables.get("PATH", "")])
    variables["UV_PYTHON_DOWNLOADS"] = "never"
    # After `--` tox takes nothing at all for the tests to run, and not those of setup.cfg.
    if arguments:
        command += ["--", *arguments]
    print_without_spinner(command, variables)
    reported = json.loads(result.read_text())["testenvs"] if result.exists() else {}
    return {
        environment.name: reported.get(environment.name, {}).get("result", {}).get("success", False)
        for environment in environments
    }


def print_without_spinner(command, variables):
    """Run a command of tox and pass on what it prints, but for the frames of its spinner."""
    process = subprocess.Popen(
        command,
        cwd=str(ROOT),
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            rest = SPINNER_FRAME.sub("", line)
            if rest == line or rest.strip():
                print(rest, end="", flush=True)
    process.wait()


def junit_files(environment):
    """Return where pytest left its counts of an environment, a file for each of its runs."""
    return sorted((ROOT / ".tox" / environment.name).glob("junit*.xml"))


def count_tests(environment):
    """Return pytest's own counts (passed, failed, skipped) of an environment that has run."""
    passed = failed = skipped = 0
    for file in junit_files(environment):
        suite = next(xml.etree.ElementTree.parse(str(file)).iter("testsuite"))
        tests, failures, errors, left_out = (
            int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        )
        passed += tests - failures - errors - left_out
        failed += failures + errors
        skipped += left_out
    return passed, failed, skipped


def run_tests(chosen, require_all, arguments):
    """Run environments, print their table, and return the exit code."""
    matrix = read_matrix(chosen)
    present = [environment for environment in matrix if environment.interpreter]
    for environment in matrix:
        print(f"{environment.name}: {environment.interpreter or 'no interpreter'}")
    sys.stdout.flush()
    passed = run_tox(present, arguments) if present else {}

    row = "{:<12} {:<11} {:<7} {:<20} {:>7} {:>7} {:>8}".format
    print()
    print(row("environment", "TensorFlow", "Python", "result", "passed", "failed", "skipped"))
    totals = [0, 0, 0]
    for environment in matrix:
        if environment not in present:
            print(row(*environment[:3], "interpreter missing", "-", "-", "-"))
            continue
        counts = count_tests(environment)
        success = passed[environment.name]
        print(row(*environment[:3], "passed" if success else "failed", *counts))
        # One that failed with no failed test (set-up, lint, a crash) must not end as "0 failed".
        counts = counts if success else (counts[0], max(counts[1], 1), counts[2])
        totals = [total + count for total, count in zip(totals, counts)]
    missing = [environment for environment in matrix if environment not in present]
    if missing:
        pythons = sorted({environment.python for environment in missing})
        print("\nNot run, since Python {} was not found.".format(", ".join(pythons)))
    print("\ntests: {} passed, {} failed, {} skipped".format(*totals), flush=True)
    failed = not present or not all(passed.values()) or (require_all and bool(missing))
    return 1 if failed else 0


def main(arguments):
    """Run the command that the arguments name and return its exit code."""
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        sys.exit(f"run.py: Python must be 3.9 to 3.13, got {platform.python_version()}.")
    if arguments[:1] == ["demo"]:
        return run_demo(arguments[1:])
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="what follows goes to `python -m tf1xent demo`")
    test = commands.add_parser("test", help="what follows -- goes to pytest")
    test.add_argument("--matrix", action="store_true", help="every TensorFlow, every long search")
    test.add_argument("--require-all", action="store_true", help="fail if a Python is missing")
    test.add_argument(
        "-e", dest="chosen", action="extend", nargs="+", default=[], metavar="ENVIRONMENT"
    )
    commands.add_parser("docs", help="guides and reference as static pages, in build/docs")
    options = parser.parse_args(arguments[:end])
    if options.command == "docs":
        return build_docs()
    for_pytest = arguments[end + 1 :]
    if not options.matrix and not options.chosen:
        options.chosen = [newest_environment()]
        for_pytest = [*EVERY_CORE, "-m", "not exhaustive and not lengthy", *for_pytest]
    return run_tests(options.chosen, options.require_all, for_pytest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
