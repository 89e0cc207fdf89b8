"""Products with the Fisher information matrix of a model's own distribution."""

from typing import Callable, List, Optional

from tf1xent import gradients as fused
from tf1xent._tf import tf
from tf1xent._typing import Tensor, TensorLike
from tf1xent.curvature.products.differentiation import (
    Tensors,
    gradients,
    graph_function,
    matching,
    real_tensors,
)
from tf1xent.curvature.products.jacobian_products import jacobian_product_of
from tf1xent.curvature.products.row_weights import row_weights

__all__ = ["fisher_vector_product"]

_NAME = "fisher_vector_product"


def fisher_vector_product(
    outputs: Tensors,
    xs: Tensors,
    vectors: Tensors,
    *,
    weights: Optional[TensorLike] = None,
    distribution: str = "categorical",
) -> List[Tensor]:
    """The Fisher information matrix times a vector, exact over the model's own distribution.

    Use it for natural gradients and trust regions; it needs no labels and no samples. It is the
    Hessian of the mean KL divergence at its minimum, and the GGN of the negative log likelihood::

        F v = sum_i weight_i J_i^T F_i J_i v,      J_i = d outputs_i / d xs

    With z the outputs of one example, its last axis, the distribution names F_i::

        categorical   softmax(z) over num_classes             F_i u = p u - p <p, u>
        bernoulli     sigmoid(z) of each, independent         F_i u = p (1 - p) u
        normal        mean z, variance 1, each independent    F_i u = u

    Args:
      outputs: a float tensor ``[..., num_outputs]``, one example a row, or a list of them, whose
        products are added. For one number an example, ``[batch_size, 1]``.
      xs: a tensor, a variable or a list of them; a partitioned variable counts as its parts.
      vectors: one tensor for each of `xs`, of its shape and dtype; None is a zero.
      weights: the weight of each example, which broadcasts to the shape of `outputs` without the
        last axis. Default: 1 / the number of examples, so a mean. 1.0 gives the sum.
      distribution: "categorical", "bernoulli" or "normal", of all `outputs`.

    Returns:
      A list of tensors, one for each of `xs`, of its shape and dtype.

    **Derivatives**: of every order that the ops between have, in `xs` and in `vectors`. A product
      costs 1 to 2.5 gradients.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, is complex, `outputs` are not
        floating point, or a vector is of another dtype.
      ValueError: (graph build) an unknown `distribution`; `outputs` of too small a rank; `vectors`
        are not as many as `xs`; static shapes that do not fit.
      tf.errors.InvalidArgumentError: (session run) shapes that do not fit.
      tf1xent.errors.MissingDerivativeError: (graph build) J v cannot be built, such as through a v1
        while loop. The message names a remedy.

    Example: the logits themselves are the parameters.

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import fisher_vector_product
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.constant([[0.0, 0.0]])
    ...     print(session.run(fisher_vector_product(logits, logits, tf.constant([[1.0, 0.0]]))))
    [array([[ 0.25, -0.25]], dtype=float32)]

    Source: Amari, Natural Gradient Works Efficiently in Learning, Neural Computation 10 (1998).
    """
    product = fisher_product_of(outputs, xs, weights=weights, distribution=distribution)
    return product(vectors)


def fisher_product_of(
    outputs: Tensors,
    xs: Tensors,
    *,
    weights: Optional[TensorLike] = None,
    distribution: str = "categorical",
) -> Callable[[Tensors], List[Tensor]]:
    """`fisher_vector_product` as a function of the vectors: what they share is built once."""
    outputs, xs = real_tensors(_NAME, "outputs", outputs), real_tensors(_NAME, "xs", xs)
    if distribution not in _INFORMATION:
        raise ValueError(
            f"{_NAME}: `distribution` must be one of {sorted(_INFORMATION)}, got "
            f"{distribution!r}. For others use ggn_vector_product of a negative log likelihood."
        )
    for output in outputs:
        _check(output, distribution)
    with graph_function(_NAME, outputs, xs):
        by_row = [
            row_weights(_NAME, weights, tf.shape(z)[:-1], z.shape[:-1], z.dtype.base_dtype)
            for z in outputs
        ]
        push_forward = jacobian_product_of(_NAME, outputs, xs)

    def product(vectors: Tensors) -> List[Tensor]:
        with graph_function(_NAME, outputs, xs):
            tangents = push_forward(matching(_NAME, "vectors", vectors, xs, "xs"))
            cotangents = map(_INFORMATION[distribution], outputs, tangents, by_row)
            return gradients(outputs, xs, list(cotangents))

    return product


def _check(output: Tensor, distribution: str) -> None:
    if not output.dtype.is_floating:
        raise TypeError(
            f"{_NAME}: `outputs` must be floating point, got {output.dtype.base_dtype.name}. Give "
            "logits or means."
        )
    # [batch_size] would be a single example: a mean would silently be a sum.
    least = 1 if distribution == "categorical" else 2
    if output.shape.ndims is not None and output.shape.ndims < least:
        raise ValueError(
            f"{_NAME}: `outputs` must have the shape [..., num_outputs] of rank {least} or more, "
            f"got {output.shape}. For one number an example use tf.expand_dims(outputs, -1)."
        )


def _categorical(logits: Tensor, tangents: Tensor, weights: Tensor) -> Tensor:
    """w (p u - p <p, u>) of each row."""
    shape = tf.shape(logits)
    matrix = tf.stack([tf.reduce_prod(shape[:-1]), shape[-1]])
    product = fused.hessian_product(
        tf.reshape(logits, matrix), tf.reshape(tangents, matrix), tf.reshape(weights, [-1])
    )
    return tf.reshape(product, shape)


def _bernoulli(logits: Tensor, tangents: Tensor, weights: Tensor) -> Tensor:
    """w p (1 - p) u of each entry, without the cancellation in 1 - p."""
    small = tf.exp(-tf.abs(logits))
    return tf.expand_dims(weights, -1) * (small / tf.square(1 + small)) * tangents


def _normal(_: Tensor, tangents: Tensor, weights: Tensor) -> Tensor:
    """w u: the information of a mean at variance 1."""
    return tf.expand_dims(weights, -1) * tangents


_INFORMATION = {"bernoulli": _bernoulli, "categorical": _categorical, "normal": _normal}
