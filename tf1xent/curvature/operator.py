"""What all operators share: one pass over the data for a block of vectors."""

from typing import Any, Callable, Iterable, List

import numpy as np
from scipy.sparse.linalg import LinearOperator

from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.curvature.parameters import Parameters

# Builds the product with one vector, given as a tensor for each parameter.
Product = Callable[[List[Tensor]], List[Tensor]]


class CurvatureOperator(LinearOperator):
    """A symmetric matrix of a loss over all data, as a SciPy operator of float64."""

    def __init__(
        self,
        session: Session,
        xs: Any,
        feeds: Iterable[Any],
        product: Product,
        batch_weights: Any = None,
        damping: float = 0.0,
    ) -> None:
        self.parameters = Parameters(xs)
        super().__init__(np.dtype(np.float64), (self.parameters.size, self.parameters.size))
        self.damping = damping
        self._session, self._feeds, self._batch_weights = session, feeds, batch_weights
        with session.graph.as_default():
            self._vectors = [
                tf.placeholder(x.dtype.base_dtype, x.shape) for x in self.parameters.tensors
            ]
            self._products = product(self._vectors)

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        total = np.zeros(X.shape)
        all_weights = 0.0
        columns = [self.parameters.unflatten(column) for column in X.T]
        for number, feed in enumerate(self._feeds):
            weight = self._weight(number, feed)
            all_weights += weight
            for j, arrays in enumerate(columns):
                fed = dict(feed, **{})
                fed.update(zip(self._vectors, arrays))
                values = self._session.run(self._products, fed)
                total[:, j] += weight * self.parameters.flatten(values)
        return total / all_weights + self.damping * X

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, [-1, 1]))

    def _adjoint(self) -> "CurvatureOperator":
        return self

    def _weight(self, number: int, feed: Any) -> float:
        if self._batch_weights is not None:
            return float(self._batch_weights[number])
        lengths = {np.shape(value)[0] for value in feed.values() if np.ndim(value)}
        return float(lengths.pop()) if lengths else 1.0


def scalar(loss: Tensor) -> Tensor:
    """Returns a loss; ValueError if it is not a scalar."""
    if loss.shape.ndims != 0:
        raise ValueError(f"`loss` must be a scalar, got shape {loss.shape}. Use tf.reduce_mean.")
    return loss
