"""A network of two layers."""

import tensorflow as tf
import tensorflow.keras.datasets  # noqa: F401  (programs have imports that they do not use)


def network(features, num_classes):
    """Returns the last hidden layer and the logits."""
    initializer = tf.random_uniform_initializer(-1, 1, seed=7)
    with tf.variable_scope("network", initializer=initializer, reuse=tf.AUTO_REUSE):
        hidden = tf.layers.dense(features, 5, activation=tf.nn.tanh, name="hidden")
        return hidden, tf.layers.dense(hidden, num_classes, name="logits")
