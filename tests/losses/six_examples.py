"""A batch of six examples, and its losses by their definition."""

import numpy as np
import tensorflow.compat.v1 as tf

SPARSE = "sparse_softmax_cross_entropy"
DENSE = "softmax_cross_entropy"

RANDOM = np.random.RandomState(3)
LOGITS = RANDOM.normal(size=(6, 4)) * 2
LABELS = np.array([0, 3, 1, 1, 2, 0])
SOFT_LABELS = RANDOM.dirichlet(np.ones(4), size=6)
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0, 0.0, 3.0])
CLASS_WEIGHTS = np.array([0.25, 1.0, 0.0, 2.0])


def rows_of_losses(labels, logits):
    """Return the losses by row of one-hot or soft labels, by their definition."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    surprisal = np.log(np.exp(shifted).sum(-1, keepdims=True)) - shifted
    return np.sum(labels * surprisal, axis=-1)


def one_hot(labels, num_classes=4):
    return np.eye(num_classes)[labels]


def run(build):
    """Return the values of what `build` makes, in a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())
