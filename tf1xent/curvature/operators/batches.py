"""Sums over data: one pass over all batches, each with its weight, in float64."""

import contextlib
import functools
from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
from tqdm import tqdm

from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.curvature.operators.weighted_data import SUM, WeightedData
from tf1xent.curvature.workers.passes import Call
from tf1xent.curvature.workers.pool import Pool

# Seconds after which a pass over the data shows that it goes on.
_LONG = 2.0
# What a session.run raises that is told with the number of the batch.
_OF_A_RUN = (tf.errors.OpError, RuntimeError, TypeError, ValueError)


class Request(NamedTuple):
    """What one session.run computes for each batch, and where its sums over the batches go.

    Attributes:
      fetches: for each sum the tensors that are its parts.
      names: of the parts, for messages.
      slices: where in a sum each part stands.
      sums: float64, one 1-D array for each entry of `fetches`.
      feed: returns what is fed beside the batch.
    """

    fetches: Sequence[Sequence[Tensor]]
    names: Sequence[str]
    slices: Sequence[slice]
    sums: Sequence[np.ndarray]
    feed: Callable[[], Dict[Any, Any]]


class _Step(NamedTuple):
    """One session.run of a pass.

    Attributes:
      number: of the batch.
      feed: of the batch.
      weight: of the batch; None where it is fetched.
      request: what is computed; None for a batch of weight 0.
      is_last: whether it is the last of its batch.
    """

    number: int
    feed: Dict[Any, Any]
    weight: Optional[float]
    request: Optional[Request]
    is_last: bool


# Steps, each with the values that it has fetched.
Found = Generator[Tuple[_Step, List[Any]], None, None]


class Batches(WeightedData):
    """Data over which sums are taken, by the session or by workers.

    Args:
      owner, session, feeds, batch_weights, reduction: as of `WeightedData`.
      progress: whether to show a bar; None asks whether stderr is a terminal.
      workers: compute instead of the session, which then gives the variables' values only.
    """

    def __init__(
        self,
        owner: str,
        session: Session,
        feeds: Any,
        batch_weights: Any,
        reduction: str,
        progress: Optional[bool],
        workers: Optional[Pool] = None,
    ) -> None:
        super().__init__(owner, session, feeds, batch_weights, reduction)
        self._progress, self.workers = progress, workers
        if self.is_iterator and workers is not None:
            raise ValueError(
                f"{owner}: `feeds` must be feed dicts with `workers`, got an iterator of tf.data, "
                "whose batches are in the session. Read them once, and feed them."
            )

    def include(self, tensors: Iterable[Tensor]) -> None:
        """Makes tensors known that will be fetched, before the graph is finalized."""
        if self.workers is not None:
            weights = [] if self.weight_tensor is None else [self.weight_tensor]
            self.workers.include([*tensors, *weights])

    def add_up(self, requests: Sequence[Request]) -> None:
        """Adds up what is requested over all batches, in their order, and divides for a mean.

        Feeds are read once for all requests. An iterator of tf.data hands each batch to one
        session.run, so it is read once for each request.
        """
        groups = [[request] for request in requests] if self.is_iterator else [requests]
        with self._bar(len(requests)) as bar:
            for group in groups:
                self._one_pass(group, bar)

    def each(
        self,
        fetches: Sequence[Tensor],
        feeds: Callable[[int], Iterable[Dict[Any, Any]]] = lambda number: [{}],
    ) -> Iterator[Tuple[int, List[Any]]]:
        """Yields (number, values of `fetches`) of each batch.

        Args:
          fetches: tensors.
          feeds: given the number of a batch, returns what is fed beside it, once for each run.
        """

        def steps() -> Iterator[_Step]:
            for number, feed in enumerate(self.read()):
                for more in feeds(number):
                    request = Request([fetches], [], [], [], functools.partial(dict, more))
                    yield _Step(number, feed, 1.0, request, True)

        for step, (values,) in self._found(steps()):
            yield step.number, values

    def _one_pass(self, requests: Sequence[Request], bar: tqdm) -> None:
        sum_of_weights, number = 0.0, -1
        with contextlib.closing(self._found(self._steps(requests))) as results:
            for step, found in results:
                number, weight = step.number, step.weight
                if weight is None:
                    weight = self.checked(found.pop()[0], number)
                if step.request is not None and weight != 0:
                    self._add(step.request, found, number, weight)
                if step.is_last:
                    sum_of_weights += weight
                if self.workers is not None:
                    bar.set_postfix_str(str(self.workers), refresh=False)
                bar.update(len(requests) if step.request is None else 1)
        self.check_number(number + 1)
        if self.reduction == SUM:
            return
        if sum_of_weights == 0:
            raise ValueError(
                f"{self.owner}: `batch_weights` must not all be 0. "
                "Leave the batches out that count for nothing, and keep the others."
            )
        for request in requests:
            for total in request.sums:
                total /= sum_of_weights

    def _steps(self, requests: Sequence[Request]) -> Iterator[_Step]:
        """What is to be run, in order."""
        for number, feed in enumerate(self.read()):
            weight = self.weight_before(number, feed)
            if weight == 0:
                yield _Step(number, feed, weight, None, True)
                continue
            for request in requests:
                yield _Step(number, feed, weight, request, request is requests[-1])

    def _found(self, steps: Iterator[_Step]) -> Found:
        """Runs steps, and yields what each has given, in order."""
        if self.workers is not None:
            yield from self._found_by_workers(self.workers, steps)
            return
        for step in steps:
            fetches, fed = self._to_run(step)
            try:
                found = self.session.run(fetches, fed) if fetches else []
            except tf.errors.OutOfRangeError as error:
                if self.is_iterator:
                    return
                raise self._explained(error, step.number) from error
            except _OF_A_RUN as error:
                raise self._explained(error, step.number) from error
            yield step, found

    def _found_by_workers(self, workers: Pool, steps: Iterator[_Step]) -> Found:
        try:
            workers.read_values()
        except _OF_A_RUN as error:
            raise self._explained(error, 0) from error
        calls = (Call(step, *self._to_run(step)) for step in steps)
        with contextlib.closing(workers.results(calls)) as results:
            for step, found, fault in results:
                if fault is not None:
                    raise self._explained(fault, step.number) from fault
                yield step, found

    def _to_run(self, step: _Step) -> Tuple[List[Any], Dict[Any, Any]]:
        """The lists of tensors that a step fetches, none for no run, and what it feeds."""
        if step.request is None:
            return [], {}
        fetches = [list(parts) for parts in step.request.fetches]
        if step.weight is None:
            fetches.append([self.weight_tensor])
        return fetches, {**step.feed, **step.request.feed()}

    def _add(self, request: Request, found: List[Any], number: int, weight: float) -> None:
        """Adds what a batch has given to the sums of a request."""
        for parts, total in zip(found, request.sums):
            for part, name, where in zip(parts, request.names, request.slices):
                entries = np.ravel(part).astype(np.float64)
                if not np.isfinite(entries).all():
                    raise tf.errors.InvalidArgumentError(
                        None,
                        None,
                        f"{self.owner}: batch {number} gives NaN or Inf in the part of {name}. "
                        "Look for it in this batch's feed, or give the batch the weight 0.",
                    )
                entries *= weight
                total[where] += entries

    def _explained(self, error: Exception, number: int) -> Exception:
        """An error of the run of a batch, of the same type, with the number of the batch."""
        batch = f"{self.owner}: batch {number}: "
        if isinstance(error, tf.errors.OpError):
            remedy = ""
            if "Connecting to invalid output" in error.message:
                remedy = " Make the operator before the session's first run, or in a new session."
            return type(error)(error.node_def, error.op, batch + error.message + remedy)
        if isinstance(error, RuntimeError) and "closed" in str(error):
            return RuntimeError(
                f"{self.owner}: `session` must be open, got a closed one. "
                "Make a new operator in an open session."
            )
        is_plain = type(error) in (RuntimeError, TypeError, ValueError)
        return type(error)(batch + str(error)) if is_plain else error

    def _bar(self, runs_of_a_batch: int) -> tqdm:
        number = len(self.feeds) if hasattr(self.feeds, "__len__") else None
        return tqdm(
            desc=self.owner,
            total=None if number is None else number * runs_of_a_batch,
            disable=None if self._progress is None else not self._progress,
            delay=0 if self._progress else _LONG,
            leave=False,
            unit="batch",
        )
