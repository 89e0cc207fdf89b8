"""What a test loss would be without a training point, to first order."""

import dataclasses
import inspect
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from tf1xent._tf import tf
from tf1xent._typing import Session, Tensor
from tf1xent.curvature.estimates.result import Result
from tf1xent.curvature.operators.batch_norm import batch_norm_derivatives
from tf1xent.curvature.operators.batches import Batches, Request
from tf1xent.curvature.operators.curvature_operator import CurvatureOperator
from tf1xent.curvature.products.differentiation import graph_function
from tf1xent.curvature.products.jacobian_products import (
    jacobian_vector_product,
    vector_jacobian_product,
)
from tf1xent.errors import ConvergenceError

__all__ = ["Influence", "influence"]

# The relative tolerance of SciPy's cg was called `tol` up to SciPy 1.11.
_TOLERANCE = "rtol" if "rtol" in inspect.signature(cg).parameters else "tol"


@dataclasses.dataclass(frozen=True, eq=False)
class Influence(Result):
    """The predicted changes of test losses.

    Attributes:
      values: `[num_training]` for a scalar test loss, else `[num_test, num_training]`: the test
        loss without the training point, minus the test loss. Positive where the point helps.
      residuals: for each test loss, the length of ``g - A s`` relative to that of its gradient g.
      denominator: what the sum of the training losses was divided by.
      num_products: products with the operator.
    """

    values: np.ndarray
    residuals: np.ndarray
    denominator: float
    num_products: int


def influence(
    session: Session,
    test_losses: Tensor,
    train_losses: Tensor,
    operator: CurvatureOperator,
    test_feeds: Any,
    train_feeds: Any,
    *,
    denominator: Optional[float] = None,
    test_weights: Any = None,
    tol: float = 1e-5,
    max_products: int = 1000,
) -> Influence:
    """How test losses would change if a training point were left out, for all training points.

    Use it to find mislabelled or decisive training points of a model at its minimum. With the
    training objective ``sum_i l_i(x) / n + regularizer(x)`` and A its damped curvature::

        value_i = g_test^T A^-1 g_i / n,      g_i the gradient of l_i

    is the first-order change of the test loss from x to the minimum of the objective without the
    term ``l_i / n``; the other terms keep their weight 1 / n. A positive value says that the test
    loss rises without the point, so the point helps. (Where the others are a mean over n - 1,
    the pull of the regularizer relative to them falls as well, by the same for all points.)

    ``A^-1 g_test`` is solved by conjugate gradients, once for each test loss; the products of all
    g_i with it are one pass over the training data and no gradients of single examples. For a
    network use a `GGNOperator` with damping: the prediction is then the response of the proximal
    Bregman objective, which stays near the trained weights, not that of training from scratch.

    Args:
      session: runs everything; the operator's session.
      test_losses: scalar, the mean loss of a batch of test data, for one result over all of
        `test_feeds`; or `[batch]`, the loss of each test point, for a result for each.
      train_losses: `[batch]`, the terms l_i, without the regularizer. Where the training loss has
        weights, give ``weights * losses``, and their sum as `denominator`.
      operator: a positive definite operator of the training objective over the training data; its
        loss holds the regularizer, if there is one. Its variables are x, its damping is part of A.
      test_feeds, train_feeds: as `feeds` of `CurvatureOperator`. Batches may differ in size.
      denominator: what the objective divides the sum of all l_i by; by default their number n. To
        be given for an operator with reduction="sum".
      test_weights: as `batch_weights` of `CurvatureOperator`, for a scalar `test_losses`.
      tol: of the solution: the length of its residual, relative to the test gradient's.
      max_products: of each solution.

    Returns:
      `Influence`; training points in the order of `train_feeds`.

    Raises:
      TypeError: `operator` is none of this package, or a loss no float tensor.
      ValueError: ranks other than those above; an operator that is not positive definite.
      RuntimeError: the graph is finalized: a call adds its ops to it.
      tf1xent.errors.ConvergenceError: `max_products` were not enough; `partial` holds the vector.

    Example: the loss of a mean at 0. To first order the mean falls by 1 without the 6, and the
    loss, whose slope is 3, by 3.

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import HessianOperator, influence
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     mean, points = tf.Variable(3.0), tf.placeholder(tf.float32, [None])
    ...     losses = (mean - points) ** 2 / 2
    ...     session.run(tf.global_variables_initializer())
    ...     data = [{points: [1.0, 2.0]}, {points: [6.0]}]
    ...     hessian = HessianOperator(session, tf.reduce_mean(losses), mean, data)
    ...     at_zero = mean**2 / 2
    ...     print(influence(session, at_zero, losses, hessian, None, data).values)
    [ 2.  1. -3.]

    Source: P. W. Koh, P. Liang, Understanding Black-box Predictions via Influence Functions, 2017;
    J. Bae et al., If Influence Functions are the Answer, Then What is the Question?, 2022.
    """
    _check(session, test_losses, train_losses, operator, denominator)
    xs = operator.parameters.tensors
    mode = operator._batch_norm
    with session.graph.as_default(), graph_function("influence"):
        with batch_norm_derivatives([test_losses, train_losses], mode):
            cotangent = tf.placeholder(test_losses.dtype, test_losses.shape)
            test_gradient = vector_jacobian_product(test_losses, xs, cotangent)
            direction = [tf.placeholder(x.dtype.base_dtype, x.shape) for x in xs]
            along = jacobian_vector_product(train_losses, xs, direction)[0]
        pool = operator._data.workers
        if pool is not None:
            pool.include([test_losses, *test_gradient, along])
    is_mean = test_losses.shape.ndims == 0
    reduction = "mean" if is_mean else "sum"
    test_data = Batches("influence", session, test_feeds, test_weights, reduction, None, pool)
    if is_mean:
        gradients = _mean_gradient(operator, test_data, test_gradient, cotangent)
    else:
        gradients = _gradients(operator, test_data, test_losses, test_gradient, cotangent)
    matrix = _PositiveDefinite(operator)
    train_data = Batches("influence", session, train_feeds, None, "sum", None, pool)
    rows, residuals = [], []
    for gradient in gradients:
        solution, residual = _solve(matrix, gradient, tol, max_products)
        fed = dict(zip(direction, operator.parameters.unflatten(solution)))
        rows.append(_collected(train_data, along, fed))
        residuals.append(residual)
    values = np.array(rows)
    if denominator is None:
        denominator = values.shape[1]
    values = values / denominator
    if is_mean:
        values = values[0]
    return Influence(values, np.array(residuals), float(denominator), matrix.num_products)


def _solve(
    matrix: "_PositiveDefinite", gradient: np.ndarray, tol: float, max_products: int
) -> Tuple[np.ndarray, float]:
    """Returns A^-1 g and the relative length of its residual, by a product of its own."""
    options: Dict[str, Any] = {_TOLERANCE: tol, "atol": 0.0, "maxiter": max_products}
    solution, code = cg(matrix, gradient, **options)
    length = np.linalg.norm(gradient)
    residual = float(np.linalg.norm(gradient - matrix.matvec(solution)) / length) if length else 0.0
    if code != 0:
        raise ConvergenceError(
            f"influence: `max_products` must be enough for a relative residual of {tol:g}, got "
            f"{residual:.3g} after {max_products}. Raise it, or the operator's damping.",
            solution,
        )
    return solution, residual


class _PositiveDefinite(LinearOperator):
    """An operator that counts its products and refuses a direction without positive curvature.

    SciPy's cg goes on where it meets one, to a result that solves nothing.
    """

    def __init__(self, operator: CurvatureOperator) -> None:
        super().__init__(np.dtype(np.float64), operator.shape)
        self._operator, self.num_products = operator, 0

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        self.num_products += 1
        x = np.ravel(x)
        product = self._operator.matvec(x)
        curvature = float(x @ product)
        if curvature <= 0 and x.any():
            raise ValueError(
                "influence: `operator` must be positive definite, got the curvature "
                f"{curvature / float(x @ x):.3g} in a direction that CG takes. Raise its damping, "
                "or use a GGNOperator."
            )
        return product


def _mean_gradient(
    operator: CurvatureOperator, data: Batches, gradient: Sequence[Tensor], cotangent: Tensor
) -> List[np.ndarray]:
    """Returns the gradient of the mean test loss, as the only row."""
    total = np.zeros([1, operator.parameters.size])
    slices = list(operator.parameters.slices.values())
    names = operator.parameters.names
    data.add_up([Request([gradient], names, slices, list(total), lambda: {cotangent: 1.0})])
    return list(total)


def _gradients(
    operator: CurvatureOperator,
    data: Batches,
    losses: Tensor,
    gradient: Sequence[Tensor],
    cotangent: Tensor,
) -> List[np.ndarray]:
    """Returns the gradient of each test loss: one backward pass for each."""
    if data.is_iterator:
        raise ValueError(
            "influence: `test_feeds` must be feed dicts for several test losses, since each loss "
            "reads its batch again, got a tf.data iterator. Give a list, or a scalar loss."
        )
    lengths = [len(values[0]) for _, values in data.each([losses])]

    def one_at_a_time(number: int) -> Iterator[Dict[Any, Any]]:
        for selected in np.eye(lengths[number]):
            yield {cotangent: selected}

    return [
        _finite(operator.parameters.flatten(arrays), "test", number)
        for number, arrays in data.each(gradient, one_at_a_time)
    ]


def _collected(data: Batches, tensor: Tensor, fed: Dict[Any, Any]) -> np.ndarray:
    """Returns a tensor of all batches, one after another."""
    return np.concatenate(
        [
            _finite(found.astype(np.float64), "training", number)
            for number, (found,) in data.each([tensor], lambda number: [fed])
        ]
    )


def _finite(values: np.ndarray, of_what: str, number: int) -> np.ndarray:
    if not np.isfinite(values).all():
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"influence: the losses must have finite gradients, got NaN or infinity in {of_what} "
            f"batch {number}. Look at its data.",
        )
    return values


def _check(
    session: Session,
    test_losses: Tensor,
    train_losses: Tensor,
    operator: CurvatureOperator,
    denominator: Optional[float],
) -> None:
    if not isinstance(operator, CurvatureOperator):
        raise TypeError(
            "influence: `operator` must be one of tf1xent.curvature, got "
            f"{type(operator).__name__}. Use a HessianOperator or a GGNOperator."
        )
    for name, losses, ranks in (
        ("test_losses", test_losses, (0, 1)),
        ("train_losses", train_losses, (1,)),
    ):
        if not hasattr(losses, "graph") or not losses.dtype.is_floating:
            raise TypeError(
                f"influence: `{name}` must be a float tensor, got {type(losses).__name__}. "
                "Use tf.stack for a list of losses."
            )
        if losses.graph is not session.graph:
            raise ValueError(
                f"influence: `{name}` must be in the session's graph, got {losses.name} of another."
            )
        if losses.shape.ndims not in ranks:
            raise ValueError(
                f"influence: `{name}` must have {' or '.join(map(str, ranks))} dimensions, got "
                f"shape {losses.shape}. Give the loss of each example, before the mean."
            )
    if denominator is None and operator._data.reduction == "sum":
        raise ValueError(
            "influence: `denominator` must be given where the operator sums, got None. Give what "
            "the objective divides the sum of the training losses by, which may be 1."
        )
    if session.graph.finalized:
        raise RuntimeError(
            "influence: the session's graph must not be finalized, since influence adds ops. Call "
            "it before tf.Graph.finalize()."
        )
