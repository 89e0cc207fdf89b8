"""The gradient ops that TensorFlow has no gradient for: what is supplied, and what is refused."""

from typing import Callable, Dict, NamedTuple, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import GradientFunction


class Supplied(NamedTuple):
    """A gradient that is supplied where TensorFlow has none.

    Attributes:
      op_type: the op type whose gradient it is.
      made_by: the op types whose gradient makes ops of this type.
      method: what is computed, in one sentence.
      orders: "every", or the highest order of derivative of the loss, as in "second".
    """

    op_type: str
    made_by: Tuple[str, ...]
    method: str
    orders: str


# By op type. The modules of this package fill it.
SUPPLIED: Dict[str, Supplied] = {}

# Gradient ops that have no gradient and get none, each with the reason.
REFUSED: Dict[str, str] = {}


def supplies(
    op_type: str, made_by: Sequence[str], method: str, orders: str = "every"
) -> Callable[[GradientFunction], GradientFunction]:
    """Decorator: the function below is the gradient of `op_type` where TensorFlow has none.

    It gets the op and a cotangent for each output (a tensor, or None for none), and returns a
    gradient or None for each input. It may use only stock ops that are differentiable themselves,
    or that this table supplies, so far as `orders` promises.
    """

    def decorate(function: GradientFunction) -> GradientFunction:
        SUPPLIED[op_type] = Supplied(op_type, tuple(made_by), method, orders)
        _tf.supply_gradient(op_type, function, made_by)
        return function

    return decorate
