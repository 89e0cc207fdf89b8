"""The variables before some step, and the data of the steps since: to run these steps again."""

import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent import _tf

# The share of the time of training that snapshots may take.
_SHARE = 0.015
_MOST_STEPS = 1000


class Snapshot(NamedTuple):
    """The variables before a step.

    Attributes:
      run: which of the watched runs the step is.
      values: by name.
    """

    run: int
    values: Dict[str, np.ndarray]


class Snapshots:
    """The last healthy snapshot, and copies of the data of all steps since, in bounded memory.

    Args:
      memory_limit: in bytes. Where the data of the steps would need more, they and the snapshot are
        dropped until the next snapshot.

    Attributes:
      last: a `Snapshot`, or None.
      dropped: whether the limit of the memory is why there is none.
    """

    def __init__(self, memory_limit: int) -> None:
        self._limit = memory_limit
        self.last: Optional[Snapshot] = None
        self.dropped = False
        self._steps: List[Tuple[List[Tuple[Any, Any]], List[Tuple[str, Any]]]] = []
        self._bytes = 0

    def put(self, snapshot: Snapshot) -> None:
        """Takes a snapshot in the place of the last; the data before it are not needed any more."""
        self._bytes = sum(value.nbytes for value in snapshot.values.values())
        self.last = snapshot
        self._steps = []
        self._drop_what_is_too_much()

    def clear(self) -> None:
        """Forgets all."""
        self.last, self._steps, self._bytes, self.dropped = None, [], 0, False

    def keep(self, feeds: Sequence[Tuple[Any, Any]]) -> None:
        """Keeps the feeds of the next step: copies, since programs use their arrays again."""
        if self.last is None:
            self._steps = []
        kept = [(key, value.copy()) for key, value in feeds]
        for _, value in kept:
            self._bytes += value.nbytes
        self._steps.append((kept, []))
        if self._bytes > self._limit:
            self._drop_what_is_too_much()

    def add(self, names: Sequence[str], values: Sequence[np.ndarray]) -> None:
        """Adds to the data of the last step what an input pipeline gave it."""
        for value in values:
            self._bytes += getattr(value, "nbytes", 0)
        self._steps[-1][1].extend(zip(names, values))

    def data(self) -> List[Dict[str, np.ndarray]]:
        """Returns the data of the steps since the snapshot, or of the last step without one."""
        return [
            {**{_tf.fed_name(key): value for key, value in feeds}, **dict(outputs)}
            for feeds, outputs in self._steps
        ]

    def _drop_what_is_too_much(self) -> None:
        if self._bytes > self._limit:
            self.last, self.dropped = None, True
            self._steps, self._bytes = self._steps[-1:], 0
        else:
            self.dropped = False


class Schedule:
    """Says before which runs the variables are read.

    All are read every so many steps, and the trainable ones again one step later: so the change of
    single steps is known.

    Args:
      every: after how many steps; None so that reading takes a small share of the time.

    Attributes:
      due: the next run before which something is read.
      is_second: whether only the trainable variables are due.
    """

    def __init__(self, every: Optional[int]) -> None:
        self._every = every
        self._gap = 1 if every is None else every
        self._last: Optional[Tuple[int, float]] = None
        # The least that it took: the first time the graph is optimised for it.
        self._seconds: Dict[bool, float] = {}
        self.due = 0
        self.is_second = False

    def now(self, run: int) -> None:
        """Makes all variables due before a run."""
        self.due, self.is_second = run, False

    def done(self, run: int, seconds: float) -> None:
        """Sets the next time; `seconds` is what reading has taken."""
        self._seconds[self.is_second] = min(seconds, self._seconds.get(self.is_second, seconds))
        if self.is_second:
            assert self._last is not None
            self.due, self.is_second = self._last[0] + self._gap, False
            return
        now = time.perf_counter()
        if self._every is None:
            self._gap = self._adapted(run, now)
        self._last = run, now
        self.due, self.is_second = run + 1, self._gap > 1

    def _adapted(self, run: int, now: float) -> int:
        gap = 2 * self._gap
        if self._last is not None and run > self._last[0]:
            cost = sum(self._seconds.values())
            a_step = max(1e-9, (now - self._last[1] - cost) / (run - self._last[0]))
            gap = min(gap, int(cost / (_SHARE * a_step)) + 1)
        return max(2, min(gap, _MOST_STEPS))


def is_finite(values: Dict[str, np.ndarray], names: Sequence[str]) -> bool:
    """Tells whether all of some variables are finite."""
    return all(_is_finite(values[name]) for name in names if name in values)


def _is_finite(value: np.ndarray) -> bool:
    if value.dtype.kind not in "fcV":
        return True
    wide = value.astype(np.float32) if value.dtype.kind == "V" else value
    return bool(np.isfinite(wide).all())
