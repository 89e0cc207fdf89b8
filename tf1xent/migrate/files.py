"""Files and folders in, what becomes of each file out, in several processes."""

import contextlib
import gc
import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from tf1xent.migrate.contents import Located, migrate_content
from tf1xent.migrate.finding import Options
from tf1xent.migrate.source import Fault

NOTEBOOK = ".ipynb"
ENDINGS = (".py", NOTEBOOK)
# Folders of installed or generated code; hidden ones and environments are left out, too.
LEFT_OUT = frozenset(["__pycache__", "dist-packages", "node_modules", "site-packages"])
# Environments of Python, by what they have at their top.
_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
# Files that a process gets at once: few, so that a run can be stopped in a moment.
_AT_ONCE = 8


class Outcome(NamedTuple):
    """What a migration says of a file.

    Attributes:
      path: as it was found.
      before: the file's bytes, and
      after: the new ones; both None if nothing changes.
      findings: in the order of the source.
      fault: why the file is left out, or None.
    """

    path: str
    before: Optional[bytes] = None
    after: Optional[bytes] = None
    findings: Tuple[Located, ...] = ()
    fault: Optional[Fault] = None

    @property
    def changes(self) -> bool:
        """Whether the file is other than it was."""
        return self.after is not None


def find_files(paths: Sequence[str]) -> Tuple[List[str], List[Outcome]]:
    """Finds the files to move.

    Args:
      paths: files, which are taken whatever they are called, and folders, of which the modules and
        notebooks are taken; links to folders within them are not followed.

    Returns:
      The files, each once, in the order of `paths` and by name; and what cannot be read.

    Raises:
      OSError: a path is not there.
    """
    faults: List[Outcome] = []

    def note(error: OSError) -> None:
        faults.append(
            Outcome(str(error.filename), fault=Fault(f"cannot be read: {error.strerror}"))
        )

    files: List[str] = []
    known: Set[str] = set()
    for path in paths:
        os.stat(path)
        for file in _files_below(path, note) if os.path.isdir(path) else [path]:
            real = os.path.realpath(file)
            if real not in known:
                known.add(real)
                files.append(file)
    return files, faults


def _files_below(top: str, note: Callable[[OSError], None]) -> Iterator[str]:
    here = os.path.join(os.curdir, "")
    for folder, folders, names in os.walk(top, onerror=note):
        folders[:] = sorted(name for name in folders if _is_source(folder, name))
        for name in sorted(names):
            path = os.path.join(folder, name)
            path = path[len(here) :] if path.startswith(here) else path
            if name.endswith(ENDINGS) and not name.startswith(".") and os.path.isfile(path):
                yield path


def _is_source(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    is_environment = any(os.path.lexists(os.path.join(path, mark)) for mark in _ENVIRONMENTS)
    return not (name.startswith(".") or name in LEFT_OUT or is_environment)


def migrate_file(path: str, options: Options) -> Outcome:
    """Reads a file and says what becomes of it; it is not written."""
    try:
        with open(path, "rb") as file:
            before = file.read()
    except OSError as error:
        return Outcome(path, fault=Fault(f"cannot be read: {error.strerror}"))
    return migrate_bytes(path, before, options)


def migrate_bytes(path: str, before: bytes, options: Options) -> Outcome:
    """Says what becomes of the content of a file."""
    try:
        migrated = migrate_content(before, path.endswith(NOTEBOOK), options)
    except Fault as fault:
        return Outcome(path, fault=fault)
    if migrated.content == before:
        return Outcome(path, findings=migrated.findings)
    return Outcome(path, before, migrated.content, migrated.findings)


def migrate_files(paths: Sequence[str], options: Options, jobs: int) -> Iterator[Outcome]:
    """Says what becomes of each file; none is written.

    Args:
      paths: the files.
      options: which rules, and what they rewrite to.
      jobs: how many processes at most; a few files need no second one.

    Yields:
      An Outcome for each file, in their order. Close the generator to end the processes early.
    """
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    jobs = min(jobs, len(parts))
    if jobs < 2:
        for path in paths:
            yield migrate_file(path, options)
        return
    done = 0
    with contextlib.suppress(BrokenProcessPool), _processes(jobs) as submit:
        for future in [submit(_migrate_part, part, options) for part in parts]:
            outcomes = future.result()
            done += 1
            yield from outcomes
    for part in parts[done:]:  # a process was killed, by one of these
        for path in part:
            yield _migrate_alone(path, options)


def processors() -> int:
    """How many processors this process may use."""
    with contextlib.suppress(AttributeError):  # only Linux tells
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _migrate_alone(path: str, options: Options) -> Outcome:
    try:
        with _processes(1) as submit:
            return submit(_migrate_part, [path], options).result()[0]
    except BrokenProcessPool:
        return Outcome(path, fault=Fault("cannot be read: the process that reads it is killed"))


# In the processes that read files: whether they shall stop. There it is no one else's state.
_stop: Any = None


@contextlib.contextmanager
def _processes(jobs: int) -> Iterator[Callable[..., "Future[Any]"]]:
    """Yields a function that gives a call to the processes; they end after the file at hand."""
    waiting: List[Future[Any]] = []

    def submit(*call: Any) -> "Future[Any]":
        waiting.append(pool.submit(*call))
        return waiting[-1]

    stop = multiprocessing.Event()
    with ProcessPoolExecutor(jobs, initializer=_prepare, initargs=(stop,)) as pool:
        try:
            yield submit
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def _prepare(stop: Any) -> None:
    """Begins a process: Ctrl-C reaches all of them, and the first one ends the others."""
    global _stop
    _stop = stop
    gc.set_threshold(200_000)  # a tree has many nodes and lives as long as its file is at hand
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _migrate_part(paths: Sequence[str], options: Options) -> List[Outcome]:
    return [migrate_file(path, options) for path in paths if not _stop.is_set()]
