"""Gradients of the gradients of fake quantization, which are piecewise linear.

With the range [m, M] that the op makes of `min` and `max` (nudged so that 0 is one of its steps),
the gradient op sends the incoming gradient g to the value where m <= x <= M, to `min` where x < m,
and to `max` where x > M. It is linear in g, and constant in x, `min` and `max` almost everywhere::

    d <(u, v, w), outputs> / dg = u [m <= x <= M] + v [x < m] + w [x > M]
"""

from typing import Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies

_METHOD = "Linear in the incoming gradient: selects among the cotangents as the op selects."
_ATTRIBUTES = ("num_bits", "narrow_range")


@supplies("FakeQuantWithMinMaxArgsGradient", ["FakeQuantWithMinMaxArgs"], _METHOD)
def _fake_quant_args(op: Operation, cotangent: Tensor) -> Tuple[Tensor, Tensor]:
    again = _tf.raw_op(op.type)
    attributes = _tf.attributes(op, "min", "max", *_ATTRIBUTES)
    in_incoming = again(gradients=cotangent, inputs=op.inputs[1], **attributes)
    return in_incoming, tf.zeros_like(op.inputs[1])


@supplies("FakeQuantWithMinMaxVarsGradient", ["FakeQuantWithMinMaxVars"], _METHOD)
@supplies(
    "FakeQuantWithMinMaxVarsPerChannelGradient", ["FakeQuantWithMinMaxVarsPerChannel"], _METHOD
)
def _fake_quant_vars(
    op: Operation,
    in_values: Optional[Tensor],
    in_min: Optional[Tensor],
    in_max: Optional[Tensor],
) -> Tuple[Optional[Tensor], Tensor, Tensor, Tensor]:
    _, values, low, high = op.inputs
    within = _tf.raw_op(op.type)(
        gradients=tf.ones_like(values),
        inputs=values,
        min=low,
        max=high,
        **_tf.attributes(op, *_ATTRIBUTES),
    )[0]
    # 0 is in the range, so a value outside is below or above it by its sign.
    below = (1 - within) * tf.cast(values < 0, values.dtype)
    above = (1 - within) * tf.cast(values > 0, values.dtype)
    terms = [
        cotangent * selected
        for cotangent, selected in ((in_values, within), (in_min, below), (in_max, above))
        if cotangent is not None
    ]
    in_incoming = tf.add_n(terms) if terms else None
    return in_incoming, tf.zeros_like(values), tf.zeros_like(low), tf.zeros_like(high)
