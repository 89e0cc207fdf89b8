"""Exceptions of the package: each is also one of Python's own, so that old handlers catch it."""


class PatchConflictWarning(UserWarning):
    """Somebody else replaced what tf1xent had put in place, and theirs was left."""


class MissingDerivativeError(LookupError):
    """A derivative was asked for that cannot be had here; the message says what to do instead."""


class GraphFileError(ValueError):
    """A file or proto holds no graph that can be read: damaged, contradictory, or too new."""


class CleanUpWarning(UserWarning):
    """A file is written, or left as it was, but what was put aside for that cannot be removed."""


class RewriteError(ValueError):
    """A graph cannot be rewritten as asked; nothing was changed or written."""


class KernelsError(RuntimeError):
    """The native kernels cannot be built or loaded; the message says why, and what to do."""
