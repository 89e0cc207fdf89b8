"""A TF1 program that imported the functions by name, and captured them in other ways."""

import functools

from tensorflow.nn import (
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
)

captured = functools.partial(sparse_softmax_cross_entropy_with_logits, name="xent")


class Model:
    loss = staticmethod(sparse_softmax_cross_entropy_with_logits)


def sparse(logits, labels):
    return sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def dense(logits, labels):
    return softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def in_a_partial(logits, labels):
    return captured(labels=labels, logits=logits)


def as_default_argument(logits, labels, loss=sparse_softmax_cross_entropy_with_logits):
    return loss(labels=labels, logits=logits)


def dense_as_default_argument(logits, labels, loss=softmax_cross_entropy_with_logits):
    return loss(labels=labels, logits=logits)


def in_a_class(logits, labels):
    return Model.loss(labels=labels, logits=logits)
