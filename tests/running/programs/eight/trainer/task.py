"""Trains the network: ``python -m trainer.task --steps 10``."""

import argparse
import os

import numpy as np
import tensorflow as tf

from . import model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    random = np.random.RandomState(1)
    features = random.randn(20, 4).astype("float32")
    labels = random.randint(3, size=20)

    hidden, logits = model.network(tf.constant(features), 3)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = tf.train.AdamOptimizer(0.05).minimize(loss, tf.train.get_or_create_global_step())
    results = {"features": hidden, "logits": logits}
    if "HESSIAN_TO" in os.environ:
        with tf.variable_scope("network", reuse=True):
            results["hessian"] = tf.hessians(loss, tf.get_variable("logits/kernel"))[0]
    with tf.train.MonitoredSession() as session:
        for _ in range(options.steps):
            _, value = session.run([train_op, loss])
            print(f"loss {value:.4f}")
        if "HESSIAN_TO" in os.environ:
            np.savez(os.environ["HESSIAN_TO"], **session.run(results))


if __name__ == "__main__":
    main()
