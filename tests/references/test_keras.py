"""The classification losses and metrics of Keras 3 on TensorFlow: its means, masks and weights."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.references.agreement import (
    CLASS_WEIGHTS,
    MISSING,
    NUM_CLASSES,
    Derivatives,
    assert_agree,
    batch,
    cotangent,
    our_derivatives,
)
from tf1xent import losses, nn
from tf1xent.losses import Reduction

# Newer TensorFlows bring a Keras of any version. The one that this is written for comes with the
# other references; so does this module's turn.
pytest.importorskip("optax", reason=MISSING.format("Keras"))
keras = pytest.importorskip("keras", "3.15", reason=MISSING.format("Keras 3.15"))

IGNORED = {"class": 3, "void": 255}
# Keras' names for a mean, and ours: without a mask, and with a mask or an ignored class.
MEANS = {
    "sum_over_batch_size": (Reduction.SUM_OVER_BATCH_SIZE, Reduction.SUM_BY_VALID_TOKENS),
    "mean": (Reduction.SUM_OVER_BATCH_SIZE, Reduction.SUM_BY_VALID_TOKENS),
    "mean_with_sample_weight": (Reduction.MEAN, Reduction.MEAN),
}
NO_MEANS = {"none": (Reduction.NONE,) * 2, "sum": (Reduction.SUM,) * 2}
REDUCTIONS = dict(MEANS, **NO_MEANS)

weighted_or_not = pytest.mark.parametrize("weighted", [False, True])
every_reduction = pytest.mark.parametrize("reduction", sorted(REDUCTIONS))
every_mean = pytest.mark.parametrize("reduction", sorted(MEANS))


def keras_derivatives(build, point, vector):
    """The `Derivatives` of ``build(tensor)`` at a point, by a tape on a tape."""
    tensor = tf.convert_to_tensor(point)
    with tf.GradientTape() as outer:
        outer.watch(tensor)
        with tf.GradientTape() as inner:
            inner.watch(tensor)
            loss = build(tensor)
            weighted = tf.reduce_sum(loss * cotangent(loss.shape.as_list()))
        gradient = inner.gradient(weighted, tensor)
        contracted = tf.reduce_sum(gradient * vector)
    product = outer.gradient(contracted, tensor)
    return Derivatives(*[result.numpy() for result in (loss, gradient, product)])


def compare(our_loss, their_loss, data, tolerance=1e-13):
    """Asserts that two losses agree on the logits of a batch."""
    assert_agree(
        our_derivatives(our_loss, data.logits, data.vector),
        keras_derivatives(their_loss, data.logits, data.vector),
        tolerance,
    )


def masked_batch():
    """A batch with logits of 0, which Keras' Masking layer takes for none, where its mask is."""
    data = batch("sequences")
    return data._replace(logits=np.where(data.mask[..., np.newaxis], data.logits, 0.0))


def masked_by_keras(logits):
    """Logits that carry a mask, as the layers of a model pass it on."""
    return keras.layers.Masking(dtype="float64")(logits)


# On TensorFlow, Keras has the classes of integer labels nowhere but on the last axis.
@pytest.mark.parametrize("layout", ["rows", "sequences"])
@pytest.mark.parametrize("ignored", [None, "class", "void"])
@weighted_or_not
@every_reduction
def test_integer_labels(layout, ignored, weighted, reduction):
    data = batch(layout)
    labels = np.where(data.mask, data.labels, 255) if ignored == "void" else data.labels
    ignored = IGNORED.get(ignored)
    weights = data.weights if weighted else None
    their_loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True,
        ignore_class=ignored,
        reduction=reduction,
        dtype="float64",
    )
    compare(
        lambda logits: losses.sparse_softmax_cross_entropy(
            labels,
            logits,
            weights=1.0 if weights is None else weights,
            ignore_label=ignored,
            reduction=REDUCTIONS[reduction][ignored is not None],
        ),
        lambda logits: their_loss(labels, logits, sample_weight=weights),
        data,
    )


# With classes on another axis Keras 3.15 smooths by the size of the last one, not theirs.
@pytest.mark.parametrize(
    "layout, label_smoothing",
    [("rows", 0.0), ("rows", 0.1), ("sequences", 0.0), ("sequences", 0.1), ("signals", 0.0)],
)
@weighted_or_not
@every_reduction
def test_soft_labels(layout, label_smoothing, weighted, reduction):
    data = batch(layout)
    weights = data.weights if weighted else None
    their_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True,
        label_smoothing=label_smoothing,
        axis=data.axis,
        reduction=reduction,
        dtype="float64",
    )
    compare(
        lambda logits: losses.softmax_cross_entropy(
            data.distributions,
            logits,
            weights=1.0 if weights is None else weights,
            label_smoothing=label_smoothing,
            axis=data.axis,
            reduction=REDUCTIONS[reduction][0],
        ),
        lambda logits: their_loss(data.distributions, logits, sample_weight=weights),
        data,
    )


@pytest.mark.parametrize("weighted", [False, True])
@every_reduction
def test_masks(weighted, reduction):
    data = masked_batch()
    weights = data.weights if weighted else None
    their_loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction, dtype="float64"
    )
    compare(
        lambda logits: losses.sparse_softmax_cross_entropy(
            data.labels,
            logits,
            weights=1.0 if weights is None else weights,
            mask=data.mask,
            reduction=REDUCTIONS[reduction][1],
        ),
        lambda logits: their_loss(data.labels, masked_by_keras(logits), sample_weight=weights),
        data,
    )


def test_a_mask_and_an_ignored_class_together():
    data = masked_batch()
    their_loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=3, dtype="float64"
    )
    compare(
        lambda logits: losses.sparse_softmax_cross_entropy(
            data.labels,
            logits,
            weights=data.weights,
            mask=data.mask,
            ignore_label=3,
            reduction=Reduction.SUM_BY_VALID_TOKENS,
        ),
        lambda logits: their_loss(
            data.labels,
            masked_by_keras(logits),
            sample_weight=data.weights,
        ),
        data,
    )


@weighted_or_not
@pytest.mark.parametrize("masked", [False, True])
def test_metrics(masked, weighted):
    """The mean that a metric shows while a model is trained is not that of its loss."""
    data = masked_batch() if masked else batch("sequences")
    metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    logits = tf.convert_to_tensor(data.logits)
    metric.update_state(
        data.labels,
        masked_by_keras(logits) if masked else logits,
        sample_weight=data.weights if weighted else None,
    )
    ours = our_derivatives(
        lambda tensor: losses.sparse_softmax_cross_entropy(
            data.labels,
            tensor,
            weights=data.weights if weighted else 1.0,
            mask=data.mask if masked else None,
            reduction=Reduction.MEAN,
        ),
        data.logits,
        data.vector,
    )
    np.testing.assert_allclose(ours.loss, metric.result().numpy(), rtol=1e-13)


@every_mean
def test_a_mean_over_nothing_is_0_there_and_here(reduction):
    data = batch("rows")
    labels = np.full_like(data.labels, 255)
    their_loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255, reduction=reduction, dtype="float64"
    )
    theirs = keras_derivatives(lambda logits: their_loss(labels, logits), data.logits, data.vector)
    ours = our_derivatives(
        lambda logits: losses.sparse_softmax_cross_entropy(
            labels, logits, ignore_label=255, reduction=REDUCTIONS[reduction][1]
        ),
        data.logits,
        data.vector,
    )
    for our, their in zip(ours, theirs):
        np.testing.assert_array_equal(our, np.zeros_like(our))
        np.testing.assert_array_equal(their, np.zeros_like(our))


# Keras clips probabilities at 1e-7 and 1 - 1e-7. These logits keep well inside.
@pytest.mark.parametrize("layout", ["rows", "sequences"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("alpha", [1.0, 0.25, "by class"])
@pytest.mark.parametrize("gamma", [1.0, 2.0, 2.5])
def test_focal_loss(layout, label_smoothing, alpha, gamma):
    data = batch(layout)
    class_weights = CLASS_WEIGHTS if alpha == "by class" else np.full(NUM_CLASSES, alpha)
    one_hot = np.eye(NUM_CLASSES)[data.labels]
    their_loss = keras.losses.CategoricalFocalCrossentropy(
        alpha=list(class_weights) if alpha == "by class" else alpha,
        gamma=gamma,
        from_logits=True,
        label_smoothing=label_smoothing,
        reduction="none",
        dtype="float64",
    )
    compare(
        lambda logits: nn.weighted_sparse_softmax_cross_entropy_with_logits(
            data.labels,
            logits,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            focal_gamma=gamma,
        ),
        lambda logits: their_loss(one_hot, logits),
        data,
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_probabilities(label_smoothing):
    """Values only: Keras divides by the sum, so that its gradients are others."""
    data = batch("rows")
    exponentials = np.exp(data.logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    theirs = keras.losses.categorical_crossentropy(
        data.distributions, tf.constant(probabilities), label_smoothing=label_smoothing
    )
    ours = our_derivatives(
        lambda tensor: nn.softmax_cross_entropy_with_probabilities(
            data.distributions, tensor, label_smoothing=label_smoothing
        ),
        probabilities,
        data.vector,
    )
    np.testing.assert_allclose(ours.loss, theirs.numpy(), rtol=1e-13)
