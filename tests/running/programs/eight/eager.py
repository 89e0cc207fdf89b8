"""Eager execution and gradient tapes."""

import os

import numpy as np
import tensorflow as tf

tf.enable_eager_execution()


def main():
    random = np.random.RandomState(6)
    features = random.randn(10, 3).astype("float32")
    labels = random.randint(3, size=10)
    kernel = tf.Variable(tf.zeros([3, 3]))

    def logits():
        return tf.matmul(features, kernel)

    def loss():
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits())
        return tf.reduce_mean(losses)

    optimizer = tf.train.GradientDescentOptimizer(0.5)
    for step in range(8):
        with tf.GradientTape() as tape:
            value = loss()
        optimizer.apply_gradients([(tape.gradient(value, kernel), kernel)])
        print("step", step, f"loss {value.numpy():.4f}")

    if "HESSIAN_TO" in os.environ:
        with tf.GradientTape(persistent=True) as outer:
            with tf.GradientTape() as inner:
                value = loss()
            entries = tf.unstack(tf.reshape(inner.gradient(value, kernel), [-1]))
        rows = [outer.gradient(entry, kernel).numpy() for entry in entries]
        hessian = np.reshape(rows, [3, 3, 3, 3])
        scores = logits().numpy()
        np.savez(os.environ["HESSIAN_TO"], hessian=hessian, features=features, logits=scores)


main()
