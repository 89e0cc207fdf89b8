"""Exceptions of the package. Each derives from one of Python's own that old handlers catch."""


class PatchConflictWarning(UserWarning):
    """Other code has replaced what tf1xent replaces; the message says whose function is used."""


class MissingDerivativeError(LookupError):
    """A derivative cannot be computed here; the message says what to do instead."""


class GraphFileError(ValueError):
    """A file or proto has no graph that can be read: it is damaged, contradictory or too new."""


class CleanUpWarning(UserWarning):
    """A file is written, or left as it was, but a temporary file or folder cannot be removed."""


class EmptyTableWarning(UserWarning):
    """A lookup table of a model cannot be filled; the message says why."""


class DumpWarning(UserWarning):
    """A step of training that went wrong, or a part of it, cannot be kept; training goes on."""


class RewriteError(ValueError):
    """A graph cannot be rewritten as requested; nothing was changed or written."""


class KernelsError(RuntimeError):
    """The native kernels cannot be built or loaded; the message says why, and what to do."""


class ConvergenceError(RuntimeError):
    """An iteration ended before it reached its tolerance; `partial` is the result that it has."""

    def __init__(self, message: str, partial: object = None) -> None:
        super().__init__(message)
        self.partial = partial
