"""The classification losses of optax, differentiated by JAX; the options it lacks, written in JAX.

Where optax has no option of its own (temperature, z_loss ...) its loss is called on what the
option makes of logits and labels, so that at least the loss and every derivative are not ours.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.references.agreement import (
    CLASS_WEIGHTS,
    LAYOUTS,
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

optax = pytest.importorskip("optax", reason=MISSING.format("optax"))
jax = pytest.importorskip("jax", reason=MISSING.format("JAX"))
jnp = jax.numpy

every_layout = pytest.mark.parametrize("layout", sorted(LAYOUTS))


@pytest.fixture(autouse=True)
def double_precision():
    """JAX computes in float32 unless told otherwise."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def jax_derivatives(build, point, vector):
    """The `Derivatives` of ``build(array)`` at a point, forward over reverse."""

    def weighted(array):
        loss = build(array)
        return jnp.sum(loss * cotangent(loss.shape)), loss

    @jax.jit
    def everything_at_once(array, tangent):
        gradient = jax.grad(weighted, has_aux=True)
        (gradient, loss), (product, _) = jax.jvp(gradient, (array,), (tangent,))
        return loss, gradient, product

    return Derivatives(*map(np.asarray, everything_at_once(point, vector)))


def compare(our_loss, their_loss, data):
    """Asserts that two losses agree on the logits of a batch."""
    assert_agree(
        our_derivatives(our_loss, data.logits, data.vector),
        jax_derivatives(their_loss, data.logits, data.vector),
    )


def integer_loss(logits, data, **options):
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, data.labels, axis=data.axis, **options
    )


def one_hot(data):
    return jax.nn.one_hot(data.labels, NUM_CLASSES, axis=data.axis, dtype=np.float64)


def along_classes(vector, data):
    """A vector [num_classes] in the rank of the logits."""
    shape = [1] * data.logits.ndim
    shape[data.axis] = NUM_CLASSES
    return vector.reshape(shape)


@every_layout
def test_integer_labels(layout):
    data = batch(layout)
    compare(
        lambda logits: nn.masked_sparse_softmax_cross_entropy_with_logits(
            data.labels, logits, axis=data.axis
        ),
        lambda logits: integer_loss(logits, data),
        data,
    )


@every_layout
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS])
def test_soft_labels(layout, class_weights):
    data = batch(layout)
    labels = data.soft_labels
    if class_weights is not None:
        labels = labels * along_classes(class_weights, data)
    compare(
        lambda logits: nn.weighted_softmax_cross_entropy_with_logits(
            data.soft_labels, logits, class_weights=class_weights, axis=data.axis
        ),
        lambda logits: optax.softmax_cross_entropy(logits, labels, axis=data.axis),
        data,
    )


@every_layout
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("mask_classes", [False, True])
def test_smoothing_and_classes_left_out(layout, soft, mask_classes):
    data = batch(layout)
    # Every row keeps the class of its label; which others, differs by row.
    kept = np.logical_or(data.vector > -0.5, one_hot(data) > 0) if mask_classes else None
    labels = data.soft_labels if soft else data.labels
    if soft and mask_classes:
        labels = labels * kept
    options = {"label_smoothing": 0.1, "class_mask": kept, "axis": data.axis}
    our_function = (
        nn.weighted_softmax_cross_entropy_with_logits
        if soft
        else nn.weighted_sparse_softmax_cross_entropy_with_logits
    )
    targets = optax.smooth_labels(
        jnp.asarray(labels if soft else one_hot(data)), 0.1, axis=data.axis, where=kept
    )
    compare(
        lambda logits: our_function(labels, logits, **options),
        lambda logits: optax.softmax_cross_entropy(logits, targets, axis=data.axis, where=kept),
        data,
    )


@every_layout
def test_masked_rows(layout):
    data = batch(layout)
    compare(
        lambda logits: nn.masked_sparse_softmax_cross_entropy_with_logits(
            data.labels, logits, mask=data.mask, axis=data.axis
        ),
        lambda logits: integer_loss(logits, data, where=data.mask),
        data,
    )


# How the losses by row become a mean in JAX, and what that mean is called here.
MEANS = {
    "losses.mean()": (
        Reduction.SUM_OVER_BATCH_SIZE,
        {},
        lambda logits, data: integer_loss(logits, data).mean(),
    ),
    "losses.mean(where=mask)": (
        Reduction.SUM_BY_VALID_TOKENS,
        {"mask"},
        lambda logits, data: integer_loss(logits, data).mean(where=data.mask),
    ),
    "losses masked by optax, mean()": (
        Reduction.SUM_OVER_BATCH_SIZE,
        {"mask"},
        lambda logits, data: integer_loss(logits, data, where=data.mask).mean(),
    ),
    "(weights * losses).mean()": (
        Reduction.SUM_OVER_BATCH_SIZE,
        {"weights"},
        lambda logits, data: (data.weights * integer_loss(logits, data)).mean(),
    ),
    "(weights * losses).mean(where=mask)": (
        Reduction.SUM_BY_VALID_TOKENS,
        {"weights", "mask"},
        lambda logits, data: (data.weights * integer_loss(logits, data)).mean(where=data.mask),
    ),
    "(weights * losses).mean(where=weights != 0)": (
        Reduction.SUM_BY_NONZERO_WEIGHTS,
        {"weights"},
        lambda logits, data: (data.weights * integer_loss(logits, data)).mean(
            where=data.weights != 0
        ),
    ),
    "jnp.average(losses, weights=weights)": (
        Reduction.MEAN,
        {"weights"},
        lambda logits, data: jnp.average(integer_loss(logits, data), weights=data.weights),
    ),
}


@pytest.mark.parametrize("layout", ["rows", "signals"])
@pytest.mark.parametrize("name", sorted(MEANS))
def test_means(layout, name):
    data = batch(layout)
    reduction, arguments, their_loss = MEANS[name]
    options = {argument: getattr(data, argument) for argument in arguments}
    compare(
        lambda logits: losses.sparse_softmax_cross_entropy(
            data.labels, logits, reduction=reduction, axis=data.axis, **options
        ),
        lambda logits: their_loss(logits, data),
        data,
    )


def test_a_mean_over_nothing_is_nan_there_and_0_here():
    data = batch("rows")
    nothing = np.zeros_like(data.mask)
    assert np.isnan(integer_loss(jnp.asarray(data.logits), data).mean(where=nothing))
    ours = our_derivatives(
        lambda logits: losses.sparse_softmax_cross_entropy(
            data.labels, logits, mask=nothing, reduction=Reduction.SUM_BY_VALID_TOKENS
        ),
        data.logits,
        data.vector,
    )
    for result in ours:
        np.testing.assert_array_equal(result, np.zeros_like(result))


def focal_loss(logits, labels, axis, gamma):
    surprisal = -jax.nn.log_softmax(logits, axis)
    return (labels * (1 - jnp.exp(-surprisal)) ** gamma * surprisal).sum(axis)


def everything(logits, data):
    """All options at once, but for those that leave something out."""
    logits = 6.0 * jnp.tanh(logits / 6.0) / 1.5
    targets = optax.smooth_labels(one_hot(data), 0.1, axis=data.axis)
    targets = targets * along_classes(CLASS_WEIGHTS, data)
    loss = focal_loss(logits, targets, data.axis, 2.0)
    return data.weights * (loss + 0.01 * jax.nn.logsumexp(logits, data.axis) ** 2)


WRITTEN_IN_JAX = {
    "temperature": ({"temperature": 1.5}, lambda logits, data: integer_loss(logits / 1.5, data)),
    "softcap": (
        {"softcap": 6.0},
        lambda logits, data: integer_loss(6.0 * jnp.tanh(logits / 6.0), data),
    ),
    "z_loss": (
        {"z_loss": 0.01},
        lambda logits, data: (
            integer_loss(logits, data) + 0.01 * jax.nn.logsumexp(logits, data.axis) ** 2
        ),
    ),
    "focal_gamma": (
        {"focal_gamma": 2.0},
        lambda logits, data: focal_loss(logits, one_hot(data), data.axis, 2.0),
    ),
    "everything": (
        {
            "softcap": 6.0,
            "temperature": 1.5,
            "label_smoothing": 0.1,
            "class_weights": CLASS_WEIGHTS,
            "focal_gamma": 2.0,
            "z_loss": 0.01,
        },
        everything,
    ),
}


@pytest.mark.parametrize("layout", ["rows", "signals"])
@pytest.mark.parametrize("name", sorted(WRITTEN_IN_JAX))
def test_options_written_in_jax(layout, name):
    data = batch(layout)
    options, their_loss = WRITTEN_IN_JAX[name]
    options = dict(options, axis=data.axis)
    if name == "everything":
        options["weights"] = data.weights
    compare(
        lambda logits: nn.weighted_sparse_softmax_cross_entropy_with_logits(
            data.labels, logits, **options
        ),
        lambda logits: their_loss(logits, data),
        data,
    )


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_of_two_classes(alpha, gamma):
    """The sigmoid is a softmax with a second logit of 0, alpha a weight for each class."""
    logits = np.linspace(-6.0, 6.0, 24).reshape(2, 12)
    labels = np.arange(24).reshape(2, 12) % 2
    class_weights = None if alpha is None else [1 - alpha, alpha]

    def our_loss(tensor):
        return nn.weighted_sparse_softmax_cross_entropy_with_logits(
            labels,
            tf.stack([tf.zeros_like(tensor), tensor], axis=-1),
            class_weights=class_weights,
            focal_gamma=gamma,
        )

    vector = np.cos(logits)
    assert_agree(
        our_derivatives(our_loss, logits, vector),
        jax_derivatives(
            lambda array: optax.sigmoid_focal_loss(array, labels, alpha=alpha, gamma=gamma),
            logits,
            vector,
        ),
    )


def test_classes_masked_with_minus_infinity():
    data = batch("rows")
    kept = np.logical_or(data.vector > -0.5, one_hot(data) > 0)
    labels = np.where(kept, data.soft_labels, 0.0)

    def their_loss(logits):
        return optax.safe_softmax_cross_entropy(jnp.where(kept, logits, -jnp.inf), labels)

    def our_loss(logits):
        logits = tf.where(kept, logits, tf.fill(logits.shape, tf.constant(-np.inf, tf.float64)))
        return nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)

    compare(our_loss, their_loss, data)
