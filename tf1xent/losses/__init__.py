"""Reduced softmax cross-entropy: tf.losses' functions and tf.contrib.seq2seq's, with options."""

from tf1xent.losses.cross_entropy import softmax_cross_entropy, sparse_softmax_cross_entropy
from tf1xent.losses.linear import linear_softmax_cross_entropy
from tf1xent.losses.reduction import Reduction
from tf1xent.losses.sequence import sequence_loss
from tf1xent.losses.sharded import sharded_softmax_cross_entropy

__all__ = [
    "Reduction",
    "linear_softmax_cross_entropy",
    "sequence_loss",
    "sharded_softmax_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]
