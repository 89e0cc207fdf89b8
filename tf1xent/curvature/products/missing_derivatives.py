"""Second derivatives that TensorFlow refuses or leaves out: errors that name a remedy."""

import contextlib
from typing import Iterator, List, Sequence

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.errors import MissingDerivativeError
from tf1xent.second_order import Audit, Finding, Kind, audit
from tf1xent.second_order.moments import STOP


def is_followed(tensor: Tensor) -> bool:
    """Whether a tensor has derivatives; integers, booleans and strings have none."""
    return bool(tensor.dtype.is_floating)


def in_the_way(audited: Audit) -> List[Finding]:
    """Returns the obstacles of an audit; products let the stop in tf.nn.moments through."""
    return [found for found in audited.obstacles if found.op_type != STOP]


def require_second_derivative(function: str, ys: Sequence[Tensor], xs: Sequence[Tensor]) -> None:
    """Raises MissingDerivativeError unless the second derivative of `ys` is there and complete."""
    _require(function, ys, xs, tuple(Kind))


def require_complete_product(
    function: str, pulled_back: Sequence[Tensor], points: Sequence[Tensor]
) -> None:
    """Raises MissingDerivativeError if part of a derivative of J^T u in u is left out.

    J^T u is linear in u; what stands in the way of its second derivative does not matter.
    """
    _require(function, pulled_back, points, (Kind.LEFT_OUT,))


def _require(
    function: str, ys: Sequence[Tensor], xs: Sequence[Tensor], kinds: Sequence[Kind]
) -> None:
    """Raises for the first finding of an audit that is of one of the kinds."""
    ys, xs = list(filter(is_followed, ys)), list(filter(is_followed, xs))
    # A tf.function may differentiate by variables of the program around it, which have no graph.
    graphs = {id(getattr(_tf.tensor_of(tensor), "graph", None)) for tensor in ys + xs}
    if not ys or not xs or len(graphs) > 1 or tf.executing_eagerly():
        return
    obstacles = [found for found in in_the_way(audit(ys, xs)) if found.kind in kinds]
    if not obstacles:
        return
    first = obstacles[0]
    more = (
        f" tf1xent.second_order.audit names {len(obstacles) - 1} more."
        if len(obstacles) > 1
        else ""
    )
    raise MissingDerivativeError(
        f"{function}: every op between must be differentiable twice, got "
        f"{first.op_type} `{first.name}`: {first.reason} {first.remedy}{more}"
    )


@contextlib.contextmanager
def explained(function: str) -> Iterator[None]:
    """TensorFlow's own refusals inside the block become a MissingDerivativeError with a remedy."""
    try:
        yield
    except (MissingDerivativeError, KeyError, IndexError):
        raise
    except LookupError as error:
        raise MissingDerivativeError(
            f"{function}: every op between must be differentiable twice, got from TensorFlow: "
            f"{error}. Call tf1xent.override_gradients() first, or build the model after "
            "tf1xent.patch(); tf1xent.second_order.audit names the ops."
        ) from error
    except (TypeError, ValueError) as error:
        if not any(words in str(error) for words in _WORDS_ABOUT_LOOPS):
            raise
        raise MissingDerivativeError(
            f"{function}: loops between must be v2 loops, got a v1 while loop, which TensorFlow "
            f"does not differentiate twice: {error} Build the model after "
            "tf1xent.patch(control_flow_v2=True) or tf.enable_control_flow_v2()."
        ) from error


# In TensorFlow's TypeError of a second derivative, and in its ValueError of a first derivative that
# is built inside another loop.
_WORDS_ABOUT_LOOPS = ("gradient for while loops not supported", "are in different while loops")
