"""Programs whose loss is computed in the main graph, in no loop, branch or function."""

import tensorflow.compat.v1 as tf

from tests.corpus.data import NUM_CLASSES, iris, smoothed_iris
from tests.corpus.recording import trained_and_saved


def dense_logits(features):
    """Return the logits of two dense layers."""
    hidden = tf.layers.dense(features, 8, activation=tf.tanh, name="hidden")
    return tf.layers.dense(hidden, NUM_CLASSES, name="logits")


def iris_placeholders():
    """Return placeholders for features and labels, and what to feed them."""
    features = tf.placeholder(tf.float64, [None, 4], name="features")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    return features, labels, list(zip([features, labels], iris()))


def classifier_loss():
    """Return the loss of two dense layers with sparse labels, what to feed, logits and losses."""
    features, labels, feeds = iris_placeholders()
    logits = dense_logits(features)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits, name="xent"
    )
    return tf.reduce_mean(losses, name="loss"), feeds, logits, losses


def classifier(folder):
    """Sparse labels, two dense layers."""
    loss, feeds, logits, losses = classifier_loss()
    trained_and_saved(folder, loss, feeds, [logits, losses])


def dense_classifier(folder):
    """Labels that are smoothed one-hot rows."""
    features = tf.placeholder(tf.float64, [None, 4], name="features")
    labels = tf.placeholder(tf.float64, [None, NUM_CLASSES], name="labels")
    logits = dense_logits(features)
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses, name="loss")
    feeds = list(zip([features, labels], smoothed_iris()))
    trained_and_saved(folder, loss, feeds, [logits, losses])


def distillation(folder):
    """A student and a teacher trained together: the labels depend on variables."""
    features, labels, feeds = iris_placeholders()
    taught = tf.layers.dense(features, NUM_CLASSES, name="teacher")
    student = dense_logits(features)
    teacher_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=taught)
    student_losses = tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.nn.softmax(taught / 2), logits=student / 2, name="distilled"
    )
    loss = tf.reduce_mean(teacher_losses + 4 * student_losses, name="loss")
    trained_and_saved(folder, loss, feeds, [student, taught, student_losses])
