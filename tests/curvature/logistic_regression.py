"""Multinomial logistic regression on digits: its graph, and its matrices in NumPy.

It is linear in its variables, so its Hessian, its GGN and its Fisher matrix are one closed form.
"""

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

NUM_FEATURES, NUM_CLASSES = 6, 4
SIZE = (NUM_FEATURES + 1) * NUM_CLASSES


def digits(number=23):
    """Return (features, labels, mask) of some digits."""
    images, labels = load_digits(n_class=NUM_CLASSES, return_X_y=True)
    features = images[:number, 18 : 18 + NUM_FEATURES] / 16.0
    mask = np.arange(number) % 3 != 1
    return features, labels[:number], mask.astype(np.float64)


def batches(sizes, number=23):
    """Return digits cut into batches of some sizes."""
    ends = np.cumsum([0, *sizes])
    return [tuple(a[i:j] for a in digits(number)) for i, j in zip(ends[:-1], ends[1:])]


class Model:
    """The graph: `loss` is the mean over the examples whose mask is 1, of which there are `count`.

    Without `inputs`, (features, labels, mask) are placeholders, to be fed by `feed`.
    """

    def __init__(self, dtype=tf.float64, inputs=None, resource=True):
        placeholders = [
            tf.placeholder(dtype, [None, NUM_FEATURES], "features"),
            tf.placeholder(tf.int64, [None], "labels"),
            tf.placeholder(dtype, [None], "mask"),
        ]
        self.inputs = placeholders if inputs is None else inputs
        features, labels, mask = self.inputs
        random = np.random.RandomState(5)
        with tf.variable_scope("dense", reuse=tf.AUTO_REUSE, use_resource=resource):
            self.kernel, self.bias = (
                tf.get_variable(name, dtype=dtype, initializer=tf.constant(values, dtype))
                for name, values in (
                    ("kernel", random.normal(size=[NUM_FEATURES, NUM_CLASSES])),
                    ("bias", random.normal(size=[NUM_CLASSES])),
                )
            )
        self.xs = [self.kernel, self.bias]
        self.logits = tf.matmul(features, self.kernel) + self.bias
        of_labels = tf.one_hot(labels, NUM_CLASSES, dtype=dtype) * self.logits
        self.losses = tf.reduce_logsumexp(self.logits, 1) - tf.reduce_sum(of_labels, 1)
        self.count = tf.reduce_sum(mask)
        self.weights = mask / self.count
        self.loss = tf.reduce_sum(self.weights * self.losses)

    def feed(self, batch):
        """Return the feed dict of (features, labels, mask)."""
        return dict(zip(self.inputs, batch))


def _probabilities(features, kernel, bias):
    augmented = np.concatenate([features, np.ones([len(features), 1])], axis=1)
    exponentials = np.exp(augmented @ np.concatenate([kernel, bias[np.newaxis]]))
    return augmented, exponentials / exponentials.sum(1, keepdims=True)


def hessian(batch, kernel, bias):
    """Return the matrix of the mean loss: sum of (x x^T) times (diag(p) - p p^T)."""
    features, _, mask = batch
    x, p = _probabilities(features, kernel, bias)
    inner = np.einsum("ic,cd->icd", p, np.eye(NUM_CLASSES)) - np.einsum("ic,id->icd", p, p)
    total = np.einsum("i,ia,ib,icd->acbd", mask, x, x, inner)
    return total.reshape(SIZE, SIZE) / mask.sum()


def gradients(batch, kernel, bias):
    """Return the gradient of each example's loss, [number, SIZE]."""
    features, labels, _ = batch
    x, p = _probabilities(features, kernel, bias)
    return np.einsum("ia,ic->iac", x, p - np.eye(NUM_CLASSES)[labels]).reshape(-1, SIZE)


def gradient(batch, kernel, bias):
    """Return the gradient of the mean loss."""
    mask = batch[2]
    return mask @ gradients(batch, kernel, bias) / mask.sum()


def empirical_fisher(batch, kernel, bias):
    """Return the mean of g g^T."""
    mask, each = batch[2], gradients(batch, kernel, bias)
    return np.einsum("i,ia,ib->ab", mask, each, each) / mask.sum()


def loss(batch, kernel, bias):
    """Return the mean loss."""
    features, labels, mask = batch
    _, p = _probabilities(features, kernel, bias)
    return -(mask * np.log(p[np.arange(len(labels)), labels])).sum() / mask.sum()
