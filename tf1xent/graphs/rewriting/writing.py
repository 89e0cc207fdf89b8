"""Writes graph files and SavedModels atomically: complete, or not at all."""

import contextlib
import os
import shutil
import signal
import stat
import threading
import uuid
import warnings
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional, Sequence

from tf1xent.errors import CleanUpWarning

# A SavedModel's file with a hash of its saved_model.pb, which a rewrite changes.
FINGERPRINT_NAME = "fingerprint.pb"


def write_file(content: bytes, target: str, source: str) -> None:
    """Writes a file. It gets the permissions of the file that it replaces, or else of `source`."""
    with _beside(target) as temporary, _faults_of(target, temporary):
        _create(temporary, content, target, source)
        with _uninterrupted():
            os.replace(temporary, target)


def write_saved_model(source: str, target: str, name: str, content: bytes) -> None:
    """Copies the SavedModel `source` to `target`, with new content for its graph file `name`.

    If both are the same folder, only the graph file and the fingerprint change.
    """
    if os.path.realpath(source) == target:
        _write_in_place(target, name, content)
        return
    with _beside(target) as temporary, _faults_of(target, temporary):
        mode = _mode(target if os.path.isdir(target) else source)
        os.mkdir(temporary, 0o700)
        _copy_into(temporary, source, left_out=(name, FINGERPRINT_NAME))
        graph = os.path.join(source, name)
        _create(os.path.join(temporary, name), content, os.path.join(target, name), graph)
        shutil.copystat(source, temporary)
        os.chmod(temporary, mode)
        _put(temporary, target, goes=target)


def _write_in_place(folder: str, name: str, content: bytes) -> None:
    graph, fingerprint = (os.path.join(folder, part) for part in (name, FINGERPRINT_NAME))
    with _beside(graph) as temporary, _faults_of(graph, temporary):
        _create(temporary, content, graph, graph)
        _put(temporary, graph, goes=fingerprint)


def _put(temporary: str, target: str, goes: str) -> None:
    """Moves `temporary` to `target`, and removes `goes` if it exists and the move works."""
    move = os.rename if os.path.isdir(temporary) else os.replace
    old = _new_name(goes)
    with _uninterrupted():
        if not os.path.lexists(goes):
            move(temporary, target)
            return
        os.rename(goes, old)
        try:
            move(temporary, target)
        except BaseException:  # whatever happens, `goes` must not be lost
            with _warning(f"{goes} was renamed to {old} and cannot be moved back"):
                os.rename(old, goes)
            raise
        with _warning(f"{old} cannot be removed"):
            _remove(old)


def _create(path: str, content: bytes, target: str, source: str) -> None:
    """Creates the file that becomes `target`; it is never readable by more users than that."""
    replaces = os.path.isfile(target)
    mode = _mode(target if replaces else source)

    def opener(name: str, flags: int) -> int:
        # The system applies the umask, which is right for a new file.
        return os.open(name, flags, mode & 0o600 if replaces else mode)

    with open(path, "xb", opener=opener) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # some file systems report a full disk only here
    if replaces:
        os.chmod(path, mode)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode) & 0o777


def _copy_into(
    target: str, source: str, left_out: Sequence[str] = (), around: Sequence[str] = ()
) -> None:
    """Copies the content of a folder into another; `around` are the folders around this one.

    Links are replaced by copies of their targets, so that the copy is complete. A link stays a link
    if it is broken, or leads to a folder around it, which would never end.
    """
    around = (*around, os.path.realpath(source))
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name in left_out:
                continue
            new = os.path.join(target, entry.name)
            if entry.is_symlink() and _stays_link(entry.path, around):
                os.symlink(os.readlink(entry.path), new)
            elif entry.is_dir():
                os.mkdir(new, 0o700)
                _copy_into(new, entry.path, around=around)
                shutil.copystat(entry.path, new)  # last, because it may make the folder read-only
            else:
                shutil.copy2(entry.path, new)


def _stays_link(path: str, around: Sequence[str]) -> bool:
    real = os.path.join(os.path.realpath(path), "")
    return not os.path.exists(path) or any(
        os.path.join(folder, "").startswith(real) for folder in around
    )


def _new_name(path: str) -> str:
    """Returns a new path beside `path`. It leaves out the old name, to stay short enough."""
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.join(folder, f"tf1xent-{uuid.uuid4().hex}.partial")


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    """Yields a new path beside `path`, and removes at the end what is still there."""
    temporary = _new_name(path)
    try:
        yield temporary
    finally:
        with _uninterrupted(), _warning(f"{temporary} cannot be removed"):
            _remove(temporary)


@contextlib.contextmanager
def _warning(text: str) -> Iterator[None]:
    """Turns OSError into a warning, for clean-up after a result or another error."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{text}: {error.strerror}.", CleanUpWarning, stacklevel=4)


def _remove(path: str) -> None:
    """Removes a file or folder if it exists, read-only folders too."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.remove(path)
        return
    os.chmod(path, 0o700)
    for folder, names, _ in os.walk(path):
        for inner in (os.path.join(folder, name) for name in names):
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(path)


@contextlib.contextmanager
def _faults_of(target: str, temporary: str) -> Iterator[None]:
    """Makes the system's errors about a temporary name speak of `target`, which a user knows."""
    try:
        yield
    except OSError as error:
        names = (error.filename, error.filename2)
        is_about_source = isinstance(names[0], str) and names[1] is None
        if error.errno is None or (is_about_source and not names[0].startswith(temporary)):
            raise
        raise OSError(error.errno, error.strerror, target) from error


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delays Python's handlers of signals, which usually raise, until the block is done."""
    arrived: List[int] = []
    handlers: Dict[int, Any] = {}

    def note(number: int, frame: Optional[FrameType]) -> None:
        arrived.append(number)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                handlers[number] = signal.getsignal(number)
                signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            handlers[arrived[0]](arrived[0], None)
