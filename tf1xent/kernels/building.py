"""Builds the native library: compiles it, tests it in processes of its own, and installs it."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Callable, List, Optional, Sequence

from tf1xent._tf import tf
from tf1xent.errors import KernelsError
from tf1xent.kernels import cache, compiling, sources

__all__ = ["build"]

# Run with the path of a library and levels as arguments. A program, not an import: it compares with
# the graph version, which is above this package.
SELF_TEST = ("-m", "tf1xent._math.kernel_self_test")
_SELF_TEST_SECONDS = 600


def build(
    force: bool = False,
    compiler: Optional[str] = None,
    report: Callable[[str], None] = print,
) -> str:
    """Builds the native library for the TensorFlow at hand, tests it, and keeps it for later.

    The command ``python -m tf1xent build-kernels`` does the same. It takes a minute, uses the
    compiler flags that TensorFlow names, and ends with a self-test of the library in processes of
    its own. The result is in the folder TF1XENT_KERNEL_CACHE, by default ``tf1xent`` in the user's
    cache folder. Builds for several TensorFlows, or at the same time, do not disturb each other. A
    build that fails or is killed leaves nothing that would be loaded.

    >>> from tf1xent import kernels
    >>> try:
    ...     kernels.build(compiler="no-such-compiler")
    ... except RuntimeError as error:
    ...     type(error).__name__
    'KernelsError'

    Args:
        force: whether to build again if there is a build already.
        compiler: the command of a C++ compiler. Default: the variable CXX, else the first of g++,
            clang++ and c++ on PATH. If it is given, an existing build of another compiler is not
            used.
        report: a function that is called with a line of text about each step.

    Returns:
        The path of the library. A process that has loaded one goes on with the one it has.

    Raises:
        KernelsError: no compiler, sources that do not compile (with the compiler's last lines), a
            library that fails its self-test, or a cache folder that cannot be written.
    """
    return build_from(sources.source_folder(), force, compiler, report)


def build_from(
    folder: str,
    force: bool = False,
    compiler: Optional[str] = None,
    report: Callable[[str], None] = print,
    self_test: Sequence[str] = SELF_TEST,
) -> str:
    """Builds the sources of a folder; `self_test`: arguments for Python."""
    target = sources.current_target(folder)
    if not force and compiler is None:
        try:
            return _already(cache.find(target), report)
        except KernelsError as error:
            report(str(error).rsplit(" Run: ", 1)[0])
    chosen = compiling.find_compiler(compiler)
    made = None if force else cache.find_of(target, chosen.identity)
    if made is not None:
        return _already(made, report)
    begin = time.time()
    with cache.unfinished_folder() as unfinished:
        cache.remove_leftovers()
        report(f"Building for TensorFlow {target.tensorflow} with {chosen.identity}")
        library = os.path.join(unfinished, cache.LIBRARY)
        plan = compiling.steps(target.architecture, tf.sysconfig.get_compile_flags())
        linking = compiling.link_flags(tf.sysconfig.get_link_flags())
        objects = cache.Objects(target.sources, chosen.identity)
        kept = objects.find if not force else lambda step: None
        try:
            products = compiling.compile_library(
                chosen, plan, linking, folder, library, kept, report
            )
            tested = _test(library, target.architecture, self_test, report)
            if sources.current_target(folder) != target:
                raise KernelsError("The sources changed while they were compiled. Build again.")
            for step, product in zip(plan, products):
                objects.take(step, product)
            cache.write_record(unfinished, target, chosen.identity, tested)
            built = cache.publish(unfinished, target, chosen.identity, force)
        except OSError as error:
            raise KernelsError(f"The native kernels could not be built: {error}.") from error
    report(f"Built in {time.time() - begin:.0f} s: {built.library}")
    return built.library


def _already(made: cache.Build, report: Callable[[str], None]) -> str:
    report(f"Already built: {made.library} (`--force` builds it again)")
    return made.library


def _test(
    library: str, architecture: str, self_test: Sequence[str], report: Callable[[str], None]
) -> List[str]:
    """Tests a library on each level that the machine supports; returns the levels."""
    levels = list(reversed(compiling.levels(architecture)))
    # A machine without a level used the next lower one, which is tested in its turn.
    used = _used_levels(library, levels, self_test)
    tested = [asked for asked, level in zip(levels, used) if level == asked]
    for level in tested:
        report(f"Tested on the level {level}")
    if not tested:
        raise KernelsError("The self-test of the native kernels found no level that works here.")
    return tested


def _used_levels(library: str, levels: Sequence[str], self_test: Sequence[str]) -> List[str]:
    """Tests a library in processes of its own; returns for each level the one that was used."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    environment["CUDA_VISIBLE_DEVICES"] = "-1"  # the kernels are for the CPU; saves time
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # With it TensorFlow does not import Keras, which no kernel needs: half of the time.
    environment.setdefault("TF_USE_LEGACY_KERAS", "1")
    # Threads of NumPy's linear algebra would not be there in the forks.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, *self_test, library, *levels],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SELF_TEST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise KernelsError(
            f"The self-test of the native kernels did not end in {_SELF_TEST_SECONDS} s."
        ) from error
    used = [
        json.loads(line)["level"]
        for line in done.stdout.decode().splitlines()
        if line.startswith('{"level": ')
    ]
    code, output = done.returncode, done.stderr
    if code < 0:
        ended = f"was killed by {signal.Signals(-code).name}"
    elif code > 0:
        ended = "failed"
    elif len(used) != len(levels):
        ended, output = "did not end properly", done.stdout
    else:
        return used
    level = levels[min(len(used), len(levels) - 1)]
    raise KernelsError(
        f"The self-test of the native kernels on the level {level} {ended}:"
        + compiling.last_lines(output)
    )
