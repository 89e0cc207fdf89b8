"""Products with the Jacobian of any tensors, and with its transpose."""

from typing import List

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import as_list, gradients


def vector_jacobian_product(ys: Tensor, xs: Tensor, vectors: Tensor) -> List[Tensor]:
    """J^T u: what `tf.gradients` returns for `grad_ys`, with zeros in the place of None."""
    ys, vectors = as_list(ys), as_list(vectors)
    return gradients(ys, as_list(xs), vectors)


def jacobian_vector_product(ys: Tensor, xs: Tensor, vectors: Tensor) -> List[Tensor]:
    """J v, by two reverse passes: J^T u is linear in u, and its derivative in u is J."""
    ys, xs, vectors = as_list(ys), as_list(xs), as_list(vectors)
    # The point at which a linear function is differentiated does not matter.
    points = [tf.zeros_like(y) for y in ys]
    return gradients(gradients(ys, xs, points), points, vectors)
