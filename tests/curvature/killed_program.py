"""Twenty Lanczos steps with a product log; killed in the middle of a product if asked to.

Run as ``python -m tests.curvature.killed_program LOG PRODUCT [WORKER ...]``.
"""

import os
import signal
import sys

import numpy as np
import scipy.sparse.linalg
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

import tf1xent
from tf1xent.curvature.operators.hessian_operator import HessianOperator

NUM_STEPS = 20


class Feeds:
    """Batches of digits; the process kills itself in the middle of one pass over them."""

    def __init__(self, placeholders, killed_in_pass=None):
        features, labels = load_digits(return_X_y=True)
        self.batches = [
            dict(zip(placeholders, (features[i : i + 30] / 16.0, labels[i : i + 30])))
            for i in range(0, 100, 30)
        ]
        self.number, self.killed_in_pass = 0, killed_in_pass

    def __iter__(self):
        self.number += 1
        for number, batch in enumerate(self.batches):
            if self.number == self.killed_in_pass and number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def run(log, killed_in_pass=None, workers=None):
    """Return (eigenvalues and vectors after the steps, number of products computed)."""
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float32, [None, 64], "features")
        labels = tf.placeholder(tf.int64, [None], "labels")
        random = np.random.RandomState(0)
        xs = [
            tf.get_variable(
                name, initializer=tf.constant(0.3 * random.normal(size=shape), tf.float32)
            )
            for name, shape in (
                ("in/kernel", [64, 12]),
                ("in/bias", [12]),
                ("out/kernel", [12, 10]),
            )
        ]
        logits = tf.matmul(tf.tanh(tf.matmul(features, xs[0]) + xs[1]), xs[2])
        loss = tf.reduce_mean(
            tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        )
        session.run(tf.global_variables_initializer())
        feeds = Feeds([features, labels], killed_in_pass)
        operator = HessianOperator(session, loss, xs, feeds, log=log, workers=workers)
        start = np.random.RandomState(1).normal(size=operator.shape[0])
        try:
            found = scipy.sparse.linalg.eigsh(
                operator, 4, ncv=NUM_STEPS, maxiter=1, v0=start, tol=1
            )
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            found = error.eigenvalues, error.eigenvectors
        return found, operator.num_products


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or None)
