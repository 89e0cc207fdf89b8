"""The Hessian of a loss over data, as an operator."""

from typing import Any, Iterable

from tf1xent._typing import Session, Tensor
from tf1xent.curvature.differentiation import as_list
from tf1xent.curvature.hessian_products import hessian_vector_product
from tf1xent.curvature.operator import CurvatureOperator, scalar


class HessianOperator(CurvatureOperator):
    """The Hessian of `loss` in `xs`, over all `feeds`."""

    def __init__(
        self,
        session: Session,
        loss: Tensor,
        xs: Any,
        feeds: Iterable[Any],
        *,
        batch_weights: Any = None,
        damping: float = 0.0,
    ) -> None:
        loss, tensors = scalar(loss), as_list(xs)
        super().__init__(
            session,
            tensors,
            feeds,
            lambda vectors: hessian_vector_product(loss, tensors, vectors),
            batch_weights,
            damping,
        )
