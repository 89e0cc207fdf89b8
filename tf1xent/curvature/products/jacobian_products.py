"""Products with the Jacobian of any tensors, and with its transpose."""

from typing import Callable, List, Sequence

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.products.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.products.missing_derivatives import require_complete_product

__all__ = ["jacobian_vector_product", "vector_jacobian_product"]


def vector_jacobian_product(ys: Tensors, xs: Tensors, vectors: Tensors) -> List[Tensor]:
    """The transposed Jacobian of `ys` times vectors: reverse mode.

    Use it as `tf.gradients` with ``grad_ys``, where a result without None and IndexedSlices is
    wanted::

        (J^T u)_i = sum over ys of sum_k u_k d y_k / d x_i

    Args:
      ys: a tensor or a list of them, of any shapes. Integers have a Jacobian of zero.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      vectors: one tensor for each of `ys`, of its shape and dtype; None is a zero.

    Returns:
      A list of tensors, one for each of `xs`, of its shape and dtype.

    **Derivatives**: of every order that the ops between have. `vectors` may depend on `xs`.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, is complex, or a vector is of
        another dtype.
      ValueError: (graph build) `vectors` are not as many as `ys`, or of other static shapes.
      tf.errors.InvalidArgumentError: (session run) a vector is of another shape.
      tf1xent.errors.MissingDerivativeError: (graph build) an op between has no gradient.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import vector_jacobian_product
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x, unused = tf.constant([1.0, 2.0]), tf.constant([5.0])
    ...     y = tf.stack([x[0] * x[1], x[1]])
    ...     print(session.run(vector_jacobian_product(y, [x, unused], tf.constant([1.0, 10.0]))))
    [array([ 2., 11.], dtype=float32), array([0.], dtype=float32)]
    """
    name = "vector_jacobian_product"
    ys, xs = real_tensors(name, "ys", ys), real_tensors(name, "xs", xs)
    with graph_function(name, ys, xs):
        return gradients(ys, xs, matching(name, "vectors", vectors, ys, "ys"))


def jacobian_vector_product(ys: Tensors, xs: Tensors, vectors: Tensors) -> List[Tensor]:
    """The Jacobian of `ys` times vectors, the derivative along a direction, by two reverse passes.

    Use it for the change of outputs by a small step of the parameters::

        (J v)_k = sum over xs of sum_i d y_k / d x_i v_i

    J^T u is linear in u, so its derivative in u is J^T, and that one's transpose is J. A product
    costs about as much as a gradient.

    Args:
      ys: a tensor or a list of them, of any shapes. Integers have a Jacobian of zero.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      vectors: one tensor for each of `xs`, of its shape and dtype; None is a zero.

    Returns:
      A list of tensors, one for each of `ys`, of its shape and dtype.

    **Derivatives**: of every order that the ops between have, in `xs` and in `vectors`.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, is complex, or a vector is of
        another dtype.
      ValueError: (graph build) `vectors` are not as many as `xs`, or of other static shapes.
      tf.errors.InvalidArgumentError: (session run) a vector is of another shape.
      tf1xent.errors.MissingDerivativeError: (graph build) an op between has no gradient, or one
        that cannot be differentiated by what it gets, such as a v1 while loop; the message names a
        remedy.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import jacobian_vector_product
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x = tf.constant([1.0, 2.0])
    ...     y = tf.stack([x[0] * x[1], x[1]])
    ...     print(session.run(jacobian_vector_product(y, x, tf.constant([1.0, 10.0]))))
    [array([12., 10.], dtype=float32)]

    Source: Townsend, A new trick for calculating Jacobian vector products (2017).
    """
    name = "jacobian_vector_product"
    ys, xs = real_tensors(name, "ys", ys), real_tensors(name, "xs", xs)
    with graph_function(name, ys, xs):
        return jacobian_product_of(name, ys, xs)(matching(name, "vectors", vectors, xs, "xs"))


def jacobian_product_of(
    function: str, ys: Sequence[Tensor], xs: Sequence[Tensor]
) -> Callable[[Sequence[Tensor]], List[Tensor]]:
    """v -> J v, with all that does not depend on v built once."""
    # A linear function has one derivative everywhere, so the points at which it is taken do not
    # matter. They are not zeros: gradient functions leave out a cotangent that is a zero by
    # construction, and zero times infinity would be NaN.
    points = [tf.ones_like(y) for y in ys]
    pulled_back = gradients(ys, xs, points)
    require_complete_product(function, pulled_back, points)
    return lambda tangents: gradients(pulled_back, points, tangents)
