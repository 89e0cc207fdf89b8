"""The smooth bound on logits: c tanh(x / c), with derivatives that keep their relative accuracy.

TensorFlow takes 1 - tanh^2 as the derivative of tanh, which is 0 or noise where tanh is nearly 1.
Here both functions are primitives whose gradients are made of the two:

    tanh' = sech^2,    (sech^2)' = -2 sech^2 tanh,    sech^2(x) = 4 e / (1 + e)^2,  e = exp(-2 |x|)
"""

from typing import Sequence

from tf1xent import _tf
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor


@_tf.primitive("Tf1xentTanh")
def tanh(values: Tensor) -> Computed:
    """tanh(x)."""
    return tf.tanh(values), ()


@tanh.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    (values,) = inputs
    return [cotangent * squared_sech(values)]


@_tf.primitive("Tf1xentSquaredSech")
def squared_sech(values: Tensor) -> Computed:
    """sech^2(x) = 1 - tanh^2(x)."""
    decay = tf.exp(-2 * tf.abs(values))
    return 4 * decay / tf.square(1 + decay), ()


@squared_sech.gradient
def _(cotangent: Tensor, inputs: Sequence[Tensor], _: Sequence[Tensor]) -> Gradients:
    (values,) = inputs
    return [-2 * cotangent * squared_sech(values) * tanh(values)]


def capped(logits: Tensor, bound: Tensor) -> Tensor:
    """`bound` tanh(`logits` / `bound`), of the shape of `logits`."""
    return bound * tanh(logits / bound)
