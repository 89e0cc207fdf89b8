"""Means of nothing, weights that sum to 0, rows that are masked wholly."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import cause_of, dense, diagnosed


def no_weight(model, images, labels):
    return {model.mask: np.zeros(len(images), np.float32)}


def empty(model, images, labels):
    return {model.x: images[:0], model.y: labels[:0]}


def masked_mean(model):
    return tf.reduce_sum(model.losses() * model.mask) / tf.reduce_sum(model.mask)


def chosen_mean(model):
    return tf.reduce_mean(tf.boolean_mask(model.losses(), model.mask > 0))


def mean(model):
    return tf.reduce_mean(model.losses())


@pytest.mark.parametrize(
    "loss, spoil, words",
    [
        (masked_mean, no_weight, "all 32 entries of the data `mask:0` are 0"),
        (chosen_mean, no_weight, "which has no entries"),
        (mean, empty, "the batch is empty"),
    ],
)
def test_a_mean_of_nothing(loss, spoil, words):
    finding = diagnosed(loss, spoil).findings[0]
    assert finding.cause == "0/0" and words in finding.what and finding.row is None
    assert f"in {loss.__name__}" in finding.line and finding.trial.helped


@pytest.mark.exhaustive
def test_losses_that_divide_safely_are_no_fault():
    def loss(model):
        return tf.losses.compute_weighted_loss(model.losses(), model.mask) + mean(model)

    assert cause_of(loss, no_weight) is None


@pytest.mark.exhaustive
def test_a_row_that_is_divided_by_its_length():
    def loss(model):
        length = tf.sqrt(tf.reduce_sum(tf.square(model.hidden), 1, keepdims=True))
        return mean(model) + 1e-2 * tf.reduce_mean(model.hidden / length)

    def spoil(model, images, labels):
        images[7] = 0

    finding = diagnosed(loss, spoil, steps=0).findings[0]
    assert finding.cause == "0/0" and finding.row == 7 and "1 of 32 entries" in finding.what
    assert finding.trial.helped


def attention(model):
    allowed = tf.tile(model.mask[:, tf.newaxis] > 0, [1, 10])
    masked = tf.where(allowed, model.logits, tf.fill(tf.shape(model.logits), -np.inf))
    return mean(model) + tf.reduce_mean(tf.nn.softmax(masked))


def attention_by_hand(model):
    masked = model.logits + tf.log(model.mask)[:, tf.newaxis]
    shifted = tf.exp(masked - tf.reduce_max(masked, 1, keepdims=True))
    return mean(model) + tf.reduce_mean(shifted / tf.reduce_sum(shifted, 1, keepdims=True))


@pytest.mark.parametrize("loss", [attention, attention_by_hand])
def test_a_row_that_is_masked_wholly(loss):
    def spoil(model, images, labels):
        weights = np.ones(len(images), np.float32)
        weights[8] = 0
        return {model.mask: weights}

    found = diagnosed(loss, spoil, steps=0)
    finding = found.findings[0]
    assert "-inf in every class of 1 row" in finding.what and finding.trial.helped
    assert finding.cause == "0/0" and finding.row == 8
    assert [f.cause for f in found.findings].count("overflow") == 0


@pytest.mark.lengthy
def test_a_nan_of_which_max_pool_makes_a_number():
    """Images are standardised; of a black one max_pool makes -3.4e38, which overflows later."""

    def loss(model):
        deviation = tf.sqrt(tf.reduce_mean(tf.square(model.x), 1, keepdims=True))
        pixels = tf.reshape(model.x / deviation, [-1, 8, 8, 1])
        largest = tf.nn.max_pool(pixels, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        hidden = dense(tf.square(tf.reshape(largest, [-1, 16])), 16, 10, "pooled")
        return tf.losses.sparse_softmax_cross_entropy(model.y, hidden)

    def spoil(model, images, labels):
        images[7] = 0

    finding = diagnosed(loss, spoil).findings[0]
    assert finding.cause == "0/0" and finding.row == 7 and finding.trial.helped
