"""Gradients of the gradients of activation functions.

Softsign: y = x / (1 + |x|), and the gradient op computes g / (1 + |x|)^2. With a cotangent u::

    d / dg = u / (1 + |x|)^2        d / dx = -2 sign(x) g u / (1 + |x|)^3

At 0, where the second derivative jumps from 2 to -2, it is their mean, 0.
"""

from typing import Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


@supplies("SoftsignGrad", ["Softsign"], "Closed form; 0 at 0, where it jumps.")
def _softsign_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, Tensor]:
    incoming, values = op.inputs
    in_incoming = _tf.raw_op("SoftsignGrad")(gradients=cotangent, features=values)
    in_values = -2 * tf.sign(values) * incoming * in_incoming / (1 + tf.abs(values))
    return in_incoming, in_values
