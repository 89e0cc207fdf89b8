"""Products with the Hessian of a scalar."""

from typing import Callable, List

from tf1xent._typing import Tensor
from tf1xent.curvature.products.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.products.missing_derivatives import require_second_derivative

__all__ = ["hessian_vector_product"]

_NAME = "hessian_vector_product"


def hessian_vector_product(ys: Tensors, xs: Tensors, vectors: Tensors) -> List[Tensor]:
    """The Hessian of the sum of `ys`, in all `xs` together, times a vector.

    Use it for Newton steps, conjugate gradients and eigenvalues where the Hessian itself is too
    large; over a data set use `HessianOperator`. It is the gradient of <gradient, v>, reverse over
    reverse, blocks between different `xs` included::

        (H v)_i = sum_j d2 y / d x_i d x_j v_j

    Each op between must have a second derivative, and a complete one: where TensorFlow would leave
    a part out without a word, as in some v1 loops, this function raises. Where the loss has v2
    branches or loops, build products before the first session.run, as TensorFlow wants it.

    Args:
      ys: a tensor or a list of them, of any shapes, which are summed: the loss.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      vectors: one tensor for each of `xs`, of its shape and dtype; None is a zero.

    Returns:
      A list of tensors, one for each of `xs`, of its shape and dtype; zeros where the Hessian is.

    **Derivatives**: of every order that the ops between have, in `xs` and in `vectors`. A product
      costs 1 to 3 gradients.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, is complex, or a vector is of
        another dtype.
      ValueError: (graph build) `vectors` are not as many as `xs`, or of other static shapes.
      tf.errors.InvalidArgumentError: (session run) a vector is of another shape.
      tf1xent.errors.MissingDerivativeError: (graph build) an op between has no second derivative:
        TensorFlow's own cross-entropy on TF 1.x, a v1 while loop. The message names a remedy.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import hessian_vector_product
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x, y = tf.constant([2.0]), tf.constant([1.0, 3.0])
    ...     loss = x * tf.reduce_sum(y * y)
    ...     vectors = [tf.constant([1.0]), tf.constant([0.0, 1.0])]
    ...     print(session.run(hessian_vector_product(loss, [x, y], vectors)))
    [array([6.], dtype=float32), array([ 2., 10.], dtype=float32)]

    Source: Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 6 (1994).
    """
    return hessian_product_of(ys, xs)(vectors)


def hessian_product_of(ys: Tensors, xs: Tensors) -> Callable[[Tensors], List[Tensor]]:
    """`hessian_vector_product` as a function of the vectors: the gradient is built once."""
    ys, xs = real_tensors(_NAME, "ys", ys), real_tensors(_NAME, "xs", xs)
    with graph_function(_NAME, ys, xs):
        require_second_derivative(_NAME, ys, xs)
        first = gradients(ys, xs)

    def product(vectors: Tensors) -> List[Tensor]:
        with graph_function(_NAME, ys, xs):
            return gradients(first, xs, matching(_NAME, "vectors", vectors, xs, "xs"))

    return product
