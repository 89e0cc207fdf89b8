"""Graphs that were saved when losses handed fewer tensors to their gradients."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent import nn  # noqa: F401 - registers the gradients

LOGITS = np.random.RandomState(0).normal(size=[5, 100])
LABELS = np.array([3, 0, 99, 41, 41])


def _rows(num_classes):
    """Logits of that many classes, and exp(x - m) in NumPy."""
    logits = LOGITS[:, :num_classes]
    return logits, np.exp(logits - logits.max(axis=1, keepdims=True))


def _gradient(name, bundle, logits):
    """The gradient in `logits`, the second tensor of what an op of a saved graph carries."""
    with tf.get_default_graph().gradient_override_map({"IdentityN": name}):
        loss = tf.identity_n([bundle[0], logits, *bundle[1:]])[0]
    return tf.gradients(loss, logits)[0]


@pytest.mark.parametrize("num_classes", [50, 100])
def test_gradients_of_integer_labels(num_classes):
    logits, exponentials = _rows(num_classes)
    labels = LABELS % num_classes
    rows = np.arange(5), labels
    total = exponentials.sum(axis=1)
    others = exponentials.copy()
    others[rows] = 0
    bundle = [np.zeros(5), labels, others, others.sum(axis=1), total, labels.astype(np.int32)]
    with tf.Graph().as_default(), tf.Session() as session:
        got = session.run(_gradient("Tf1xentSparseLoss", bundle, tf.constant(logits)))
    expected = exponentials / total[:, np.newaxis]
    expected[rows] -= 1
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("num_classes", [50, 100])
def test_gradients_of_soft_labels(num_classes):
    logits, exponentials = _rows(num_classes)
    labels = np.random.RandomState(1).uniform(size=logits.shape)
    pivots = logits.argmax(axis=1)
    others = exponentials.copy()
    others[np.arange(5), pivots] = 0
    pivots = np.eye(num_classes)[pivots] if num_classes == 50 else pivots.astype(np.int32)
    bundle = [np.zeros(5), labels, others, others.sum(axis=1), pivots, labels.sum(axis=1)]
    with tf.Graph().as_default(), tf.Session() as session:
        got = session.run(_gradient("Tf1xentDenseLoss", bundle, tf.constant(logits)))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = labels.sum(axis=1, keepdims=True) * softmax - labels
    np.testing.assert_allclose(got, expected, rtol=1e-12)
