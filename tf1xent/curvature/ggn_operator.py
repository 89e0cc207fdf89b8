"""The generalized Gauss-Newton matrix of a loss over data, as an operator."""

from typing import Any, Iterable

from tf1xent._typing import Session, Tensor
from tf1xent.curvature.differentiation import as_list
from tf1xent.curvature.gauss_newton import ggn_vector_product
from tf1xent.curvature.operator import CurvatureOperator, scalar


class GGNOperator(CurvatureOperator):
    """J^T H J of `loss` as a function of `outputs`, over all `feeds`."""

    def __init__(
        self,
        session: Session,
        loss: Tensor,
        outputs: Tensor,
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
            lambda vectors: ggn_vector_product(loss, outputs, tensors, vectors),
            batch_weights,
            damping,
        )
