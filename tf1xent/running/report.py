"""Counts what tf1xent serves in a program, and prints that when the program ends."""

import atexit
import os
import sys
import threading
from typing import Any, Dict, List, Tuple

from tf1xent import _table
from tf1xent.running.settings import Settings

# What was served, from which line, and the function of a library through which it came, or "".
_Key = Tuple[str, str, str]
_HEADER = ("times", "served", "from", "through")
_GRADIENT = "gradient of "


class Report:
    """Counts the calls and the gradients that are served, and prints a table of them.

    It says nothing in a process that a signal or `os._exit` ends.

    With `children`, the processes that the program starts print reports of their own.
    """

    def __init__(self, settings: Settings) -> None:
        self._children = settings.children
        self._is_child = settings.is_child
        self._started_in = os.getcwd() + os.sep
        self._lock = threading.Lock()
        self._counts: Dict[_Key, int] = {}
        self._observes = False
        self._is_done = False

    def print_at_exit(self) -> None:
        """Has the report printed when this process ends."""
        atexit.register(self.print)
        if hasattr(os, "register_at_fork"):  # Windows has no fork
            os.register_at_fork(after_in_child=self._begin_in_child)

    def observe(self) -> None:
        """Begins to count; TensorFlow must be there."""
        from tf1xent import _tf

        _tf.OBSERVERS.append(self._count)
        self._observes = True

    def print(self) -> None:
        """Prints the report to stderr, once in a process."""
        # A child may be no more than a helper of Python's, which has no use for TensorFlow.
        self._is_done |= self._is_child and not self._observes
        if not self._is_done and sys.stderr is not None and not sys.stderr.closed:
            print("\n".join(self._lines()), file=sys.stderr, flush=True)
        self._is_done = True

    def _count(self, what: Any, op: Any) -> None:
        from tf1xent import _tf

        line, through = _tf.calling_line()
        if op is None:
            name = _tf.public_name(what)
        else:
            name, through = _GRADIENT + what, ""
            line = _tf.line_of(op) or line
        if line.startswith(self._started_in):
            line = line[len(self._started_in) :]
        key = name, line or "unknown", "" if through == name else through
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def _lines(self) -> List[str]:
        begin = f"tf1xent run: process {os.getpid()}: " if self._children else "tf1xent run: "
        if not self._observes:
            return [begin + "the program has not imported TensorFlow."]
        if not self._counts:
            return [begin + "no call and no gradient was served."]
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        rows = [(str(number).rjust(len(_HEADER[0])), *key) for key, number in ordered]
        cells = [[_table.shortened(cell, None) for cell in row] for row in [_HEADER, *rows]]
        gradients = sum(n for key, n in ordered if key[0].startswith(_GRADIENT))
        calls = sum(self._counts.values()) - gradients
        both = f"{_table.count(calls, 'call')} and {_table.count(gradients, 'gradient')}"
        return [f"{begin}{both} served.", *_table.aligned(cells)]

    def _begin_in_child(self) -> None:
        """Counts from zero in a process that has just been forked."""
        self._lock = threading.Lock()
        self._counts = {}
        self._is_child = True
        self._is_done = not self._children
        # What multiprocessing forks runs no functions of `atexit`, or not those from before.
        util = sys.modules.get("multiprocessing.util")
        if util is not None and not self._is_done:
            util.register_after_fork(self, _print_at_end_of_process)


def _print_at_end_of_process(report: Report) -> None:
    from multiprocessing import util

    util.Finalize(None, report.print, exitpriority=-1000)
