"""Products with the Fisher information matrix of a model's own distribution."""

from typing import List, Optional

from tf1xent import gradients as fused
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike
from tf1xent.curvature.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.jacobian_products import pushed_forward


def fisher_vector_product(
    outputs: Tensors,
    xs: Tensors,
    vectors: Tensors,
    *,
    weights: Optional[TensorLike] = None,
    distribution: str = "categorical",
) -> List[Tensor]:
    """F v, exact over the model's own distribution."""
    name = "fisher_vector_product"
    outputs, xs = real_tensors(name, "outputs", outputs), real_tensors(name, "xs", xs)
    if distribution not in _METRICS:
        raise ValueError(
            f"{name}: `distribution` must be one of {sorted(_METRICS)}, got {distribution!r}. "
            "For another one use ggn_vector_product with its negative log likelihood."
        )
    for output in outputs:
        _check(name, output, distribution)
    metric = _METRICS[distribution]
    with graph_function(name, outputs, xs):
        tangents = pushed_forward(outputs, xs, matching(name, "vectors", vectors, xs, "xs"))
        cotangents = [
            metric(output, tangent, _row_weights(output, weights))
            for output, tangent in zip(outputs, tangents)
        ]
        return gradients(outputs, xs, cotangents)


def _check(name: str, output: Tensor, distribution: str) -> None:
    if not output.dtype.is_floating:
        raise TypeError(
            f"{name}: `outputs` must be floating point, got {output.dtype.base_dtype.name}. Give "
            "the logits or means."
        )
    least = 1 if distribution == "categorical" else 2
    if output.shape.ndims is not None and output.shape.ndims < least:
        raise ValueError(
            f"{name}: `outputs` must have the shape [..., number of outputs of an example], rank "
            f"{least} or more, got {output.shape}. Use tf.expand_dims(outputs, -1) for one output."
        )


def _row_weights(output: Tensor, weights: Optional[TensorLike]) -> Tensor:
    """The weight of each row of `output`: of its shape without the last axis."""
    rows = tf.shape(output)[:-1]
    if weights is None:
        count = tf.cast(tf.reduce_prod(rows), output.dtype)
        return tf.fill(rows, 1 / count)
    weights = tf.convert_to_tensor(weights, output.dtype)
    return weights + tf.zeros(rows, output.dtype)


def _categorical(logits: Tensor, tangents: Tensor, weights: Tensor) -> Tensor:
    """w (p v - p <p, v>) of each row."""
    shape = tf.shape(logits)
    matrix = tf.stack([tf.reduce_prod(shape[:-1]), shape[-1]])
    product = fused.hessian_product(
        tf.reshape(logits, matrix), tf.reshape(tangents, matrix), tf.reshape(weights, [-1])
    )
    return tf.reshape(product, shape)


def _bernoulli(logits: Tensor, tangents: Tensor, weights: Tensor) -> Tensor:
    """w p (1 - p) v of each entry."""
    small = tf.exp(-tf.abs(logits))
    return weights[..., tf.newaxis] * (small / tf.square(1 + small)) * tangents


def _normal(_: Tensor, tangents: Tensor, weights: Tensor) -> Tensor:
    """w v: the variance is 1."""
    return weights[..., tf.newaxis] * tangents


_METRICS = {"bernoulli": _bernoulli, "categorical": _categorical, "normal": _normal}
