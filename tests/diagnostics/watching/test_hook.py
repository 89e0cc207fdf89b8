"""LossDoctorHook: what it says, when, and that training does not notice it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.watching.trainings import IMAGES, LABELS, Training, batch, pixel
from tf1xent.diagnostics import LossDoctorHook, LossProblemError


def trained(hook_of=None, steps=12, spoiled=None, spoil=None, more_hooks=(), **options):
    """Trains; returns the values, the losses and the hook."""
    with tf.Graph().as_default():
        training = Training(**options)
        hook = None if hook_of is None else hook_of(training)
        hooks = [*more_hooks, *([] if hook is None else [hook])]
        losses = []
        with tf.train.MonitoredTrainingSession(hooks=hooks) as session:
            for step in range(steps):
                if session.should_stop():
                    break
                feed = training.feed(step, spoil if step == spoiled else None)
                losses.append(session.run([training.train, training.loss], feed)[1])
            if not session.should_stop():
                values = session.run(tf.trainable_variables())
            else:
                values = []
    return values, losses, hook


def bits(arrays):
    return [np.asarray(array).tobytes() for array in arrays]


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("summary_every", [1, 3])
def test_training_is_bit_by_bit_what_it_is_without_the_hook(resource, summary_every):
    def hook(training):
        return LossDoctorHook(
            training.loss, training.train, snapshot_every=4, summary_every=summary_every
        )

    options = {"rate": 0.3, "resource": resource}
    values, losses, watched = trained(hook, **options)
    other_values, other_losses, _ = trained(**options)
    assert bits(values) == bits(other_values)
    assert bits(losses) == bits(other_losses)
    assert watched.diagnoses == []


@pytest.mark.parametrize("resource", [False, True])
def test_it_names_the_step_and_the_cause_though_all_parameters_are_nan_after_it(resource):
    def hook(training):
        return LossDoctorHook(training.loss, training.train, snapshot_every=5, summary_every=1)

    _, _, watched = trained(hook, spoiled=8, spoil=pixel(np.nan), resource=resource)
    (found,) = watched.diagnoses
    assert (found.cause, found.step, found.findings[0].row) == ("inputs not finite", 8, 5)


def test_where_only_some_runs_are_summed_up_the_step_is_the_same():
    """On TensorFlow 2.21 a fused relu hides the NaN from the loss."""

    def hook(training):
        return LossDoctorHook(training.loss, training.train, snapshot_every=9, summary_every=5)

    _, _, watched = trained(hook, spoiled=7, spoil=pixel(np.inf), steps=20)
    (found,) = watched.diagnoses
    assert (found.cause, found.step, found.findings[0].row) == ("inputs not finite", 7, 5)


def test_stop_ends_the_training_after_the_step():
    def hook(training):
        return LossDoctorHook(training.loss, on_problem="stop", summary_every=1)

    _, losses, watched = trained(hook, spoiled=3, spoil=pixel(np.nan))
    assert len(losses) == 4
    assert watched.diagnoses[0].step == 3


def test_raise_raises_what_programs_catch_for_a_nan_loss():
    def hook(training):
        return LossDoctorHook(training.loss, on_problem="raise", summary_every=1)

    with pytest.raises(tf.train.NanLossDuringTrainingError) as caught:
        trained(hook, spoiled=3, spoil=pixel(np.nan))
    assert isinstance(caught.value, LossProblemError)
    assert caught.value.diagnosis.cause == "inputs not finite"
    assert "inputs not finite" in str(caught.value)


def test_a_run_that_raises_is_judged_and_raises_the_same():
    hooks = []

    def hook(training):
        hooks.append(LossDoctorHook(training.loss, training.train, on_problem="raise"))
        return hooks[0]

    def spoil(images, labels):
        labels[3] = 12

    with pytest.raises(tf.errors.InvalidArgumentError, match="label"):
        trained(hook, spoiled=6, spoil=spoil)
    (found,) = hooks[0].diagnoses
    assert (found.cause, found.step) == ("labels out of range", 6)
    assert "12" in str(found)


class _Feeding(tf.train.SessionRunHook):
    """Feeds the images, as an own reader of data would."""

    def __init__(self, spoiled):
        self.step, self.spoiled = 0, spoiled

    def before_run(self, run_context):
        images, _ = batch(self.step)
        if self.step == self.spoiled:
            images[2, 20] = np.nan
        self.step += 1
        images_tensor = tf.get_default_graph().get_tensor_by_name("images:0")
        return tf.train.SessionRunArgs(None, feed_dict={images_tensor: images})


def test_the_feeds_of_other_hooks_are_seen_and_runs_that_do_not_train_are_let_alone():
    with tf.Graph().as_default():
        training = Training(images=tf.placeholder(tf.float32, [None, 64], "images"))
        hook = LossDoctorHook(training.loss, training.train, summary_every=1)
        with tf.train.MonitoredTrainingSession(hooks=[hook, _Feeding(9)]) as session:
            for step in range(10):
                session.run(training.train, {training.labels: batch(step)[1]})
                # It needs no labels.
                session.run(training.logits)
    assert [found.findings[0].row for found in hook.diagnoses] == []
    with tf.Graph().as_default():
        training = Training(images=tf.placeholder(tf.float32, [None, 64], "images"))
        hook = LossDoctorHook(training.loss, training.train, summary_every=1)
        with tf.train.MonitoredTrainingSession(hooks=[hook, _Feeding(9)]) as session:
            for step in range(10):
                session.run(training.train, {training.labels: batch(step)[1]})
    assert [(found.step, found.findings[0].row) for found in hook.diagnoses] == [(9, 2)]


def test_what_an_input_pipeline_gives_is_seen():
    images = IMAGES[:640].copy()
    images[9 * 32 + 4, 7] = np.inf
    with tf.Graph().as_default():
        data = tf.data.Dataset.from_tensor_slices((images, LABELS[:640])).batch(32).repeat()
        batches = tf.data.make_one_shot_iterator(data).get_next()
        training = Training(images=batches[0], labels=batches[1])
        hook = LossDoctorHook(training.loss, training.train, snapshot_every=7, summary_every=2)
        with tf.train.MonitoredTrainingSession(hooks=[hook]) as session:
            for _ in range(13):
                session.run(training.train)
    assert [(d.cause, d.step, d.findings[0].row) for d in hook.diagnoses] == [
        ("inputs not finite", 9, 4)
    ]


def test_a_recovered_session_is_watched_too(tmp_path):
    """A session that is lost is made again from the last checkpoint."""

    class Losing(tf.train.SessionRunHook):
        def __init__(self):
            self.runs = 0

        def after_run(self, run_context, run_values):
            self.runs += 1
            if self.runs == 6:
                raise tf.errors.AbortedError(None, None, "the worker is gone")

    with tf.Graph().as_default():
        training = Training()
        hook = LossDoctorHook(training.loss, training.train, summary_every=1)
        saver = tf.train.CheckpointSaverHook(str(tmp_path), save_steps=4)
        creator = tf.train.ChiefSessionCreator(checkpoint_dir=str(tmp_path))
        hooks = [saver, hook, Losing()]
        with tf.train.MonitoredSession(creator, hooks=hooks) as session:
            for step in range(12):
                feed = training.feed(step, pixel(np.nan) if step == 10 else None)
                counted = session.run([training.train, tf.train.get_global_step()], feed)[1]
    assert [found.cause for found in hook.diagnoses] == ["inputs not finite"]
    assert hook.diagnoses[0].step <= counted


def test_an_evaluation_is_watched_without_a_train_op():
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int64, [None])
        weights = tf.get_variable("weights", [64, 10])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=images @ weights
        )
        loss = tf.reduce_mean(losses)
        hook = LossDoctorHook(loss, summary_every=1)
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            for step in range(4):
                pictures, classes = batch(step)
                if step == 2:
                    pictures[1, 3] = np.nan
                session.run(loss, {images: pictures, labels: classes})
    (found,) = hook.diagnoses
    assert (found.cause, found.findings[0].row) == ("inputs not finite", 1)


def test_arguments_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="LossDoctorHook: `on_problem` must be one of"):
        LossDoctorHook(on_problem="die")
    with pytest.raises(ValueError, match="LossDoctorHook: `patience` must be at least 50, got 0"):
        LossDoctorHook(patience=0)
    with pytest.raises(TypeError, match="`patient`"):
        LossDoctorHook(patient=3)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="`loss` must be given"):
        LossDoctorHook().begin()
