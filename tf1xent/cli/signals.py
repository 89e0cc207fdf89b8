"""Signals that ask the process to end: noted, and raised where the command is."""

import contextlib
import signal
import threading
from typing import Any, Iterator, Optional

# The signal, and the handler that must be in place, else somebody (like nohup) has decided already.
_DEFAULTS = {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end: no Exception, so that nobody takes it for an error.

    Its argument is the signal's number.
    """


class Signals:
    """What was received.

    Attributes:
      received: the number of the first signal, or None. TensorFlow's import loses an exception that
        a signal's handler raises, or makes another of it; so the number decides.
    """

    def __init__(self) -> None:
        self.received: Optional[int] = None

    def check(self) -> None:
        """Raises again what somebody may have swallowed."""
        if self.received is not None:
            raise Stopped(self.received)

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Inside, signals raise `Stopped`, so that what a command put aside is cleaned up."""
        replaced = {}
        if threading.current_thread() is threading.main_thread():
            for name, default in _DEFAULTS.items():
                number = getattr(signal, name, None)  # Windows has fewer
                if number is not None and signal.getsignal(number) is default:
                    replaced[number] = default
        for number in replaced:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, default in replaced.items():
                signal.signal(number, default)

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is None:
            self.received = number
        raise Stopped(number)
