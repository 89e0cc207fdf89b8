"""Gradients that do not exist although the loss is finite; and branches that are healthy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import cause_of, diagnosed


def black_image(model, images, labels):
    """Hidden units of row 7 are all 0, as long as the biases are."""
    images[7] = 0


def beside(term):
    """The loss of the model, and a little of another term."""

    def loss(model):
        return tf.reduce_mean(model.losses()) + 1e-2 * tf.reduce_mean(term(model))

    return loss


def norm(model):
    return tf.norm(model.hidden, axis=1)


def length(model):
    return tf.sqrt(tf.reduce_sum(tf.square(model.hidden), axis=1))


def root(model):
    return tf.pow(tf.reduce_sum(model.hidden, axis=1), 0.5)


def deviation(model):
    return tf.math.reduce_std(model.hidden, axis=1)


def angle(model):
    total = tf.reduce_sum(model.hidden, axis=1)
    return tf.atan2(total, total)


def arc(model):
    return tf.acos(tf.clip_by_value(1.0 - tf.reduce_sum(model.hidden, axis=1), -1.0, 1.0))


@pytest.mark.parametrize("term, op", [(length, "Sqrt"), (root, "Pow"), (angle, "Atan2")])
def test_a_function_that_is_finite_where_its_derivative_is_not(term, op):
    found = diagnosed(beside(term), black_image, steps=0)
    assert found.problem is not None and found.cause == "singular gradient"
    finding = found.findings[0]
    assert finding.row == 7 and f"({op})" in finding.what
    # The line is that of the function, not of minimize().
    assert f"in {term.__name__}" in finding.line
    assert finding.trial.helped and "gradients are finite" in finding.trial.after


@pytest.mark.exhaustive
@pytest.mark.parametrize("term", [norm, deviation, arc])
def test_so_it_is_with(term):
    finding = diagnosed(beside(term), black_image, steps=0).findings[0]
    assert finding.cause == "singular gradient" and f"in {term.__name__}" in finding.line
    assert finding.trial.helped


def dropped_division(model):
    total = tf.reduce_sum(model.hidden, axis=1)
    return tf.where(total > 0, 1 / total, tf.zeros_like(total))


def dropped_logarithm(model):
    total = tf.reduce_sum(model.hidden, axis=1)
    return tf.where(total > 0, tf.log(total), tf.zeros_like(total))


def dropped_exponential(model):
    large = 1e4 * (tf.reduce_sum(model.hidden, axis=1) + 1)
    return tf.where(large < 0, tf.exp(large), tf.zeros_like(large))


@pytest.mark.parametrize("term", [dropped_division, dropped_logarithm, dropped_exponential])
def test_the_branch_that_where_drops(term):
    finding = diagnosed(beside(term), black_image, steps=0).findings[0]
    assert finding.cause == "singular gradient" and "dropped" in finding.what
    assert f"in {term.__name__}" in finding.line
    assert "tf.where(ok, x" in finding.remedy and finding.trial.helped


def guarded(model):
    total = tf.reduce_sum(model.hidden, axis=1)
    safe = tf.where(total > 0, total, tf.ones_like(total))
    return tf.where(total > 0, tf.sqrt(safe) + tf.log(safe) + 1 / safe, tf.zeros_like(total))


def masked_with_infinity(model):
    allowed = tf.sequence_mask(tf.fill([tf.shape(model.logits)[0]], 9), 10)
    masked = tf.where(allowed, model.logits, tf.fill(tf.shape(model.logits), -np.inf))
    return tf.nn.softmax(masked)


def least(model):
    return tf.minimum(model.logits, np.inf)


def bad_and_not_read(model):
    """tf.where without a gradient: nothing of the branch reaches loss or gradient."""
    total = tf.stop_gradient(tf.reduce_sum(model.hidden, axis=1))
    return tf.where(total > 0, tf.log(total), tf.zeros_like(total))


@pytest.mark.parametrize("term", [guarded, masked_with_infinity, least, bad_and_not_read])
def test_healthy_branches_are_no_fault(term):
    assert cause_of(beside(term), black_image, steps=0) is None
