"""The density of all eigenvalues, by stochastic Lanczos quadrature."""

import dataclasses
from typing import Any, List, Optional, Tuple, Union

import numpy as np

from tf1xent.curvature.estimates.lanczos import generator, lanczos, sphere
from tf1xent.curvature.estimates.result import Result
from tf1xent.curvature.estimates.symmetric import SymmetricMatrix

__all__ = ["SpectralDensity", "spectral_density"]

# Points of a grid that is not given, and how many sigmas it reaches beyond the nodes.
_POINTS, _MARGIN = 1001, 4.0
# The part of the nodes' range that a Gaussian takes by default.
_SIGMA = 0.01
_MOMENTS = 2


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralDensity(Result):
    """The distribution of the n eigenvalues, each of weight 1 / n.

    Attributes:
      nodes: for each random vector, the points of its quadrature, ascending; the outermost ones are
        estimates of the outermost eigenvalues.
      weights: for each random vector, the nodes' weights; they sum to 1.
      grid: `[points]`, where the density is evaluated.
      density: `[points]`, the nodes' Gaussians, summed by weight; its integral is 1.
      sigma: standard deviation of the Gaussians.
      moments: means of the eigenvalues and of their squares: ``tr(A) / n`` and ``tr(A^2) / n``,
        from the nodes, not from the smoothed density.
      moment_errors: the standard errors of `moments` over the random vectors.
      size: n.
      num_products: products with the operator.
    """

    nodes: List[np.ndarray]
    weights: List[np.ndarray]
    grid: np.ndarray
    density: np.ndarray
    sigma: float
    moments: Tuple[float, ...]
    moment_errors: Tuple[float, ...]
    size: int
    num_products: int


def spectral_density(
    operator: Any,
    *,
    num_steps: int = 80,
    num_vectors: int = 1,
    seed: Any = 0,
    sigma: Optional[float] = None,
    grid: Union[None, int, np.ndarray] = None,
) -> SpectralDensity:
    """The density of the eigenvalues: how many are large, negative, or nearly zero.

    Use it to see the whole spectrum at once; for a few exact eigenvalues use
    `tf1xent.curvature.top_eigenvalues`. From each of `num_vectors` random unit vectors v,
    `num_steps` Lanczos steps give nodes and weights with ``v^T f(A) v = sum_k weight_k f(node_k)``,
    whose expectation is ``tr(f(A)) / n``::

        density(x) = mean over v of sum_k weight_k N(x; node_k, sigma^2)

    A weight is 1 / n times the number of eigenvalues at a node, but for the few large eigenvalues
    it is a random number of that mean: more vectors make it better, more steps the nodes finer.

    Every new vector is made orthogonal to all before it, without which copies of the largest
    eigenvalues appear. The memory is that of ``num_steps + 4`` vectors of n entries whatever
    `num_vectors`: where it is short, take fewer steps; 20 show the shape.

    Args:
      operator: symmetric `scipy.sparse.linalg.LinearOperator` or array, `[n, n]`.
      num_steps: Lanczos steps and products for each random vector; n at most.
      num_vectors: random vectors, one after another.
      seed: an int, or whatever `numpy.random.RandomState` takes.
      sigma: width of the smoothing; by default a hundredth of the range of the nodes.
      grid: points at which to evaluate the density, or how many of them, evenly over the nodes and
        4 sigmas beyond; 1001 by default.

    Returns:
      `SpectralDensity`. The variance of ``v^T f(A) v`` is 2 / (n + 2) times the variance of f over
      the eigenvalues, which the quadrature estimates itself, so that one vector is enough for the
      errors of the moments. Where very few eigenvalues make up a moment, only several vectors make
      its error reliable.

    Raises:
      ValueError: a matrix that is not square or not symmetric, a product that is not finite,
        `num_steps` or `num_vectors` below 1, `sigma` that is not positive.

    Example: two thirds of these eigenvalues are 0.

    >>> import numpy as np
    >>> from tf1xent.curvature import spectral_density
    >>> matrix = np.diag([0.0] * 200 + [1.0] * 100)
    >>> found = spectral_density(matrix, num_vectors=10)
    >>> print(found.nodes[0].round(6) + 0.0, found.num_products)
    [0. 1.] 20
    >>> abs(found.moments[0] - 1 / 3) < 3 * found.moment_errors[0]
    True

    Source: L. Lin, Y. Saad, C. Yang, Approximating Spectral Densities of Large Matrices, 2016;
    B. Ghorbani, S. Krishnan, Y. Xiao, An Investigation into Neural Net Optimization via Hessian
    Eigenvalue Density, 2019.
    """
    matrix = SymmetricMatrix("spectral_density", operator)
    for name, number in (("num_steps", num_steps), ("num_vectors", num_vectors)):
        if number < 1:
            raise ValueError(f"spectral_density: `{name}` must be at least 1, got {number}.")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"spectral_density: `sigma` must be positive, got {sigma}. Use None.")
    random = generator(seed)
    nodes, weights = [], []
    for _ in range(num_vectors):
        found = lanczos(matrix, sphere(random, matrix.size), num_steps).quadrature()
        nodes.append(found[0])
        weights.append(found[1])
    low, high = min(x[0] for x in nodes), max(x[-1] for x in nodes)
    if sigma is None:
        sigma = _SIGMA * _extent(float(low), float(high))
    if grid is None or np.ndim(grid) == 0:
        points = _POINTS if grid is None else int(grid)
        grid = np.linspace(low - _MARGIN * sigma, high + _MARGIN * sigma, points)
    grid = np.asarray(grid, np.float64)
    moments, errors = _moments(nodes, weights, matrix.size)
    density = smoothed(nodes, weights, grid, sigma)
    return SpectralDensity(
        nodes, weights, grid, density, sigma, moments, errors, matrix.size, matrix.num_products
    )


def _extent(low: float, high: float) -> float:
    """Returns the range; where that is rounding, as of the identity's multiples, the value or 1."""
    size = max(abs(low), abs(high))
    return high - low if high - low > 1e-8 * size else size or 1.0


def smoothed(
    nodes: List[np.ndarray], weights: List[np.ndarray], grid: np.ndarray, sigma: float
) -> np.ndarray:
    """Returns the mean over the random vectors of the nodes' Gaussians, by weight."""
    total = np.zeros(grid.shape)
    for node, weight in zip(np.concatenate(nodes), np.concatenate(weights)):
        total += weight * np.exp(-0.5 * np.square((grid - node) / sigma))
    return total / (len(nodes) * sigma * np.sqrt(2 * np.pi))


def _moments(
    nodes: List[np.ndarray], weights: List[np.ndarray], size: int
) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """Returns the first moments of the eigenvalues and their standard errors."""
    node, weight = np.concatenate(nodes), np.concatenate(weights) / len(nodes)
    moments, errors = [], []
    for power in range(1, _MOMENTS + 1):
        values = node**power
        mean = float(weight @ values)
        variance = float(weight @ np.square(values - mean))
        moments.append(mean)
        errors.append(float(np.sqrt(2 * variance / (size + 2) / len(nodes))))
    return tuple(moments), tuple(errors)
