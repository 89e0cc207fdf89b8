"""The smooth bound on logits: c tanh(x / c), with derivatives that keep their relative accuracy.

TensorFlow takes 1 - tanh^2 as the derivative of tanh, which is 0 or noise where tanh is nearly 1.
Here both functions are primitives whose gradients are made of the two:

    tanh' = sech^2,    (sech^2)' = -2 sech^2 tanh,    sech^2(x) = 4 e / (1 + e)^2,  e = exp(-2 |x|)
"""

from tf1xent import _tf
from tf1xent._tf import tf


def _tanh_gradient(cotangent, inputs, _):
    (values,) = inputs
    return [cotangent * _squared_sech(values)]


@_tf.primitive("Tf1xentTanh", _tanh_gradient)
def _tanh(values):
    return tf.tanh(values), ()


def _squared_sech_gradient(cotangent, inputs, _):
    (values,) = inputs
    return [-2 * cotangent * _squared_sech(values) * _tanh(values)]


@_tf.primitive("Tf1xentSquaredSech", _squared_sech_gradient)
def _squared_sech(values):
    decay = tf.exp(-2 * tf.abs(values))
    return 4 * decay / tf.square(1 + decay), ()


def capped(logits, bound):
    """`bound` tanh(`logits` / `bound`), of the shape of `logits`."""
    return bound * _tanh(logits / bound)
