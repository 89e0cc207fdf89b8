"""Program: what it finds of a training in its graph."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics import programs
from tests.diagnostics.programs import descent, inputs, mean_loss, ran, weights
from tests.support.processes import output_of
from tf1xent.diagnostics.program.program import Program

OPTIMIZERS = {
    "Adadelta": lambda: tf.train.AdadeltaOptimizer(0.25),
    "Adagrad": lambda: tf.train.AdagradOptimizer(0.25),
    "AdagradDA": lambda: tf.train.AdagradDAOptimizer(0.25, tf.train.get_or_create_global_step()),
    "Adam": lambda: tf.train.AdamOptimizer(0.25),
    "Ftrl": lambda: tf.train.FtrlOptimizer(0.25),
    "GradientDescent": lambda: tf.train.GradientDescentOptimizer(0.25),
    "Momentum": lambda: tf.train.MomentumOptimizer(0.25, 0.9),
    "ProximalAdagrad": lambda: tf.train.ProximalAdagradOptimizer(0.25),
    "ProximalGradientDescent": lambda: tf.train.ProximalGradientDescentOptimizer(0.25),
    "RMSProp": lambda: tf.train.RMSPropOptimizer(0.25),
    "CenteredRMSProp": lambda: tf.train.RMSPropOptimizer(0.25, centered=True),
}


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph, programs.control_flow_v2(False):
        yield graph


def sparse_net(resource):
    """Returns the loss of a net with an embedding, and its feeds."""
    words = tf.placeholder(tf.int64, [None], "words")
    table = weights("table", [10, 4], resource)
    logits = tf.nn.embedding_lookup(table, words) @ weights("w", [4, 10], resource)
    return mean_loss(logits, tf.constant(programs.LABELS)), {words: programs.LABELS}


@pytest.mark.parametrize("resource", [False, True], ids=["reference", "resource"])
def test_optimizers_of_tensorflow(resource):
    loss, feeds = sparse_net(resource)
    by_table, by_w = tf.gradients(loss, tf.trainable_variables())
    fetches = {}
    for name in OPTIMIZERS:
        with tf.variable_scope("with_" + name, use_resource=resource):
            train = descent(loss, OPTIMIZERS[name]())
        program = Program(tf.get_default_graph(), loss, train)
        found = {u.variable: u for u in program.updates if u.gradient is not None}
        assert sorted(found) == ["table", "w"], name
        assert program.updates[-1].variable not in program.trainable
        dense, rows = found["w"], found["table"]
        fetches[name] = [dense.gradient, rows.gradient, dense.rate, rows.rate]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        results, wanted, wanted_rows = session.run([fetches, by_w, by_table.values], feeds)
    for name, (gradient, rows, rate, rate_of_rows) in results.items():
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-7, err_msg=name)
        # Optimizers add up the rows of a word that occurs more than once.
        sums = rows.sum(0), wanted_rows.sum(0)
        np.testing.assert_allclose(*sums, rtol=1e-4, atol=1e-6, err_msg=name)
        assert rate == 0.25
        # Adam's is corrected for its first steps.
        assert rate_of_rows == 0.25 or (name == "Adam" and 0 < rate_of_rows < 0.25)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Nadam", "Ftrl"])
def test_optimizers_of_keras(name):
    x, y, feeds = inputs()
    w = weights("w", [64, 10], True)
    loss = mean_loss(x @ w, y)
    optimizer = getattr(tf.keras.optimizers, name, None)
    if not hasattr(optimizer, "get_updates"):
        pytest.skip("Keras 3 has no optimizers for graphs, and 1.13's has no Ftrl")
    made = optimizer(0.25).get_updates(loss, [w])
    train = tf.keras.backend.function([x, y], [loss], made).updates_op
    (wanted,) = tf.gradients(loss, w)
    program = Program(tf.get_default_graph(), loss, train)
    (update,) = [u for u in program.updates if u.variable == "w"]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        got, want = session.run([update.gradient, wanted], feeds)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert update.rate is not None


def test_updates_by_hand():
    found = ran(programs.by_hand)
    updates = {u.variable: u for u in found.program.updates}
    wanted = tf.gradients(found.program.loss, tf.trainable_variables())
    assert {u.rate.op.type for u in updates.values()} == {"Const"}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        feeds = found.step.feeds
        got = session.run([updates[name].gradient for name in ("w", "b")], feeds)
        want = session.run(wanted, feeds)
    for mine, other in zip(got, want):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)


def test_initializers_and_savers_are_no_updates():
    built = programs.relu_net()
    tf.train.Saver()
    program = Program(tf.get_default_graph(), built.loss)
    assert [u.variable for u in program.updates] == ["w", "global_step"]
    assert [u.op.type for u in program.updates][0] == "ApplyMomentum"
    assert sorted(program.variables) == ["global_step", "w", "w/Momentum"]


def test_the_parts_of_a_program():
    program = ran(programs.pipeline).program
    assert [t.name for t in program.sources] == [
        "IteratorGetNext:0",
        "IteratorGetNext:1",
        "batch:0",
        "PyFunc:0",
    ]
    assert program.trainable == ["w"] and program.random_ops == []
    assert program.targets == [program.loss.name, program.updates[0].gradient_name]
    assert "programs.py:" in program.line_of(program.loss.name)


def test_python_functions_that_belong_to_the_model_are_no_sources():
    assert [t.name for t in ran(programs.noisy).program.sources] == ["x:0", "y:0"]


def test_random_numbers_are_named():
    x, y, _ = inputs()
    loss = mean_loss(tf.nn.dropout(x, rate=0.5) @ weights("w", [64, 10]), y)
    program = Program(tf.get_default_graph(), loss, descent(loss))
    (name,) = program.random_ops
    assert name.startswith("dropout") and "w/Initializer" not in name


@pytest.mark.parametrize("v2", [False, True])
def test_a_branch_that_skips_the_step(v2):
    with programs.control_flow_v2(v2):
        program = ran(programs.conditional_update).program
    (update,) = [u for u in program.updates if u.variable == "w"]
    # The gradient is the one before the branch, which every run computes.
    assert update.gradient is not None and "cond" not in update.gradient.name
    assert update.gradient_name == update.gradient.name


def test_a_replica_that_pushes_its_gradients():
    x, y, feeds = inputs()
    loss = mean_loss(x @ weights("w", [64, 10]), y)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1, 1)
    program = Program(tf.get_default_graph(), loss, descent(loss, optimizer))
    # Without this TensorFlow complains, when the process ends, that nobody ran it.
    optimizer.ready_for_local_init_op.mark_used()
    (update,) = program.updates
    assert update.variable == "w" and [t.name for t in program.sources] == ["x:0", "y:0"]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        gradient = session.run(update.gradient, feeds)  # the accumulator would wait for ever
    assert gradient.shape == (64, 10)


@pytest.mark.skipif(not hasattr(tf.train, "experimental"), reason="no loss scaling here")
def test_loss_scaling():
    if not hasattr(tf.train.experimental, "MixedPrecisionLossScaleOptimizer"):
        pytest.skip("no loss scaling here")
    x, y, feeds = inputs()
    w = weights("w", [64, 10], True)
    loss = mean_loss(x @ w, y)
    optimizer = tf.train.experimental.MixedPrecisionLossScaleOptimizer(
        tf.train.AdamOptimizer(0.5), tf.train.experimental.DynamicLossScale()
    )
    program = Program(tf.get_default_graph(), loss, optimizer.minimize(loss))
    (update,) = [u for u in program.updates if u.variable == "w"]
    (wanted,) = tf.gradients(loss, w)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        got, want = session.run([update.gradient, wanted], feeds)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_variables_outside_of_collections():
    x, y, _ = inputs()
    hidden = tf.Variable(tf.zeros([64, 10]), collections=[], trainable=False, name="hidden")
    loss = mean_loss(x @ hidden, y)
    (gradient,) = tf.gradients(loss, hidden)
    program = Program(tf.get_default_graph(), loss, hidden.assign_sub(0.1 * gradient))
    assert list(program.variables) == ["hidden"] and program.trainable == []


def test_a_graph_from_a_file():
    built = programs.branches()
    meta_graph = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(meta_graph)
        program = Program(graph, built.loss.name)
        (update,) = [u for u in program.updates if u.gradient is not None]
        assert update.variable == "w" and update.rate is not None
        assert [t.name for t in program.sources] == ["x:0", "y:0"]
        assert sorted(program.variables) == ["global_step", "w"]


def test_wrong_losses_are_refused():
    graph = tf.get_default_graph()
    built = programs.relu_net()
    with tf.Graph().as_default():
        other = tf.constant(1.0)
    for loss, kind in (("nowhere:0", ValueError), (other, ValueError), (1.0, TypeError)):
        with pytest.raises(kind, match="Program: `loss` must be a tensor of the graph, got"):
            Program(graph, loss)
    with pytest.raises(TypeError, match="must be of a floating type, got int64 of y:0"):
        Program(graph, "y:0")
    with pytest.raises(ValueError, match="`train_op` must be an op of the graph, got 'nothing'"):
        Program(graph, built.loss, "nothing")
    assert Program(graph, built.loss.name).loss is built.loss


def test_replicas():
    """Two replicas of a MirroredStrategy: a process of its own, which has two CPUs."""
    if not hasattr(tf, "distribute"):
        pytest.skip("this TensorFlow has no strategies")
    found = json.loads(output_of("-m", "tests.diagnostics.mirrored_program").splitlines()[-1])
    assert found["trainable"] == ["w", "w/replica_1"]
    assert found["updated"] == found["trainable"]
    assert found["sources"] == 4
    assert found["same_loss"] and found["same_variables"]
    assert found["origins"] == ["Log", "Log"]
