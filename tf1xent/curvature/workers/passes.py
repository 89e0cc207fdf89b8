"""One pass over data on workers: who computes what, and results in order."""

import heapq
import itertools
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

from tf1xent._tf import error_line, tf
from tf1xent._typing import Tensor
from tf1xent.curvature.workers.program import Values
from tf1xent.curvature.workers.worker import Job

if TYPE_CHECKING:
    from tf1xent.curvature.workers.pool import Pool

# Jobs that are read and not yet summed, for each worker: one that it computes, and one result.
_AHEAD = 2
# A job that a worker was lost with so many times is given up.
_ATTEMPTS = 4
# Seconds between two looks at the workers.
_TICK = 0.25
# Seconds without a worker, at most, before that is an error.
_PATIENCE = 20.0
# Where workers are idle, a job is given to a second one after so many times the mean time of a job
# that has taken so many seconds at least.
_TIMES_THE_MEAN, _AT_LEAST = 4.0, 2.0


class Call(NamedTuple):
    """What is computed for a batch.

    Attributes:
      key: goes with the result.
      fetches: lists of tensors; if there are none, the result is an empty list.
      feed: a feed dict.
    """

    key: Any
    fetches: Sequence[Sequence[Tensor]]
    feed: Dict[Any, Any]


class Outcome(NamedTuple):
    """The result of a call, or the error of its run."""

    key: Any
    found: Any
    error: Optional[Exception]


class _Read(NamedTuple):
    """A call as a job; or the error with which the calls ended."""

    key: Any
    job: Optional[Job]
    error: Optional[Exception]


class Pass:
    """The results of some calls.

    A job goes to the first worker that is idle, earlier ones first. What came before its turn
    waits; no more than `_AHEAD` jobs for each worker are read beyond the last result that was
    handed on, so memory is bounded. When nothing else is left to do, a job that takes long is given
    to a second worker, and the first result counts.

    Args:
      pool: the workers.
      calls: an iterable of `Call`.
      values: of the variables.
    """

    def __init__(self, pool: "Pool", calls: Iterable[Call], values: Values) -> None:
        self._pool, self._calls, self._values = pool, iter(calls), values
        # By number, in order: what is read and not yet handed on; and of these the results.
        self._open: Dict[int, _Read] = {}
        self._done: Dict[int, Outcome] = {}
        self._waiting: List[int] = []  # a heap of numbers that no worker has
        self._number_read, self._ended = 0, False
        self._seconds, self._finished = 0.0, 0  # of all jobs together
        self._last_hope = time.monotonic()

    def results(self) -> Iterator[Outcome]:
        """Yields the results in order; raises the error of reading the calls at its turn."""
        for number in itertools.count():
            self._read_ahead()
            while number in self._open and number not in self._done:
                self._hand_out()
                self._wait()
            if number not in self._open:
                return
            read = self._open.pop(number)
            if read.error is not None:
                raise read.error
            yield self._done.pop(number)

    def _read_ahead(self) -> None:
        most = _AHEAD * len(self._pool.workers)
        while not self._ended and len(self._open) < most:
            number, self._number_read = self._number_read, self._number_read + 1
            try:
                call = next(self._calls)
                job, fault = self._pool.prepare(call) if call.fetches else (None, None)
            except StopIteration:
                self._ended = True
            except Exception as error:
                self._open[number] = _Read(None, None, error)
                self._done[number] = Outcome(None, [], None)
                self._ended = True
            else:
                self._open[number] = _Read(call.key, job, None)
                if job is not None:
                    job.number = number
                    heapq.heappush(self._waiting, number)
                else:
                    self._done[number] = Outcome(call.key, [], fault)

    # --- Who computes what ------------------------------------------------------------------------

    def _hand_out(self) -> None:
        self._pool.connect(self._values)
        for worker in self._pool.workers:
            if worker.is_idle:
                job = self._next_job()
                if job is None:
                    return
                worker.hand(job, self._values)

    def _next_job(self) -> Optional[Job]:
        """The first job that no worker has; else one that takes long."""
        if self._waiting:
            return self._open[heapq.heappop(self._waiting)].job
        if not self._finished:
            return None
        long = max(_AT_LEAST, _TIMES_THE_MEAN * self._seconds / self._finished)
        holders = [w for w in self._pool.workers if w.job is not None and self._needs(w.job)]
        for worker in sorted(holders, key=lambda worker: worker.since):
            is_alone = sum(other.job is worker.job for other in holders) == 1
            if is_alone and time.monotonic() - worker.since > long:
                return worker.job
        return None

    def _needs(self, job: Job) -> bool:
        """Whether the result of a job is still waited for."""
        read = self._open.get(job.number)
        return read is not None and read.job is job and job.number not in self._done

    def _wait(self) -> None:
        """Waits for a report, for a moment, and looks at the workers."""
        pool = self._pool
        report = pool.reported(_TICK)
        if report is not None and report.is_of_the_job:
            self._seconds += report.seconds
            self._finished += 1
            self._finish(report.job, report.found, report.error)
        elif report is not None:
            self._fail(report.job, report.error)
        for job, error in pool.lost():
            self._fail(job, error)
        if any(worker.has_hope for worker in pool.workers):
            self._last_hope = time.monotonic()
        is_over = time.monotonic() - self._last_hope > min(_PATIENCE, pool.timeout)
        if is_over or all(worker.is_unfit for worker in pool.workers):
            raise pool.nobody()

    def _finish(self, job: Job, found: Any, error: Optional[Exception]) -> None:
        if self._needs(job):
            self._done[job.number] = Outcome(self._open[job.number].key, found, error)

    def _fail(self, job: Optional[Job], error: Optional[Exception]) -> None:
        """A worker was lost with a job: it goes to another, unless that has happened often."""
        if job is None or not self._needs(job):
            return
        job.attempts += 1
        if job.attempts >= _ATTEMPTS:
            self._finish(job, None, _given_up(error))
        elif all(worker.job is not job for worker in self._pool.workers):
            heapq.heappush(self._waiting, job.number)


def _given_up(error: Optional[Exception]) -> Optional[Exception]:
    """The error of a job that workers were lost with, which says so."""
    if not isinstance(error, tf.errors.OpError):
        return error
    remedy = "Look at this batch, or run it without `workers`."
    if isinstance(error, tf.errors.DeadlineExceededError):
        remedy = "Raise `worker_timeout`, or feed smaller batches."
    message = f"{error_line(error)} So it was on {_ATTEMPTS} attempts. {remedy}"
    return type(error)(error.node_def, error.op, message)
