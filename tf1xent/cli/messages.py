"""Exit codes, and lines on stderr."""

import contextlib
import sys
import warnings
from typing import Any, Iterator, Type

# The exit codes; `tf1xent.cli` says when each is given.
DONE = 0
DOES_NOT_HOLD = 1
CANNOT_RUN = 2
# Added to a signal's number, as shells do.
SIGNALLED = 128


def refused(command: str, error: object) -> int:
    """Says in one line why a subcommand cannot run; returns the exit code."""
    text, prefix = str(error), f"tf1xent {command}: "
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}."
    print_text(text if text.startswith(prefix) else prefix + text, sys.stderr)
    return CANNOT_RUN


@contextlib.contextmanager
def warnings_in_a_line(command: str, category: Type[Warning]) -> Iterator[None]:
    """Prints each warning of a category as one line; others as Python does."""
    with warnings.catch_warnings():
        others: Any = warnings.showwarning

        def show(message: Any, shown: Any, *rest: Any, **named: Any) -> None:
            if issubclass(shown, category):
                print_text(f"tf1xent {command}: warning: {message}", sys.stderr)
            else:
                others(message, shown, *rest, **named)

        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("always", category)
        yield


def print_text(text: str, stream: Any) -> None:
    """Prints text with file names that the stream's encoding may not have, escaped if so."""
    if stream is not None:
        encoding = stream.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def print_bytes(content: bytes) -> None:
    """Prints what must arrive byte for byte, such as a diff of files in several encodings."""
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # closed, or replaced by something that takes text only
        print_text(content.decode("utf-8", "backslashreplace"), sys.stdout)
        return
    sys.stdout.flush()
    stream.write(content)
    stream.flush()
