"""The diagonal of a Hessian: exact, or estimated from products with random vectors."""

from typing import List, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.products.differentiation import (
    Tensors,
    gradients,
    graph_function,
    real_tensors,
)
from tf1xent.curvature.products.missing_derivatives import is_followed, require_second_derivative
from tf1xent.curvature.products.unit_vectors import over_entries, require_graph

__all__ = ["hessian_diagonal"]

_NAME = "hessian_diagonal"


def hessian_diagonal(
    ys: Tensors, xs: Tensors, *, num_samples: Optional[int] = None, seed: Optional[int] = None
) -> List[Tensor]:
    """The diagonal of the Hessian of the sum of `ys`, in the shapes of `xs`.

    Use it to scale steps by parameter, or to score parameters. It is exact by default, at the cost
    of one product for each number in `xs`; `num_samples` products give an estimate without bias::

        exact       d_i = e_i^T H e_i
        estimate    d = mean over samples of z * (H z),      z_i = -1 or 1 at random
        variance    of d_i: sum over j != i of H_ij^2 / num_samples

    Args:
      ys: a tensor or a list of them, of any shapes, which are summed: the loss.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      num_samples: how many random vectors, each over all `xs` together. Default: exact.
      seed: an integer for tf.random_uniform: a new session draws the same vectors again; runs of
        one session draw new ones.

    Returns:
      A list of tensors, one for each of `xs`, of its shape and dtype.

    **Derivatives**: those of a while loop: with v2 control flow of every order, else none.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, or is complex.
      ValueError: (graph build) `num_samples` is not a positive integer, or `seed` is given without;
        `xs` hold a variable of eager execution, in a tf.function.
      tf1xent.errors.MissingDerivativeError: (graph build) an op between has no second derivative:
        TensorFlow's own cross-entropy on TF 1.x, a v1 while loop. The message names a remedy.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import hessian_diagonal
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x = tf.constant([1.0, 2.0])
    ...     print(session.run(hessian_diagonal(tf.reduce_sum(x ** 3), x)))
    ...     print(session.run(hessian_diagonal(tf.reduce_sum(x ** 3), x, num_samples=1)))
    [array([ 6., 12.], dtype=float32)]
    [array([ 6., 12.], dtype=float32)]

    Source: Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix (2007).
    """
    ys, xs = real_tensors(_NAME, "ys", ys), real_tensors(_NAME, "xs", xs)
    require_graph(_NAME, "xs", xs)
    _check(num_samples, seed)
    with graph_function(_NAME, ys, xs):
        for group in [[x] for x in xs] if num_samples is None else [xs]:
            require_second_derivative(_NAME, ys, group)
        first = gradients(ys, xs)
        if num_samples is None:
            return [_exact(gradient, x) for gradient, x in zip(first, xs)]
        return _estimate(first, xs, num_samples, seed)


def _check(num_samples: Optional[int], seed: Optional[int]) -> None:
    if num_samples is None:
        if seed is not None:
            raise ValueError(
                f"{_NAME}: `seed` must be None for an exact diagonal, got {seed!r}. Give "
                "num_samples for an estimate."
            )
    elif isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(
            f"{_NAME}: `num_samples` must be a positive integer or None, got {num_samples!r}. "
            "Leave it out for the exact diagonal."
        )


def _exact(gradient: Tensor, x: Tensor) -> Tensor:
    def entry(unit_vector: Tensor) -> List[Tensor]:
        (product,) = gradients([gradient], [x], [unit_vector])
        return [tf.reduce_sum(product * unit_vector)]

    (entries,) = over_entries(x, entry, [x.dtype.base_dtype])
    return _tf.set_static_shape(tf.reshape(entries, tf.shape(x)), x.shape)


def _estimate(
    first: Sequence[Tensor], xs: Sequence[Tensor], num_samples: int, seed: Optional[int]
) -> List[Tensor]:
    def add(turn: Tensor, *sums: Tensor) -> List[Tensor]:
        # Different seeds, because equal ones give equal numbers.
        signs = [_signs(x, None if seed is None else seed + i) for i, x in enumerate(xs)]
        products = gradients(first, xs, signs)
        return [turn + 1] + [s + z * p for s, z, p in zip(sums, signs, products)]

    # One turn after the other, so that a seed always gives the same numbers.
    results = tf.while_loop(
        lambda turn, *_: turn < num_samples,
        add,
        [tf.constant(0)] + [tf.zeros_like(x) for x in xs],
        parallel_iterations=1,
    )
    return [
        _tf.with_static_shape(total / num_samples if is_followed(x) else total, x.shape)
        for total, x in zip(results[1:], xs)
    ]


def _signs(x: Tensor, seed: Optional[int]) -> Tensor:
    """A random vector of -1 and 1 with equal probabilities."""
    bits = tf.random_uniform(tf.shape(x), maxval=2, dtype=tf.int32, seed=seed)
    return _tf.set_static_shape(tf.cast(2 * bits - 1, x.dtype.base_dtype), x.shape)
