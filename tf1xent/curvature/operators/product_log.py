"""A file that keeps products, so that long work goes on where it was killed."""

import contextlib
import errno
import hashlib
import json
import os
import zlib
from typing import IO, Any, Dict, Iterator, Optional, Sequence

import numpy as np

from tf1xent._typing import Path

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows; there one process has to be alone
    fcntl = None

_FORMAT = "tf1xent product log 1"
# A disk that is full, a file that is as large as it may be, a quota.
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_DIGEST_BYTES, _CRC_BYTES = 32, 4

# What a log is of: the fields of its header, in words.
FIELDS = {
    "kind": "the kind of the operator",
    "functions": "the names of the loss, outputs or losses",
    "variables": "the names and shapes of the variables",
    "ops": "the ops that compute a product",
    "weights": "the reduction or the batch weights",
    "values": "the values of the variables",
    "data": "the data",
}


class ProductLog:
    """The products of one operator, found by their vectors, in a file that survives a kill.

    The file is one line of JSON, the header, and a record for each product: the SHA-256 digest of
    the vector, the product, both as raw float64 in the order of the parameters, and their CRC-32.
    A record is on the disk before its product is used. The header says what the products are of;
    damping is added later and is not in it. Two processes may share a file: each locks it while it
    reads or appends, and sees the other's products.

    Args:
      owner: the name of the operator, for messages.
      path: of the file; made if there is none.
      identity: by the keys of `FIELDS`, what JSON can hold.
      size: the number of parameters.

    Raises:
      ValueError: the file is another operator's, or no product log, or damaged. It stays as it was.
      OSError: the file cannot be read or written.
    """

    def __init__(self, owner: str, path: Path, identity: Dict[str, Any], size: int) -> None:
        self.owner, self.path, self._size = owner, os.fspath(path), size
        header = json.dumps({"format": _FORMAT, **identity}, sort_keys=True)
        self._header = header.encode("ascii") + b"\n"
        self._record_bytes = _DIGEST_BYTES + 8 * size + _CRC_BYTES
        # By digest of the vector, where its record begins; and where the last good record ends.
        self._records: Dict[bytes, int] = {}
        self._end, self._inode = len(self._header), 0
        with self._synchronized():
            pass

    def find(self, vector: np.ndarray) -> Optional[np.ndarray]:
        """Returns the product with a vector, float64 [size], or None."""
        with self._synchronized() as file:
            begin = self._records.get(_digest(vector))
            if begin is None:
                return None
            file.seek(begin + _DIGEST_BYTES)
            return np.frombuffer(file.read(8 * self._size), "<f8")

    def append(self, vector: np.ndarray, product: np.ndarray) -> None:
        """Writes a product to the disk."""
        digest, values = _digest(vector), np.ascontiguousarray(product, "<f8")
        with self._synchronized() as file:
            if digest in self._records:  # another process was faster
                return
            _write(file, self._end, [digest, values.data, _crc(digest, values.data)])
            self._records[digest] = self._end
            self._end += self._record_bytes

    @contextlib.contextmanager
    def _synchronized(self) -> Iterator[IO[bytes]]:
        """The file, locked, with all its records known."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(self.path, flags, 0o666), "r+b") as file:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
                self._check_header(file)
                self._read_new(file)
                yield file
        except OSError as error:  # of writing, or of closing, which tries that again
            if error.errno not in _NO_ROOM:
                raise
            message = (
                f"{self.owner}: `log` must have room for a product, got: {error.strerror}. Make "
                "room and run this again; it goes on from the last product in the log"
            )
            raise OSError(error.errno, message, self.path) from error

    def _check_header(self, file: IO[bytes]) -> None:
        line = file.readline(len(self._header))
        if line == self._header:
            return
        if self._header.startswith(line):  # a new file, or a process was killed in its first write
            _write(file, 0, [self._header])
            return
        file.seek(0)
        raise ValueError(self._refusal(file.readline()))

    def _refusal(self, line: bytes) -> str:
        try:
            found = json.loads(line.decode("ascii"))
            version = str(found["format"])
        except (ValueError, TypeError, KeyError):
            version = ""
        if version != _FORMAT:
            what = f"of the format {version!r}" if version else "which is no product log"
            return (
                f"{self.owner}: `log` must be a product log of this version, got {self.path}, "
                f"{what}. It is left as it was. Use another path."
            )
        own = json.loads(self._header.decode("ascii"))
        differ = [words for key, words in FIELDS.items() if found.get(key) != own.get(key)]
        return (
            f"{self.owner}: `log` must hold products of this operator, got {self.path}, which "
            f"differs in: {'; '.join(differ) or 'its header'}. It is left as it was. Restore what "
            "it is of, or use another path."
        )

    def _read_new(self, file: IO[bytes]) -> None:
        """Reads the records that were added since the last call; the last may be cut off."""
        status = os.fstat(file.fileno())
        size = status.st_size
        if status.st_ino != self._inode or size < self._end:  # another file has taken its place
            self._records.clear()
            self._inode, self._end = status.st_ino, len(self._header)
        file.seek(self._end)
        while self._end + self._record_bytes <= size:
            record = file.read(self._record_bytes)
            digest, values = record[:_DIGEST_BYTES], record[_DIGEST_BYTES:-_CRC_BYTES]
            if _crc(digest, values) != record[-_CRC_BYTES:]:
                if self._end + self._record_bytes >= size:
                    return
                number = (self._end - len(self._header)) // self._record_bytes
                raise ValueError(
                    f"{self.owner}: `log` must be whole, got {self.path}, which is damaged in its "
                    f"record {number}. It is left as it was. Use another path."
                )
            self._records[digest] = self._end
            self._end += self._record_bytes


def _digest(vector: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(vector, "<f8").data).digest()


def _crc(digest: bytes, values: Any) -> bytes:
    return (zlib.crc32(values, zlib.crc32(digest)) & 0xFFFFFFFF).to_bytes(_CRC_BYTES, "little")


def _write(file: IO[bytes], begin: int, parts: Sequence[Any]) -> None:
    """Writes to the disk, in place of what is there from `begin` on."""
    file.seek(begin)
    file.truncate()
    for part in parts:
        file.write(part)
    file.flush()
    os.fsync(file.fileno())
