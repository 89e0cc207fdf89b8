"""Products with the generalized Gauss-Newton matrix of a loss of a network's outputs."""

from typing import List

from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import as_list
from tf1xent.curvature.hessian_products import hessian_vector_product
from tf1xent.curvature.jacobian_products import jacobian_vector_product, vector_jacobian_product


def ggn_vector_product(loss: Tensor, outputs: Tensor, xs: Tensor, vectors: Tensor) -> List[Tensor]:
    """J^T H J v, where J is the Jacobian of the outputs and H the Hessian of the loss in them."""
    outputs = as_list(outputs)
    tangents = jacobian_vector_product(outputs, xs, vectors)
    return vector_jacobian_product(outputs, xs, hessian_vector_product(loss, outputs, tangents))
