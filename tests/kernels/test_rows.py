"""The row mathematics of the native kernels by itself: the programs of tests/kernels, and symbols.

No TensorFlow here: the sources are compiled as build-kernels compiles them, or taken as it left
them a moment ago, and once more for each sanitizer, and linked with programs that know what is
right. What a program says is the message of its test. All compilers and programs of the session
are jobs of one pool of two workers, in the order of what needs what, and tests wait for their own.
"""

import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import ROOT
from tf1xent.errors import KernelsError
from tf1xent.kernels import cache, compiling, sources

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        sys.version_info < (3, 8),
        reason="nothing of TensorFlow is in it, so one environment is enough: the newest end",
    ),
]

OPS = ROOT / "ops"
PROGRAMS = ROOT / "tests" / "kernels"
ARCHITECTURE = platform.machine()
LEVELS = compiling.levels(ARCHITECTURE)
FEATURES = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else ()
WIDEST = next((level for level in reversed(LEVELS) if level + "f" in FEATURES), LEVELS[-2:][0])
# Exit status of a program that says why this machine cannot run it.
NOT_HERE = 77
ADDRESS = "address,undefined"
THREAD = "thread"
WORKERS = 2
MOST_LINES = 40

# Program, sanitizer of the kernels in it, level or levels, other arguments. What a level does with
# threads is the same for all: the thread sanitizer sees one. The row loops are one source for all
# levels: the address sanitizer sees them with the widest vectors that this machine has, which reach
# furthest.
SANITIZED = [WIDEST]
RUNS = [
    *[("kernels", ADDRESS, level, ()) for level in SANITIZED],
    # All floats on the level that most processors have, on the others every seventh.
    *[("functions", None, level, ("1" if [level] == LEVELS[1:2] else "7",)) for level in LEVELS],
    *[("halves", None, level, ("257",)) for level in LEVELS],
    *[("halves", ADDRESS, level, ("65537",)) for level in SANITIZED],
    *[("huge", ADDRESS, level, ()) for level in SANITIZED],
    *[("pieces", None, level, ("all",)) for level in LEVELS],
    ("pieces", THREAD, "baseline", ("few",)),
]


class Unavailable(Exception):
    """Why something cannot be tested on this machine."""


class Session:
    """Objects, programs and results of a test session, by name: futures."""

    def __init__(self, folder, compiler):
        self.folder = folder
        self.compiler = compiler
        self.pool = ThreadPoolExecutor(WORKERS)
        self.jobs = {}
        target = sources.current_target(sources.source_folder())
        self.built = cache.Objects(target.sources, compiler.identity)
        for sanitizer in (THREAD, ADDRESS, None):
            self._submit(f"probe {sanitizer}", self._probe, sanitizer)
        steps = [s for s in compiling.steps(ARCHITECTURE, []) if s.source != "tensorflow_ops.cc"]
        for sanitizer in (ADDRESS, None, THREAD):
            for step in steps:
                if _own_product(step.product, sanitizer) != step.product or sanitizer is None:
                    self._submit(
                        _own_product(step.product, sanitizer), self._compile, step, sanitizer
                    )
        products = [step.product for step in steps]
        self._submit("library", self._link, "library", None, products, ["-shared"])
        self._submit("loading", self._link, "loading", None, [], [])
        for program, sanitizer in dict.fromkeys((run[0], run[1]) for run in RUNS):
            name = f"{program} {sanitizer}"
            self._submit(name, self._link, program, sanitizer, products, [])
        for run in RUNS:
            self._submit(run, self._run, *run)

    def result(self, name):
        """Returns what a job came to; skips where that cannot be had here."""
        try:
            return self.jobs[name].result()
        except Unavailable as why:
            pytest.skip(str(why))

    def _submit(self, name, function, *arguments):
        self.jobs[name] = self.pool.submit(function, *arguments)

    def _command(self, command, what):
        done = _completed([*self.compiler.command, *map(str, command)])
        assert done.returncode == 0, f"{what} does not compile:\n{_shortened(done.stdout)}"

    def _probe(self, sanitizer):
        """Raises Unavailable where programs with a sanitizer do not run."""
        if sanitizer is None:
            return
        name = "probe_" + sanitizer.replace(",", "_")
        source = self.folder / f"{name}.cc"
        source.write_text("int main() { return 0; }\n", encoding="utf-8")
        product = self.folder / name
        flags = [f"-fsanitize={sanitizer}", source, "-o", product]
        for command in ([*self.compiler.command, *map(str, flags)], [str(product)]):
            done = _completed(command)
            if done.returncode != 0:
                raise Unavailable(f"no -fsanitize={sanitizer} here: {_shortened(done.stdout)}")

    def _compile(self, step, sanitizer):
        self.jobs[f"probe {sanitizer}"].result()
        if sanitizer is None and self.built.find(step):
            return self.built.find(step)
        product = self.folder / _own_product(step.product, sanitizer)
        flags = [*step.flags, "-Wall", "-Wextra", "-Wno-psabi"]
        if sanitizer is not None:  # the last -O counts
            flags += ["-O1", "-g1", f"-fsanitize={sanitizer}"]
        self._command([*flags, "-c", OPS / step.source, "-o", product], f"{step} {sanitizer}")
        return product

    def _link(self, program, sanitizer, products, flags):
        self.jobs[f"probe {sanitizer}"].result()
        objects = [self.jobs[_own_product(p, sanitizer)].result() for p in products]
        name = f"{program}_{sanitizer}".replace(",", "_")
        sanitizing = [] if sanitizer is None else ["-g1", f"-fsanitize={sanitizer}"]
        if program != "library":
            compiling_flags = ["-std=c++14", "-O2", "-Wall", "-Wextra", "-I", OPS, "-c"]
            # Whose memory a kernel touches is seen in the kernel; races need both sides.
            compiling_flags += sanitizing if sanitizer == THREAD else []
            objects.append(self.folder / f"{name}.o")
            source = PROGRAMS / f"{program}.cc"
            self._command([*compiling_flags, source, "-o", objects[-1]], name)
        product = self.folder / name
        linking_flags = [*flags, *sanitizing, "-pthread", "-ldl"]
        self._command([*objects, *linking_flags, "-o", product], name)
        return product

    def _run(self, program, sanitizer, level, arguments):
        product = self.jobs[f"{program} {sanitizer}"].result()
        done = _completed([str(product), level, *arguments])
        if done.returncode == NOT_HERE:
            raise Unavailable(_shortened(done.stdout))
        return done


def _own_product(product, sanitizer):
    """Returns the file name of an object; what a sanitizer does not look at, it shares."""
    looked_at = {None: (), ADDRESS: SANITIZED, THREAD: ["baseline"]}[sanitizer]
    if product not in [f"rows_{level}.o" for level in looked_at]:
        return product
    return f"{sanitizer.replace(',', '_')}_{product}"


def _completed(command):
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _shortened(output):
    """Returns the first lines of an output; of equal ones, the first."""
    lines = list(dict.fromkeys(output.splitlines()))
    return "\n".join(lines[:MOST_LINES]).strip()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Everything compiled and started, where there is a compiler."""
    try:
        compiler = compiling.find_compiler()
    except KernelsError as error:
        pytest.skip(str(error))
    made = Session(tmp_path_factory.mktemp("rows"), compiler)
    yield made
    made.pool.shutdown()


def faults_in(output):
    """Returns what is wrong by an output: findings of programs and of sanitizers.

    >>> faults_in("float exp: worst 0.9 ulp")
    ''
    >>> faults_in("fine\\nvectors.h:1:2: runtime error: signed integer overflow")
    'vectors.h:1:2: runtime error: signed integer overflow'
    """
    if "Sanitizer:" in output:  # with where it was read or written, and by whom
        return _shortened(output)
    return _shortened("\n".join(re.findall(r".*(?:FAILED|runtime error):.*(?:\n  .*)?", output)))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run[0]}-{run[1]}-{run[2]}")
def test_rows(session, run):
    done = session.result(run)
    print(done.stdout)
    faults = faults_in(done.stdout)
    assert not faults, faults
    assert done.returncode == 0, f"exit status {done.returncode}\n{_shortened(done.stdout)}"


def test_a_loaded_library_leaves_subnormal_numbers_alone(session):
    done = _completed([str(session.result("loading")), str(session.result("library"))])
    assert done.returncode == 0, done.stdout


# --- Symbols ------------------------------------------------------------------------------------


def shared_symbols(names, level):
    """Returns the symbols that other objects may have too, of lines of `nm` for a level's object.

    The linker keeps one of them, perhaps one that older processors do not understand. Local
    symbols, in small letters, and what is only named here (U) are no matter; but weak and unique
    ones are.

    >>> shared_symbols("0 T _ZN7tf1xent4avx25tableEv\\n0 t _ZN3any4nameEv\\n U memcpy", "avx2")
    []
    >>> shared_symbols("0 W _ZN7tf1xent7kernelsEv\\n0 W _ZSt3maxIdERKT_S2_S2_", "avx2")
    ['_ZN7tf1xent7kernelsEv', '_ZSt3maxIdERKT_S2_S2_']
    """
    # Also variables within functions, and the flags that say whether those are there yet.
    own = re.compile(rf"_+Z(?:GV)?Z*N7tf1xent{len(level)}{level}\w+$")
    lines = [line.split() for line in names.splitlines()]
    defined = [line[2] for line in lines if len(line) == 3 and line[1] in "ABCDGRSTVWiuvw"]
    return [name for name in defined if not own.match(name)]


@pytest.mark.parametrize("level", LEVELS)
def test_levels_share_no_functions(session, level):
    if shutil.which("nm") is None:
        pytest.skip("no nm on PATH, which lists the symbols of an object")
    names = _completed(["nm", str(session.result(f"rows_{level}.o"))]).stdout
    assert re.search(r" T _+ZN7tf1xent\d+\w+5tableEv", names), names
    assert shared_symbols(names, level) == []
