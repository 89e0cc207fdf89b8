"""The Lanczos iteration with full reorthogonalisation, and the quadrature that it gives."""

from typing import Any, NamedTuple, Tuple

import numpy as np
from scipy.linalg import eigh_tridiagonal, solveh_banded
from scipy.sparse.linalg import LinearOperator


class Tridiagonal(NamedTuple):
    """The matrix seen from one start vector: V^T A V of the Krylov space's basis V."""

    # [steps]; [steps], the last one being the length of what the next vector would be made of.
    diagonal: np.ndarray
    off_diagonal: np.ndarray

    def quadrature(self) -> Tuple[np.ndarray, np.ndarray]:
        """Returns Gauss's nodes and weights of the spectral measure of the start vector.

        ``v^T f(A) v = sum_k weights_k f(nodes_k)`` for a unit vector v: exact for polynomials f up
        to the degree 2 * steps - 1.
        """
        nodes, vectors = eigh_tridiagonal(self.diagonal, self.off_diagonal[:-1])
        return nodes, np.square(vectors[0])

    def with_node(self, node: float) -> "Tridiagonal":
        """Returns what has Gauss and Radau's quadrature: `node`, below all others, is one more.

        The last entry of the diagonal is chosen so that the matrix has this eigenvalue.
        """
        banded = np.stack([self.diagonal - node, self.off_diagonal])
        right = np.zeros(len(self.diagonal))
        right[-1] = self.off_diagonal[-1] ** 2
        last = node + solveh_banded(banded, right, lower=True)[-1]
        return Tridiagonal(np.append(self.diagonal, last), np.append(self.off_diagonal, 0.0))


def lanczos(matrix: LinearOperator, start: np.ndarray, num_steps: int) -> Tridiagonal:
    """Runs `num_steps` steps, fewer where the Krylov space ends before; one product a step.

    Each new vector is made orthogonal to all before it, twice. Without this, rounding brings back
    copies of the eigenvalues that have converged. It holds `num_steps` vectors.
    """
    num_steps = min(num_steps, start.size)
    basis = np.empty([num_steps, start.size])
    diagonal, off_diagonal = np.zeros(num_steps), np.zeros(num_steps)
    vector, size = start / np.linalg.norm(start), 0.0
    for step in range(num_steps):
        basis[step] = vector
        vector = matrix.matvec(vector)
        # The length of a product is at most the largest eigenvalue by magnitude.
        size = max(size, float(np.linalg.norm(vector)))
        known = basis[: step + 1]
        coefficients = known @ vector
        vector = vector - coefficients @ known
        diagonal[step] = coefficients[step]
        vector -= (known @ vector) @ known
        off_diagonal[step] = np.linalg.norm(vector)
        # What is left is rounding: the Krylov space is complete.
        if off_diagonal[step] <= 100 * np.finfo(np.float64).eps * size:
            return Tridiagonal(diagonal[: step + 1], off_diagonal[: step + 1])
        vector = vector / off_diagonal[step]
    return Tridiagonal(diagonal, off_diagonal)


def sphere(random: np.random.RandomState, size: int) -> np.ndarray:
    """Returns a unit vector of uniformly distributed direction."""
    vector = random.standard_normal(size)
    return vector / np.linalg.norm(vector)


def generator(seed: Any) -> np.random.RandomState:
    """Returns the source of random numbers; RandomState's stream is the same in every NumPy."""
    return np.random.RandomState(seed)
