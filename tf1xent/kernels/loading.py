"""Loads the native library, once per process, and reports what is loaded or why nothing is."""

import ctypes
import threading
from typing import Any, Callable, NamedTuple, Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import KernelsError
from tf1xent.kernels import cache, sources

__all__ = ["available", "library", "status"]

# Lowers the level of instructions that a library chooses when it is loaded.
LEVEL_VARIABLE = "TF1XENT_KERNEL_LEVEL"


class KernelStatus(NamedTuple):
    """The result of `status`; `str` of it is for people."""

    loaded: bool
    reason: str  # why it is not loaded; empty if it is
    path: Optional[str]
    tensorflow: str
    level: Optional[str]  # of the processor's instructions that the loaded library uses
    sources: Optional[str]  # a hash
    compiler: Optional[str]
    cache: str

    def __str__(self) -> str:
        state = f"loaded, level {self.level}" if self.loaded else self.reason
        lines = [f"native kernels: {state}", f"  TensorFlow: {self.tensorflow}"]
        for name in ("path", "compiler", "sources", "cache"):
            value = getattr(self, name)
            if value is not None:
                lines.append(f"  {name}: {value}")
        return "\n".join(lines)


def library_level(path: str) -> str:
    """Asks a loaded library which level of instructions it uses in this process."""
    function = ctypes.CDLL(path).tf1xent_kernel_level
    function.restype = ctypes.c_char_p
    return function().decode("ascii")


class Loader:
    """Loads the library of one folder of sources, once.

    After a failure the next call tries again, because the user may have built in between.
    """

    def __init__(self, find_sources: Callable[[], str]) -> None:
        self._find_sources = find_sources
        self._lock = threading.Lock()
        self._loaded: Optional[Any] = None  # (TensorFlow's module, Build, level)

    def _find(self) -> cache.Build:
        return cache.find(sources.current_target(self._find_sources()))

    def library(self) -> Any:
        """The module of op functions; KernelsError if there is none."""
        with self._lock:
            if self._loaded is None:
                found = self._find()
                try:
                    module = tf.load_op_library(found.library)
                except (tf.errors.OpError, OSError, RuntimeError) as error:
                    raise KernelsError(
                        f"TensorFlow cannot load the native kernels of {found.library}: {error}. "
                        "Run: python -m tf1xent build-kernels --force"
                    ) from error
                # Asked now, because a later build in the same place is another library.
                self._loaded = module, found, library_level(found.library)
            return self._loaded[0]

    def available(self) -> bool:
        """Whether `library` returns one."""
        try:
            self.library()
        except KernelsError:
            return False
        return True

    def status(self) -> KernelStatus:
        """What is loaded or would be loaded, or why nothing is; loads nothing."""
        found: Optional[cache.Build] = None
        level = source_hash = None
        with self._lock:
            loaded = self._loaded is not None
            try:
                if self._loaded is not None:
                    _, found, level = self._loaded
                else:
                    source_hash = sources.source_hash(self._find_sources())
                    found = self._find()
                reason = "" if loaded else "built, and not asked for yet in this process"
            except (KernelsError, OSError) as error:
                reason = str(error)
        return KernelStatus(
            loaded=loaded,
            reason=reason,
            path=found.library if found else None,
            tensorflow=_tf.version(),
            level=level,
            sources=found.record["sources"] if found else source_hash,
            compiler=found.record["compiler"] if found else None,
            cache=cache.cache_folder(),
        )


_loader = Loader(sources.source_folder)


def library() -> Any:
    """Returns the native library's op functions, loading it at the first call.

    Safe to call from several threads. Once loaded, a library stays for the life of the process.
    After a failure, build with ``python -m tf1xent build-kernels`` and call again.

    >>> from tf1xent import errors, kernels
    >>> try:
    ...     found = callable(kernels.library().tf1xent_kernel_sparse_loss)
    ... except errors.KernelsError as error:  # its end says what to do
    ...     found = "python -m tf1xent build-kernels" in str(error)
    >>> found
    True

    Returns:
        The module that `tf.load_op_library` makes: a function for each op.

    Raises:
        KernelsError: nothing is built for this TensorFlow, these sources and this machine; or the
            build was changed afterwards; or it does not load. The message says what to do.
    """
    return _loader.library()


def available() -> bool:
    """Tells whether `library` succeeds; loads the native library if so.

    >>> from tf1xent import kernels
    >>> kernels.available() == kernels.status().loaded
    True

    Returns:
        Whether the native library is loaded now.
    """
    return _loader.available()


def status() -> KernelStatus:
    """Tells whether the native library is loaded, or why it is not; loads nothing itself.

    >>> from tf1xent import kernels
    >>> str(kernels.status()).splitlines()[0].split(":")[0]
    'native kernels'

    Returns:
        A `KernelStatus`: whether the library is loaded and why not, its path, TensorFlow's version,
        the level of instructions in use, the hash of the sources, the compiler, the cache folder.
    """
    return _loader.status()
