"""Products with the generalized Gauss-Newton matrix of a loss of a network's outputs."""

from typing import List

from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.hessian_products import twice
from tf1xent.curvature.jacobian_products import pushed_forward


def ggn_vector_product(
    loss: Tensors, outputs: Tensors, xs: Tensors, vectors: Tensors
) -> List[Tensor]:
    """J^T H J v, where J is the Jacobian of the outputs and H the Hessian of the loss in them."""
    name = "ggn_vector_product"
    loss, outputs = real_tensors(name, "loss", loss), real_tensors(name, "outputs", outputs)
    xs = real_tensors(name, "xs", xs)
    with graph_function(name, loss, outputs, xs):
        tangents = pushed_forward(outputs, xs, matching(name, "vectors", vectors, xs, "xs"))
        # Outputs may be computed from one another; H is that of the loss in each alone.
        cotangents = twice(loss, outputs, tangents, stop_gradients=outputs)
        return gradients(outputs, xs, cotangents)
