"""Parameters that were not finite before the step: which, and since when."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import diagnosed


def mean_loss(model):
    return tf.reduce_mean(model.losses())


def test_entries_are_counted_and_tried_without():
    def change(values):
        values["hidden/kernel"][3, 2] = np.nan
        values["logits/bias"][:2] = np.inf

    found = diagnosed(mean_loss, variables=change).findings[0]
    assert found.cause == "parameters not finite" and found.row is None
    assert found.tensor == "hidden/kernel" and "digits.py" in found.line
    assert found.numbers["variables"] == {"hidden/kernel": "1 of 1024", "logits/bias": "2 of 10"}
    assert found.trial.helped


@pytest.mark.exhaustive
def test_a_slot_of_the_optimizer_counts_though_the_loss_does_not_read_it():
    def change(values):
        values["logits/kernel/Momentum"][0] = np.inf

    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    found = diagnosed(mean_loss, variables=change, optimizer=optimizer)
    assert found.problem is None or found.cause == "parameters not finite"


@pytest.mark.exhaustive
def test_a_bad_row_that_is_not_read_is_not_blamed():
    """An embedding of which this batch reads other rows; the loss is bad by something else."""

    def loss(model):
        table = tf.get_variable("table", [20, 4])
        read = tf.nn.embedding_lookup(table, model.y)
        weight = tf.reduce_sum(model.mask)
        return tf.reduce_mean(model.losses()) + tf.reduce_sum(read * 1e-3) / weight

    def change(values):
        values["table"][15] = np.nan

    def spoil(model, images, labels):
        return {model.mask: np.zeros(len(images))}

    assert diagnosed(loss, spoil, variables=change).cause == "0/0"
