"""The trace of a matrix that is known by its products, with error bars."""

import dataclasses
import math
from typing import Any, Tuple

import numpy as np
from scipy import stats

from tf1xent.curvature.estimates.lanczos import generator
from tf1xent.curvature.estimates.result import Result
from tf1xent.curvature.estimates.symmetric import SymmetricMatrix
from tf1xent.curvature.estimates.xtrace import xtrace

__all__ = ["TraceEstimate", "trace"]

# With fewer products the samples are worth more than a basis.
_MOST_FOR_HUTCHINSON = 12
# An error bar needs two samples.
_FEWEST_PRODUCTS = {"auto": 2, "hutchinson": 2, "hutch++": 4, "xtrace": 4}


@dataclasses.dataclass(frozen=True, eq=False)
class TraceEstimate(Result):
    """An estimate of a trace.

    Attributes:
      value: the estimate; unbiased.
      standard_error: of `value`, over the random vectors; 0 where it is exact. The rounding of the
        products comes on top.
      interval: (low, high), the 95 % confidence interval by Student's t.
      num_products: products with the operator.
      method: "hutchinson", "hutch++", "xtrace", or "exact".
    """

    value: float
    standard_error: float
    interval: Tuple[float, float]
    num_products: int
    method: str


def trace(
    operator: Any, num_products: int = 30, *, method: str = "auto", seed: Any = 0
) -> TraceEstimate:
    """The sum of all eigenvalues, from random vectors, with a 95 % interval.

    Use it for the mean curvature of a loss or of each of its layers
    (`tf1xent.curvature.per_layer`); divided by n it is the mean eigenvalue. With m products::

        hutchinson    the mean of z^T A z over m vectors z of random signs
        hutch++       m / 3 products for a basis Q of where A is large, m / 3 for tr(Q^T A Q), and
                      the mean of m / 3 samples of what lies outside of Q
        xtrace        the same with every one of m / 2 vectors left out of Q in turn

    "auto" takes "hutchinson" up to 12 products and "xtrace" beyond. Error bars of "hutch++" are
    those of its samples given Q; those of "xtrace" hold the covariance of its samples
    (see the module `xtrace`). An n of at most `num_products` takes n products and is exact.

    Memory, in vectors of n entries: 2 m, with "hutch++" m. "hutchinson" is one pass over the data,
    "xtrace" two, "hutch++" three.

    Args:
      operator: symmetric `scipy.sparse.linalg.LinearOperator` or array, `[n, n]`.
      num_products: how many products to make, at most; at least 2, or 4 where `method` needs them.
      method: "auto", "hutchinson", "hutch++" or "xtrace".
      seed: an int, or whatever `numpy.random.RandomState` takes.

    Returns:
      `TraceEstimate`.

    Raises:
      ValueError: a matrix that is not square or not symmetric, a product that is not finite, an
        unknown method, too few products.

    Example:

    >>> import numpy as np
    >>> from tf1xent.curvature import trace
    >>> matrix = np.diag(1.0 / np.arange(1, 101) ** 2)
    >>> estimate = trace(matrix, 30)
    >>> low, high = estimate.interval
    >>> bool(low < np.trace(matrix) < high), high - low < 0.1
    (True, True)

    Source: M. F. Hutchinson, 1989; R. A. Meyer, C. Musco, C. Musco, D. P. Woodruff, Hutch++:
    Optimal Stochastic Trace Estimation, 2021; E. N. Epperly, J. A. Tropp, R. J. Webber, 2024.
    """
    matrix = SymmetricMatrix("trace", operator)
    if method not in _FEWEST_PRODUCTS:
        names = ", ".join(repr(name) for name in _FEWEST_PRODUCTS)
        raise ValueError(f"trace: `method` must be one of {names}, got {method!r}. Use 'auto'.")
    fewest = _FEWEST_PRODUCTS[method]
    if num_products < fewest:
        raise ValueError(
            f"trace: `num_products` must be at least {fewest} for {method!r}, got {num_products}. "
            "One sample has no error bar."
        )
    if matrix.size <= num_products:
        value = float(np.trace(matrix.dense()))
        return TraceEstimate(value, 0.0, (value, value), matrix.num_products, "exact")
    if method == "auto":
        method = "hutchinson" if num_products <= _MOST_FOR_HUTCHINSON else "xtrace"
    random = generator(seed)
    if method == "xtrace":
        count = num_products // 2
        estimate, error = xtrace(matrix, _directions(random, matrix.size, count))
    else:
        known, samples = (_hutchinson if method == "hutchinson" else _hutch_plus_plus)(
            matrix, num_products, random
        )
        count = len(samples)
        estimate = known + float(samples.mean())
        error = float(samples.std(ddof=1)) / math.sqrt(count)
    half = error * float(stats.t.ppf(0.975, count - 1))
    interval = (estimate - half, estimate + half)
    return TraceEstimate(estimate, error, interval, matrix.num_products, method)


def _hutchinson(
    matrix: SymmetricMatrix, num_products: int, random: np.random.RandomState
) -> Tuple[float, np.ndarray]:
    """Returns no known part, and the samples."""
    signs = random.randint(0, 2, [matrix.size, num_products]) * 2.0 - 1.0
    return 0.0, np.einsum("ij,ij->j", signs, matrix.matmat(signs))


def _hutch_plus_plus(
    matrix: SymmetricMatrix, num_products: int, random: np.random.RandomState
) -> Tuple[float, np.ndarray]:
    """Returns the trace inside of the basis, and samples of the trace outside."""
    k = num_products // 3
    basis = np.linalg.qr(matrix.matmat(_directions(random, matrix.size, k)))[0]
    known = float(np.einsum("ij,ij->", basis, matrix.matmat(basis)))
    vectors = _directions(random, matrix.size, num_products - 2 * k)
    vectors -= basis @ (basis.T @ vectors)
    vectors *= math.sqrt(matrix.size - k) / np.linalg.norm(vectors, axis=0)
    return known, np.einsum("ij,ij->j", vectors, matrix.matmat(vectors))


def _directions(random: np.random.RandomState, size: int, count: int) -> np.ndarray:
    """Returns columns of uniformly distributed direction, of the length sqrt(size)."""
    vectors = random.standard_normal([size, count])
    vectors *= math.sqrt(size) / np.linalg.norm(vectors, axis=0)
    return vectors
