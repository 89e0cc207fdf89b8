"""Trainings on digits that the tests watch."""

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

DIGITS = load_digits()
IMAGES = (DIGITS.data / 16).astype(np.float32)
LABELS = DIGITS.target.astype(np.int64)
BATCH = 32


def dense(x, width, units, name, resource=False):
    """A dense layer; tf.layers is not in every TensorFlow."""
    with tf.variable_scope(name, use_resource=resource):
        kernel = tf.get_variable("kernel", [width, units])
        return x @ kernel + tf.get_variable("bias", [units], initializer=tf.zeros_initializer())


class Training:
    """A network with two layers, in the default graph, that is fed."""

    def __init__(self, optimizer=None, *, resource=False, rate=0.0, images=None, labels=None):
        tf.set_random_seed(3)
        self.images = tf.placeholder(tf.float32, [None, 64]) if images is None else images
        self.labels = tf.placeholder(tf.int64, [None]) if labels is None else labels
        hidden = tf.nn.relu(dense(self.images, 64, 16, "hidden", resource))
        if rate:
            hidden = tf.nn.dropout(hidden, rate=rate)
        self.logits = dense(hidden, 16, 10, "logits", resource)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=self.labels, logits=self.logits
        )
        self.loss = tf.reduce_mean(losses)
        step = tf.train.get_or_create_global_step()
        optimizer = optimizer or tf.train.AdamOptimizer(0.01)
        self.train = optimizer.minimize(self.loss, step)

    def feed(self, step, spoil=None):
        """The feeds of a step; `spoil` is called with the images and labels."""
        images, labels = batch(step)
        if spoil is not None:
            spoil(images, labels)
        return {self.images: images, self.labels: labels}


def batch(step):
    """Images and labels of a step."""
    rows = np.random.RandomState(step).randint(0, len(IMAGES), BATCH)
    return IMAGES[rows], LABELS[rows]


def pixel(value, row=5):
    """Spoils one pixel of a row."""

    def spoil(images, labels):
        images[row, 20] = value

    return spoil
