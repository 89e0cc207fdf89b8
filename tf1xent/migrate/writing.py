"""Replaces a file atomically: the whole new content, or the file as it was."""

import os
import stat
import uuid

from tf1xent.migrate.source import Fault


def replace_content(path: str, old: bytes, new: bytes) -> None:
    """Writes a file that was read before; mode and owner stay. A link's target is written.

    Args:
      path: the file.
      old: what it held when it was read.
      new: what it shall hold.

    Raises:
      Fault: it may not or cannot be written, or does not hold `old` any more.
    """
    target = os.path.realpath(path)
    try:
        _replace(target, old, new)
    except OSError as error:
        raise Fault(f"cannot be written: {error.strerror}") from error


def _replace(target: str, old: bytes, new: bytes) -> None:
    status = os.stat(target)
    if not stat.S_ISREG(status.st_mode):
        raise Fault("cannot be written: it is no regular file")
    # The system would replace a read-only file, too, in a folder where that is allowed.
    if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise Fault("cannot be written: it is read-only")
    with open(target, "rb") as file:
        if file.read() != old:
            raise Fault("was changed by somebody else in the meantime and is left so")
    # A new name beside the old one, so that both are on one file system.
    temporary = os.path.join(os.path.dirname(target), f"tf1xent-{uuid.uuid4().hex}.partial")
    try:
        with open(temporary, "xb", opener=_for_owner) as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())  # some file systems report a full disk only here
        made = os.stat(temporary)
        if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
            os.chown(temporary, status.st_uid, status.st_gid)
        os.chmod(temporary, stat.S_IMODE(status.st_mode))
        os.replace(temporary, target)
    finally:
        if os.path.lexists(temporary):
            os.remove(temporary)


def _for_owner(name: str, flags: int) -> int:
    """Opens a file that nobody else may read until it has the mode of the one it replaces."""
    return os.open(name, flags, 0o600)
