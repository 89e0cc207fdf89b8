"""Products with the empirical Fisher matrix: the second moment of the examples' gradients."""

from typing import List, Optional

from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike
from tf1xent.curvature.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.jacobian_products import pushed_forward


def empirical_fisher_vector_product(
    losses: Tensors, xs: Tensors, vectors: Tensors, *, weights: Optional[TensorLike] = None
) -> List[Tensor]:
    """The sum over examples of w g <g, v>, where g is the gradient of an example's loss."""
    name = "empirical_fisher_vector_product"
    losses, xs = real_tensors(name, "losses", losses), real_tensors(name, "xs", xs)
    for loss in losses:
        if loss.shape.ndims == 0:
            raise ValueError(
                f"{name}: `losses` must hold the loss of each example, got a scalar. Give the "
                "losses before they are reduced (reduction NONE)."
            )
    with graph_function(name, losses, xs):
        tangents = pushed_forward(losses, xs, matching(name, "vectors", vectors, xs, "xs"))
        cotangents = [_weights(loss, weights) * tangent for loss, tangent in zip(losses, tangents)]
        return gradients(losses, xs, cotangents)


def _weights(losses: Tensor, weights: Optional[TensorLike]) -> Tensor:
    if weights is None:
        return 1 / tf.cast(tf.size(losses), losses.dtype)
    return tf.convert_to_tensor(weights, losses.dtype)
