"""Data that can be read again and again, with the weights of its batches."""

from typing import Any, Dict, Iterator, List, Optional

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor

MEAN, SUM = "mean", "sum"


class WeightedData:
    """Feeds and weights of batches.

    Args:
      owner: the name of the operator, for messages.
      session: of the graph.
      feeds: None; an iterable of feed dicts that can be read more than once; a function that
        returns one; or an initializable iterator of tf.data.
      batch_weights: None, a sequence, a function of the feed, or a scalar tensor.
      reduction: "mean" or "sum".
    """

    def __init__(
        self, owner: str, session: Session, feeds: Any, batch_weights: Any, reduction: str
    ) -> None:
        self.owner, self.session, self.feeds = owner, session, feeds
        self.weights, self.reduction = batch_weights, reduction
        self.is_iterator = _is_initializable(feeds)
        self._check_feeds()
        self._check_weights()

    @property
    def weight_tensor(self) -> Optional[Tensor]:
        """The tensor that is fetched as the weight of a batch, or None."""
        return _tf.tensor_of(self.weights)

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

    # --- Weights ----------------------------------------------------------------------------------

    def weight_before(self, number: int, feed: Dict[Any, Any]) -> Optional[float]:
        """The weight of a batch as far as it is known before the run; else None."""
        if self.reduction == SUM:
            return 1.0
        if self.weight_tensor is not None:
            return None
        if self.weights is None:
            return self._leading_dimension(number, feed)
        if callable(self.weights):
            return self.checked(self.weights(feed), number)
        if number >= len(self.weights):
            self.check_number(number + 1)
        return self.checked(self.weights[number], number)

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

    def checked(self, weight: Any, number: int) -> float:
        """Returns the weight of a batch; ValueError unless it is finite and at least 0."""
        if np.ndim(weight) or not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"{self.owner}: `batch_weights` must be scalars, finite and at least 0, got "
                f"{weight!r} for batch {number}. Pass the number by which the batch's loss divides."
            )
        return float(weight)

    # --- Checks -----------------------------------------------------------------------------------

    def _check_feeds(self) -> None:
        feeds = self.feeds
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
            self.check_number(len(feeds), "before the first pass")

    def _check_weights(self) -> None:
        if self.reduction not in (MEAN, SUM):
            raise ValueError(
                f"{self.owner}: `reduction` must be 'mean' or 'sum', got {self.reduction!r}. "
                "'mean' weighs the batches."
            )
        weights = self.weights
        if self.reduction == SUM:
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
            self.check_number(len(self.feeds))

    def check_number(self, number: int, when: str = "") -> None:
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
