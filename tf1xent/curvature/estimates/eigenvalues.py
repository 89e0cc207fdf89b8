"""The largest eigenvalues, by SciPy's eigsh."""

import dataclasses
import inspect
import math
from typing import Any, Dict, Optional, Tuple

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh

from tf1xent.curvature.estimates.lanczos import generator, sphere
from tf1xent.curvature.estimates.result import Result
from tf1xent.curvature.estimates.symmetric import SymmetricMatrix
from tf1xent.errors import ConvergenceError

__all__ = ["Eigenvalues", "top_eigenvalues"]

# How many basis vectors more than eigenvalues. SciPy's own choice, 20 for one eigenvalue, makes all
# 20 products before it looks; on the spectra of trained networks 7 make half as many.
_SPARE = 6
# New versions of SciPy draw the vector by which ARPACK leaves an invariant subspace; unseeded.
_DRAWS = "rng" in inspect.signature(eigsh).parameters


@dataclasses.dataclass(frozen=True, eq=False)
class Eigenvalues(Result):
    """Eigenvalues by magnitude, the largest first.

    Attributes:
      values: `[k]` of float64, with their signs.
      vectors: `[n, k]`, an orthonormal column for each value; None where they were not asked for.
      residuals: `[k]`, the length of ``A v - value v``, by products of their own; None likewise. An
        eigenvalue lies within its residual of the value, and mostly much closer: the error of a
        value is the squared residual over the distance to the next eigenvalue.
      num_products: products with the operator, those of the residuals among them.
    """

    values: np.ndarray
    vectors: Optional[np.ndarray] = dataclasses.field(metadata={"json": False})
    residuals: Optional[np.ndarray]
    num_products: int


def top_eigenvalues(
    operator: Any,
    k: int = 1,
    *,
    tol: float = 1e-3,
    seed: Any = 0,
    vectors: bool = False,
    max_products: int = 2000,
) -> Eigenvalues:
    """The `k` eigenvalues of largest magnitude, negative ones included.

    Use it for the sharpness of a minimum, or for the directions of largest curvature; to see all
    of a spectrum use `tf1xent.curvature.spectral_density`. It runs the implicitly restarted Lanczos
    iteration of ARPACK (`scipy.sparse.linalg.eigsh`) from a seeded start vector, with a basis of
    ``b = k + max(6, k // 2)`` vectors. An eigenvalue that stands in the spectrum several times may
    be found fewer times, as by every such iteration.

    Memory, in vectors of n entries: b + 6, and k more in old versions of SciPy: 14 for the largest
    eigenvalue, 22 or 33 for ten; with `vectors` 3 k more. Where n is at most 4 b, the matrix is
    formed by n products and its spectrum is exact.

    Args:
      operator: symmetric `scipy.sparse.linalg.LinearOperator` or array, `[n, n]`.
      k: how many, from 1 to n.
      tol: relative accuracy at which a value counts as found. ARPACK compares it with its estimate
        of the residual, so that values are mostly right to about `tol` squared; 0 is rounding.
      seed: of the start vector: an int, or whatever `numpy.random.RandomState` takes.
      vectors: also return the eigenvectors and their residuals: k more products, in one block.
      max_products: about how many products to make before giving up.

    Returns:
      `Eigenvalues`.

    Raises:
      ValueError: a matrix that is not square or not symmetric, a product that is not finite, `k` or
        `tol` out of range.
      tf1xent.errors.ConvergenceError: `max_products` were not enough. Its `partial` holds the
        `Eigenvalues` that were found; these need not be the largest ones.

    Example:

    >>> import numpy as np
    >>> from tf1xent.curvature import top_eigenvalues
    >>> found = top_eigenvalues(np.diag([1.0, -3.0, 2.0]), k=2)
    >>> print(found.values.round(6) + 0.0)
    [-3.  2.]

    Source: R. B. Lehoucq, D. C. Sorensen, C. Yang, ARPACK Users' Guide, 1998.
    """
    matrix = SymmetricMatrix("top_eigenvalues", operator)
    if not 1 <= k <= matrix.size:
        raise ValueError(
            f"top_eigenvalues: `k` must be from 1 to the {matrix.size} rows of the operator, "
            f"got {k}. Ask for fewer eigenvalues."
        )
    if not tol >= 0:
        raise ValueError(f"top_eigenvalues: `tol` must be at least 0, got {tol}. Use 1e-3.")
    size_of_basis = k + max(_SPARE, k // 2)
    if matrix.size <= 4 * size_of_basis:
        every, eigenvectors = np.linalg.eigh(matrix.dense())
        return _sorted(matrix, every, eigenvectors, k, vectors)
    values, found = _iterate(matrix, k, size_of_basis, tol, seed, vectors, max_products)
    return _sorted(matrix, values, found, k, vectors)


def _iterate(
    matrix: SymmetricMatrix,
    k: int,
    size_of_basis: int,
    tol: float,
    seed: Any,
    vectors: bool,
    max_products: int,
) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Returns what ARPACK finds, in its order."""
    random = generator(seed)
    start = sphere(random, matrix.size)
    options: Dict[str, Any] = {}
    if _DRAWS:
        options["rng"] = np.random.default_rng(random.randint(2**31))
    # The first restart needs the whole basis, each later one what it drops of it.
    restarts = 1 + max(0, math.ceil((max_products - size_of_basis) / (size_of_basis - k)))
    try:
        found = eigsh(
            matrix,
            k,
            which="LM",
            v0=start,
            ncv=size_of_basis,
            maxiter=restarts,
            tol=tol,
            return_eigenvectors=vectors,
            **options,
        )
    except ArpackNoConvergence as error:
        values, found = error.eigenvalues, error.eigenvectors if vectors else None
        used = matrix.num_products
        raise ConvergenceError(
            f"top_eigenvalues: `max_products` must let all {k} eigenvalues converge, got "
            f"{len(values)} of them after {used} products. Raise it, or `tol` (now {tol:g}).",
            _sorted(matrix, values, found, len(values), vectors),
        ) from None
    except ArpackError:
        # ARPACK stops where the first product is zero, which only that of the zero matrix is.
        if np.any(matrix.matvec(start)):
            raise
        directions = random.standard_normal([matrix.size, k])
        return np.zeros(k), np.linalg.qr(directions)[0] if vectors else None
    return found if vectors else (found, None)


def _sorted(
    matrix: SymmetricMatrix,
    values: np.ndarray,
    found: Optional[np.ndarray],
    k: int,
    vectors: bool,
) -> Eigenvalues:
    order = np.argsort(-np.abs(values), kind="stable")[:k]
    values, residuals = values[order], None
    if vectors and found is not None:
        found = found[:, order]
        products = matrix.matmat(found)
        products -= found * values
        residuals = np.linalg.norm(products, axis=0)
    return Eigenvalues(values, found if vectors else None, residuals, matrix.num_products)
