"""The cause "float32 collapse": loss and gradient are 0, the true ones are not."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.diagnostics.stuck.trainings import LABELS, Training, sparse_loss
from tf1xent.diagnostics.diagnosing import diagnose_step
from tf1xent.diagnostics.judging.cross_entropies import true_rows
from tf1xent.diagnostics.replaying.step import Step, no_history


def dense_loss(logits, labels):
    one_hot = tf.one_hot(labels, 10)
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=one_hot, logits=logits)
    return tf.reduce_mean(losses)


def written_loss(logits, labels):
    p = tf.clip_by_value(tf.nn.softmax(logits), 1e-10, 1.0)
    return -tf.reduce_mean(tf.reduce_sum(tf.one_hot(labels, 10) * tf.log(p), 1))


def log_softmax_loss(logits, labels):
    return -tf.reduce_mean(tf.reduce_sum(tf.one_hot(labels, 10) * tf.nn.log_softmax(logits), 1))


class Fitted:
    """A model that answers one digit with a gap of its logits: as if trained for long."""

    def __init__(self, loss, gap):
        self.training = Training(loss=loss)
        bias = np.zeros(10, np.float32)
        bias[3] = gap
        self.training.load(output__kernel=np.full([16, 10], 1e-6, np.float32), output__bias=bias)
        rows = np.flatnonzero(LABELS == 3)[:8]
        self.feed = {
            self.training.x: np.ones([8, 64], np.float32),
            self.training.y: LABELS[rows],
        }

    def diagnose(self):
        with self.training:
            return self.training.diagnose(self.feed)


@pytest.mark.parametrize(
    "loss",
    [
        sparse_loss,
        *(
            pytest.param(loss, marks=pytest.mark.lengthy)
            for loss in (dense_loss, written_loss, log_softmax_loss)
        ),
    ],
)
def test_it_is_found_in_each_way_to_write_the_loss(loss):
    found = Fitted(loss, 30.0).diagnose()
    assert found.cause == "float32 collapse"
    finding = found.findings[0]
    assert finding.numbers["count"] == 8
    np.testing.assert_allclose(finding.numbers["true_loss"], 9 * np.exp(-30.0), rtol=1e-4)
    np.testing.assert_allclose(finding.numbers["gap"], 30, rtol=1e-4)
    assert "tf1xent.patch()" in finding.remedy
    assert finding.trial.helped
    # Without oneDNN, TensorFlow's softmax is 1 - 2**-24 where 1 is meant.
    assert finding.trial.before.split(",")[0] in ("loss 0", "loss 5.96e-08")
    assert "8.42e-13" in finding.trial.after


def test_a_loss_that_stays_at_its_last_digit():
    """1.37e-7 is computed as 1.19e-7, the same at each step: a gradient, but no progress."""
    fitted = Fitted(sparse_loss, 18.0)
    with fitted.training as training:
        feeds = {tensor.name: value for tensor, value in fitted.feed.items()}
        step = Step(60, feeds, training.values(), 1.1920929e-07)
        flat = no_history()._replace(steps=np.arange(60), losses=np.full(60, 1.1920929e-07))
        found = diagnose_step(training.program, step, flat)
        moving = flat._replace(losses=np.linspace(2e-7, 1.2e-7, 60))
        assert diagnose_step(training.program, step, moving).problem is None
    assert found.cause == "float32 collapse"
    np.testing.assert_allclose(found.findings[0].numbers["true_loss"], 9 * np.exp(-18), rtol=1e-3)


def test_with_the_patch_there_is_none():
    with tf1xent.patched():
        fitted = Fitted(lambda logits, labels: sparse_loss(logits, labels), 30.0)
    found = fitted.diagnose()
    assert "float32 collapse" not in [finding.cause for finding in found.findings]


def test_a_fit_beyond_the_smallest_number_is_none():
    found = Fitted(sparse_loss, 120.0).diagnose()
    assert found.findings == []


def test_a_training_that_has_some_rows_at_0_goes_on():
    """Rows that are fitted do not matter while others teach."""
    with Training() as training:
        bias = np.zeros(10, np.float32)
        bias[3] = 30
        training.load(output__bias=bias)
        found = training.diagnose()
    assert found.findings == []


def test_the_true_rows_are_those_of_exact_arithmetic():
    import mpmath

    logits = np.array([[30, 0, 1], [0.5, 0.25, -3], [2, 90, 1]], np.float32)
    for labels in (np.array([0, 2, 1]), np.array([[1, 0, 0], [0.2, 0.3, 0.4], [0, 1, 0.5]])):
        found = true_rows(logits, labels)
        for row in range(3):
            with mpmath.workdps(60):
                x = [mpmath.mpf(float(value)) for value in logits[row]]
                weights = [mpmath.exp(value) for value in x]
                if labels.ndim == 1:
                    soft = [float(k == labels[row]) for k in range(3)]
                else:
                    soft = [mpmath.mpf(float(value)) for value in labels[row]]
                log_sum = mpmath.log(sum(weights))
                loss = sum(a * (log_sum - b) for a, b in zip(soft, x))
                mass = sum(soft)
                gradient = [mass * w / sum(weights) - a for w, a in zip(weights, soft)]
                want, wants = float(loss), [float(value) for value in gradient]
            np.testing.assert_allclose(found.losses[row], want, rtol=1e-13)
            np.testing.assert_allclose(found.gradients[row], wants, rtol=1e-12)
