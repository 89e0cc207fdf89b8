"""Matrices of known eigenvalues."""

import numpy as np
from scipy.sparse.linalg import LinearOperator


def symmetric(eigenvalues, seed=0):
    """Return a matrix of these eigenvalues."""
    shape = [len(eigenvalues)] * 2
    vectors = np.linalg.qr(np.random.RandomState(seed).normal(size=shape))[0]
    return vectors * np.asarray(eigenvalues, np.float64) @ vectors.T


class Counted(LinearOperator):
    """A diagonal matrix that counts the vectors it is multiplied with."""

    def __init__(self, diagonal):
        super().__init__(np.dtype(np.float64), (len(diagonal), len(diagonal)))
        self.diagonal, self.count = diagonal, 0

    def _matmat(self, X):
        self.count += X.shape[1]
        return self.diagonal[:, None] * X

    def _matvec(self, x):
        return self._matmat(np.reshape(x, [-1, 1]))
