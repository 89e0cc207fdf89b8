"""Calls TensorFlow's functions in the ways that the report tells apart.

A comment before a line says what the report says of it. The first import of TensorFlow is one of a
name, in a thread.
"""

import threading

taken = []


def take():
    """Import a function by its name."""
    from tensorflow.compat.v1.nn import softmax_cross_entropy_with_logits_v2

    taken.append(softmax_cross_entropy_with_logits_v2)


thread = threading.Thread(target=take)
thread.start()
thread.join()

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
from tensorflow.python.ops import gen_nn_ops  # noqa: E402

sparse = tf.nn.sparse_softmax_cross_entropy_with_logits
dense = tf.nn.softmax_cross_entropy_with_logits
reduced = tf.losses.sparse_softmax_cross_entropy
fused = gen_nn_ops.sparse_softmax_cross_entropy_with_logits


def loss_of_rows(labels, logits):
    """Return the losses of rows."""
    # 1: tf.nn.sparse_softmax_cross_entropy_with_logits
    return sparse(labels=labels, logits=logits)


def in_a_branch(logits):
    """Return a loss, in code that AutoGraph converts."""
    if logits[0, 0] > 0.0:
        # 1: tf.nn.softmax_cross_entropy_with_logits
        loss = dense(labels=[[1.0, 0.0]], logits=logits)
    else:
        loss = logits[:, 0]
    return loss


with tf.Graph().as_default(), tf.Session() as session:
    logits = tf.constant([[1.0, 0.0]])
    losses = [loss_of_rows([0], logits)]
    for _ in range(2):
        # 2: tf.nn.softmax_cross_entropy_with_logits_v2
        losses.append(taken[0](labels=[[0.5, 0.5]], logits=logits))
    # 1: tf.nn.sparse_softmax_cross_entropy_with_logits, tf.losses.sparse_softmax_cross_entropy
    losses.append(reduced([1], logits))
    # 1: gradient of SparseSoftmaxCrossEntropyWithLogits
    losses.append(fused(logits, [1])[0])
    gradient = tf.gradients(losses[-1], logits)[0]
    if hasattr(tf, "function"):
        losses.append(tf.function(in_a_branch)(logits))
    else:
        losses.append(in_a_branch(np.array([[1.0, 0.0]])))
    print([float(session.run(loss).ravel()[0]) for loss in losses])
