"""A model of tf.contrib.slim."""

import os

import numpy as np
import tensorflow as tf

slim = tf.contrib.slim


def network(inputs):
    regularizer = slim.l2_regularizer(0.01)
    with slim.arg_scope(
        [slim.fully_connected],
        weights_regularizer=regularizer,
        weights_initializer=tf.random_uniform_initializer(-1, 1, seed=5),
    ):
        net = slim.fully_connected(inputs, 5, scope="fc1")
        return net, slim.fully_connected(net, 3, activation_fn=None, scope="fc2")


def main(_):
    random = np.random.RandomState(4)
    features = random.randn(16, 4).astype(np.float32)
    labels = random.randint(3, size=16)
    net, logits = network(tf.constant(features))
    cross_entropy = slim.losses.sparse_softmax_cross_entropy(logits, tf.constant(labels))
    total_loss = slim.losses.get_total_loss()
    train_op = slim.learning.create_train_op(total_loss, tf.train.MomentumOptimizer(0.1, 0.9))
    results = {"features": net, "logits": logits}
    if "HESSIAN_TO" in os.environ:
        (kernel,) = slim.get_model_variables("fc2/weights")
        results["hessian"] = tf.hessians(cross_entropy, kernel)[0]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(12):
            print(f"total loss {session.run(train_op):.4f}")
        if "HESSIAN_TO" in os.environ:
            np.savez(os.environ["HESSIAN_TO"], **session.run(results))


if __name__ == "__main__":
    tf.app.run()
