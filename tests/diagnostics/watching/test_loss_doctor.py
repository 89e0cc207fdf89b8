"""LossDoctor in a bare session: what it keeps, when it is silent, what it leaves behind."""

import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions

from tests.diagnostics.watching.trainings import BATCH, Training, batch, dense, pixel
from tf1xent.diagnostics import LossDoctor


def watched(training, steps=30, spoiled=None, spoil=None, **options):
    """Trains in a bare session; returns the doctor, closed."""
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with LossDoctor(session, training.loss, training.train, **options) as doctor:
            for step in range(steps):
                session.run(training.train, training.feed(step, spoil if step == spoiled else None))
                if doctor.should_stop():
                    break
        return doctor


def test_where_memory_is_short_the_variables_are_those_after_the_step():
    """And it still says which rows were not finite."""
    with tf.Graph().as_default():
        doctor = watched(
            Training(),
            spoiled=20,
            spoil=pixel(np.nan),
            summary_every=1,
            snapshot_every=15,
            memory_limit=20000 + 5 * BATCH * 65 * 4,
        )
    (found,) = doctor.diagnoses
    assert (found.cause, found.step, found.findings[0].row) == ("inputs not finite", 20, 5)


def test_what_the_very_last_run_made_is_seen_too():
    """It is not summed up, and the program does not fetch the loss."""
    with tf.Graph().as_default():
        doctor = watched(Training(), 10, 9, pixel(np.nan), summary_every=7)
    assert [(d.cause, d.step) for d in doctor.diagnoses] == [("inputs not finite", 9)]


def test_variables_that_no_step_has_made_nan():
    """Run again, the steps are all right: the program has loaded them in between."""
    with tf.Graph().as_default(), tf.Session() as session:
        training = Training()
        session.run(tf.global_variables_initializer())
        kernel = tf.trainable_variables("hidden")[0]
        with LossDoctor(session, training.loss, training.train, snapshot_every=20) as doctor:
            for step in range(12):
                if step == 9:
                    kernel.load(np.full([64, 16], np.nan, np.float32), session)
                session.run([training.loss, training.train], training.feed(step))
    assert [found.cause for found in doctor.diagnoses] == ["parameters not finite"]


def test_a_rate_that_is_0_from_some_step_on_is_seen_at_the_end():
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        rate = tf.cond(step < 10, lambda: 0.1, lambda: 0.0)
        training = Training(tf.train.GradientDescentOptimizer(rate))
        doctor = watched(training, 95, patience=50, snapshot_every=40)
    assert [found.cause for found in doctor.diagnoses] == ["parameters do not change"]


def test_memory_is_bounded():
    with tf.Graph().as_default():
        training = Training()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            limit = 200000
            with LossDoctor(
                session, training.loss, training.train, snapshot_every=1000, memory_limit=limit
            ) as doctor:
                kept = []
                for step in range(60):
                    session.run(training.train, training.feed(step))
                    data = doctor._watcher._snapshots.data()
                    kept.append(sum(array.nbytes for one in data for array in one.values()))
    assert max(kept) < limit
    assert kept[-1] == BATCH * (64 * 4 + 8)  # the last step's


def test_a_model_that_stands_still_is_judged_and_a_frozen_layer_is_not():
    def training(rate):
        found = Training(tf.train.GradientDescentOptimizer(rate))
        # A layer that the optimizer is not given.
        extra = tf.get_variable("extra", [3])
        found.loss += 0.0 * tf.reduce_sum(extra)
        return found

    with tf.Graph().as_default():
        # Another alarm may come 100 runs after the first.
        doctor = watched(training(0.0), steps=140, patience=50, snapshot_every=10)
    assert [found.cause for found in doctor.diagnoses] == ["parameters do not change"]
    with tf.Graph().as_default():
        doctor = watched(training(0.1), steps=170, patience=50, snapshot_every=10)
    assert doctor.diagnoses == []


def test_a_head_that_is_fine_tuned_is_noted_once_and_goes_on():
    with tf.Graph().as_default():
        training = Training()
        head = tf.trainable_variables("logits")
        training.train = tf.train.AdamOptimizer(0.003).minimize(training.loss, var_list=head)
        doctor = watched(training, steps=400, summary_every=1, snapshot_every=5, on_problem="raise")
    assert [found.cause for found in doctor.diagnoses] == ["parameters do not change"]
    assert not doctor.should_stop()
    assert "does not" in doctor.diagnoses[0].findings[0].what


def test_a_program_that_never_runs_its_train_op_is_told_so():
    with tf.Graph().as_default(), tf.Session() as session:
        training = Training()
        session.run(tf.global_variables_initializer())
        with LossDoctor(session, training.loss, training.train) as doctor:
            for step in range(60):
                session.run(training.loss, training.feed(step))
            assert doctor.diagnoses == []  # it may be an evaluation before the training
    assert [found.cause for found in doctor.diagnoses] == ["parameters do not change"]
    assert "does not run the optimizer's op" in doctor.diagnoses[0].findings[0].what


def test_an_evaluation_before_the_training_or_between_is_let_alone():
    with tf.Graph().as_default(), tf.Session() as session:
        training = Training()
        session.run(tf.global_variables_initializer())
        with LossDoctor(session, training.loss, training.train) as doctor:
            for epoch in range(2):
                for step in range(60):
                    session.run(training.loss, training.feed(step))
                for step in range(10):
                    session.run(training.train, training.feed(step + 10 * epoch))
            for step in range(60):
                session.run(training.loss, training.feed(step))
    assert doctor.diagnoses == []


def _healthy_where(training):
    """sqrt where its argument is not 0, the safe way, and a branch that is NaN and is dropped."""
    squares = tf.reduce_sum(tf.square(training.logits), 1)
    positive = squares > 1e30
    root = tf.where(positive, tf.sqrt(tf.where(positive, squares, tf.ones_like(squares))), squares)
    dropped = tf.where(positive, tf.log(-tf.stop_gradient(squares)), tf.zeros_like(squares))
    return tf.reduce_mean(root + dropped)


def test_healthy_trainings_give_no_alarm():
    losses = {
        "large": lambda training: 1e6 * training.loss,
        "where": lambda training: training.loss + 1e-3 * _healthy_where(training),
        "zero": lambda training: 0.0 * training.loss + tf.nn.relu(training.loss - 1.5),
    }
    for name, loss in losses.items():
        with tf.Graph().as_default():
            training = Training()
            training.loss = loss(training)
            training.train = tf.train.AdamOptimizer(0.003).minimize(training.loss)
            doctor = watched(training, steps=40, summary_every=1, snapshot_every=7)
            assert doctor.diagnoses == [], name


def test_sparse_gradients_and_a_spike_give_no_alarm():
    with tf.Graph().as_default():
        rows = tf.placeholder(tf.int64, [None])
        embedding = tf.get_variable("embedding", [500, 8])
        logits = dense(tf.nn.embedding_lookup(embedding, rows), 8, 10, "logits")
        labels = tf.placeholder(tf.int64, [None])
        rate = tf.placeholder_with_default(0.1, [])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = tf.reduce_mean(losses)
        train = tf.train.MomentumOptimizer(rate, 0.9).minimize(loss)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            with LossDoctor(session, loss, train, summary_every=1, snapshot_every=5) as doctor:
                for step in range(40):
                    classes = batch(step)[1]
                    feed = {rows: classes * 7 + step, labels: classes}
                    session.run(train, {**feed, rate: 30.0 if step == 3 else 0.1})
    assert doctor.diagnoses == []


def test_a_training_that_explodes_is_judged_by_the_step_that_did_it():
    with tf.Graph().as_default():
        training = Training()
        training.loss = tf.reduce_mean(tf.square(training.logits - 1.0))
        training.train = tf.train.GradientDescentOptimizer(30.0).minimize(training.loss)
        doctor = watched(training, steps=40, snapshot_every=3, on_problem="stop")
    (found,) = doctor.diagnoses
    assert found.cause == "learning rate"


def test_closed_it_leaves_the_session_as_it_was_but_for_ops_of_its_own():
    with tf.Graph().as_default() as graph:
        training = Training()
        with tf.Session() as session:
            before = dict(session.__dict__), {op.name for op in graph.get_operations()}
            LossDoctor(session, training.loss, training.train).close()
            assert dict(session.__dict__) == before[0]
            added = {op.name for op in graph.get_operations()} - before[1]
            assert all(name.startswith("loss_doctor") for name in added)
            graph.finalize()
            with pytest.raises(RuntimeError, match="LossDoctor: the graph must not be finalized"):
                LossDoctor(session, training.loss, training.train)


def test_what_is_written_is_there(tmp_path):
    dumps, events = str(tmp_path / "dumps"), str(tmp_path / "events")
    with tf.Graph().as_default():
        doctor = watched(
            Training(),
            spoiled=4,
            spoil=pixel(np.nan),
            summary_every=1,
            dump_dir=dumps,
            output_dir=events,
        )
    assert len(doctor.diagnoses) == 1
    (folder,) = os.listdir(dumps)
    assert folder == "step-4"
    (name,) = os.listdir(events)
    found = [
        value.tensor.string_val[0].decode()
        for event in tf.train.summary_iterator(os.path.join(events, name))
        for value in event.summary.value
    ]
    assert "inputs not finite" in "".join(found)


def test_a_callable_of_the_session_is_watched():
    """As Keras uses it."""
    with tf.Graph().as_default():
        training = Training()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            with LossDoctor(session, training.loss, training.train, summary_every=1) as doctor:
                options = _callable_options(training)
                call = session._make_callable_from_options(options)
                for step in range(6):
                    images, labels = batch(step)
                    if step == 4:
                        images[7, 0] = np.nan
                    assert len(call(images, labels)) == 1
    (found,) = doctor.diagnoses
    assert (found.step, found.findings[0].row) == (4, 7)


def _callable_options(training):
    found = CallableOptions()
    found.feed.extend([training.images.name, training.labels.name])
    found.fetch.append(training.loss.name)
    found.target.append(training.train.name)
    return found
