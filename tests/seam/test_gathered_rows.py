"""Rows of losses and gradients that a program picks: their cotangent is an IndexedSlices."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.oracle.reference import Reference
from tf1xent import losses, nn

LOGITS = np.random.RandomState(0).randn(4, 5) * 3
LABELS = np.array([0, 1, 2, 3])
SOFT_LABELS = np.random.RandomState(1).rand(4, 5)
VECTOR = np.random.RandomState(2).randn(4, 5)
ROWS = [1, 3, 1]
COUNTS = np.array([0.0, 2.0, 0.0, 1.0])[:, np.newaxis]  # how often each row is picked


def _linear(logits):
    return losses.linear_softmax_cross_entropy(
        LABELS, logits, tf.eye(5, dtype=logits.dtype), chunk_size=2, reduction="none"
    )


LOSSES = {
    "sparse": lambda x: nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=x),
    "dense": lambda x: nn.softmax_cross_entropy_with_logits_v2(labels=SOFT_LABELS, logits=x),
    "masked": lambda x: nn.masked_sparse_softmax_cross_entropy_with_logits(
        labels=LABELS, logits=x, mask=[True] * 4
    ),
    "linear": _linear,
    "stock sparse": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=LABELS, logits=x
    ),
    "stock dense": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.constant(SOFT_LABELS / SOFT_LABELS.sum(1, keepdims=True), x.dtype), logits=x
    ),
}


def _orders(loss):
    """Gradient, product and third derivative of a loss whose rows are picked at every order."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        found, picked = [], tf.gather(loss(logits), ROWS)
        for _ in range(3):
            found.append(tf.convert_to_tensor(tf.gradients(picked, logits)[0]))
            picked = tf.gather(found[-1], ROWS) * VECTOR[ROWS]
        return session.run(found)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", LOSSES)
def test_picked_rows_have_derivatives_of_every_order(name):
    if name.startswith("stock"):
        tf1xent.override_gradients()
    try:
        got = _orders(LOSSES[name])
    finally:
        tf1xent.restore_gradients()
    oracle = Reference(LOGITS)
    soft = SOFT_LABELS if name == "dense" else None
    gradients = {
        "dense": oracle.dense_gradient(SOFT_LABELS),
        "stock dense": oracle.dense_gradient(SOFT_LABELS / SOFT_LABELS.sum(1, keepdims=True)),
    }
    want = [gradients.get(name, oracle.sparse_gradient(LABELS))]
    want += [oracle.derivative_product([VECTOR] * n, soft) for n in (1, 2)]
    for order, (mine, true) in enumerate(zip(got, want), 1):
        np.testing.assert_allclose(
            mine, COUNTS**order * true.astype(np.float64), rtol=1e-9, atol=1e-12
        )
