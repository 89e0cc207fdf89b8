"""Second derivatives of `tf.nn.moments` that are complete."""

import contextlib
from typing import Any, Iterable, Iterator, Optional

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.curvature.behind import ops_behind
from tf1xent.second_order.moments import STOP, stops_a_mean


@contextlib.contextmanager
def complete_moments(tensors: Iterable[Tensor]) -> Iterator[None]:
    """While gradient ops of `tensors` are built, the stop in `tf.nn.moments` lets them through."""
    # A tf.function may differentiate by variables of the program around it, which have no op.
    in_graphs = [] if tf.executing_eagerly() else [t for t in tensors if hasattr(t, "op")]
    ops = {found.op for found in ops_behind(in_graphs)}
    stops = {op.name for op in ops if stops_a_mean(op, ops)}

    def stop(stock: Any, op: Operation, cotangent: Tensor) -> Optional[Tensor]:
        if op.name in stops:
            return cotangent
        return None if stock is None else stock(op, cotangent)

    if stops:
        with _tf.swapped_gradients({STOP: stop}):
            yield
    else:
        yield
