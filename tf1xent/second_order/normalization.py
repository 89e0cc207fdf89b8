"""The gradient of the gradient of local response normalization.

With B the sums over the neighbouring channels, which is a symmetric matrix, and a, b, r the op's
alpha, beta and bias::

    N = r + a B(x^2)        y = x N^-b        op(g, x, y) = g N^-b - 2 a b x B(s)    s = g y / N

The op reads y as an input of its own, so its derivative in x leaves out the one through y, which
TensorFlow adds by LRN's gradient. With a cotangent u and w = B(u x)::

    d / dg = u N^-b - 2 a b w y / N
    d / dy = - 2 a b w g / N
    d / dN = - b u g N^(-b-1) + 2 a b w s / N
    d / dx = - 2 a b u B(s) + 2 a x B(d / dN)
"""

from typing import Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


def _sums_over_neighbours(values: Tensor, radius: int) -> Tensor:
    """The sum over the channels at most `radius` away."""
    channels = tf.shape(values)[-1]
    distances = tf.abs(tf.range(channels)[:, tf.newaxis] - tf.range(channels))
    band = tf.cast(distances <= radius, values.dtype)
    rows = tf.matmul(tf.reshape(values, tf.stack([-1, channels])), band)
    return tf.reshape(rows, tf.shape(values))


@supplies("LRNGrad", ["LRN"], "Closed form.")
def _lrn_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, ...]:
    dtype = op.inputs[0].dtype
    g, x, y, u = (tf.cast(tensor, tf.float32) for tensor in (*op.inputs, cotangent))
    radius, bias, alpha, beta = (
        op.get_attr(name) for name in ("depth_radius", "bias", "alpha", "beta")
    )
    norm = bias + alpha * _sums_over_neighbours(x * x, radius)
    power = tf.exp(-beta * tf.log(norm))
    spread = g * y / norm
    w = 2 * alpha * beta * _sums_over_neighbours(u * x, radius)
    in_norm = (w * spread - beta * u * g * power) / norm
    in_x = (
        2
        * alpha
        * (
            x * _sums_over_neighbours(in_norm, radius)
            - beta * u * _sums_over_neighbours(spread, radius)
        )
    )
    gradients = (u * power - w * y / norm, in_x, -w * g / norm)
    return tuple(
        _tf.with_static_shape(tf.cast(gradient, dtype), tensor.shape)
        for gradient, tensor in zip(gradients, op.inputs)
    )
