"""Gradients of the gradients of sums, means and root means over segments of looked-up rows.

`tf.nn.embedding_lookup_sparse` makes them. With y_s = sum over i in segment s of w_i x[indices[i]],
where w_i depends on the size of the segment alone, the gradient op computes the transpose, which
is linear in the cotangent. So its own gradient is the forward op, with as many segments as there.
"""

from typing import Callable, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import GradientFunction, tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


def _segments(op: Operation, forward: str, data: Tensor, indices: Tensor) -> Tensor:
    """Reduces rows of `data` over the segments of the gradient op's own input."""
    grad, _, segment_ids, _ = op.inputs
    return _tf.raw_op(forward)(
        data=data, indices=indices, segment_ids=segment_ids, num_segments=tf.shape(grad)[0]
    )


def _gradient(forward: str) -> GradientFunction:
    def gradient(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None, None, None]:
        return _segments(op, forward, cotangent, op.inputs[1]), None, None, None

    return gradient


def _gradient_of_rows(forward: str) -> GradientFunction:
    """That of the op whose output has only the rows that occur, with their sorted indices."""

    def gradient(
        op: Operation, cotangent: Optional[Tensor], _: Optional[Tensor]
    ) -> Tuple[Optional[Tensor], None, None, None]:
        if cotangent is None:
            return None, None, None, None
        rows = tf.searchsorted(op.outputs[1], op.inputs[1])
        return _segments(op, forward, cotangent, rows), None, None, None

    return gradient


def _supply(reduction: str) -> None:
    forward = f"SparseSegment{reduction}"
    counted = forward + "WithNumSegments"
    made_by = (forward, counted)
    functions: Tuple[Tuple[str, Callable[[str], GradientFunction], str], ...] = (
        ("Grad", _gradient, f"Linear: the gradient is {counted}."),
        ("GradV2", _gradient_of_rows, f"Linear: the gradient is {counted} of the rows there are."),
    )
    for suffix, function, method in functions:
        supplies(forward + suffix, made_by, method)(function(counted))


for _reduction in ("Sum", "Mean", "SqrtN"):
    _supply(_reduction)
