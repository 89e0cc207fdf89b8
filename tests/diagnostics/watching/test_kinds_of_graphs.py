"""The same fault in graphs of all kinds: control flow, partitioned variables, replicas, patch."""

import contextlib
import json
import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.watching.trainings import Training, dense, pixel
from tests.support.processes import output_of
from tf1xent import _tf, patched
from tf1xent.diagnostics import LossDoctor

ROOT = pathlib.Path(__file__).resolve().parents[3]


@contextlib.contextmanager
def control_flow(v2):
    before = _tf.control_flow_v2()
    _tf.set_control_flow_v2(v2)
    try:
        yield
    finally:
        _tf.set_control_flow_v2(before)


def loop(x, weights):
    """Three layers in a loop, with a branch in each."""

    def body(i, h):
        h = tf.tanh(h @ weights)
        return i + 1, tf.cond(tf.reduce_sum(h) > 0.0, lambda: 1.0 * h, lambda: 0.9 * h)

    return tf.while_loop(lambda i, h: i < 3, body, [0, x], back_prop=True)[1]


class Looping:
    """A network with a loop."""

    def __init__(self, resource):
        tf.set_random_seed(1)
        self.images = tf.placeholder(tf.float32, [None, 64])
        self.labels = tf.placeholder(tf.int64, [None])
        hidden = dense(self.images, 64, 16, "first", resource)
        with tf.variable_scope("loop", use_resource=resource):
            weights = tf.get_variable("weights", [16, 16])
        logits = dense(loop(hidden, weights), 16, 10, "last", resource)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
        self.loss = tf.reduce_mean(losses)
        step = tf.train.get_or_create_global_step()
        self.train = tf.train.MomentumOptimizer(0.05, 0.9).minimize(self.loss, step)

    feed = Training.feed


def found_in(training, spoil=None, steps=10, **options):
    """Trains; returns (cause, step, row) of each alarm, with the fault in the third last step."""
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        options = {"summary_every": 1, "snapshot_every": 4, **options}
        with LossDoctor(session, training.loss, training.train, **options) as doctor:
            for step in range(steps):
                is_bad = step == steps - 3
                feed = training.feed(step, (spoil or pixel(np.nan)) if is_bad else None)
                session.run([training.train, training.loss], feed)
    return [(d.cause, d.step, d.findings[0].row) for d in doctor.diagnoses]


WANTED = [("inputs not finite", 7, 5)]


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("resource", [False, True])
def test_loops_and_branches(v2, resource):
    # v2 loops read variables of theirs by handles only.
    with control_flow(v2), tf.Graph().as_default():
        assert found_in(Looping(resource or v2)) == WANTED


def test_updates_in_a_branch():
    """A step is skipped if its gradients are not finite, as with loss scaling."""
    with control_flow(False), tf.Graph().as_default():
        training = Training(tf.train.GradientDescentOptimizer(0.1))
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        pairs = optimizer.compute_gradients(training.loss)
        finite = tf.reduce_all([tf.reduce_all(tf.is_finite(g)) for g, _ in pairs])
        training.train = tf.cond(
            finite, lambda: optimizer.apply_gradients(pairs), lambda: tf.no_op()
        )
        assert found_in(training, lambda images, labels: None) == []


def test_partitioned_variables():
    with tf.Graph().as_default():
        partitioner = tf.fixed_size_partitioner(2)
        with tf.variable_scope("all", partitioner=partitioner):
            assert found_in(Training()) == WANTED


@pytest.mark.parametrize("level", ["patch", "stock"])
def test_with_the_patch_and_without(level):
    with patched() if level == "patch" else contextlib.nullcontext():
        with tf.Graph().as_default():
            assert found_in(Training()) == WANTED


def test_a_program_that_assigns_its_updates():
    """No optimizer's op is there: what is assigned is watched."""
    with tf.Graph().as_default():
        training = Training()
        variables = tf.trainable_variables()
        gradients = tf.gradients(training.loss, variables)
        training.train = tf.group(
            *(tf.assign(v, v - 0.1 * g) for v, g in zip(variables, gradients))
        )
        assert found_in(training) == WANTED


def test_replicas():
    """Two replicas of a MirroredStrategy: a process of its own, which has two CPUs."""
    if not hasattr(tf, "distribute"):
        pytest.skip("this TensorFlow has no strategies")
    found = json.loads(
        output_of("-m", "tests.diagnostics.watching.mirrored_program").splitlines()[-1]
    )
    assert found["alarms"] == [["inputs not finite", 7, 2]]
    assert found["same_variables"]
