"""Sums over data: one pass over all batches, each with its weight, in float64."""

from typing import (
    Any,
    Callable,
    Dict,
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

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.curvature.workers.passes import Call
from tf1xent.curvature.workers.pool import Pool

# Seconds after which a pass over the data shows that it goes on.
_LONG = 2.0
_MEAN, _SUM = "mean", "sum"
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


class Batches:
    """Data that can be read again and again, with the weights of its batches.

    Args:
      owner: the name of the operator, for messages.
      session: runs everything.
      feeds: None; an iterable of feed dicts that can be read more than once; a function that
        returns one; or an initializable iterator of tf.data.
      batch_weights: None, a sequence, a function of the feed, or a scalar tensor.
      reduction: "mean" or "sum".
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
        self.owner, self.session, self.feeds = owner, session, feeds
        self.weights, self.reduction, self._progress = batch_weights, reduction, progress
        self.workers = workers
        self.is_iterator = _is_initializable(feeds)
        self._check_feeds()
        self._check_weights()

    @property
    def weight_tensor(self) -> Optional[Tensor]:
        """The tensor that is fetched as the weight of a batch, or None."""
        return _tf.tensor_of(self.weights)

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
                    request = Request([fetches], [], [], [], lambda more=more: more)  # type: ignore
                    yield _Step(number, feed, 1.0, request, True)

        for step, (values,) in self._found(steps()):
            yield step.number, values

    def read(self) -> Iterator[Dict[Any, Any]]:
        """Yields the feed of each batch; for an iterator of tf.data an empty one, without end."""
        if self.is_iterator:
            self.session.run(self.feeds.initializer)
            while True:
                yield {}
        feeds = self.feeds() if callable(self.feeds) else self.feeds
        for number, feed in enumerate([{}] if feeds is None else feeds):
            feed = {} if feed is None else feed
            if not hasattr(feed, "keys"):
                raise TypeError(
                    f"{self.owner}: `feeds` must hold feed dicts, got {type(feed).__name__} for "
                    f"batch {number}. Make it {{placeholder: array, ...}}."
                )
            yield feed

    def _one_pass(self, requests: Sequence[Request], bar: tqdm) -> None:
        sum_of_weights, number = 0.0, -1
        for step, found in self._found(self._steps(requests)):
            number, weight = step.number, step.weight
            if step.request is None:
                bar.update(len(requests))
                continue
            if weight is None:
                weight = self._checked(found.pop()[0], number)
            if weight != 0:
                self._add(step.request, found, number, weight)
            if step.is_last:
                sum_of_weights += weight
            if self.workers is not None:
                bar.set_postfix_str(str(self.workers), refresh=False)
            bar.update()
        self._check_number(number + 1)
        if self.reduction == _SUM:
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

    def _found(self, steps: Iterator[_Step]) -> Iterator[Tuple[_Step, List[Any]]]:
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

    def _found_by_workers(
        self, workers: Pool, steps: Iterator[_Step]
    ) -> Iterator[Tuple[_Step, List[Any]]]:
        try:
            workers.read_values()
        except _OF_A_RUN as error:
            raise self._explained(error, 0) from error
        calls = (Call(step, *self._to_run(step)) for step in steps)
        for step, found, fault in workers.results(calls):
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

    # --- Weights ----------------------------------------------------------------------------------

    def weight_before(self, number: int, feed: Dict[Any, Any]) -> Optional[float]:
        """The weight of a batch as far as it is known before the run; else None."""
        if self.reduction == _SUM:
            return 1.0
        if self.weight_tensor is not None:
            return None
        if self.weights is None:
            return self._leading_dimension(number, feed)
        if callable(self.weights):
            return self._checked(self.weights(feed), number)
        if number >= len(self.weights):
            self._check_number(number + 1)
        return self._checked(self.weights[number], number)

    def _leading_dimension(self, number: int, feed: Dict[Any, Any]) -> float:
        lengths = {}
        for key, value in feed.items():
            length = _length(value)
            if length is not None:
                lengths[str(getattr(key, "name", key))] = length
        if len(set(lengths.values())) == 1:
            return float(next(iter(lengths.values())))
        if not lengths and number == 0:
            return 1.0
        if not lengths:
            raise ValueError(
                f"{self.owner}: `batch_weights` must be given for several batches that feed no "
                "arrays. Pass a sequence, as in [1, 1, ...]."
            )
        raise ValueError(
            f"{self.owner}: `batch_weights` must be given where the arrays of a feed differ in "
            f"their leading dimension, got {_shown(lengths)} in batch {number}. Pass a function of "
            "the feed, a sequence, or the tensor by which the loss divides."
        )

    def _checked(self, weight: Any, number: int) -> float:
        if np.ndim(weight) or not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"{self.owner}: `batch_weights` must be scalars, finite and at least 0, got "
                f"{weight!r} for batch {number}. Pass the number by which the batch's loss divides."
            )
        return float(weight)

    # --- Checks -----------------------------------------------------------------------------------

    def _check_feeds(self) -> None:
        feeds = self.feeds
        if self.is_iterator and self.workers is not None:
            raise ValueError(
                f"{self.owner}: `feeds` must be feed dicts with `workers`, got an iterator of "
                "tf.data, whose batches are in the session. Read them once, and feed them."
            )
        if feeds is None or callable(feeds) or self.is_iterator:
            return
        if hasattr(feeds, "get_next") or isinstance(feeds, tf.data.Dataset):
            raise TypeError(
                f"{self.owner}: `feeds` must be an initializable iterator where tf.data gives the "
                f"data, got {type(feeds).__name__}. Use tf.data.make_initializable_iterator."
            )
        if hasattr(feeds, "__next__"):
            raise TypeError(
                f"{self.owner}: `feeds` must be read more than once, got the one-shot iterator "
                f"{type(feeds).__name__}. Pass a list, or the function that makes the iterator."
            )
        if hasattr(feeds, "keys") or not hasattr(feeds, "__iter__"):
            raise TypeError(
                f"{self.owner}: `feeds` must be an iterable of feed dicts, got "
                f"{type(feeds).__name__}. Pass a list with a feed dict for each batch."
            )
        if hasattr(feeds, "__len__"):
            self._check_number(len(feeds), "before the first pass")

    def _check_weights(self) -> None:
        if self.reduction not in (_MEAN, _SUM):
            raise ValueError(
                f"{self.owner}: `reduction` must be 'mean' or 'sum', got {self.reduction!r}. "
                "'mean' weighs the batches."
            )
        weights = self.weights
        if self.reduction == _SUM:
            if weights is not None:
                raise ValueError(
                    f"{self.owner}: `batch_weights` must be None with reduction='sum', got "
                    f"{type(weights).__name__}. A sum adds each batch once."
                )
            return
        if self.weight_tensor is not None:
            if weights.graph is not self.session.graph or weights.shape.ndims not in (0, None):
                raise ValueError(
                    f"{self.owner}: `batch_weights` must be a scalar of the session's graph, got "
                    f"{weights}. Pass the number by which the batch's loss divides."
                )
        elif self.is_iterator:
            raise ValueError(
                f"{self.owner}: `batch_weights` must be a scalar tensor where a tf.data iterator "
                "gives the data. Pass tf.shape(a tensor of the batch)[0], or reduction='sum'."
            )
        elif weights is not None and not callable(weights) and not hasattr(weights, "__len__"):
            raise TypeError(
                f"{self.owner}: `batch_weights` must be None, a sequence, a function of the feed "
                f"or a scalar tensor, got {type(weights).__name__}. Pass a list of numbers."
            )
        elif hasattr(weights, "__len__") and hasattr(self.feeds, "__len__"):
            self._check_number(len(self.feeds))

    def _check_number(self, number: int, when: str = "") -> None:
        """Checks the number of batches of a pass, or one that a pass reaches at least."""
        if number == 0:
            raise ValueError(
                f"{self.owner}: `feeds` must hold a batch, got none {when or 'in this pass'}. "
                "A used-up iterator gives none: pass a list, or the function that makes it."
            )
        weights = self.weights
        if self.weight_tensor is not None or not hasattr(weights, "__len__"):
            return
        if len(weights) != number:
            raise ValueError(
                f"{self.owner}: `batch_weights` must have one entry for each batch, got "
                f"{len(weights)} for {number} batches. Pass a function of the feed."
            )


def _is_initializable(feeds: Any) -> bool:
    try:
        return isinstance(getattr(feeds, "initializer", None), tf.Operation)
    except ValueError:  # a one-shot iterator says so
        return False


def _length(value: Any) -> Optional[int]:
    """The leading dimension of a fed value, or None for a scalar."""
    if isinstance(value, tf.SparseTensorValue):
        return int(value.dense_shape[0])
    shape = np.shape(value)
    return int(shape[0]) if shape else None


def _shown(lengths: Dict[str, int]) -> str:
    shown: List[str] = [f"{name}: {length}" for name, length in sorted(lengths.items())]
    return ", ".join(shown)
