"""The four programs that the project grew from: what they compute, ours computes.

Each is written here as a user writes it: TensorFlow's own composition beside the library's. What
is random is drawn once and read by both in one run.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent.losses import Reduction

BACKEND = tf.keras.backend


@pytest.fixture(params=["plain", "patched"])
def patch(request):
    """Run the test with TensorFlow's functions, and with the patch in force."""
    if request.param == "plain":
        yield
        return
    with tf1xent.patched(losses=True):
        yield


def run(*tensors):
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return session.run(tensors)


def test_missing_labels(patch):
    """A loss and an accuracy that skip rows whose labels are all zero."""
    random = np.random.RandomState(1)
    y_true = np.eye(4)[random.randint(4, size=8)].astype(np.float32)
    y_true[[1, 4, 5]] = 0
    scores = random.normal(size=(8, 4)).astype(np.float32)
    with tf.Graph().as_default():
        labels, logits = tf.constant(y_true), tf.constant(scores)
        predicted = tf.nn.softmax(logits)
        missing = BACKEND.all(BACKEND.equal(labels, 0), axis=-1)
        counted = 1 - BACKEND.cast(missing, "float32")
        loss = BACKEND.categorical_crossentropy(labels, predicted) * counted
        right = BACKEND.cast(
            BACKEND.equal(BACKEND.argmax(labels, axis=-1), BACKEND.argmax(predicted, axis=-1)),
            "float32",
        )
        theirs = [BACKEND.sum(value) / BACKEND.sum(counted) for value in (loss, right * counted)]
        losses = tf1xent.nn.softmax_cross_entropy_with_probabilities(
            labels, predicted, epsilon=1e-7, mask=counted
        )
        ours = [
            tf1xent.losses.softmax_cross_entropy(labels, logits, skip_missing=True),
            tf1xent.metrics.accuracy(labels, logits),
            tf.reduce_sum(losses) / tf.reduce_sum(counted),
        ]
        (loss, accuracy), (ours_loss, ours_accuracy, from_probabilities) = run(theirs, ours)
    assert loss == pytest.approx(ours_loss, rel=2e-6)
    assert loss == pytest.approx(from_probabilities, rel=2e-6)
    assert accuracy == ours_accuracy == pytest.approx(0.8)


def test_cross_entropy_of_probabilities(patch):
    """Clipped to [1e-10, 1]; logits and labels are constants, so that the number is one."""

    def compute_cross_entropy(logits, labels):
        log = tf.log(tf.clip_by_value(logits, 1e-10, 1.0))
        return -tf.reduce_mean(tf.reduce_sum(labels * log, axis=1))

    with tf.Graph().as_default():
        logits = tf.Variable(np.array([[1, 2, 3], [4, 5, 6]]), dtype=tf.float32)
        labels = tf.Variable(np.array([[-1, 2, 0], [3, 1, -4]]), dtype=tf.float32)
        logits, labels = tf.nn.softmax(logits, axis=1), tf.nn.softmax(labels, axis=1)
        theirs = compute_cross_entropy(logits=logits, labels=labels)
        ours = tf.reduce_mean(tf1xent.nn.softmax_cross_entropy_with_probabilities(labels, logits))
        gradients = [tf.gradients(loss, logits)[0] for loss in (theirs, ours)]
        theirs, ours, (expected, found) = run(theirs, ours, gradients)
    assert theirs == pytest.approx(ours, rel=1e-6)
    assert ours == pytest.approx(1.8111572308827975, rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
def test_labels_that_are_no_distribution(patch, shape):
    """Soft labels drawn from a normal distribution, for examples and for every token."""
    with tf.Graph().as_default():
        logits = tf.random.truncated_normal(shape, seed=1)
        labels = tf.random.truncated_normal(shape, seed=2)
        theirs = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        ours = tf1xent.nn.weighted_softmax_cross_entropy_with_logits(labels, logits)
        theirs, ours = run(theirs, ours)
    assert ours.shape == shape[:-1]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_weight_for_each_of_two_classes(patch):
    batch_size, w0, w1 = 100, 0.25, 0.57
    with tf.Graph().as_default():
        logits = tf.Variable(tf.random_normal(shape=(batch_size, 2), stddev=1.0, seed=3))
        y = tf.random_uniform(shape=(batch_size,), maxval=2, dtype=tf.int32, seed=4)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=y)
        weights = tf.where(
            tf.cast(y, tf.bool), tf.ones((batch_size,)) * w0, tf.ones((batch_size,)) * w1
        )
        theirs = tf.reduce_mean(tf.multiply(losses, weights))
        ours = tf1xent.losses.sparse_softmax_cross_entropy(
            y, logits, class_weights=[w1, w0], reduction=Reduction.SUM_OVER_BATCH_SIZE
        )
        theirs, ours = run(theirs, ours)
    assert 0.1 < theirs < 1 and theirs == pytest.approx(ours, rel=2e-6)


def test_a_label_for_every_token(patch):
    batch_size, seq_len, nclass = 2, 5, 4
    labels = np.random.RandomState(5).randint(0, nclass - 1, [batch_size, seq_len])
    with tf.Graph().as_default():
        logits = tf.random.truncated_normal([batch_size, seq_len, nclass], seed=6)
        labels = tf.constant(labels, tf.int64)
        theirs = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        ours = tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits(labels, logits)
        theirs, ours = run(theirs, ours)
    assert ours.shape == (batch_size, seq_len)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_log_sum_exp_and_gather(patch):
    """The loss whose Hessian TensorFlow refused."""

    def sparse_categorical_cross_entropy(labels, logits):
        partition = tf.reduce_logsumexp(logits, axis=-1)
        lookup = tf.stack([tf.range(tf.shape(labels)[0]), tf.cast(labels, tf.int32)], 1)
        return -tf.gather_nd(logits, lookup) + partition

    with tf.Graph().as_default():
        # Drawn once: a Hessian runs a loop, which would draw its own.
        labels = tf.Variable(tf.random_uniform([1], 0, 10, tf.int32, seed=7))
        logits = tf.Variable(tf.random_normal([1, 10], seed=8))
        losses = [
            tf.reduce_mean(sparse_categorical_cross_entropy(labels, logits)),
            tf.losses.sparse_softmax_cross_entropy(labels, logits),
            tf1xent.losses.sparse_softmax_cross_entropy(labels, logits),
        ]
        hessians = [tf.hessians(losses[0], logits)[0], tf.hessians(losses[2], logits)[0]]
        losses, (theirs, ours) = run(losses, hessians)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert ours.shape == (1, 10, 1, 10) and np.abs(ours).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
