"""The Hessian of a loss in the logits of each example."""

from typing import List

from tf1xent._tf import tf
from tf1xent._typing import Logits, Tensor
from tf1xent.curvature.products.differentiation import gradients, graph_function, real_tensors
from tf1xent.curvature.products.missing_derivatives import require_second_derivative
from tf1xent.curvature.products.unit_vectors import require_graph, stacked

__all__ = ["logits_hessian"]

_NAME = "logits_hessian"


def logits_hessian(loss: Tensor, logits: Logits) -> Tensor:
    """The Hessian of a loss in the logits of each example, all blocks at once.

    Use it to look at the curvature of a loss itself, or to build matrices from its factors. The
    loss of an example must not depend on the logits of others; then one product gives a column of
    all blocks, and `num_classes` products give everything::

        H_i = d2 loss / d logits_i d logits_i;      weight (diag(p) - p p^T) for cross-entropy

    Args:
      loss: a float tensor or a list of them, in nats, of any shapes, which are summed: the losses
        of the examples, or their mean.
      logits: the tensor that the loss is computed from, ``[..., num_classes]``. The sizes may be
        unknown.

    Returns:
      A `Tensor` of the logits' dtype, ``[..., num_classes, num_classes]``.

    **Derivatives**: those of a while loop: with v2 control flow of every order, else none.

    Raises:
      TypeError: (graph build) an argument is no tensor or variable, or is complex.
      ValueError: (graph build) `logits` are a scalar, or several tensors.
      tf1xent.errors.MissingDerivativeError: (graph build) the loss has no second derivative:
        TensorFlow's own cross-entropy on TF 1.x. The message names a remedy.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> import tf1xent
    >>> from tf1xent.curvature import logits_hessian
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.constant([[0.0, 0.0], [9.0, 1.0]])
    ...     loss = tf1xent.losses.sparse_softmax_cross_entropy([0, -1], logits, ignore_label=-1)
    ...     print(session.run(logits_hessian(loss, logits)[0]))
    [[ 0.25 -0.25]
     [-0.25  0.25]]

    Source: the formula is derived in `tf1xent._math.softmax`.
    """
    losses, tensors = real_tensors(_NAME, "loss", loss), real_tensors(_NAME, "logits", logits)
    require_graph(_NAME, "logits", tensors)
    if len(tensors) != 1 or tensors[0].shape.ndims == 0:
        raise ValueError(
            f"{_NAME}: `logits` must be one tensor [..., num_classes], got "
            f"{[str(tensor.shape) for tensor in tensors]}. Call it once for each."
        )
    with graph_function(_NAME, losses, tensors):
        require_second_derivative(_NAME, losses, tensors)
        return _blocks(gradients(losses, tensors)[0], tensors[0])


def _blocks(gradient: Tensor, logits: Tensor) -> Tensor:
    shape, dtype = tf.shape(logits), logits.dtype.base_dtype
    num_classes, num_rows = shape[-1], tf.reduce_prod(shape[:-1])

    def column(j: Tensor) -> List[Tensor]:
        """The column j of all blocks."""
        vectors = tf.zeros_like(logits) + tf.one_hot(j, num_classes, dtype=dtype)
        (product,) = gradients([gradient], [logits], [vectors])
        return [tf.reshape(product, tf.stack([num_rows, num_classes]))]

    (columns,) = stacked(num_classes, column, [dtype])
    blocks = tf.reshape(tf.transpose(columns, [1, 2, 0]), tf.concat([shape, shape[-1:]], axis=0))
    if logits.shape.ndims is not None:
        blocks.set_shape(logits.shape.concatenate(logits.shape[-1:]))
    return blocks
