"""Learns, from pairs of handwritten digits, pictures that lie near if they show the same digit.

It is what the guide "Why is my loss NaN?" begins with: a TF1 program whose loss becomes NaN.
"""

import argparse

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

NUM_STEPS = 300
BATCH_SIZE = 32
MARGIN = 2.0


def embedded(images):
    """Returns the place of each picture in a plane of 8 dimensions."""
    with tf.variable_scope("embedding", reuse=tf.AUTO_REUSE):
        start = tf.random_normal_initializer(stddev=0.1, seed=1)
        weights = tf.get_variable("hidden/weights", [64, 32], initializer=start)
        hidden = tf.nn.tanh(tf.matmul(images, weights))
        return tf.matmul(hidden, tf.get_variable("output/weights", [32, 8], initializer=start))


def contrastive_loss(first, second, is_same, least):
    """Pulls pairs of one digit together, and pushes others apart, up to a margin."""
    squares = tf.reduce_sum(tf.square(first - second), axis=1)
    distance = tf.sqrt(tf.maximum(squares, least))
    apart = tf.maximum(MARGIN - distance, 0.0)
    return tf.reduce_mean(is_same * distance + (1.0 - is_same) * apart)


def batches(images, labels):
    """Yields pairs that are drawn at random, and whether they show the same digit."""
    random = np.random.RandomState(0)
    for _ in range(NUM_STEPS + 1):
        first, second = random.randint(len(images), size=[2, BATCH_SIZE])
        yield images[first], images[second], (labels[first] == labels[second]).astype(np.float32)


def main(watch=None, least=0.0):
    """Trains, and prints the loss."""
    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target
    graph = tf.Graph()
    with graph.as_default():
        first, second = (
            tf.placeholder(tf.float32, [None, 64], name=n) for n in ("first", "second")
        )
        is_same = tf.placeholder(tf.float32, [None], name="is_same")
        loss = contrastive_loss(embedded(first), embedded(second), is_same, least)
        step = tf.train.get_or_create_global_step()
        train = tf.train.AdamOptimizer(0.01).minimize(loss, step)
        hooks = []
        if watch is not None:
            from tf1xent.diagnostics import LossDoctorHook

            hooks = [LossDoctorHook(loss, train, on_problem="stop", dump_dir=watch)]
        with tf.train.MonitoredTrainingSession(hooks=hooks) as session:
            for number, batch in enumerate(batches(images, labels)):
                if session.should_stop():
                    break
                value, _ = session.run([loss, train], dict(zip([first, second, is_same], batch)))
                if number % 50 == 0:
                    print(f"step {number}: loss {value:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--watch", metavar="DIR", help="watch the loss; keep a bad step in DIR")
    parser.add_argument("--least", type=float, default=0.0, help="under the square root")
    main(**vars(parser.parse_args()))
