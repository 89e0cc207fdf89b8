"""How many parameters the data determine, against a damping or a prior."""

import dataclasses
import math
from typing import Any, List, Tuple

import numpy as np
from scipy import stats

from tf1xent.curvature.estimates.lanczos import Tridiagonal, generator, lanczos, sphere
from tf1xent.curvature.estimates.result import Result
from tf1xent.curvature.estimates.symmetric import SymmetricMatrix

__all__ = ["EffectiveDimension", "effective_dimension"]

# A negative eigenvalue up to this part of the largest one is the rounding of float32 products.
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class EffectiveDimension(Result):
    """An estimate of an effective dimension.

    Attributes:
      value: between 0 and n.
      standard_error: of `value`, over the random vectors; 0 where it is exact.
      quadrature_error: how far from it the mean over these vectors can be, for lack of steps: half
        the distance of an upper and a lower bound. Raise `num_products` where it matters.
      interval: (low, high), the 95 % confidence interval by Student's t, with `quadrature_error`.
      damping: the damping that it belongs to.
      num_products: products with the operator.
    """

    value: float
    standard_error: float
    quadrature_error: float
    interval: Tuple[float, float]
    damping: float
    num_products: int


def effective_dimension(
    operator: Any, damping: float, *, num_products: int = 200, num_vectors: int = 10, seed: Any = 0
) -> EffectiveDimension:
    """How many directions the data determine against a quadratic penalty of strength `damping`.

    Use it to choose a damping, or to compare models by more than their parameter count. Over the
    eigenvalues of a positive semidefinite matrix, such as that of a `GGNOperator` or a
    `FisherOperator`, itself built without damping::

        sum_i lambda_i / (lambda_i + damping)

    It is estimated from `num_vectors` random vectors by Lanczos quadrature. Gauss's quadrature is
    an upper bound of each vector's value, and Radau's with a node at the lower end of the spectrum
    a lower bound. Where n is at most `num_products`, it takes n products and is exact. A value
    below 1 comes from one or two eigenvalues; there the interval is too narrow.

    Memory: ``num_products / num_vectors + 4`` vectors of n entries.

    Args:
      operator: symmetric `scipy.sparse.linalg.LinearOperator` or array, `[n, n]`, without
        negative eigenvalues.
      damping: positive, in units of the eigenvalues.
      num_products: products in all, divided among the random vectors.
      num_vectors: random vectors, at least 2. More of them narrow `standard_error`, fewer
        `quadrature_error`.
      seed: an int, or whatever `numpy.random.RandomState` takes.

    Returns:
      `EffectiveDimension`.

    Raises:
      ValueError: a matrix that is not square or not symmetric, a product that is not finite, a
        negative eigenvalue, a damping that is not positive, fewer products than vectors.

    Example:

    >>> import numpy as np
    >>> from tf1xent.curvature import effective_dimension
    >>> print(effective_dimension(np.diag([3.0, 1.0, 0.0]), damping=1.0).value)
    1.25

    Source: D. J. C. MacKay, Bayesian Interpolation, 1992 ("the number of well-determined
    parameters"); the bounds by G. H. Golub, G. Meurant, Matrices, Moments and Quadrature, 1994.
    """
    matrix = SymmetricMatrix("effective_dimension", operator)
    if not damping > 0:
        raise ValueError(f"effective_dimension: `damping` must be positive, got {damping}.")
    if num_vectors < 2 or num_products < num_vectors:
        raise ValueError(
            "effective_dimension: `num_vectors` must be from 2 to `num_products`, got "
            f"{num_vectors} and {num_products}. Use 10 vectors and 200 products."
        )
    if matrix.size <= num_products:
        eigenvalues = np.linalg.eigvalsh(matrix.dense())
        _check_nonnegative(eigenvalues)
        value = float(np.sum(_determined(eigenvalues, damping)))
        return EffectiveDimension(value, 0.0, 0.0, (value, value), damping, matrix.num_products)
    random = generator(seed)
    bounds: List[Tuple[float, float]] = []
    for _ in range(num_vectors):
        start = sphere(random, matrix.size)
        bounds.append(_bounds(lanczos(matrix, start, num_products // num_vectors), damping))
    lower, upper = matrix.size * np.array(bounds).T
    samples, gap = (lower + upper) / 2, max(float(np.mean(upper - lower)) / 2, 0.0)
    value, error = float(samples.mean()), float(samples.std(ddof=1) / math.sqrt(num_vectors))
    half = error * float(stats.t.ppf(0.975, num_vectors - 1)) + gap
    interval = (max(value - half, 0.0), min(value + half, float(matrix.size)))
    return EffectiveDimension(value, error, gap, interval, damping, matrix.num_products)


def _bounds(found: Tridiagonal, damping: float) -> Tuple[float, float]:
    """Returns a lower and an upper bound of v^T f(A) v."""
    nodes, weights = found.quadrature()
    _check_nonnegative(nodes)
    upper = float(weights @ _determined(nodes, damping))
    # At or below all eigenvalues; below the nodes, where rounding makes those negative.
    end = min(0.0, float(nodes[0])) - 1e-12 * float(abs(nodes).max())
    if found.off_diagonal[-1] == 0 or end <= -damping:
        return upper, upper
    nodes, weights = found.with_node(end).quadrature()
    return float(weights @ _determined(nodes, damping)), upper


def _determined(eigenvalues: np.ndarray, damping: float) -> np.ndarray:
    return eigenvalues / (eigenvalues + damping)


def _check_nonnegative(eigenvalues: np.ndarray) -> None:
    if eigenvalues.min() < -_ROUNDING * np.abs(eigenvalues).max():
        raise ValueError(
            "effective_dimension: `operator` must have no negative eigenvalue, got about "
            f"{eigenvalues.min():.3g}. Use a GGNOperator or a FisherOperator."
        )
