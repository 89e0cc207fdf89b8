"""Writes graph files and SavedModels, whole or not at all."""

import contextlib
import os
import shutil
import signal
import stat
import threading
import uuid
import warnings
from typing import Any, Dict, Iterator, List, Sequence

from tf1xent.errors import CleanUpWarning

# It names the bytes of a saved_model.pb, and would be wrong for any other.
FINGERPRINT_NAME = "fingerprint.pb"


def write_file(content: bytes, target: str, source: str) -> None:
    """Writes a file with the mode of the one that it replaces, or else of `source`."""
    with _beside(target) as temporary, _faults_of(target, temporary):
        _create(temporary, content, target, source)
        with _uninterrupted():
            os.replace(temporary, target)


def write_saved_model(source: str, target: str, name: str, content: bytes) -> None:
    """Writes the SavedModel `source` to the folder `target`, with another file of graphs, `name`.

    Where both are the same folder, nothing else in it is touched.
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
    """Moves `temporary` to `target`; `goes` is removed, if it is there, and only if that works."""
    move = os.rename if os.path.isdir(temporary) else os.replace
    old = _new_name(goes)
    with _uninterrupted():
        if not os.path.lexists(goes):
            move(temporary, target)
            return
        os.rename(goes, old)
        try:
            move(temporary, target)
        except BaseException:  # whatever it is: what was there must not be lost
            with _warning(f"{goes} is {old} now, and cannot be moved back"):
                os.rename(old, goes)
            raise
        with _warning(f"{old} cannot be removed"):
            _remove(old)


def _create(path: str, content: bytes, target: str, source: str) -> None:
    """Creates the file that becomes `target`: never readable by more people than that will be."""
    replaces = os.path.isfile(target)
    mode = _mode(target if replaces else source)

    def opener(name, flags):
        # The system takes the umask off, which is right for a new file.
        return os.open(name, flags, mode & 0o600 if replaces else mode)

    with open(path, "xb", opener=opener) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # some disks tell only now that they are full
    if replaces:
        os.chmod(path, mode)


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode) & 0o777


def _copy_into(target: str, source: str, left_out: Sequence[str] = (), around: Any = ()) -> None:
    """Copies what is in a folder into another; `around` are the folders that this one is in.

    What a link leads to is copied, so that the copy is complete. A link stays one if it leads
    nowhere, or to a folder that it is in, which has no end.
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
                shutil.copystat(entry.path, new)  # at last, since it may forbid to write
            else:
                shutil.copy2(entry.path, new)


def _stays_link(path: str, around: Sequence[str]) -> bool:
    real = os.path.join(os.path.realpath(path), "")
    return not os.path.exists(path) or any(
        os.path.join(folder, "").startswith(real) for folder in around
    )


def _new_name(path: str) -> str:
    """A new name beside `path`; without that in it, or it could be longer than names may be."""
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.join(folder, f"tf1xent-{uuid.uuid4().hex}.partial")


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    """A new name beside `path`; what is left under it at the end is removed."""
    temporary = _new_name(path)
    try:
        yield temporary
    finally:
        with _uninterrupted(), _warning(f"{temporary} cannot be removed"):
            _remove(temporary)


@contextlib.contextmanager
def _warning(text: str) -> Iterator[None]:
    """Makes a warning of the system's errors, where the result is there or another error is."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{text}: {error.strerror}.", CleanUpWarning, stacklevel=4)


def _remove(path: str) -> None:
    """Removes a file or folder, if it is there, with the folders that forbid to be changed."""
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
    """Names `target` in the system's errors about a temporary name, which tells a user nothing."""
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
    """Puts off what signals do in Python, an exception as a rule, until the block is done."""
    arrived: List[int] = []
    handlers: Dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                handlers[number] = signal.getsignal(number)
                signal.signal(number, lambda arriving, frame: arrived.append(arriving))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            handlers[arrived[0]](arrived[0], None)
