"""Placeholders, and the losses of `tf.nn` on them: stock, or tf1xent's inside a patch."""

import tensorflow.compat.v1 as tf


def placeholders(dtype=tf.float64, shape=(None, 3)):
    return (
        tf.placeholder(dtype, shape, name="logits"),
        tf.placeholder(tf.int64, shape[:1], name="labels"),
        tf.placeholder(dtype, shape, name="soft"),
        tf.placeholder(dtype, shape, name="vector"),
    )


def sparse(logits, labels, soft):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def dense(logits, labels, soft):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=soft, logits=logits)
