"""Products with the Jacobian of any tensors, and with its transpose."""

from typing import List, Sequence

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)


def vector_jacobian_product(ys: Tensors, xs: Tensors, vectors: Tensors) -> List[Tensor]:
    """J^T u: what `tf.gradients` returns for `grad_ys`, with zeros in the place of None."""
    name = "vector_jacobian_product"
    ys, xs = real_tensors(name, "ys", ys), real_tensors(name, "xs", xs)
    with graph_function(name, ys, xs):
        return gradients(ys, xs, matching(name, "vectors", vectors, ys, "ys"))


def jacobian_vector_product(ys: Tensors, xs: Tensors, vectors: Tensors) -> List[Tensor]:
    """J v, by two reverse passes."""
    name = "jacobian_vector_product"
    ys, xs = real_tensors(name, "ys", ys), real_tensors(name, "xs", xs)
    with graph_function(name, ys, xs):
        return pushed_forward(ys, xs, matching(name, "vectors", vectors, xs, "xs"))


def pushed_forward(
    ys: Sequence[Tensor], xs: Sequence[Tensor], tangents: Sequence[Tensor]
) -> List[Tensor]:
    """J v: J^T u is linear in u, and its derivative in u, transposed, is J."""
    # A linear function has one derivative everywhere, so the points at which it is taken do not
    # matter. They are not zeros: gradient functions leave out a cotangent that is a zero by
    # construction, and zero times infinity would be NaN.
    points = [tf.ones_like(y) for y in ys]
    return gradients(gradients(ys, xs, points), points, tangents)
