"""Gradients of gradient ops that TensorFlow only runs in graphs made by its first versions."""

from typing import Optional, Tuple

from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


@supplies("TileGrad", [], "Linear: the gradient is Tile.")
def _tile_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None]:
    return tf.tile(cotangent, op.inputs[1]), None


@supplies(
    "BatchNormWithGlobalNormalizationGrad",
    ["BatchNormWithGlobalNormalization"],
    "Its formula, differentiated.",
)
def _batch_norm_grad(op: Operation, *cotangents: Optional[Tensor]) -> Tuple[Optional[Tensor], ...]:
    """The gradient of a batch normalization with given moments.

    With s = (v + epsilon)^-1/2, k = gamma (1 without scale_after_normalization), d = t - m and the
    cotangents X, M, V, B, G of the gradients in t, m, v, beta and gamma, all products by channel:

        <gradients, cotangents> = sum of b ((X - M) k s - V d k s^3 / 2 + B + G d s)
    """
    t, m, v, gamma, b = op.inputs
    zero = tf.zeros_like(m)
    in_t, in_m, in_v, in_beta, in_gamma = (zero if c is None else c for c in cotangents)
    scaled = op.get_attr("scale_after_normalization")
    if not scaled:
        gamma, in_gamma = tf.ones_like(gamma), zero
    s = tf.rsqrt(v + tf.cast(op.get_attr("variance_epsilon"), v.dtype))
    d, moved = t - m, in_t - in_m
    by_d = in_gamma * s - in_v * gamma * s**3 / 2
    by_gamma = moved * s - in_v * d * s**3 / 2
    by_v = -(moved * gamma + in_gamma * d) * s**3 / 2 + in_v * d * gamma * s**5 * 0.75
    channels = [0, 1, 2]
    return (
        b * by_d,
        -tf.reduce_sum(b * by_d, channels),
        tf.reduce_sum(b * by_v, channels),
        tf.reduce_sum(b * by_gamma, channels) if scaled else None,
        moved * gamma * s + by_d * d + in_beta,
    )
