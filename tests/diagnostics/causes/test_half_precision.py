"""Numbers that float16 does not have; and trainings in float16 that go well."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import cause_of, diagnosed


def one_confident_row(model, images, labels):
    images[6] *= 400


def mean(model):
    return tf.reduce_mean(tf.cast(model.losses(), tf.float32))


def squares(model):
    return mean(model) + 1e-9 * tf.reduce_mean(tf.cast(tf.square(model.hidden), tf.float32))


def test_a_square_above_65504():
    finding = diagnosed(squares, one_confident_row, dtype=tf.float16).findings[0]
    assert finding.cause == "half precision" and "65504" in finding.what
    assert finding.op_type == "Square" and finding.row == 6
    assert "float32" in finding.trial.change and finding.trial.helped


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_a_wider_range_has_the_square(dtype):
    assert cause_of(squares, one_confident_row, dtype=dtype) is None


def guarded_log(epsilon):
    def loss(model):
        p = tf.nn.softmax(model.logits) + epsilon()
        return -tf.reduce_mean(tf.cast(tf.reduce_sum(model.one_hot * tf.log(p), 1), tf.float32))

    return loss


@pytest.mark.parametrize(
    "epsilon, meant",
    [
        pytest.param(lambda: 1e-8, None, id="constant"),
        pytest.param(lambda: tf.cast(tf.constant(1e-8), tf.float16), 1e-8, id="cast"),
    ],
)
def test_an_epsilon_that_is_0(epsilon, meant):
    finding = diagnosed(guarded_log(epsilon), one_confident_row, dtype=tf.float16).findings[0]
    assert finding.cause == "half precision" and "0 in float16" in finding.what
    assert finding.numbers["epsilon"] == (meant and pytest.approx(meant))
    assert finding.row == 6 and "0.0001" in finding.trial.change and finding.trial.helped


@pytest.mark.lengthy
def test_an_epsilon_that_float16_has_is_no_fault():
    loss = guarded_log(lambda: 1e-4)
    found = diagnosed(loss, one_confident_row, dtype=tf.float16)
    assert found.cause not in ("half precision", "log of 0", "singular gradient")


@pytest.mark.lengthy
def test_a_loss_scale_by_which_gradients_overflow():
    def loss(model):
        return 1e6 * mean(model)

    finding = diagnosed(loss, dtype=tf.float16, steps=0).findings[0]
    assert finding.cause == "half precision" and finding.trial.helped
    assert "gradients/" in finding.tensor


@pytest.mark.exhaustive
def test_a_division_by_0_is_one_in_float32_too():
    def loss(model):
        half = tf.cast(model.mask, tf.float16)
        losses = tf.cast(model.losses(), tf.float16)
        return tf.cast(tf.reduce_sum(losses * half) / tf.reduce_sum(half), tf.float32)

    def spoil(model, images, labels):
        return {model.mask: np.zeros(len(images))}

    assert cause_of(loss, spoil, dtype=tf.float16) == "0/0"


@pytest.mark.exhaustive
def test_a_training_in_float16_that_goes_well():
    assert cause_of(mean, dtype=tf.float16) is None


@pytest.mark.lengthy
def test_the_epsilon_of_adam_in_float16_variables():
    """Loss and gradients are finite; the update divides by 0 where squares of gradients are 0."""

    def loss(model):
        weights = tf.get_variable("weights", [16, 10], tf.float16)
        logits = tf.matmul(model.hidden, weights)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=model.y, logits=logits)
        return tf.reduce_mean(tf.cast(losses, tf.float32))

    adam = tf.train.AdamOptimizer(0.001)
    found = diagnosed(loss, dtype=tf.float16, steps=0, optimizer=adam).findings[0]
    assert found.cause == "half precision" and "epsilon of `Adam/update_weights" in found.what
    assert found.trial.helped and "0.0001" in found.trial.change
