"""Derivatives of the plain metrics: exact where there are any, None where a metric jumps."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.metrics.calls import call, run
from tests.oracle.metric_reference import probabilities
from tf1xent import metrics


def test_likelihood_and_perplexity_are_differentiable():
    random = np.random.RandomState(8)
    logits, labels = random.normal(size=[4, 3]), np.array([0, 2, -1, 1])
    weights = np.array([1.0, 0.0, np.nan, 3.0])
    share = np.where(labels >= 0, weights, 0) / 4.0
    p = probabilities(logits)
    one_hot = np.eye(3)[np.maximum(labels, 0)] * (labels >= 0)[:, np.newaxis]
    losses = -(one_hot * np.log(p)).sum(axis=1)
    nats = (share * losses).sum()
    gradient = share[:, np.newaxis] * (p - one_hot)
    hessian = np.zeros([4, 3, 4, 3])
    for i in range(4):
        hessian[i, :, i, :] = share[i] * (np.diag(p[i]) - np.outer(p[i], p[i]))
    outer = gradient[:, :, np.newaxis, np.newaxis] * gradient

    def build():
        x, w = tf.constant(logits), tf.constant(weights)
        tensors = []
        for function in metrics.negative_log_likelihood, metrics.perplexity:
            value = function(labels, x, weights=w, ignore_label=-1)
            tensors.append([value, tf.gradients(value, [x, w]), tf.hessians(value, x)[0]])
        return tensors

    got = run(build)
    in_weights = np.where(labels >= 0, losses - nats, 0.0) / 4.0
    factors = [(nats, 1.0, hessian), (np.exp(nats), np.exp(nats), hessian + outer)]
    for (value, (in_logits, got_weights), second), (want, factor, curve) in zip(got, factors):
        np.testing.assert_allclose(value, want, rtol=1e-13)
        np.testing.assert_allclose(in_logits, factor * gradient, rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(second, factor * curve, rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(got_weights, factor * in_weights, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("kind", ["sparse", "soft"])
def test_the_brier_score_is_differentiable(kind):
    random = np.random.RandomState(12)
    logits = random.normal(size=[4, 3])
    mask, weights = np.array([True, True, False, True]), np.array([1.0, 0.5, np.nan, 3.0])
    labels = np.array([0, 2, 1, 1])
    rows = np.eye(3)[labels]
    if kind == "soft":
        labels = rows = random.uniform(size=[4, 3])  # need not add up to 1
    share = np.where(mask, weights, 0.0) / 4.5

    def by_hand(logits):
        p = probabilities(logits)
        gap = p - rows
        return 2 * share[:, np.newaxis] * p * (gap - (p * gap).sum(axis=1, keepdims=True))

    step = 1e-6
    curvature = np.zeros([4, 3, 4, 3])
    for i, j in np.ndindex(4, 3):
        change = np.zeros([4, 3])
        change[i, j] = step
        curvature[..., i, j] = (by_hand(logits + change) - by_hand(logits - change)) / (2 * step)

    def build():
        x, y, w = tf.constant(logits), tf.constant(labels), tf.constant(weights)
        value = metrics.brier_score(y, x, weights=w, mask=mask)
        in_labels = tf.gradients(value, y)[0]
        in_labels = tf.zeros_like(x) if in_labels is None else in_labels
        return [value, tf.gradients(value, [x, w]), tf.hessians(value, x)[0], in_labels]

    value, (in_logits, in_weights), second, in_labels = run(build)
    scores = ((probabilities(logits) - rows) ** 2).sum(axis=1)
    score = (share * np.where(mask, scores, 0.0)).sum()
    np.testing.assert_allclose(value, score, rtol=1e-13)
    np.testing.assert_allclose(in_logits, by_hand(logits), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(second, curvature, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        in_weights, np.where(mask, scores - score, 0.0) / 4.5, rtol=1e-12, atol=1e-16
    )
    want = 2 * share[:, np.newaxis] * (rows - probabilities(logits)) if kind == "soft" else 0.0
    np.testing.assert_allclose(in_labels, np.broadcast_to(want, [4, 3]), rtol=1e-12, atol=1e-16)


def test_the_gradient_of_a_confident_brier_score_keeps_its_digits():
    def build():
        x = tf.constant([[30.0, 0.0]])
        return tf.gradients(metrics.brier_score([0], x), x)[0]

    q = np.exp(-30.0) / (1 + np.exp(-30.0))
    want = 4 * q**2 * (1 - q)  # of 2 q^2
    np.testing.assert_allclose(run(build), [[-want, want]], rtol=1e-5)


def test_derivatives_where_nothing_counts():
    def build():
        x = tf.constant([[np.nan, 1.0], [np.inf, 2.0]])
        tensors = []
        for name in "negative_log_likelihood", "perplexity", "brier_score":
            value = call(name, [0, 1], x, mask=[False, False])
            tensors += [tf.gradients(value, x)[0], tf.hessians(value, x)[0]]
        return tensors

    for derivative in run(build):
        assert not derivative.any()


def test_the_other_metrics_have_no_derivative_in_labels_and_logits_but_one_in_weights():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
        labels, weights = tf.one_hot([0, 1, 0], 2), tf.constant([1.0, 1.0, 2.0])
        for name in "accuracy", "top_k_accuracy", "expected_calibration_error", "token_count":
            value = call(name, labels, logits, weights=weights)
            assert tf.gradients(value, [labels, logits]) == [None, None], name
        share = metrics.accuracy(labels, logits, weights=weights)
        got = session.run(tf.gradients(share, weights)[0])
    np.testing.assert_allclose(got, [1 / 16, -3 / 16, 1 / 16], rtol=1e-6)
