"""The Hessian of a loss in the logits of each example."""

from tf1xent._tf import tf
from tf1xent._typing import Logits, Tensor
from tf1xent.curvature.differentiation import gradients, graph_function, real_tensors
from tf1xent.curvature.unit_vectors import stacked


def logits_hessian(loss: Tensor, logits: Logits) -> Tensor:
    """The blocks [..., num_classes, num_classes] of a loss whose rows do not depend on others."""
    name = "logits_hessian"
    losses, (logits,) = real_tensors(name, "loss", loss), real_tensors(name, "logits", logits)
    with graph_function(name, losses, [logits]):
        (first,) = gradients(losses, [logits])
        shape = tf.shape(logits)
        num_classes, rows = shape[-1], tf.reduce_prod(shape[:-1])

        def column(j: Tensor) -> Tensor:
            """The column j of all blocks, by one product: rows do not mix."""
            unit = tf.one_hot(j, num_classes, dtype=logits.dtype.base_dtype)
            vectors = tf.zeros_like(logits) + unit
            (product,) = gradients([first], [logits], [vectors])
            return tf.reshape(product, tf.stack([rows, num_classes]))

        columns = stacked(num_classes, column, logits.dtype.base_dtype)
        blocks = tf.reshape(
            tf.transpose(columns, [1, 2, 0]), tf.concat([shape, shape[-1:]], axis=0)
        )
        if logits.shape.ndims is not None:
            blocks.set_shape(logits.shape.concatenate(logits.shape[-1:]))
        return blocks
