"""All workers of an operator: hands jobs out, and returns their results in order."""

import os
import queue
import threading
import time
import weakref
from typing import Any, Dict, Generator, Iterable, Iterator, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.curvature.behind import variables_behind
from tf1xent.curvature.workers.passes import Call, Outcome, Pass
from tf1xent.curvature.workers.program import Program, Values
from tf1xent.curvature.workers.state import state_besides_variables
from tf1xent.curvature.workers.targets import targets_of
from tf1xent.curvature.workers.worker import Connection, Job, Report, Worker

# What makes gRPC send even what is for this machine through a proxy.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
# Seconds for the sessions to close at the end of the program.
_CLOSING = 1.0


class Pool:
    """Workers that compute parts of a graph with the values of a session's variables.

    Args:
      owner: the name of the operator, for messages.
      session: holds the variables' values; they are read from it.
      targets: of the workers.
      timeout: seconds for each call of a worker.
    """

    def __init__(
        self, owner: str, session: Session, targets: Sequence[str], timeout: float
    ) -> None:
        self.owner, self._session, self.timeout = owner, session, timeout
        self.workers = [Worker(target, timeout) for target in targets]
        self._tensors: Dict[str, Tensor] = {}
        self._reads: Dict[str, Tensor] = {}
        self._program: Optional[Program] = None
        self._values: Optional[Values] = None
        self._reports: queue.Queue[Report] = queue.Queue()
        self._one_pass = threading.Lock()
        self._optimizing = _tf.graph_options(session)
        weakref.finalize(self, _close, self.workers)

    def __str__(self) -> str:
        well = sum(worker.is_well for worker in self.workers)
        return f"{well} of {len(self.workers)} workers"

    def include(self, tensors: Iterable[Tensor]) -> None:
        """Makes tensors known that will be fetched, while the graph can still grow."""
        tensors = [tensor for tensor in tensors if tensor.name not in self._tensors]
        if not tensors:
            return
        self._tensors.update((tensor.name, tensor) for tensor in tensors)
        with self._session.graph.as_default():
            self._reads.update(variables_behind(tensors, known=self._reads))

    def results(self, calls: Iterable[Call]) -> Generator[Outcome, None, None]:
        """Yields the results of calls, in their order, which are read a little ahead.

        The variables have the values that were read last.

        Raises:
          tf.errors.UnavailableError: no worker is left.
          ValueError: the tensors need more of the session than its variables.
        """
        with self._one_pass:
            assert self._values is not None
            yield from Pass(self, calls, self._values).results()

    # --- What is sent -----------------------------------------------------------------------------

    def read_values(self) -> None:
        """Reads the variables of the session, for what is computed from now on."""
        found = self._session.run(self._reads)
        if self._values is None or not self._values.are(found):
            self._values = Values(found)

    def prepare(self, call: Call) -> Tuple[Optional[Job], Optional[Exception]]:
        """Returns a call as a job for workers, which get another program if it needs one.

        In its place, the error of a key of the feed.
        """
        graph = self._session.graph
        try:
            feeds = _tf.feeds_by_name(graph, call.feed)
        except TypeError as error:
            return None, error
        names = [[str(tensor.name) for tensor in group] for group in call.fetches]
        if self._program is None or not self._program.fetchable.issuperset(sum(names, [])):
            self._check_state(feeds)
            self._program = Program(graph, self._tensors.values(), list(self._reads))
            for worker in self.workers:
                worker.drop()
        has = self._program.has
        return Job(names, {name: v for name, v in feeds.items() if has(name)}), None

    def _check_state(self, feeds: Dict[str, Any]) -> None:
        element = self._session.graph.as_graph_element
        state = state_besides_variables(self._tensors.values(), [element(name) for name in feeds])
        if state:
            shown = ", ".join(f"{name} ({op_type})" for name, op_type in list(state.items())[:4])
            raise ValueError(
                f"{self.owner}: `workers` get the values of variables and no other state, but "
                f"{shown} is needed. Feed what it gives, or leave `workers` out."
            )

    # --- Who computes -----------------------------------------------------------------------------

    def connect(self, values: Values) -> None:
        """Tries again the workers that were lost some time ago, and at first all."""
        for worker in self.workers:
            worker.try_if_due(self._connection, values)

    def _connection(self, target: str) -> Connection:
        assert self._program is not None
        return Connection(target, self._program, self.timeout, self._reports, self._optimizing)

    def lost(self) -> Iterator[Tuple[Optional[Job], Exception]]:
        """Gives up workers with a fault, and yields what they computed, with the fault."""
        for worker in self.workers:
            error = worker.fault()
            if error is not None:
                yield self._lose(worker, error), error

    def reported(self, seconds: float) -> Optional[Report]:
        """Returns the next report of a worker that is in use, or None if there is none in time."""
        try:
            report = self._reports.get(timeout=seconds)
        except queue.Empty:
            return None
        for worker in self.workers:
            if worker.owns(report.connection):
                if report.is_of_the_job:
                    self._answered(worker)
                else:
                    self._lose(worker, report.error)
                return report
        return None

    def _answered(self, worker: Worker) -> None:
        if not worker.is_well and worker.said is not None:
            tf.logging.info("%s: worker %s is back.", self.owner, worker.target)
        worker.answered()

    def _lose(self, worker: Worker, error: Optional[Exception]) -> Optional[Job]:
        job, was_well = worker.job, worker.is_well
        worker.lose(error)
        if was_well:
            tf.logging.warning(
                "%s: worker %s is lost, its batch goes to another: %s",
                self.owner,
                worker.target,
                worker.said,
            )
        return job

    def nobody(self) -> Exception:
        """The error that no worker is left."""
        said = " ".join(f"{worker.target}: {worker.said}" for worker in self.workers)
        proxies = [name for name in _PROXIES if os.environ.get(name)]
        hint = f" gRPC sends through {proxies[0]}; set no_proxy to their hosts." if proxies else ""
        return tf.errors.UnavailableError(
            None,
            None,
            f"{self.owner}: `workers` must be there, but none of {len(self.workers)} is left. "
            f"{said}{hint} Start them and run this again; with a `log`, finished products are not "
            "computed again.",
        )


def pool_of(owner: str, session: Session, workers: Any, timeout: Any) -> Optional[Pool]:
    """Returns the workers that `workers=` of an operator means; None for None."""
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < float("inf"):
        raise ValueError(
            f"{owner}: `worker_timeout` must be seconds, more than 0, got {timeout!r}. "
            "Give what a batch may take on a slow worker."
        )
    if workers is None:
        return None
    return Pool(owner, session, targets_of(owner, workers), float(timeout))


def _close(workers: Sequence[Worker]) -> None:
    end = time.monotonic() + _CLOSING
    for worker in workers:
        worker.wait_for_end(max(0.0, end - time.monotonic()))
