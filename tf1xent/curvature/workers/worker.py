"""One worker: a session on it, run by a thread of its own that can be given up."""

import queue
import re
import threading
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from tf1xent._tf import PlainSession, error_line, tf
from tf1xent.curvature.workers.program import Program, Values
from tf1xent.curvature.workers.targets import refuses

# Seconds for a machine to say that nothing listens on a port.
_PROBE = 0.5
# Seconds between two looks at a worker that computes, and before the first.
_WATCH_EVERY = 1.0
# Seconds beyond the limit of a call, in which TensorFlow itself should have ended it.
_SLACK = 2.0
# Seconds before a lost worker is tried again: at first, and at most; doubled each time.
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 20.0
# Seconds after an answer in which a worker is not asked whether it is there. A question leaves a
# port in use for a minute, so one before each of many short calls would use them all.
_IS_THERE_FOR = 1.0
# Errors that tell of the computation: another worker would say the same.
_OF_THE_JOB = (
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.UnimplementedError,
)
# An error may quote a request with all its feeds.
_LONGEST_SAYING = 400
# TF 1.15 hands on what gRPC reports, as JSON.
_OF_GRPC = re.compile(r'"grpc_message":"([^"]+)"')
# Of a new session: this worker cannot compute the program, now and later.
_OF_THE_PROGRAM = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)


class Job:
    """What one call of a worker computes.

    Args:
      fetches: names of tensors, nested.
      feeds: by names of tensors.

    Attributes:
      number: its place in its pass.
      attempts: how often a worker was lost with it.
    """

    def __init__(self, fetches: Any, feeds: Dict[str, Any]) -> None:
        self.fetches, self.feeds = fetches, feeds
        self.number, self.attempts = -1, 0


class Report(NamedTuple):
    """How a call of a worker ended."""

    connection: "Connection"
    job: Job
    found: Any
    error: Optional[Exception]
    seconds: float

    @property
    def is_of_the_job(self) -> bool:
        """Whether the job has ended: with a result, or an error that any worker would have."""
        if self.error is None:
            return True
        is_own = isinstance(self.error, _OF_THE_JOB) or not isinstance(
            self.error, tf.errors.OpError
        )
        return is_own and self.job is not _GREETING


# A session that is new on its worker has computed nothing when this is done.
_GREETING = Job([], {})


class Connection:
    """A session on a worker, and the thread that calls it.

    A call that never ends holds up this thread only. State on the worker is this session's own, so
    programs that share a worker do not meet.

    Args:
      target: of the session.
      program: what the worker gets.
      timeout: seconds for each call.
      reports: gets a `Report` for each job.
      optimizing: tf.GraphOptions.
    """

    def __init__(
        self,
        target: str,
        program: Program,
        timeout: float,
        reports: "queue.Queue[Report]",
        optimizing: Any,
    ) -> None:
        self._target, self._program, self._timeout = target, program, timeout
        self._reports = reports
        milliseconds = max(1, int(1000 * timeout))
        self._options = tf.RunOptions(timeout_in_ms=milliseconds)
        self._config = tf.ConfigProto(
            allow_soft_placement=True,
            isolate_session_state=True,
            operation_timeout_in_ms=milliseconds,
            graph_options=optimizing,
        )
        self._session: Any = None
        self._sent: Optional[Values] = None
        self._jobs: queue.Queue[Any] = queue.Queue()
        self.called_at, self._answered_at = time.monotonic(), 0.0
        self._thread = threading.Thread(target=self._work, name=f"tf1xent {target}", daemon=True)
        self._thread.start()

    def hand(self, job: Job, values: Values) -> None:
        """Gives the thread a job; the variables have these values."""
        self.called_at = time.monotonic()
        self._jobs.put((job, values))

    def close(self) -> None:
        """Ends the session and the thread, after the call that it is in."""
        self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Waits for the thread to end."""
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            item = self._jobs.get()
            if item is None:
                break
            job, values = item
            found, error, begin = None, None, time.monotonic()
            try:
                found = self._computed(job, values)
            except Exception as caught:
                error = caught
            seconds = time.monotonic() - begin
            self._reports.put(Report(self, job, found, error, seconds))
            del item, job, values, found, error
        if self._session is not None:
            try:
                self._session.close()
            except tf.errors.OpError:  # the worker, or its state of the session, is gone
                pass

    def _computed(self, job: Job, values: Values) -> Any:
        is_known = time.monotonic() < self._answered_at + _IS_THERE_FOR
        if not is_known and refuses(self._target, _PROBE):
            raise tf.errors.UnavailableError(None, None, "nothing listens there.")
        if self._session is None:
            self._session = PlainSession(
                self._target, graph=self._program.graph, config=self._config
            )
        for _ in range(2):
            if self._sent is not values:
                self._send(values)
            found, digests = self._run([job.fetches, self._program.digests], job.feeds)
            if self._program.agrees(digests, values):
                return found
            self._sent = None
        raise tf.errors.DataLossError(
            None, None, "its variables have other values than it was sent, twice in a row."
        )

    def _send(self, values: Values) -> None:
        for ops, feeds in self._program.calls(values):
            self._run(ops, feeds)
        self._sent = values

    def _run(self, fetches: Sequence[Any], feeds: Dict[str, Any]) -> List[Any]:
        self.called_at = time.monotonic()
        found: List[Any] = self._session.run(fetches, feeds, options=self._options)
        self._answered_at = time.monotonic()
        return found


class Worker:
    """A worker as the client knows it: well, being tried, or lost until it is tried again.

    Attributes:
      target: of its sessions.
      job: what it computes now, or None.
      since: when it got the job.
      is_well: whether its session has answered and was not lost since.
      said: what it said when it was lost last, or None.
      is_unfit: whether it was lost because it cannot compute the program.
    """

    def __init__(self, target: str, timeout: float) -> None:
        self.target, self._timeout = target, timeout
        self.job: Optional[Job] = None
        self.since = 0.0
        self.is_well, self.is_unfit = False, False
        self.said: Optional[str] = None
        self._connection: Optional[Connection] = None
        self._delay, self._try_at, self._watch_at = _FIRST_DELAY, 0.0, 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a job."""
        return self.is_well and self.job is None

    @property
    def has_hope(self) -> bool:
        """Whether it is well, or is tried and has not failed before."""
        return self.is_well or (self._connection is not None and self.said is None)

    def owns(self, connection: Connection) -> bool:
        """Whether a connection is the one in use."""
        return connection is self._connection

    def try_if_due(self, connect: Any, values: Values) -> None:
        """Makes a connection where there is none, if it is time."""
        if self._connection is None and time.monotonic() >= self._try_at:
            self._connection = connect(self.target)
            self.hand(_GREETING, values)

    def hand(self, job: Job, values: Values) -> None:
        """Lets it compute a job."""
        assert self._connection is not None
        self.job, self.since = job, time.monotonic()
        self._watch_at = self.since + _WATCH_EVERY
        self._connection.hand(job, values)

    def answered(self) -> None:
        """Notes that it has done what it was given."""
        self.job, self.is_well, self.is_unfit = None, True, False
        self._delay = _FIRST_DELAY

    def lose(self, error: Optional[Exception]) -> None:
        """Gives up the connection; another is made later."""
        self.said = _said(error or timed_out(self._timeout))
        self.is_unfit = not self.is_well and isinstance(error, _OF_THE_PROGRAM)
        self.drop()
        self._try_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LONGEST_DELAY)

    def drop(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self.job, self.is_well = None, None, False

    def fault(self) -> Optional[Exception]:
        """Returns what is wrong with a worker that computes, as far as is seen from outside."""
        now = time.monotonic()
        if self._connection is None or self.job is None or now < self._watch_at:
            return None
        self._watch_at = now + _WATCH_EVERY
        if now > self._connection.called_at + self._timeout + _SLACK:
            return timed_out(self._timeout)
        if refuses(self.target, _PROBE):
            return tf.errors.UnavailableError(None, None, "nothing listens there any more.")
        return None

    def wait_for_end(self, seconds: float) -> None:
        """Closes the connection and waits for its thread, unless it is in a call."""
        connection, is_free = self._connection, self.job is None
        self.drop()
        if connection is not None and is_free:
            connection.join(seconds)


def timed_out(timeout: float) -> Exception:
    """The error of a call that took too long."""
    return tf.errors.DeadlineExceededError(None, None, f"no answer within {timeout:g} seconds.")


def _said(error: Exception) -> str:
    """What an error says, in a line."""
    found = _OF_GRPC.search(str(error))
    said = f"{found.group(1)}." if found else error_line(error)
    return said if len(said) <= _LONGEST_SAYING else said[:_LONGEST_SAYING] + " ..."
