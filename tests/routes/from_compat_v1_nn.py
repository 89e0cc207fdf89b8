"""A TF1 program that imported the functions of tf.compat.v1.nn by name."""

from tensorflow.compat.v1.nn import (
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)


def sparse(logits, labels):
    return sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def dense_v2(logits, labels):
    return softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
