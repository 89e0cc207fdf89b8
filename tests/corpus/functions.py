"""Programs whose cross-entropy ops are in bodies of functions."""

import tensorflow
import tensorflow.compat.v1 as tf

from tests.corpus.data import NUM_CLASSES, smoothed_iris
from tests.corpus.models import iris_placeholders
from tests.corpus.recording import trained_and_saved


def defun(folder):
    """A loss to evaluate by: a Defun that calls another. Trained on squares.

    TensorFlow does not differentiate it: it has no symbolic gradient of a cross-entropy op.
    """
    from tensorflow.python.framework.function import Defun

    @Defun(tf.float64, tf.float64, func_name="row_losses")
    def row_losses(logits, labels):
        return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)

    @Defun(tf.float64, tf.float64, func_name="mean_loss")
    def mean_loss(logits, labels):
        return tf.reduce_mean(row_losses(logits / 2, labels))

    features = tf.placeholder(tf.float64, [None, 4], name="features")
    labels = tf.placeholder(tf.float64, [None, NUM_CLASSES], name="labels")
    logits = tf.layers.dense(features, NUM_CLASSES, name="logits")
    loss = tf.reshape(mean_loss(logits, labels), [], name="loss")
    feeds = list(zip([features, labels], smoothed_iris()))
    squares = tf.reduce_mean(tf.square(logits - labels))
    trained_and_saved(folder, loss, feeds, [logits], trained=squares)


def defun_with_gradient(folder):
    """A Defun with sparse labels and a gradient of its own, as a program has to give it."""
    from tensorflow.python.framework.function import Defun

    def gradient(op, cotangent):
        logits, labels = op.inputs
        targets = tf.one_hot(labels, NUM_CLASSES, dtype=tf.float64)
        return cotangent[:, None] * (tf.nn.softmax(logits) - targets), None

    @Defun(tf.float64, tf.int64, func_name="row_losses", python_grad_func=gradient)
    def row_losses(logits, labels):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    features, labels, feeds = iris_placeholders()
    logits = tf.layers.dense(features, NUM_CLASSES, name="logits")
    losses = tf.reshape(row_losses(logits, labels), tf.shape(labels))
    loss = tf.reduce_mean(losses, name="loss")
    trained_and_saved(folder, loss, feeds, [logits, losses])


def tf_function(folder):
    """A tf.function called in a graph, with a variable that it captures."""
    # 1.13 has no tf.function yet, but what it grew from.
    function = getattr(tensorflow, "function", None) or tensorflow.contrib.eager.defun
    features, labels, feeds = iris_placeholders()
    hidden = tf.layers.dense(features, 8, activation=tf.tanh, name="hidden")
    kernel = tf.get_variable("kernel", [8, NUM_CLASSES], tf.float64, use_resource=True)

    @function
    def mean_loss(hidden, labels):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=tf.matmul(hidden, kernel)
        )
        return tf.reduce_mean(losses)

    loss = tf.identity(mean_loss(hidden, labels), name="loss")
    trained_and_saved(folder, loss, feeds, [hidden])
