"""Gradients of fused ops by functions of stock ops that compute the same."""

from typing import Any, Callable, List, Optional, Sequence

from tf1xent import _tf
from tf1xent._math.differentiation import vector_jacobian
from tf1xent._tf import Gradients, tf
from tf1xent._typing import Tensor

# Static shapes; None stands for a size that is not known.
Shape = Sequence[Optional[int]]
VECTOR: Shape = [None]
MATRIX: Shape = [None, None]
STEPS: Shape = [None, None, None]
ONE_STEP: Shape = [1, None, None]


def written_out(
    function: Callable[[List[Tensor]], Sequence[Tensor]],
    operands: Sequence[Tensor],
    cotangents: Sequence[Optional[Tensor]],
) -> Gradients:
    """The gradients of <function(operands), cotangents> in the operands; all None if it is zero.

    `function` gets half operands in float32. What it takes from outside is constant.
    """
    used = [k for k, cotangent in enumerate(cotangents) if not _tf.is_zero(cotangent)]
    if not used:
        return [None] * len(operands)

    def outputs(copies: List[Tensor]) -> List[Tensor]:
        half = copies[0].dtype == tf.float16
        found = function([tf.cast(copy, tf.float32) for copy in copies] if half else copies)
        return [tf.cast(found[k], copies[0].dtype) for k in used]

    copy = _tf.raw_op("Identity")  # 1.13's tf.identity eagerly returns the tensor itself
    copies = [copy(input=operand) for operand in operands]
    gradients = vector_jacobian(outputs, copies, [cotangents[k] for k in used])
    return [_tf.with_static_shape(g, o.shape) for g, o in zip(gradients, operands)]


def added(first: Sequence[Optional[Tensor]], second: Sequence[Optional[Tensor]]) -> Gradients:
    """The sums of two lists of gradients, None for zero."""
    return [a if b is None else b if a is None else a + b for a, b in zip(first, second)]


def filled(cotangents: Sequence[Optional[Tensor]], values: Sequence[Tensor]) -> List[Tensor]:
    """The cotangents of values, with their static shapes, and zeros for None."""
    return [
        tf.zeros_like(v) if c is None else _tf.with_static_shape(c, v.shape)
        for c, v in zip(cotangents, values)
    ]


def shaped(tensors: Sequence[Tensor], *shapes: Shape) -> List[Tensor]:
    """The tensors, known to have these shapes; of those of v2 loops not even the rank is known."""
    return [_tf.with_static_shape(t, tf.TensorShape(shape)) for t, shape in zip(tensors, shapes)]


def axis_size(tensor: Tensor, axis: int) -> Any:
    """The size of an axis: an integer where it is known, else a tensor."""
    size = tensor.shape.as_list()[axis]
    return tf.shape(tensor)[axis] if size is None else size
