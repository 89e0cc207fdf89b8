"""Trains a small network on handwritten digits, a third of which has no label: a TF1 program.

It is written as such programs are, with its losses by hand, and is what the guide "From TF1 to TF2
with your losses proven" begins with. It knows nothing of tf1xent.
"""

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

NUM_CLASSES = 10
NUM_TRAINING = 1200
NUM_STEPS = 300


def masked_loss(onehot_labels, logits, mask):
    """The mean over the rows that have a label."""
    probs = tf.nn.softmax(logits)
    losses = -tf.reduce_sum(onehot_labels * tf.log(tf.clip_by_value(probs, 1e-10, 1.0)), axis=-1)
    return tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)


def mean_loss(onehot_labels, logits):
    """The mean over all rows."""
    probs = tf.nn.softmax(logits)
    return -tf.reduce_mean(tf.reduce_sum(onehot_labels * tf.log(probs), axis=-1))


def network(images):
    """Returns the logits, and the bias of the last layer."""
    start = tf.random_normal_initializer(stddev=0.5, seed=3)
    weights = tf.get_variable("hidden/weights", [64, 32], initializer=start)
    hidden = tf.nn.relu(tf.matmul(images, weights))
    weights = tf.get_variable("output/weights", [32, NUM_CLASSES], initializer=start)
    bias = tf.get_variable("output/bias", [NUM_CLASSES], initializer=tf.zeros_initializer())
    return tf.matmul(hidden, weights) + bias, bias


def main():
    """Trains, and prints what has become of it."""
    digits = load_digits()
    images, labels = digits.data.astype(np.float32), digits.target.astype(np.int32)
    has_label = (np.arange(len(labels)) % 3 != 0).astype(np.float32)

    x = tf.placeholder(tf.float32, [None, 64])
    y = tf.placeholder(tf.int32, [None])
    mask = tf.placeholder(tf.float32, [None])
    logits, bias = network(x)
    onehot_labels = tf.one_hot(y, NUM_CLASSES)
    loss = masked_loss(onehot_labels, logits, mask)
    train = tf.train.AdamOptimizer(0.01).minimize(loss)
    accuracy = tf.reduce_mean(
        tf.cast(tf.equal(tf.argmax(logits, 1, output_type=tf.int32), y), tf.float32)
    )
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    curvature = tf.trace(tf.hessians(tf.reduce_mean(losses), bias)[0])

    training = {x: images[:NUM_TRAINING], y: labels[:NUM_TRAINING], mask: has_label[:NUM_TRAINING]}
    test = {x: images[NUM_TRAINING:], y: labels[NUM_TRAINING:]}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for step in range(NUM_STEPS + 1):
            if step % 100 == 0:
                print(f"step {step}: loss {session.run(loss, training):.2f}")
            session.run(train, training)
        values = session.run([accuracy, mean_loss(onehot_labels, logits), curvature], test)
        print("accuracy {:.2f}, test loss {:.2f}, curvature {:.2f}".format(*values))


if __name__ == "__main__":
    main()
