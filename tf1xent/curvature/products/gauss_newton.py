"""Products with the generalized Gauss-Newton matrix of a loss of a network's outputs."""

from typing import Callable, List

from tf1xent._typing import Tensor
from tf1xent.curvature.products.differentiation import (
    Tensors,
    dense,
    found_gradients,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.products.jacobian_products import jacobian_product_of
from tf1xent.curvature.products.missing_derivatives import require_second_derivative

__all__ = ["ggn_vector_product"]

_NAME = "ggn_vector_product"


def ggn_vector_product(
    loss: Tensors, outputs: Tensors, xs: Tensors, vectors: Tensors
) -> List[Tensor]:
    """The generalized Gauss-Newton matrix of a loss times a vector.

    Use it in the place of `hessian_vector_product` where a matrix without negative eigenvalues is
    needed: natural gradients, conjugate gradients far from a minimum. With the Jacobian J of
    `outputs` in `xs`, and the Hessian H of `loss` in `outputs`::

        G v = J^T H J v

    It is positive semidefinite if the loss is convex in `outputs`, and equals the Hessian if
    `outputs` are linear in `xs`. H is taken at constant everything else: terms of the loss that
    reach `xs` by other ways than `outputs`, such as weight decay, are not part of G, and their own
    Hessian is to be added. For softmax cross-entropy H is ``diag(p) - p p^T`` a row, whose product
    ``p v - p <p, v>`` is what the second derivative of tf1xent's losses computes; options such as
    weights, masks and z-loss are all in H. Focal losses are not convex.

    Args:
      loss: a tensor or a list of them, of any shapes, which are summed.
      outputs: the tensor that the loss is computed from, such as logits, or a list of them. They
        may be computed from one another.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      vectors: one tensor for each of `xs`, of its shape and dtype; None is a zero.

    Returns:
      A list of tensors, one for each of `xs`, of its shape and dtype; zeros for one that `outputs`
      do not depend on.

    **Derivatives**: of every order that the ops between have, in `xs` and in `vectors`. A product
      costs 1 to 2.5 gradients.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, is complex, or a vector is of
        another dtype.
      ValueError: (graph build) `loss` does not depend on `outputs`; `vectors` are not as many as
        `xs`, or of other static shapes.
      tf.errors.InvalidArgumentError: (session run) a vector is of another shape.
      tf1xent.errors.MissingDerivativeError: (graph build) the loss has no second derivative in
        `outputs`, or J v cannot be built: through a v1 while loop. The message names a remedy.

    Example: logits that are linear in the weights, so that G is the Hessian.

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> from tf1xent.curvature import ggn_vector_product
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     weights = tf.constant([[0.0, 0.0]])
    ...     logits = tf.matmul(tf.constant([[2.0]]), weights)
    ...     loss = tf1xent.losses.sparse_softmax_cross_entropy([0], logits)
    ...     print(session.run(ggn_vector_product(loss, logits, weights, tf.constant([[1.0, 0.0]]))))
    [array([[ 1., -1.]], dtype=float32)]

    Source: Schraudolph, Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent,
    Neural Computation 14 (2002).
    """
    return ggn_product_of(loss, outputs, xs)(vectors)


def ggn_product_of(
    loss: Tensors, outputs: Tensors, xs: Tensors
) -> Callable[[Tensors], List[Tensor]]:
    """`ggn_vector_product` as a function of the vectors: what they share is built once."""
    loss, outputs = real_tensors(_NAME, "loss", loss), real_tensors(_NAME, "outputs", outputs)
    xs = real_tensors(_NAME, "xs", xs)
    with graph_function(_NAME, loss, outputs, xs):
        require_second_derivative(_NAME, loss, outputs)
        # Outputs may be computed from one another: H is that of the loss in each by itself.
        found = found_gradients(loss, outputs, stop_gradients=outputs)
        if all(gradient is None for gradient in found):
            raise ValueError(
                f"{_NAME}: `loss` must depend on `outputs`, got no path of gradients between them. "
                "Give the very tensors that the loss was computed from."
            )
        first = dense(found, outputs)
        push_forward = jacobian_product_of(_NAME, outputs, xs)

    def product(vectors: Tensors) -> List[Tensor]:
        with graph_function(_NAME, loss, outputs, xs):
            tangents = push_forward(matching(_NAME, "vectors", vectors, xs, "xs"))
            cotangents = gradients(first, outputs, tangents, stop_gradients=outputs)
            return gradients(outputs, xs, cotangents)

    return product
