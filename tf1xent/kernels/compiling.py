"""The compiler: which one, its flags, and its messages when it fails."""

import os
import platform
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, NamedTuple, Optional, Sequence

from tf1xent.errors import KernelsError

COMPILERS = ("g++", "clang++", "c++")
# Shown of a failing compiler's output.
LAST_LINES = 20
# No warnings: they would hide the error, and help only those who change the sources.
_QUIET = "-w"
# No -ffast-math: linked with it, a library makes the whole process flush subnormals to zero.
# No -march: the level decides the instructions, so that they are the same on every machine.
_ROWS = "-O3 -fPIC -std=c++14 -fno-math-errno -fno-trapping-math -fvisibility=hidden".split()
_DISPATCH = "-O2 -fPIC -std=c++14 -fvisibility=hidden".split()
_TENSORFLOW = "-O2 -fPIC".split()
_STANDARD = (
    "-std=c++14"  # of TensorFlow's headers where its flags name none; 1.x loads with no newer
)

# Where the compiler may fuse multiplications with additions, it has to fuse the remainder of a row
# as its vectors. On x86-64 it does. On ARM, whose portable level could be fused too, it does not.
_LEVELS = {
    "baseline": ["-ffp-contract=off"],
    "avx2": "-ffp-contract=fast -mavx2 -mfma -mf16c".split(),
    "avx512": (
        "-ffp-contract=fast -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c "
        "-mprefer-vector-width=512"
    ).split(),
}


class Compiler(NamedTuple):
    """A compiler that runs."""

    command: List[str]
    identity: str  # its version and target machine, as it reports them


class Step(NamedTuple):
    """One file to compile."""

    source: str
    product: str
    flags: List[str]
    includes_tensorflow: bool = False


def levels(architecture: str) -> List[str]:
    """Returns the levels that rows are compiled for, lowest first; the run chooses one."""
    return list(_LEVELS) if architecture == "x86_64" else ["baseline"]


def steps(architecture: str, tensorflow_flags: Sequence[str]) -> List[Step]:
    """Returns the files to compile, the slowest first."""
    flags = list(_TENSORFLOW)
    if not any(flag.startswith(("-std=", "--std=")) for flag in tensorflow_flags):
        flags.append(_STANDARD)
    for flag in tensorflow_flags:
        # As system headers, for which the compiler gives no warnings.
        flags += ["-isystem", flag[2:]] if flag.startswith("-I") else [flag]
    found = [Step("tensorflow_ops.cc", "tensorflow_ops.o", flags, includes_tensorflow=True)]
    for level in levels(architecture):
        level_flags = [*_ROWS, f"-DTF1XENT_LEVEL={level}", *_LEVELS[level]]
        found.append(Step("rows.cc", f"rows_{level}.o", level_flags))
    dispatch = [*_DISPATCH, "-DTF1XENT_X86"] if architecture == "x86_64" else _DISPATCH
    found.append(Step("dispatch.cc", "dispatch.o", list(dispatch)))
    return found


def link_flags(tensorflow_flags: Sequence[str]) -> List[str]:
    """Returns the flags that make a library of the objects."""
    # The linker of macOS must be told that the process of Python has the other symbols.
    own = ["-undefined", "dynamic_lookup"] if platform.system() == "Darwin" else []
    return ["-shared", *own, *tensorflow_flags]


def linked_library(tensorflow_flags: Sequence[str]) -> str:
    """Returns the file name of the library that link flags name.

    >>> linked_library(["-L/somewhere", "-l:libtensorflow_framework.so.2"])
    'libtensorflow_framework.so.2'
    """
    name = next(flag[2:] for flag in tensorflow_flags if flag.startswith("-l"))
    if name.startswith(":"):
        return name[1:]
    return f"lib{name}" + (".dylib" if platform.system() == "Darwin" else ".so")


def recipe(
    architecture: str, compile_flags: Sequence[str], tensorflow_link_flags: Sequence[str]
) -> List[str]:
    """Returns the build's commands, a line each, without the paths of this machine."""
    pathless = [flag for flag in compile_flags if not flag.startswith("-I")]
    lines = [f"{s.product}: {s.source} " + " ".join(s.flags) for s in steps(architecture, pathless)]
    linked = [flag for flag in tensorflow_link_flags if not flag.startswith("-L")]
    return [*lines, "link: " + " ".join(link_flags(linked))]


def find_compiler(named: Optional[str] = None) -> Compiler:
    """Returns the compiler that is `named`, else CXX's, else the first on PATH; KernelsError."""
    if platform.system() == "Windows":
        raise KernelsError(
            "Native kernels cannot be built on Windows, where TensorFlow loads no op libraries. "
            'The functions are complete without them: use implementation="graph".'
        )
    given = named or os.environ.get("CXX")
    if given:
        command = shlex.split(given)
    else:
        found = next((name for name in COMPILERS if shutil.which(name)), None)
        if found is None:
            raise KernelsError(
                f"No C++ compiler: none of {', '.join(COMPILERS)} is on PATH and CXX is not set. "
                "Install one (on Debian and Ubuntu: apt-get install g++), or name it with "
                "`--compiler`."
            )
        command = [found]
    return Compiler(command, f"{_answer(command, '--version')} {_answer(command, '-dumpmachine')}")


def _answer(command: List[str], question: str) -> str:
    """Returns the first line of what a compiler answers."""
    try:
        asked = subprocess.run(
            [*command, question], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
        )
        return asked.stdout.decode(errors="replace").splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise KernelsError(
            f"The C++ compiler must be a command that runs, got {' '.join(command)!r} ({error}). "
            "Name another with `--compiler`."
        ) from error


def last_lines(output: bytes) -> str:
    """Returns the last lines of a process's output, each after a newline and indented."""
    lines = output.decode(errors="replace").splitlines()[-LAST_LINES:]
    return "".join("\n  " + line for line in lines)


def _run(command: List[str], what: str) -> None:
    # No command needs input, so none may read what the user types.
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        raise KernelsError(f"{what} failed; {command[0]} said:{last_lines(done.stdout)}")


def compile_library(
    compiler: Compiler,
    plan: Sequence[Step],
    linking: Sequence[str],
    sources: str,
    library: str,
    kept: Callable[[Step], Optional[str]],
    report: Callable[[str], None],
) -> List[str]:
    """Compiles the files of the folder `sources`, two at a time, beside `library`, and links it.

    Args:
      kept: returns the path of what another build has made of a step, or None.

    Returns:
      The product of each step.
    """
    folder = os.path.dirname(library)

    def compile_one(step: Step) -> str:
        made = kept(step)
        if made is not None:
            report(f"Taking {step.product} of another build")
            return made
        product = os.path.join(folder, step.product)
        source = os.path.join(sources, step.source)
        report(f"Compiling {step.source} to {step.product}")
        command = [*compiler.command, _QUIET, *step.flags, "-c", source, "-o", product]
        _run(command, f"Compiling {step.source} to {step.product}")
        return product

    with ThreadPoolExecutor(max_workers=2) as executor:
        running = [executor.submit(compile_one, step) for step in plan]
        try:
            products = [each.result() for each in running]
        except BaseException:
            for each in running:
                each.cancel()  # those that have not begun; the error is raised after the others
            raise
    _run([*compiler.command, *products, *linking, "-o", library], "Linking")
    return products
