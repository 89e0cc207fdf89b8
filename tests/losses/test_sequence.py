"""sequence_loss: the values of tf.contrib.seq2seq's, with masks and options."""

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.losses.test_losses import one_hot, rows_of_losses

RANDOM = np.random.RandomState(5)
LOGITS = RANDOM.normal(size=(3, 4, 5))
TARGETS = RANDOM.randint(5, size=(3, 4))
WEIGHTS = np.array([[1.0, 1, 1, 0], [0.5, 2, 0, 0], [0, 0, 0, 0]])
FLAGS = (
    "average_across_timesteps",
    "average_across_batch",
    "sum_over_timesteps",
    "sum_over_batch",
)
LOSSES = WEIGHTS * rows_of_losses(one_hot(TARGETS, 5), LOGITS)


def combinations():
    """Return the flags that do not contradict one another: {name: bool}."""
    return [
        dict(zip(FLAGS, flags))
        for flags in itertools.product((True, False), repeat=4)
        if not (flags[0] and flags[2]) and not (flags[1] and flags[3])
    ]


def quotient(total, denominator):
    return np.where(denominator == 0, 0, total / np.where(denominator == 0, 1, denominator))


def by_definition(flags, losses, weights):
    averaged = [flags["average_across_batch"], flags["average_across_timesteps"]]
    summed = [flags["sum_over_batch"], flags["sum_over_timesteps"]]
    chosen = averaged if any(averaged) else summed
    axes = tuple(axis for axis in (0, 1) if chosen[axis])
    if not axes:
        return losses
    counts = weights if any(averaged) else weights != 0
    return quotient(losses.sum(axes), counts.sum(axes))


def contrib_or_none():
    try:
        from tensorflow.contrib import seq2seq
    except ImportError:
        return None
    return seq2seq.sequence_loss


def test_every_combination_of_flags():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        found = session.run(
            [tf1xent.losses.sequence_loss(logits, TARGETS, WEIGHTS, **f) for f in combinations()]
        )
    for flags, value in zip(combinations(), found):
        np.testing.assert_allclose(value, by_definition(flags, LOSSES, WEIGHTS), rtol=1e-13)


@pytest.mark.skipif(contrib_or_none() is None, reason="tf.contrib ended with TF 1.15")
def test_the_values_are_contribs():
    contrib = contrib_or_none()
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        pairs = []
        for flags in combinations():
            if not any(flags[name] for name in FLAGS[2:]):
                flags = {name: flags[name] for name in FLAGS[:2]}  # 1.13 knows no others
            elif tf.VERSION.startswith("1.13"):
                continue
            pairs.append(
                (
                    contrib(logits, tf.constant(TARGETS), tf.constant(WEIGHTS), **flags),
                    tf1xent.losses.sequence_loss(logits, TARGETS, WEIGHTS, **flags),
                )
            )
        for stock, ours in session.run(pairs):
            np.testing.assert_allclose(ours, stock, rtol=1e-11)  # 1.13 adds 1e-12


def test_masks_keep_nan_out_where_weights_do_not():
    mask = WEIGHTS > 0
    logits_value = np.where(mask[..., np.newaxis], LOGITS, np.nan)
    weights_value = np.where(mask, WEIGHTS, np.nan)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(logits_value)
        loss = tf1xent.losses.sequence_loss(logits, TARGETS, weights_value, mask=mask)
        ignored = tf1xent.losses.sequence_loss(
            logits, np.where(mask, TARGETS, -1), weights_value, ignore_label=-1
        )
        (gradient,) = tf.gradients(loss, logits)
        values = session.run([loss, ignored, gradient])
    assert values[0] == values[1] == pytest.approx(LOSSES.sum() / WEIGHTS.sum(), rel=1e-13)
    assert np.isfinite(values[2]).all() and not values[2][~mask].any()


def test_a_loss_function_of_ones_own():
    def doubled(labels, logits):
        return 2 * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    with tf.Graph().as_default(), tf.Session() as session:
        loss = tf1xent.losses.sequence_loss(
            tf.constant(LOGITS), TARGETS, WEIGHTS, softmax_loss_function=doubled
        )
        value = session.run(loss)
    assert value == pytest.approx(2 * LOSSES.sum() / WEIGHTS.sum(), rel=1e-12)


def test_unknown_sizes_and_half():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.half, [None, None, None])
        targets = tf.placeholder(tf.int64, [None, None])
        weights = tf.placeholder(tf.float32, [None, None])
        loss = tf1xent.losses.sequence_loss(logits, targets, weights, average_across_batch=False)
        assert loss.dtype == tf.half and loss.shape.ndims == 1
        value = session.run(loss, {logits: LOGITS, targets: TARGETS, weights: WEIGHTS})
    expected = quotient(LOSSES.sum(1), WEIGHTS.sum(1))
    np.testing.assert_allclose(value, expected, rtol=5e-3)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"logits": LOGITS[0]}, r"`logits` must be \[batch_size, sequence_length, num_classes\]"),
        ({"targets": TARGETS[0]}, r"`targets` must be \[batch_size, sequence_length\]"),
        ({"weights": 1.0}, r"`weights` must be \[batch_size, sequence_length\]"),
        ({"sum_over_timesteps": True}, "average_across_timesteps.*must not both be True"),
        ({"sum_over_batch": True}, "average_across_batch.*must not both be True"),
        ({"softmax_loss_function": len, "ignore_label": 0}, "beside .*got ignore_label"),
        ({"softmax_loss_function": len, "mask": WEIGHTS > 0}, "beside .*got mask"),
        ({"weights": np.ones((3, 5))}, "`weights` must have the shape"),
    ],
)
def test_bad_input(arguments, words):
    given = {"logits": LOGITS, "targets": TARGETS, "weights": WEIGHTS}
    given.update(arguments)
    with tf.Graph().as_default(), pytest.raises(ValueError, match=words):
        tf1xent.losses.sequence_loss(**given)
