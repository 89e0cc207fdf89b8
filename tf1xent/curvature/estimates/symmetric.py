"""What every estimate asks of its matrix: products, counted and checked."""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator


class SymmetricMatrix(LinearOperator):
    """A symmetric matrix that counts its products and refuses those that are not finite."""

    def __init__(self, function: str, operator: Any) -> None:
        self._name = function
        self._inner = aslinearoperator(_checked(function, operator))
        super().__init__(np.dtype(np.float64), self._inner.shape)
        self.size = int(self.shape[0])
        self.num_products = 0

    def dense(self) -> np.ndarray:
        """Returns the matrix itself, by one product for each column, without its asymmetry."""
        matrix = self.matmat(np.eye(self.size))
        return (matrix + matrix.T) / 2

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        if not X.shape[1]:
            return np.zeros(X.shape)
        self.num_products += X.shape[1]
        product = np.asarray(self._inner.matmat(X), np.float64)
        if not np.isfinite(product).all():
            raise ValueError(
                f"{self._name}: `operator` must have finite products, got NaN or infinity. "
                "Look for the batch with tf1xent.curvature's operators, which name it."
            )
        return product

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, [-1, 1]))

    def _adjoint(self) -> "SymmetricMatrix":
        return self


def _checked(function: str, operator: Any) -> Any:
    """Returns an operator; raises if it is no square, real and, where that is seen, symmetric."""
    if isinstance(operator, (list, tuple)):
        operator = np.asarray(operator)
    shape = tuple(getattr(operator, "shape", ()))
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise ValueError(
            f"{function}: `operator` must be a square matrix, got {_kind(operator)} of shape "
            f"{shape}. Give a symmetric array or scipy.sparse.linalg.LinearOperator."
        )
    if np.issubdtype(getattr(operator, "dtype", None) or np.float64, np.complexfloating):
        raise TypeError(
            f"{function}: `operator` must be real, got {operator.dtype}. Give its real part."
        )
    if sparse.issparse(operator):
        operator = operator.tocsr()  # some other formats have no maximum
    if isinstance(operator, np.ndarray) or sparse.issparse(operator):
        size, asymmetry = abs(operator).max(), abs(operator - operator.T).max()
        # Not asked for more: float32 products, one for each column, make a matrix to 1e-6 or so.
        if asymmetry > 1e-3 * size:
            raise ValueError(
                f"{function}: `operator` must be symmetric, got entries that differ from their "
                f"mirror images by {asymmetry:.3g}. Give (a + a.T) / 2 if that is what you mean."
            )
    return operator


def _kind(value: Any) -> str:
    return type(value).__name__
