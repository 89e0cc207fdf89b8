"""CurvatureHook: the numbers, when they come, and that training does not notice."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

from tf1xent import override_gradients, restore_gradients
from tf1xent.curvature import HessianOperator
from tf1xent.curvature.estimates.eigenvalues import top_eigenvalues
from tf1xent.curvature.reports.hook import CurvatureHook

DIGITS = load_digits()
IMAGES = (DIGITS.data / 16).astype(np.float32)
LABELS = DIGITS.target.astype(np.int64)
MEASURED = slice(0, 200)


def dense(x, width, units, name):
    """A dense layer; tf.layers is not in every TensorFlow."""
    with tf.variable_scope(name):
        kernel = tf.get_variable("kernel", [width, units])
        return x @ kernel + tf.get_variable("bias", [units], initializer=tf.zeros_initializer())


def network(images, labels, rate=0.0):
    """A small network; returns its logits and its loss."""
    with tf.variable_scope("network", reuse=tf.AUTO_REUSE):
        hidden = tf.tanh(dense(images, 64, 12, "hidden"))
        if rate:
            hidden = tf.nn.dropout(hidden, rate=rate)
        logits = dense(hidden, 12, 10, "logits")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return logits, tf.reduce_mean(losses)


class Program:
    """A training program in the default graph, with an input pipeline and perhaps dropout."""

    def __init__(self, rate=0.0):
        tf.set_random_seed(3)
        data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(500, seed=5)
        data = data.repeat().batch(50)
        iterator = tf.data.make_one_shot_iterator(data)
        self.images, self.labels = iterator.get_next()
        self.logits, self.loss = network(self.images, self.labels, rate)
        step = tf.train.get_or_create_global_step()
        self.train = tf.train.MomentumOptimizer(0.2, 0.9).minimize(self.loss, step)

    def feeds(self):
        """The hook's data, in two batches, in the place of what the pipeline gives."""
        return [
            {self.images: IMAGES[rows], self.labels: LABELS[rows]}
            for rows in (slice(0, 150), slice(150, 200))
        ]


def trained(make_hook, rate=0.0, steps=6):
    """Trains; returns the variables' values, the losses of the steps and the hook."""
    with tf.Graph().as_default():
        program = Program(rate)
        hook = make_hook(program)
        hooks = [] if hook is None else [hook]
        losses = []
        with tf.train.MonitoredTrainingSession(hooks=hooks) as session:
            for _ in range(steps):
                losses.append(session.run([program.train, program.loss])[1])
            values = session.run(tf.trainable_variables() + [tf.train.get_global_step()])
    return values, losses, hook


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Training with and without the hook; the hook writes events."""
    folder = str(tmp_path_factory.mktemp("events"))

    def hook(program):
        return CurvatureHook(
            program.loss,
            feeds=program.feeds(),
            every_steps=2,
            top=2,
            trace_products=4,
            output_dir=folder,
        )

    return trained(hook), trained(lambda program: None), folder


def check_equal_bits(got, want):
    for mine, other in zip(got, want):
        assert np.asarray(mine).tobytes() == np.asarray(other).tobytes()


def test_training_is_bit_by_bit_what_it_is_without_the_hook(runs):
    (values, losses, _), (other_values, other_losses, _), _ = runs
    assert values[-1] == 6
    check_equal_bits(values, other_values)
    check_equal_bits(losses, other_losses)
    assert losses[-1] < losses[0]


def test_so_it_is_with_dropout_in_the_training_loss():
    """The hook looks at a loss without, on the same variables."""

    def hook(program):
        loss = network(program.images, program.labels)[1]
        return CurvatureHook(loss, feeds=program.feeds(), every_steps=1)

    values, losses, hook = trained(hook, rate=0.4, steps=3)

    def same_graph(program):
        network(program.images, program.labels)

    other_values, other_losses, _ = trained(same_graph, rate=0.4, steps=3)
    check_equal_bits(values, other_values)
    check_equal_bits(losses, other_losses)
    assert len(hook.results) == 3


def test_it_measures_every_so_many_steps(runs):
    (_, _, hook), _, _ = runs
    assert [found.step for found in hook.results] == [1, 3, 5]
    for found in hook.results:
        assert found.eigenvalues.values.shape == (2,)
        assert found.trace.num_products == 4


def test_the_numbers_are_those_of_an_operator_on_the_same_variables():
    """After a training the same network is built again, with the variables' values."""
    with tf.Graph().as_default():
        program = Program()
        variables = tf.trainable_variables()
        hook = CurvatureHook(program.loss, feeds=program.feeds(), every_steps=3, top=3)
        # The second measurement is the last thing that happens to the variables.
        with tf.train.MonitoredTrainingSession(hooks=[hook]) as session:
            for _ in range(4):
                session.run(program.train)
            values = session.run(variables)
    assert [found.step for found in hook.results] == [1, 4]
    override_gradients()
    try:
        with tf.Graph().as_default(), tf.Session() as session:
            images = tf.placeholder(tf.float32, [None, 64])
            labels = tf.placeholder(tf.int64, [None])
            loss = network(images, labels)[1]
            feeds = [{images: IMAGES[MEASURED], labels: LABELS[MEASURED]}]
            operator = HessianOperator(session, loss, tf.trainable_variables(), feeds)
            for variable, value in zip(tf.trainable_variables(), values):
                variable.load(value, session)
            want = top_eigenvalues(operator, 3).values
    finally:
        restore_gradients()
    np.testing.assert_allclose(hook.results[1].eigenvalues.values, want, rtol=1e-4)


def test_the_events_of_the_training_have_the_scalars(runs):
    (_, _, hook), _, folder = runs
    found = {}
    for name in sorted(os.listdir(folder)):
        for event in tf.train.summary_iterator(os.path.join(folder, name)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert sorted(found) == [
        "curvature/eigenvalue_1",
        "curvature/eigenvalue_2",
        "curvature/trace",
        "curvature/trace_standard_error",
    ]
    want = [(found.step, found.eigenvalues.values[0]) for found in hook.results]
    np.testing.assert_allclose(found["curvature/eigenvalue_1"], want, rtol=1e-6)


def test_the_gauss_newton_matrix_and_functions_of_the_complete_graph():
    def hook(program):
        return CurvatureHook(
            lambda: program.loss,
            lambda: tf.trainable_variables("network/logits"),
            program.feeds,
            outputs=program.logits,
            every_steps=5,
            top=4,
        )

    _, _, hook = trained(hook, steps=1)
    # In the last layer the logits are linear: both matrices are the same, and none is negative.
    assert (hook.results[0].eigenvalues.values > 0).all()


def test_what_would_disturb_the_training_is_refused():
    with tf.Graph().as_default():
        program = Program(rate=0.4)

        def error(loss, feeds):
            with pytest.raises(ValueError) as raised:
                CurvatureHook(loss, feeds=feeds).begin()
            return str(raised.value)

        assert "must have no side effects, got" in error(program.loss, program.feeds())
        assert "RandomUniform" in error(program.loss, program.feeds())
        clean = network(program.images, program.labels)[1]
        assert "nothing for IteratorGetNext:0, IteratorGetNext:1" in error(clean, None)
        half = [{program.images: IMAGES[:5]}]
        assert "nothing for IteratorGetNext:1" in error(clean, half)
        with tf.control_dependencies([tf.assign_add(tf.train.get_global_step(), 1)]):
            counting = tf.identity(clean)
        # The operator's own words, for a reference variable.
        message = error(counting, program.feeds())
        assert "got Assign" in message or "must not change variables" in message


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`top` must be at least 1, got 0"):
        CurvatureHook(None, top=0)
    with pytest.raises(ValueError, match="`trace_products` must be at least 0, got -1"):
        CurvatureHook(None, trace_products=-1)
    with tf.Graph().as_default():
        x = tf.get_variable("x", [2])
        with pytest.raises(RuntimeError, match="must have a global step"):
            CurvatureHook(tf.reduce_sum(x**2)).begin()


def test_a_session_that_is_made_anew_is_the_one_that_is_asked():
    """As after a failure of a worker: hooks stay, the session is another."""

    class Failing(tf.train.SessionRunHook):
        def __init__(self):
            self.times = 0

        def after_run(self, run_context, run_values):
            self.times += 1
            if self.times == 2:
                raise tf.errors.AbortedError(None, None, "a worker is gone")

    with tf.Graph().as_default():
        x = tf.get_variable("x", initializer=[3.0, 1.0])
        step = tf.train.get_or_create_global_step()
        train = tf.train.GradientDescentOptimizer(0.01).minimize(tf.reduce_sum(x**4), step)
        hook = CurvatureHook(tf.reduce_sum(x**4), every_steps=1)
        with tf.train.MonitoredTrainingSession(hooks=[Failing(), hook]) as session:
            for _ in range(3):
                session.run(train)
    # The variables begin anew with the session, and the second step is run twice.
    assert [found.step for found in hook.results][-1] >= 2
    for found in hook.results:
        assert found.eigenvalues.values[0] > 20


@pytest.mark.skipif(not hasattr(tf, "estimator"), reason="this TensorFlow has no Estimators")
def test_it_is_a_training_hook_of_an_estimator(tmp_path):
    hooks = []

    def model(features, labels, mode):
        _, loss = network(features, labels)
        step = tf.train.get_global_step()
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        feeds = [{features: IMAGES[MEASURED], labels: LABELS[MEASURED]}]
        hooks.append(CurvatureHook(loss, feeds=feeds, every_steps=2, output_dir=str(tmp_path)))
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train, training_hooks=hooks)

    def data():
        return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).repeat().batch(40)

    try:
        estimator = tf.estimator.Estimator(model, str(tmp_path))
    except (AttributeError, ImportError) as error:
        pytest.skip(f"Estimators do not work here: {error}")
    estimator.train(data, max_steps=3)
    (hook,) = hooks
    assert [found.step for found in hook.results] == [1, 3]
    assert all(found.eigenvalues.values[0] > 0.01 for found in hook.results)
    tags = {
        value.tag
        for name in os.listdir(str(tmp_path))
        if "tfevents" in name
        for event in tf.train.summary_iterator(str(tmp_path / name))
        for value in event.summary.value
    }
    assert {"curvature/eigenvalue_1", "loss"} <= tags
