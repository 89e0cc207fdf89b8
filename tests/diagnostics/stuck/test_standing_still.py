"""The cause "parameters do not change": each reason, and what only looks like it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.stuck.trainings import Training
from tf1xent.diagnostics.diagnosing import diagnose_step
from tf1xent.diagnostics.judging.problems import stands_still
from tf1xent.diagnostics.replaying.step import Step, no_history

CAUSE = "parameters do not change"


def sgd(rate):
    return lambda: tf.train.GradientDescentOptimizer(rate)


def trainable(scope):
    return lambda: tf.trainable_variables(scope)


def masked(logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(losses * tf.zeros_like(losses, name="mask")) + 1.0


def of_argmax(logits, labels):
    # The bias of the output is what a gradient reaches.
    hits = tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32)
    bias = tf.trainable_variables("output/bias")[0]
    return 1 - tf.reduce_mean(hits) + tf.reduce_sum(bias**2 + bias)


def squared_softmax(logits, labels):
    return tf.reduce_mean(tf.square(tf.nn.softmax(1e4 * logits) - tf.one_hot(labels, 10)))


REASONS = {
    "stopped": (
        dict(activation=lambda x: tf.stop_gradient(tf.nn.relu(x), name="stopped")),
        "the way back to them ends at `stopped` (StopGradient)",
        ["hidden/kernel", "hidden/bias"],
    ),
    "argmax": (dict(loss=of_argmax), "ends at `ArgMax`", ["hidden/kernel", "output/kernel"]),
    "var_list": (
        dict(var_list=trainable("output")),
        "the optimizer does not update them",
        ["hidden/kernel", "hidden/bias"],
    ),
    "dead relu": (
        dict(hidden=dict(bias=-100.0)),
        "the relu `Relu` is dead (16 of 16 units are 0 in the whole batch)",
        ["hidden/kernel", "hidden/bias", "output/kernel"],
    ),
    "sigmoid": (
        dict(activation=tf.sigmoid, hidden=dict(bias=200.0)),
        "the sigmoid `Sigmoid` is saturated",
        ["hidden/kernel", "hidden/bias"],
    ),
    "tanh": (
        dict(activation=tf.tanh, hidden=dict(bias=-200.0)),
        "the tanh `Tanh` is saturated",
        ["hidden/kernel"],
    ),
    "softmax": (
        dict(loss=squared_softmax),
        "the softmax `Softmax` is saturated",
        ["hidden/kernel"],
    ),
    "mask": (dict(loss=masked), "`mask:0`, which is 0 in all entries", ["hidden/kernel"]),
    "rate": (dict(optimizer=sgd(0.0)), "the learning rate is 0", ["hidden/kernel", "output/bias"]),
    "rounding": (
        dict(optimizer=sgd(1e-12)),
        "their updates are lost in rounding with a learning rate of 1e-12",
        ["hidden/kernel"],
    ),
}


OFTEN = ("dead relu", "rate", "stopped", "var_list")  # the others on the newest only


@pytest.mark.parametrize(
    "name",
    [n if n in OFTEN else pytest.param(n, marks=pytest.mark.lengthy) for n in sorted(REASONS)],
)
def test_each_reason_is_named_with_its_variables(name):
    options, reason, names = REASONS[name]
    with Training(**options) as training:
        found = training.diagnose(steps=3)
    assert found.cause == CAUSE, found
    finding = found.findings[0]
    assert reason in finding.what
    assert set(names) <= set(finding.numbers["variables"])
    assert found.problem.endswith("3 steps")
    assert finding.remedy
    assert "test_standing_still.py" in finding.line or "trainings.py" in finding.line


def test_a_program_that_does_not_run_its_updates():
    """Only a history shows it: run again, the step changes the variables."""
    with Training() as training:
        program, values, feed = training.program, training.values(), training.feed()
        feeds = {tensor.name: value for tensor, value in feed.items()}
        unchanged = {name: 60 for name in program.trainable}
        history = no_history()._replace(unchanged=unchanged, losses=np.linspace(1, 2, 60))
        found = diagnose_step(program, Step(60, feeds, values, 1.0), history)
    assert found.cause == CAUSE
    assert "does not run the optimizer's op" in found.findings[0].what


def test_a_step_that_does_not_fetch_the_train_op():
    with Training() as training:
        found = training.diagnose(fetches=[training.loss], steps=3)
        assert found.cause == CAUSE
        assert "the step does not run the optimizer's op" in found.findings[0].what
        both = training.diagnose(fetches=[training.loss, training.train], steps=3)
        assert both.problem is None


def test_what_is_frozen_on_purpose_is_no_problem():
    with Training(hidden=dict(trainable=False)) as training:
        assert training.diagnose(steps=3).problem is None
    with Training(var_list=trainable("hidden|output/kernel")) as training:
        assert training.diagnose(steps=3).problem is None


def test_rows_of_an_embedding_that_no_batch_has_are_no_problem():
    with tf.Graph().as_default(), tf.Session() as session:
        ids = tf.placeholder(tf.int64, [None], name="ids")
        table = tf.get_variable("table", [1000, 8])
        loss = tf.reduce_mean(tf.square(tf.nn.embedding_lookup(table, ids) - 1.0))
        train = tf.train.AdagradOptimizer(0.1).minimize(loss)
        session.run(tf.global_variables_initializer())
        from tf1xent.diagnostics import diagnose

        assert diagnose(session, loss, {ids: [1, 2, 3]}, train_op=train, steps=3).problem is None


def test_moving_averages_without_their_updates():
    def normalised(x):
        mean, variance = tf.nn.moments(x, [0])
        moving = tf.get_variable("moving_mean", [16], trainable=False)
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign(moving, moving * 0.9 + mean * 0.1))
        return tf.nn.relu((x - mean) * tf.rsqrt(variance + 1e-3))

    with Training(normalised) as training:
        found = training.diagnose(steps=3)
    assert "UPDATE_OPS" in found.problem
    assert found.cause == CAUSE
    assert "tf.control_dependencies" in found.findings[0].remedy


def test_when_a_history_shows_that_a_model_stands_still():
    with Training() as training:
        program = training.program
    moving = no_history()._replace(steps=np.arange(80), losses=np.linspace(2, 1, 80))
    assert stands_still(program, moving) is None
    flat = moving._replace(losses=np.full(80, 2.3))
    assert stands_still(program, flat) == "the loss is 2.3 at each of the last 50 steps"
    some = moving._replace(zero_gradients={"output/kernel": 80})
    assert stands_still(program, some) is None
    half = moving._replace(zero_gradients={"output/bias": 80, "output/kernel": 80})
    assert "2 of 4 trainable variables (14% of all entries)" in stands_still(program, half)
    off = moving._replace(losses=np.concatenate([np.full(20, 2.3), np.linspace(900, 70, 60)]))
    assert stands_still(program, off) == (
        "the loss began at 2.3 and has been 70 or more for 40 steps"
    )
    spike = moving._replace(losses=np.concatenate([np.full(50, 2.3), np.linspace(900, 3, 30)]))
    assert stands_still(program, spike) is None
    most = moving._replace(zero_gradients={"hidden/kernel": 80}, unchanged={"hidden/bias": 70})
    assert "2 of 4 trainable variables (86% of all entries)" in stands_still(program, most)
    assert stands_still(program, most, steps=90) is None
