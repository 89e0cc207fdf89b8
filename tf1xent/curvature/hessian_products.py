"""Products with the Hessian of a scalar."""

from typing import Any, List, Sequence

from tf1xent._typing import Tensor
from tf1xent.curvature.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)


def hessian_vector_product(ys: Tensors, xs: Tensors, vectors: Tensors) -> List[Tensor]:
    """H v, by reverse over reverse."""
    name = "hessian_vector_product"
    ys, xs = real_tensors(name, "ys", ys), real_tensors(name, "xs", xs)
    with graph_function(name, ys, xs):
        return twice(ys, xs, matching(name, "vectors", vectors, xs, "xs"))


def twice(
    ys: Sequence[Tensor], xs: Sequence[Tensor], vectors: Sequence[Tensor], **options: Any
) -> List[Tensor]:
    """H v. `options` are those of `tf.gradients`."""
    return gradients(gradients(ys, xs, **options), xs, vectors, **options)
