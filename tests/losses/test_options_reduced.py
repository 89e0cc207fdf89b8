"""Options in the reduced losses: that each reaches the losses by row, whose values are tested."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.losses.test_losses import (
    LABELS,
    LOGITS,
    SOFT_LABELS,
    WEIGHTS,
    one_hot,
    rows_of_losses,
    run,
)


def test_several_ignored_labels_in_every_reduced_loss():
    with tf.Graph().as_default(), tf.Session() as session:
        logits, ignored = tf.constant(LOGITS), tf.placeholder(tf.int32, [None])
        found = []
        for labels_to_ignore in ([0, 2], ignored):
            options = {"ignore_label": labels_to_ignore}
            found += [
                tf1xent.losses.sparse_softmax_cross_entropy(LABELS, logits, **options),
                tf1xent.losses.linear_softmax_cross_entropy(LABELS, logits, np.eye(4), **options),
                tf1xent.losses.sequence_loss(
                    logits[tf.newaxis], LABELS[np.newaxis], np.ones((1, 6)), **options
                ),
            ]
        values = session.run(found, {ignored: [2, 0]})
    wanted = rows_of_losses(one_hot(LABELS), LOGITS)[[1, 2, 3]].mean()  # the labels 3, 1, 1
    assert values == pytest.approx([wanted] * 6, rel=1e-13)


def test_logit_adjustment_is_added_to_the_logits_of_every_reduced_loss():
    adjustment = np.array([0.5, -1.0, 0.0, 2.0])

    def build():
        pairs = []
        for logits, options in (
            (LOGITS, {"logit_adjustment": adjustment}),
            (LOGITS + adjustment, {}),
        ):
            logits = tf.constant(logits)
            pairs += [
                tf1xent.losses.sparse_softmax_cross_entropy(LABELS, logits, **options),
                tf1xent.losses.softmax_cross_entropy(SOFT_LABELS, logits, **options),
                tf1xent.losses.sequence_loss(
                    logits[tf.newaxis], LABELS[np.newaxis], WEIGHTS[np.newaxis], **options
                ),
            ]
        return pairs

    found = run(build)
    assert found[:3] == pytest.approx(found[3:], rel=1e-13)
