"""Products with the Hessian of a scalar."""

from typing import List

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import as_list, gradients


def hessian_vector_product(ys: Tensor, xs: Tensor, vectors: Tensor) -> List[Tensor]:
    """H v, by reverse over reverse."""
    ys, xs = as_list(ys), as_list(xs)
    vectors = [tf.stop_gradient(vector) for vector in as_list(vectors)]
    return gradients(gradients(ys, xs), xs, vectors)
