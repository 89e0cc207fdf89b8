"""The cause "learning rate": explosions, nets that a step has killed, and what is healthy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.stuck.trainings import Training


def gradient_descent(rate):
    return lambda: tf.train.GradientDescentOptimizer(rate)


def squared(logits, labels):
    return tf.reduce_mean(tf.square(logits - tf.one_hot(labels, 10)))


def test_an_explosion_is_the_learning_rates_fault_and_a_lower_one_is_tried():
    with Training(tf.tanh, squared, gradient_descent(300.0)) as training:
        before, feed = training.until_bad()
        found = training.diagnose(feed, variables=before)
    assert found.problem in ("the loss is inf", "the loss is nan")
    assert found.cause == "learning rate"
    finding = found.findings[0]
    assert finding.numbers["rate"] == 300
    assert finding.numbers["growth"] > 30
    assert finding.trial.helped
    assert "instead of 300" in finding.trial.change
    assert "trainings.py" in finding.line


def test_so_it_is_in_the_step_whose_update_overflows():
    huge = lambda logits, labels: 1e3 * squared(logits, labels)  # noqa: E731
    with Training(tf.tanh, huge, gradient_descent(1e38)) as training:
        found = training.diagnose()
    assert found.cause == "learning rate"
    assert "the update makes" in found.problem
    assert "infinite or NaN" in found.findings[0].what


def test_relus_that_a_huge_step_has_killed():
    """Adam moves each weight by the rate, so with 5 all units are thrown to one side."""
    with Training(optimizer=lambda: tf.train.AdamOptimizer(5.0)) as training:
        for _ in range(150):
            loss = training.step()
        assert np.isfinite(loss)
        found = training.diagnose()
    assert found.problem is not None and "trainable variables" in found.problem
    assert found.cause == "learning rate"
    assert found.findings[0].trial.helped
    assert "parameters do not change" in [finding.cause for finding in found.findings]


def test_a_loss_that_grows_on_the_same_batch():
    with Training(tf.tanh, squared, gradient_descent(20.0)) as training:
        found = training.diagnose(steps=6)
    assert found.problem.startswith("the loss goes from 0.")
    assert found.cause == "learning rate"
    assert found.findings[0].trial.helped


@pytest.mark.lengthy
def test_the_rate_may_be_a_schedule():
    def decayed():
        step = tf.train.get_or_create_global_step()
        return tf.train.MomentumOptimizer(tf.train.exponential_decay(300.0, step, 100, 0.9), 0.9)

    with Training(tf.tanh, squared, decayed) as training:
        before, feed = training.until_bad()
        found = training.diagnose(feed, variables=before)
    assert found.cause == "learning rate"
    assert found.findings[0].trial.helped


def test_an_overflow_that_no_rate_cures_is_something_else():
    """exp of large inputs: inf at the first step, whatever the rate."""
    with Training(tf.exp, squared, gradient_descent(0.01), scale=1e3) as training:
        found = training.diagnose()
    assert "loss" in found.problem
    assert found.cause != "learning rate"


@pytest.mark.lengthy
def test_healthy_trainings_have_no_problem():
    with Training(optimizer=gradient_descent(0.5)) as training:
        for _ in range(30):
            training.step()
        assert training.diagnose().problem is None
    # A large loss that is stable: the data are not normalised.
    wide = lambda logits, labels: 1e6 * squared(logits, labels) + 1e9  # noqa: E731
    with Training(tf.tanh, wide, gradient_descent(1e-8)) as training:
        training.step()
        assert training.diagnose().findings == []
    # A spike after the warm-up: one large step, from which it comes back.
    with Training(tf.tanh, optimizer=lambda: tf.train.AdamOptimizer(0.05)) as training:
        training.step()
        assert training.diagnose().findings == []
