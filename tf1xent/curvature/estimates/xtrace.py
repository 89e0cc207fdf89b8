"""XTrace: every random vector serves for the basis of the others and for the sample left outside.

With k random vectors w_i of length sqrt(n) and uniform direction, and Q_i an orthonormal basis of
A w_j for all j except i, each ::

    t_i = tr(Q_i^T A Q_i) + (n - k + 1) x_i^T A x_i / x_i^T x_i,    x_i = w_i - Q_i Q_i^T w_i

is an unbiased estimate of the trace, because w_i is independent of Q_i. The estimate is their mean.

The t_i are correlated, so that s^2 / k, with their sample variance s^2, is too small. Let t_ij be
t_i with w_j left out of the basis as well, and d_ij = t_ij - t_i. Given all other vectors,
e_ij = t_ij - tr(A) is a function of w_i alone, of mean 0, and d_ji has mean 0 for every fixed w_i;
so ``E[e_ij e_ji] = E[e_ij d_ji] = E[d_ij e_ji] = 0``, and from e_i = e_ij - d_ij follows ::

    cov(t_i, t_j) = E[d_ij d_ji]
    var(mean of t) = E[s^2 / k + c],    c the mean of d_ij d_ji over i != j

which needs no further product: everything happens in the space of the k products. A c below 0
counts as 0.

Source: E. N. Epperly, J. A. Tropp, R. J. Webber, XTrace: Making the Most of Every Sample in
Stochastic Trace Estimation, 2024, for the estimate; the correction c is derived above.
"""

import math
from typing import Optional, Tuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse.linalg import LinearOperator


def xtrace(matrix: LinearOperator, vectors: np.ndarray) -> Tuple[float, float]:
    """Returns the estimate and its standard error; two products for each of the `vectors`.

    `vectors` is `[n, k]`, the w_i above, with 2 <= k < n.
    """
    products = matrix.matmat(vectors)
    basis, triangle = np.linalg.qr(products)
    sizes = np.abs(np.diag(triangle))
    values = _Inside(matrix, basis, vectors, products)
    if sizes.min() <= 10 * np.finfo(np.float64).eps * sizes.max():
        # Fewer dimensions than vectors: the basis holds the range of the matrix.
        return values.trace, 0.0
    # Column i is the direction of the basis that A w_i alone contributes, missing without w_i.
    missing = solve_triangular(triangle, np.eye(len(triangle)), trans="T")
    missing /= np.linalg.norm(missing, axis=0)
    samples = np.array([values.without(i, missing[:, [i]])[0] for i in range(len(sizes))])
    variance = samples.var(ddof=1) / len(samples)
    # Few vectors can make the estimate of the covariance negative; the error bar must not vanish.
    variance += max(_covariance(values, missing, samples), 0.0)
    return float(samples.mean()), math.sqrt(variance)


def _covariance(values: "_Inside", missing: np.ndarray, samples: np.ndarray) -> float:
    """Returns the mean of d_ij d_ji."""
    k = len(samples)
    differences = np.zeros([k, k])
    for i in range(k):
        first, others = missing[:, i], np.arange(k) != i
        # The second direction of each pair, orthogonal to the first; they can be nearly parallel.
        second = missing[:, others]
        for _ in range(2):
            second = second - np.outer(first, first @ second)
            second = second / np.linalg.norm(second, axis=0)
        differences[i, others] = values.without(i, first[:, None], second) - samples[i]
    return float(np.sum(differences * differences.T) / (k * (k - 1)))


class _Inside:
    """What the estimates need, in coordinates of the basis of all products."""

    def __init__(
        self,
        matrix: LinearOperator,
        basis: np.ndarray,
        vectors: np.ndarray,
        products: np.ndarray,
    ) -> None:
        self._size = basis.shape[0]
        self._vectors = basis.T @ vectors
        # w_i^T A w_i, Q^T A w_i and Q^T A Q.
        self._squares = np.einsum("ij,ij->j", vectors, products)
        self._products = basis.T @ products
        inner = basis.T @ matrix.matmat(basis)
        self._inner = (inner + inner.T) / 2
        self.trace = float(np.trace(inner))

    def without(self, i: int, first: np.ndarray, second: Optional[np.ndarray] = None) -> np.ndarray:
        """Returns t_i with directions taken out of the basis: `first`, and each of `second`.

        `first` is a column, `second` a matrix of columns orthogonal to it, one for each result.
        """
        inner, vector = self._inner, self._vectors[:, [i]]
        known = self.trace - np.einsum("ij,ij->j", first, inner @ first)
        vector = vector - first * (first.T @ vector)
        dimensions = len(inner) - 1
        if second is not None:
            known = known - np.einsum("ij,ij->j", second, inner @ second)
            vector = vector - second * (second.T @ vector).T
            dimensions -= 1
        outside = self._squares[i] - 2 * self._products[:, i] @ vector
        outside = outside + np.einsum("ij,ij->j", vector, inner @ vector)
        lengths = self._size - np.einsum("ij,ij->j", vector, vector)
        return known + (self._size - dimensions) * outside / lengths
