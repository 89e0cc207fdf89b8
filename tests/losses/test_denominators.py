"""What reduced losses divide by: every denominator, and nothing to count."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.losses.six_examples import (
    CLASS_WEIGHTS,
    DENSE,
    LABELS,
    LOGITS,
    SOFT_LABELS,
    SPARSE,
    WEIGHTS,
    one_hot,
    rows_of_losses,
    run,
)
from tf1xent.losses import Reduction
from tf1xent.losses.reduction import count_nonzero

# --- Denominators -----------------------------------------------------------------------------


def counted_losses(counted, class_weights, weights):
    """Return the weighted losses by row, and every denominator, by their definitions."""
    losses = weights * class_weights[LABELS] * rows_of_losses(one_hot(LABELS), LOGITS)
    losses = np.where(counted, losses, 0)
    return losses, {
        "NONE": 1.0,
        "SUM": 1.0,
        "SUM_OVER_BATCH_SIZE": 6.0,
        "SUM_BY_NONZERO_WEIGHTS": float(np.sum(counted & (weights != 0))),
        "MEAN": np.sum(weights[counted]),
        "SUM_BY_CLASS_WEIGHTS": np.sum((weights * class_weights[LABELS])[counted]),
        "SUM_BY_VALID_TOKENS": float(np.sum(counted)),
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [SPARSE, DENSE])
def test_every_denominator(name):
    mask = np.array([True, True, False, True, True, False])
    ones = np.ones(6)
    # Each with and without each other.
    cases = [
        (None, None, 1.0),
        (mask, None, 3.0),
        (None, CLASS_WEIGHTS, 3.0),
        (None, None, WEIGHTS),
        (mask, CLASS_WEIGHTS, WEIGHTS),
    ]
    labels = LABELS if name == SPARSE else one_hot(LABELS)

    def build():
        function = getattr(tf1xent.losses, name)
        logits = tf.constant(LOGITS)
        return [
            {
                key: function(
                    labels,
                    logits,
                    weights,
                    mask=mask,
                    class_weights=class_weights,
                    reduction=getattr(Reduction, key),
                )
                for key in counted_losses(ones > 0, CLASS_WEIGHTS, ones)[1]
            }
            for mask, class_weights, weights in cases
        ]

    for (mask, class_weights, weights), found in zip(cases, run(build)):
        losses, denominators = counted_losses(
            ones > 0 if mask is None else mask,
            np.ones(4) if class_weights is None else class_weights,
            ones * weights,
        )
        np.testing.assert_allclose(found.pop("NONE"), losses, rtol=1e-13)
        for key, value in found.items():
            expected = losses.sum() / denominators[key] if denominators[key] else 0.0
            assert value == pytest.approx(expected, rel=1e-13), (key, mask, class_weights, weights)


def test_the_denominators_differ():
    losses, denominators = counted_losses(np.arange(6) < 4, CLASS_WEIGHTS, WEIGHTS)
    assert losses.sum() > 0
    assert len(set(denominators.values())) == len(denominators) - 1  # NONE and SUM share theirs


def test_soft_labels_weigh_the_denominator_by_their_own_class_weights():
    def build():
        return tf1xent.losses.softmax_cross_entropy(
            2 * SOFT_LABELS,
            tf.constant(LOGITS),
            WEIGHTS,
            class_weights=CLASS_WEIGHTS,
            reduction=Reduction.SUM_BY_CLASS_WEIGHTS,
        )

    weighted = CLASS_WEIGHTS * SOFT_LABELS
    losses = rows_of_losses(weighted, LOGITS)
    expected = np.sum(WEIGHTS * losses) / np.sum(WEIGHTS * weighted.sum(1))
    assert run(build) == pytest.approx(expected, rel=1e-13)


def test_counts_are_integers_that_do_not_end_at_those_of_float32():
    with tf.Graph().as_default():
        weights = tf.constant(WEIGHTS)
        counts = [
            count_nonzero(weights),
            count_nonzero(weights[tf.newaxis], [1]),
        ]
        assert [count.dtype for count in counts] == [tf.int64, tf.int64]


# --- Nothing to count -------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [SPARSE, DENSE])
def test_nothing_to_count_is_zero_with_zero_gradients(name):
    labels = LABELS if name == SPARSE else one_hot(LABELS)
    nothing = {
        "masked": {"mask": np.zeros(6, bool)},
        "weights": {"weights": np.zeros(6)},
        "no weight": {"weights": 0.0},
        "class weights": {"class_weights": np.zeros(4)},
    }
    if name == SPARSE:
        nothing["ignored"] = {"ignore_label": -1}
        nothing["invalid"] = {"invalid_labels": "ignore"}
    else:
        nothing["missing"] = {"skip_missing": True}

    def build():
        found = {}
        for what, options in nothing.items():
            for reduction in ("weighted_sum_over_batch_size", "weighted_sum_by_class_weights"):
                given = np.full_like(labels, -1) if what in ("ignored", "invalid") else labels
                given = np.zeros_like(labels) if what == "missing" else given
                logits = tf.constant(LOGITS if "weight" in what else LOGITS * np.nan)
                function = getattr(tf1xent.losses, name)
                loss = function(given, logits, reduction=reduction, label_smoothing=0.1, **options)
                (gradient,) = tf.gradients(loss, logits)
                (second,) = tf.gradients(tf.reduce_sum(gradient * LOGITS), logits)
                found[what, reduction] = [loss, gradient, second]
        return found

    for case, (loss, gradient, second) in run(build).items():
        assert loss == 0, case
        assert not gradient.any() and not second.any(), case


@pytest.mark.parametrize("reduction", Reduction.all()[1:])
def test_an_empty_batch(reduction):
    def build():
        logits = tf.zeros([0, 4])
        labels = tf.zeros([0], tf.int32)
        return [
            tf1xent.losses.sparse_softmax_cross_entropy(labels, logits, reduction=reduction),
            tf1xent.losses.softmax_cross_entropy(logits, logits, reduction=reduction),
        ]

    assert run(build) == [0.0, 0.0]
