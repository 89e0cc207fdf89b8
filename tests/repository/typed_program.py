"""A user's program, for type checkers: what it calls has the types that it expects."""

# The environment of the linters has no TensorFlow.
# pyright: reportMissingImports=false
import tensorflow.compat.v1 as tf

import tf1xent


def training_loss(tokens: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return a masked loss, smoothed."""
    tf1xent.patch(implementation="auto")
    with tf1xent.patched(losses=True):
        losses = tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits(
            tokens, logits, ignore_label=0, label_smoothing=0.1
        )
    mean: str = tf1xent.losses.Reduction.MEAN
    reduced = tf1xent.losses.sparse_softmax_cross_entropy(tokens, logits, reduction=mean)
    accuracy, update = tf1xent.metrics.streaming_accuracy(tokens, logits, ignore_label=0)
    report: str = tf1xent.graphs.inspect_graph("model.meta").to_text()
    print(report, tf1xent.status(), accuracy, update, tf1xent.kernels.available())
    return tf.reduce_mean(losses) + reduced
