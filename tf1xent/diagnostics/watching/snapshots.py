"""The variables before some step, and the data of the steps since: to run these steps again."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent._typing import Tensor
from tf1xent.diagnostics.replaying import comparing

# The share of the time of training that snapshots may take.
_SHARE = 0.0025
_MOST_STEPS = 1000


class Snapshot(NamedTuple):
    """The variables before a step.

    Attributes:
      run: which of the watched runs the step is.
      values: by name.
    """

    run: int
    values: Dict[str, np.ndarray]


class _Data(NamedTuple):
    """What a step has read: feeds by their tensors, outputs of input pipelines by their names."""

    keys: Sequence[Tensor]
    arrays: List[np.ndarray]
    names: List[str]
    outputs: List[np.ndarray]


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
        self._steps: List[_Data] = []
        self._bytes = 0
        # Arrays that are free again: memory that is new to the process is slow at first.
        self._free: List[_Data] = []

    def put(self, snapshot: Snapshot) -> None:
        """Takes a snapshot in the place of the last; the data before it are not needed any more."""
        self._bytes = sum(value.nbytes for value in snapshot.values.values())
        self.last = snapshot
        self._free, self._steps = self._steps, []
        self._drop_what_is_too_much()

    def clear(self) -> None:
        """Forgets all."""
        self.last, self._steps, self._free, self._bytes = None, [], [], 0

    def keep(self, keys: Sequence[Tensor], arrays: Sequence[np.ndarray]) -> None:
        """Keeps the feeds of the next step: copies, since programs use their arrays again."""
        if self.last is None:
            self._steps = []
        free = self._free.pop().arrays if self._free else ()
        kept = [*map(_copied, arrays, free), *(value.copy() for value in arrays[len(free) :])]
        self._bytes += sum([value.nbytes for value in kept])
        self._steps.append(_Data(keys, kept, [], []))
        if self._bytes > self._limit:
            self._drop_what_is_too_much()

    def add(self, names: Sequence[str], values: Sequence[np.ndarray]) -> None:
        """Adds to the data of the last step what an input pipeline gave it."""
        for value in values:
            self._bytes += getattr(value, "nbytes", 0)
        self._steps[-1].names.extend(names)
        self._steps[-1].outputs.extend(values)

    def data(self) -> List[Dict[str, np.ndarray]]:
        """Returns the data of the steps since the snapshot, or of the last step without one."""
        return [
            {
                **{key.name: value for key, value in zip(step.keys, step.arrays)},
                **dict(zip(step.names, step.outputs)),
            }
            for step in self._steps
        ]

    def _drop_what_is_too_much(self) -> None:
        self.dropped = self._bytes > self._limit
        if self.dropped:
            self.last, self._free, self._bytes = None, [], 0
            self._steps = self._steps[-1:]


def _copied(value: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Returns a copy of an array, in the memory of another one if it fits."""
    if free.shape != value.shape or free.dtype != value.dtype:
        return value.copy()
    free[...] = value
    return free


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
        # By `is_second`, the seconds that it takes, and how often it was done.
        self._seconds: Dict[bool, Tuple[float, int]] = {}
        self.due = 0
        self.is_second = False

    def now(self, run: int) -> None:
        """Makes all variables due before a run."""
        self.due, self.is_second = run, False

    def done(self, run: int, now: float, seconds: float) -> None:
        """Sets the next time.

        Args:
          run: before which it was done.
          now: the time that the runs before took.
          seconds: what reading has taken.
        """
        mean, times = self._seconds.get(self.is_second, (seconds, 0))
        # The first time, the graph is optimised for it. The machine may be busy, now and then.
        weight = 1.0 if times < 2 else 0.2
        self._seconds[self.is_second] = mean + weight * (seconds - mean), times + 1
        if self.is_second:
            assert self._last is not None
            self.due, self.is_second = self._last[0] + self._gap, False
            return
        if self._every is None:
            self._gap = self._adapted(run, now)
        self._last = run, now
        self.due, self.is_second = run + 1, self._gap > 1

    def _adapted(self, run: int, now: float) -> int:
        gap = 2 * self._gap
        if self._last is not None and run > self._last[0]:
            cost = sum(mean for mean, _ in self._seconds.values())
            a_step = max(1e-9, (now - self._last[1]) / (run - self._last[0]))
            gap = min(gap, int(cost / (_SHARE * a_step)) + 1)
        return max(2, min(gap, _MOST_STEPS))


def is_finite(values: Dict[str, np.ndarray], names: Sequence[str]) -> bool:
    """Tells whether all of some variables are finite."""
    return all(comparing.is_finite(values[name]) for name in names if name in values)
