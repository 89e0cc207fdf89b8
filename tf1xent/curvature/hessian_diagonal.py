"""The diagonal of a Hessian: exact, or estimated from products with random vectors."""

from typing import List, Optional

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import Tensors, gradients, graph_function, real_tensors
from tf1xent.curvature.unit_vectors import over_entries


def hessian_diagonal(
    ys: Tensors, xs: Tensors, *, num_samples: Optional[int] = None, seed: Optional[int] = None
) -> List[Tensor]:
    """The diagonal of the Hessian of the sum of `ys`: one tensor for each of `xs`, of its shape."""
    name = "hessian_diagonal"
    ys, xs = real_tensors(name, "ys", ys), real_tensors(name, "xs", xs)
    with graph_function(name, ys, xs):
        first = gradients(ys, xs)
        if num_samples is None:
            return [_exact(gradient, x) for gradient, x in zip(first, xs)]
        return _estimate(first, xs, num_samples, seed)


def _exact(gradient: Tensor, x: Tensor) -> Tensor:
    def entry(unit_vector: Tensor) -> Tensor:
        (product,) = gradients([gradient], [x], [unit_vector])
        return tf.reduce_sum(product * unit_vector)

    entries = tf.reshape(over_entries(x, entry), tf.shape(x))
    entries.set_shape(x.shape)
    return entries


def _estimate(
    first: List[Tensor], xs: List[Tensor], num_samples: int, seed: Optional[int]
) -> List[Tensor]:
    def add(turn: Tensor, *sums: Tensor) -> List[Tensor]:
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
    return [total / num_samples for total in results[1:]]


def _signs(x: Tensor, seed: Optional[int]) -> Tensor:
    """A random vector of -1 and 1 with equal probabilities."""
    bits = tf.random_uniform(tf.shape(x), maxval=2, dtype=tf.int32, seed=seed)
    signs = tf.cast(2 * bits - 1, x.dtype.base_dtype)
    signs.set_shape(x.shape)
    return signs
