"""Products with the empirical Fisher matrix: the second moment of the examples' gradients."""

from typing import Callable, List, Optional

from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike
from tf1xent.curvature.products.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.products.jacobian_products import jacobian_product_of
from tf1xent.curvature.products.missing_derivatives import is_followed
from tf1xent.curvature.products.row_weights import row_weights

__all__ = ["empirical_fisher_vector_product"]

_NAME = "empirical_fisher_vector_product"


def empirical_fisher_vector_product(
    losses: Tensors, xs: Tensors, vectors: Tensors, *, weights: Optional[TensorLike] = None
) -> List[Tensor]:
    """The second moment of the gradients of single examples times a vector.

    Use it for the noise of stochastic gradients. It is not the Fisher information, whose labels are
    the model's own: for that use `fisher_vector_product`. With g_i the gradient of the loss of
    example i, and J the Jacobian of all losses::

        E v = sum_i weight_i g_i <g_i, v> = J^T diag(weight) J v

    so no gradient of a single example is ever formed.

    Args:
      losses: a float tensor, the loss of each example, of any rank but 0, or a list of them, whose
        products are added.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      vectors: one tensor for each of `xs`, of its shape and dtype; None is a zero.
      weights: the weight of each example, which broadcasts to the shape of `losses`. Default: 1 /
        the number of losses, so a mean; give the weights yourself where masked examples with a loss
        of 0 must not count.

    Returns:
      A list of tensors, one for each of `xs`, of its shape and dtype.

    **Derivatives**: of every order that the ops between have, in `xs` and in `vectors`. A product
      costs 1 to 2.5 gradients.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, is complex, `losses` are not
        floating point, or a vector is of another dtype.
      ValueError: (graph build) `losses` are a scalar, `vectors` are not as many as `xs`, or static
        shapes do not fit.
      tf.errors.InvalidArgumentError: (session run) shapes that do not fit.
      tf1xent.errors.MissingDerivativeError: (graph build) J v cannot be built, such as through a v1
        while loop. The message names a remedy.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import empirical_fisher_vector_product
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x = tf.constant([3.0, 4.0])
    ...     losses = tf.stack([x[0], x[0] + 2 * x[1]])  # gradients [1, 0] and [1, 2]
    ...     print(session.run(empirical_fisher_vector_product(losses, x, tf.constant([1.0, 0.0]))))
    [array([1., 1.], dtype=float32)]

    Source: Kunstner, Balles and Hennig, Limitations of the Empirical Fisher Approximation (2019).
    """
    return empirical_fisher_product_of(losses, xs, weights=weights)(vectors)


def empirical_fisher_product_of(
    losses: Tensors, xs: Tensors, *, weights: Optional[TensorLike] = None
) -> Callable[[Tensors], List[Tensor]]:
    """`empirical_fisher_vector_product` as a function of the vectors."""
    losses, xs = real_tensors(_NAME, "losses", losses), real_tensors(_NAME, "xs", xs)
    for loss in losses:
        if not is_followed(loss):
            raise TypeError(
                f"{_NAME}: `losses` must be floating point, got {loss.dtype.base_dtype.name}. "
                "Give losses before they are cast."
            )
        if loss.shape.ndims == 0:
            raise ValueError(
                f"{_NAME}: `losses` must hold the loss of each example, got a scalar. Give the "
                "losses before they are reduced, such as with Reduction.NONE."
            )
    with graph_function(_NAME, losses, xs):
        by_example = [
            row_weights(_NAME, weights, tf.shape(loss), loss.shape, loss.dtype.base_dtype)
            for loss in losses
        ]
        push_forward = jacobian_product_of(_NAME, losses, xs)

    def product(vectors: Tensors) -> List[Tensor]:
        with graph_function(_NAME, losses, xs):
            tangents = push_forward(matching(_NAME, "vectors", vectors, xs, "xs"))
            return gradients(losses, xs, [w * t for w, t in zip(by_example, tangents)])

    return product
