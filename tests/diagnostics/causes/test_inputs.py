"""Data that are not finite: which, in which rows; and what is no fault."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import cause_of, dense, diagnosed


def mean_loss(model):
    return tf.reduce_mean(model.losses())


def test_the_row_of_a_nan_and_the_step_without_it():
    def spoil(model, images, labels):
        images[5, 10] = images[9, 3] = np.nan

    found = diagnosed(mean_loss, spoil).findings[0]
    assert found.cause == "inputs not finite"
    assert (found.tensor, found.op_type, found.row) == ("x:0", "Placeholder", 5)
    assert found.numbers["bad_rows"] == [5, 9] and found.numbers["bad_entries"] == 2
    assert "digits.py" in found.line
    assert found.trial.helped and "rows 5, 9" in found.trial.change
    assert "nan" in found.trial.before and "finite" in found.trial.after


@pytest.mark.exhaustive
def test_every_row_may_be_bad():
    def spoil(model, images, labels):
        images[:, 3] = -np.inf

    found = diagnosed(mean_loss, spoil).findings[0]
    assert found.cause == "inputs not finite" and found.row == 0
    assert found.trial.helped and found.numbers["bad_rows_count"] == 32


@pytest.mark.parametrize("masked", [True, False])
def test_a_nan_that_is_masked_is_no_fault(masked):
    """A target that is missing is NaN, and where drops it: before the error, or too late."""

    def loss(model):
        target = model.mask
        known = tf.logical_not(tf.is_nan(target))
        if masked:
            target = tf.where(known, target, tf.zeros_like(target))
        error = tf.square(model.logits[:, 0] - target)
        errors = tf.where(known, error, tf.zeros_like(error))
        return tf.reduce_mean(model.losses()) + 0.01 * tf.reduce_mean(errors)

    def spoil(model, images, labels):
        target = np.ones(len(images), np.float32)
        target[4] = np.nan
        return {model.mask: target}

    found = diagnosed(loss, spoil)
    assert found.cause == (None if masked else "inputs not finite")
    assert masked or (found.findings[0].tensor == "mask:0" and found.findings[0].row == 4)


def test_a_healthy_step_has_no_cause():
    assert cause_of(mean_loss) is None


@pytest.mark.lengthy
def test_max_pool_makes_a_finite_number_of_a_nan():
    """The path of what is not finite is cut; -3.4e38 overflows behind it."""

    def loss(model):
        pixels = tf.reshape(model.x, [-1, 8, 8, 1])
        largest = tf.nn.max_pool(pixels, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        images = tf.reshape(tf.image.resize_nearest_neighbor(largest, [8, 8]), [-1, 64])
        hidden = dense(tf.square(images), 64, 10, "pooled")
        return tf.losses.sparse_softmax_cross_entropy(model.y, hidden)

    def spoil(model, images, labels):
        images[5] = np.nan

    found = diagnosed(loss, spoil).findings[0]
    assert found.cause == "inputs not finite" and found.row == 5
