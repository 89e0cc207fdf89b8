"""The gradient ops that TensorFlow has no gradient for: what is supplied, and what is refused."""

import functools
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import GradientFunction
from tf1xent._typing import Operation, Tensor
from tf1xent.errors import MissingDerivativeError


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

# Ops whose gradient TensorFlow has, but guards against a second derivative: ours has one too.
EXTENDED: Dict[str, Supplied] = {}

# Gradient ops that have no gradient and get none, each with the reason.
REFUSED: Dict[str, str] = {}


def supplies(
    op_type: str,
    made_by: Sequence[str],
    method: str,
    orders: str = "every",
    instead_of: Optional[str] = None,
) -> Callable[[GradientFunction], GradientFunction]:
    """Decorator: the function below is the gradient of `op_type` where TensorFlow has none.

    It gets the op and a cotangent for each output (a tensor, or None for none), and returns a
    gradient or None for each input. It may use only stock ops that are differentiable themselves,
    or that this table supplies, so far as `orders` promises. `instead_of` is the module of a
    gradient of TensorFlow's with the same numbers, of which derivatives lack a part.
    """

    def decorate(function: GradientFunction) -> GradientFunction:
        @functools.wraps(function)
        def gradient(op: Operation, *cotangents: Optional[Tensor]) -> Any:
            if op.inputs is None:
                raise MissingDerivativeError(
                    f"{op_type}: a second derivative needs its inputs, which this eager tape has "
                    "not kept, as TensorFlow calls the op not differentiable. Compute the loss in "
                    "a tf.function or a tf.Graph."
                )
            return function(op, *cotangents)

        SUPPLIED[op_type] = Supplied(op_type, tuple(made_by), method, orders)
        _tf.supply_gradient(op_type, gradient, made_by, instead_of)
        return function

    return decorate


def extends(
    op_type: str, method: str, orders: str
) -> Callable[[GradientFunction], GradientFunction]:
    """Decorator: the function below takes the place of TensorFlow's gradient of `op_type`.

    For an op that returns its own gradient as a further output, which TensorFlow then guards: the
    first order stays as it is, bit by bit, and that output gets a derivative. TensorFlow's gradient
    is to be among `tf1xent._tf.STOCK_GRADIENTS`.
    """

    def decorate(function: GradientFunction) -> GradientFunction:
        EXTENDED[op_type] = Supplied(op_type, (), method, orders)
        return _tf.gradient_of(_tf.gradient_name(op_type))(function)

    return decorate
