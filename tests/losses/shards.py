"""Classes cut into shards, as the losses by shards take them."""

import numpy as np
import tensorflow.compat.v1 as tf

from tf1xent import losses


def owned(sizes, strategy="div"):
    """The classes of each shard."""
    total = sum(sizes)
    if strategy == "mod":
        return [np.arange(number, total, len(sizes)) for number in range(len(sizes))]
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for end, size in zip(ends, sizes)]


def cut(tensor, sizes, strategy="div", axis=-1):
    """Shards of a tensor, by gathers."""
    return [tf.gather(tensor, classes, axis=axis) for classes in owned(sizes, strategy)]


def by_row(sizes, strategy="div", chunk_size=None, identity=False):
    """The loss of logits in shards by row, called as the losses of `tf1xent.nn` are.

    With `identity` it is that of a linear layer: its inputs are unit vectors, its weights logits.
    """

    def loss(labels, logits, weights=1.0, **options):
        options = dict(
            options,
            example_weights=weights,
            partition_strategy=strategy,
            reduction="none",
            loss_collection=None,
        )
        shards = cut(logits, sizes, strategy)
        if not identity:
            return losses.sharded_softmax_cross_entropy(
                labels, shards, chunk_size=chunk_size, **options
            )
        units = tf.eye(logits.shape.as_list()[0], dtype=logits.dtype)
        return losses.linear_softmax_cross_entropy(
            labels, units, shards, chunk_size=chunk_size or 640, **options
        )

    return loss


def logits_loss(labels, shards, **options):
    """The losses of shards by row."""
    return losses.sharded_softmax_cross_entropy(
        labels, shards, reduction="none", loss_collection=None, **options
    )
