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

LEVEL_VARIABLE = "TF1XENT_KERNEL_LEVEL"
# Run with the path of a library as argument, once for each level. A program, not an import: it
# compares with the graph version, which is above this package.
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
    tested: List[str] = []
    for asked in reversed(compiling.levels(architecture)):
        level = _test_level(library, asked, self_test)
        # A machine without this level used the next lower one, which is tested in its turn.
        if level == asked:
            report(f"Tested on the level {level}")
            tested.append(level)
    if not tested:
        raise KernelsError("The self-test of the native kernels found no level that works here.")
    return tested


def _test_level(library: str, level: str, self_test: Sequence[str]) -> str:
    """Tests a library in a process of its own; returns the level that it used there."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    environment[LEVEL_VARIABLE] = level
    environment["CUDA_VISIBLE_DEVICES"] = "-1"  # the kernels are for the CPU; saves time
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        done = subprocess.run(
            [sys.executable, *self_test, library],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SELF_TEST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise KernelsError(
            f"The self-test of the native kernels on the level {level} did not end in "
            f"{_SELF_TEST_SECONDS} s."
        ) from error
    if done.returncode != 0:
        code = done.returncode
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else "failed"
        raise KernelsError(
            f"The self-test of the native kernels on the level {level} {ended}:"
            + compiling.last_lines(done.stderr)
        )
    try:
        return json.loads(done.stdout.decode().splitlines()[-1])["level"]
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise KernelsError(
            f"The self-test of the native kernels on the level {level} did not end properly:"
            + compiling.last_lines(done.stdout)
        ) from error
