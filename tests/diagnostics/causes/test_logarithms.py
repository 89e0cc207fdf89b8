"""The log of 0 and of negative numbers in a loss written by hand; and losses that guard it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import diagnosed


def of_softmax(model):
    logs = tf.log(tf.nn.softmax(model.logits))
    return -tf.reduce_mean(tf.reduce_sum(model.one_hot * logs, 1))


def one_confident_row(model, images, labels):
    """Logits of up to 1e4 in row 6."""
    images[6] *= 2e4


def test_log_of_a_softmax():
    found = diagnosed(of_softmax, one_confident_row).findings[0]
    assert found.cause == "log of 0" and found.op_type == "Log" and found.row == 6
    assert found.numbers["zeros"] == 9 and "9 of 320 entries" in found.what
    assert "softmax_cross_entropy_with_logits" in found.remedy
    assert "test_logarithms.py" in found.line and "of_softmax" in found.line
    assert found.trial.helped and "nan" in found.trial.before


@pytest.mark.exhaustive
def test_log_of_a_clipped_softmax_is_none():
    def loss(model):
        logs = tf.log(tf.clip_by_value(tf.nn.softmax(model.logits), 1e-10, 1.0))
        return -tf.reduce_mean(tf.reduce_sum(model.one_hot * logs, 1))

    found = diagnosed(loss, one_confident_row)
    assert found.cause not in ("log of 0", "singular gradient")


@pytest.mark.exhaustive
def test_an_epsilon_that_float32_does_not_have_beside_1():
    """1 - 1e-10 is 1 in float32, so the clip leaves a log of 0."""

    def loss(model):
        p = tf.clip_by_value(tf.nn.sigmoid(model.logits), 1e-10, 1 - 1e-10)
        losses = model.one_hot * tf.log(p) + (1 - model.one_hot) * tf.log(1 - p)
        return -tf.reduce_mean(losses)

    found = diagnosed(loss, one_confident_row).findings[0]
    assert found.cause == "log of 0" and found.row == 6
    assert "sigmoid_cross_entropy_with_logits" in found.remedy and found.trial.helped


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "function, words",
    [
        pytest.param(tf.log, "the logarithm of", id="log"),
        pytest.param(tf.sqrt, "the square root of", id="sqrt"),
        pytest.param(lambda x: tf.pow(x, 1.5), "a power of", id="pow"),
        pytest.param(lambda x: tf.log1p(x - 1.0), "log(1 + x) of", id="log1p"),
    ],
)
def test_functions_of_a_negative_number(function, words):
    def loss(model):
        return tf.reduce_mean(model.losses()) + 1e-3 * tf.reduce_mean(function(model.mask))

    def spoil(model, images, labels):
        numbers = np.ones(len(images), np.float32)
        numbers[11] = -3
        return {model.mask: numbers}

    found = diagnosed(loss, spoil).findings[0]
    assert found.cause == "log of 0" and found.row == 11 and found.trial.helped
    assert words in found.what and "negative" in found.what or "to 0" in found.what


@pytest.mark.lengthy
def test_a_negative_power_of_0():
    def loss(model):
        return tf.reduce_mean(model.losses()) + 1e-3 * tf.reduce_mean(tf.pow(model.mask, -2.0))

    def spoil(model, images, labels):
        numbers = np.ones(len(images), np.float32)
        numbers[11] = 0
        return {model.mask: numbers}

    found = diagnosed(loss, spoil).findings[0]
    assert found.cause == "log of 0" and found.row == 11 and found.trial.helped


@pytest.mark.parametrize("axis", ["time in rows", "time first"])
def test_the_row_where_rows_are_not_on_the_first_axis(axis):
    """[batch * time, classes] and [time, batch, classes], of three time steps."""

    def loss(model):
        times = [model.logits, model.logits * 0.5, model.logits * 0.1]
        if axis == "time first":
            p = tf.nn.softmax(tf.stack(times, 0))
        else:
            p = tf.reshape(tf.nn.softmax(tf.stack(times, 1)), [-1, 10])
        return -1e-3 * tf.reduce_mean(tf.log(p)) + tf.reduce_mean(model.losses())

    found = diagnosed(loss, one_confident_row).findings[0]
    assert found.cause == "log of 0" and found.row == 6
