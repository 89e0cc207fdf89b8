"""tf1xent.losses: values of tf.losses, Hessians, bad input."""

import inspect
import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.losses.six_examples import (
    CLASS_WEIGHTS,
    DENSE,
    LABELS,
    LOGITS,
    RANDOM,
    SOFT_LABELS,
    SPARSE,
    WEIGHTS,
    one_hot,
    rows_of_losses,
    run,
)
from tf1xent.losses import Reduction

TF_REDUCTIONS = ("none", "weighted_sum", "weighted_mean", "weighted_sum_over_batch_size")
TF_REDUCTIONS += ("weighted_sum_by_nonzero_weights",)


def stock_and_ours(name, labels, logits, **options):
    stock = getattr(tf.losses, name)(labels, logits, **options)
    ours = getattr(tf1xent.losses, name)(labels, logits, **options)
    return stock, ours


# --- The values of tf.losses ------------------------------------------------------------------


def test_signatures_begin_with_tensorflows():
    for name in (SPARSE, DENSE):
        stock = inspect.signature(getattr(tf.losses, name)).parameters
        ours = inspect.signature(getattr(tf1xent.losses, name)).parameters
        assert list(ours)[: len(stock)] == list(stock)
        for key, parameter in stock.items():
            assert ours[key].default == parameter.default, key
        added = list(ours.values())[len(stock) :]
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in added)


def test_reduction_has_tensorflows_strings():
    for name in dir(tf.losses.Reduction):
        if name.isupper():
            assert getattr(Reduction, name) == getattr(tf.losses.Reduction, name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float32", "half"])
@pytest.mark.parametrize("name", [SPARSE, DENSE])
def test_values_are_those_of_tf_losses(name, dtype):
    def build():
        pairs = []
        for reduction in TF_REDUCTIONS:
            for weights in (1.0, 2, 0.0, WEIGHTS.astype(np.float32), np.zeros(6, np.float32)):
                labels = LABELS if name == SPARSE else SOFT_LABELS
                logits = tf.constant(LOGITS, dtype)
                options = {"weights": weights, "reduction": reduction}
                pairs.append(stock_and_ours(name, labels, logits, **options))
        return pairs

    for stock, ours in run(build):
        assert ours.dtype == stock.dtype and ours.shape == stock.shape
        np.testing.assert_allclose(ours, stock, rtol=2e-3 if dtype == "half" else 2e-6)


def test_values_for_more_axes_smoothing_and_broadcast_weights():
    labels = RANDOM.randint(4, size=(2, 3))
    logits = tf_logits = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
    soft = one_hot(labels)

    def build():
        pairs = []
        for weights in (1.0, [[0.5], [0.0]], [[1.0, 0.0, 3.0]], RANDOM.rand(2, 3)):
            weights = np.asarray(weights, np.float32) if isinstance(weights, list) else weights
            options = {"weights": weights}
            pairs.append(stock_and_ours(SPARSE, labels, tf_logits, **options))
            pairs.append(stock_and_ours(DENSE, soft, tf_logits, **options))
        for smoothing in (0.1, 0.5):
            options = {"label_smoothing": smoothing, "weights": WEIGHTS.astype(np.float32)}
            pairs.append(stock_and_ours(DENSE, SOFT_LABELS, LOGITS.astype(np.float32), **options))
        return pairs

    for stock, ours in run(build):
        np.testing.assert_allclose(ours, stock, rtol=2e-6)
    assert logits.shape == (2, 3, 4)


def test_an_axis_of_one_too_many_is_dropped_as_by_tf_losses():
    def build():
        logits = tf.constant(LOGITS, tf.float32)
        labels = LABELS[:, np.newaxis]
        weights = WEIGHTS[:, np.newaxis].astype(np.float32)
        unknown = tf.placeholder_with_default(labels, None)
        return [
            stock_and_ours(SPARSE, labels, logits),
            stock_and_ours(SPARSE, labels, logits, weights=weights),
            stock_and_ours(SPARSE, LABELS, logits, weights=weights),
            stock_and_ours(SPARSE, unknown, logits, weights=weights),
        ]

    for stock, ours in run(build):
        np.testing.assert_allclose(ours, stock, rtol=2e-6)


@pytest.mark.parametrize("name", [SPARSE, DENSE])
def test_unknown_shapes(name):
    labels = LABELS if name == SPARSE else SOFT_LABELS
    feeds = [np.asarray(labels), LOGITS, WEIGHTS]
    expected = rows_of_losses(one_hot(LABELS) if name == SPARSE else SOFT_LABELS, LOGITS)
    shapes = [(None, None, None), ([None], [None, None], [None]), ([6], [6, None], [None])]
    for labels_shape, logits_shape, weights_shape in shapes:
        if name == DENSE:
            labels_shape = logits_shape
        with tf.Graph().as_default(), tf.Session() as session:
            dtypes = [np.asarray(labels).dtype, tf.float64, tf.float64]
            statics = [labels_shape, logits_shape, weights_shape]
            places = [tf.placeholder(d, s) for d, s in zip(dtypes, statics)]
            loss = getattr(tf1xent.losses, name)(*places)
            assert loss.shape.ndims == 0
            value = session.run(loss, dict(zip(places, feeds)))
        assert value == pytest.approx((WEIGHTS * expected).sum() / 4, rel=1e-14)


def test_float64_is_computed_in_float64():
    expected = rows_of_losses(one_hot(LABELS), LOGITS)

    def build():
        sparse = stock_and_ours(SPARSE, LABELS, tf.constant(LOGITS))
        return sparse, stock_and_ours(DENSE, one_hot(LABELS), tf.constant(LOGITS), weights=WEIGHTS)

    for (stock, ours), wanted in zip(run(build), (expected.mean(), (WEIGHTS * expected).sum() / 4)):
        assert ours.dtype == stock.dtype == np.float64
        assert abs(ours / wanted - 1) < 1e-14 < abs(stock / wanted - 1)


def test_names_collections_and_reduction_notes_are_those_of_tf_losses():
    for name, reduction in itertools.product((SPARSE, DENSE), TF_REDUCTIONS):
        found = []
        for module in (tf.losses, tf1xent.losses):
            with tf.Graph().as_default() as graph:
                logits = tf.placeholder(tf.float32, [None, 4])
                labels = tf.placeholder(tf.int32, [None]) if name == SPARSE else logits
                loss = getattr(module, name)(labels, logits, reduction=reduction)
                getattr(module, name)(labels, logits, scope="mine", loss_collection="theirs")
                getattr(module, name)(labels, logits, loss_collection=None)
                assert tf.losses.get_losses() == [loss]
                (other,) = tf.get_collection("theirs")
                found.append((loss.name, other.name, graph._last_loss_reduction, loss.shape.ndims))
        assert found[0] == found[1]


def test_labels_get_no_gradient_in_the_dense_loss():
    with tf.Graph().as_default():
        logits = tf.constant(LOGITS)
        labels = tf.constant(SOFT_LABELS)
        loss = tf1xent.losses.softmax_cross_entropy(labels, logits, label_smoothing=0.1)
        assert tf.gradients(loss, labels) == [None]


# --- Derivatives ------------------------------------------------------------------------------


def hessian_of(function, point):
    """Return the Hessian of a function of an array by central differences, in its flat entries."""
    step, size = 1e-4, point.size
    steps = np.eye(size).reshape((size,) + point.shape) * step
    hessian = np.empty((size, size))
    for i, j in itertools.product(range(size), range(size)):
        corners = [a * b * function(point + a * steps[i] + b * steps[j]) for a, b in SIGNS]
        hessian[i, j] = sum(corners) / (4 * step**2)
    return hessian


SIGNS = list(itertools.product((1, -1), (1, -1)))
OPTIONS = {
    "weights": WEIGHTS[:3],
    "mask": [True, False, True],
    "class_weights": CLASS_WEIGHTS,
    "label_smoothing": 0.2,
    "reduction": Reduction.MEAN,
}


def test_hessians_of_the_losses():
    logits_value, labels_value = LOGITS[:3], LABELS[:3]
    counted = np.array([1.0, 0.0, 1.0]) * WEIGHTS[:3]
    smoothed = CLASS_WEIGHTS * (0.8 * one_hot(labels_value) + 0.2 / 4)

    def by_definition(logits):
        return np.sum(counted * rows_of_losses(smoothed, logits)) / counted.sum()

    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(logits_value)
        sparse = tf1xent.losses.sparse_softmax_cross_entropy(labels_value, logits, **OPTIONS)
        dense = tf1xent.losses.softmax_cross_entropy(one_hot(labels_value), logits, **OPTIONS)
        tokens = tf1xent.losses.sequence_loss(
            logits[tf.newaxis],
            labels_value[np.newaxis],
            WEIGHTS[np.newaxis, :3],
            mask=[OPTIONS["mask"]],
            class_weights=CLASS_WEIGHTS,
            label_smoothing=0.2,
        )
        losses = [sparse, dense, tokens]
        values = session.run(losses)
        hessians = session.run([tf.hessians(loss, logits)[0] for loss in losses])
    expected = hessian_of(by_definition, logits_value)
    assert np.abs(expected).max() > 0.01
    for value, hessian in zip(values, hessians):
        assert value == pytest.approx(by_definition(logits_value), rel=1e-13)
        np.testing.assert_allclose(hessian.reshape(expected.shape), expected, atol=1e-6)


def test_derivatives_through_the_denominators():
    """Of a mean by weights: d/dw_i sum_j w_j l_j / sum_j w_j = (l_i - mean) / sum_j w_j."""
    losses = rows_of_losses(one_hot(LABELS), LOGITS)
    with tf.Graph().as_default(), tf.Session() as session:
        weights = tf.constant(WEIGHTS)
        loss = tf1xent.losses.sparse_softmax_cross_entropy(
            LABELS, tf.constant(LOGITS), weights, reduction=Reduction.MEAN
        )
        mean, gradient = session.run([loss, tf.gradients(loss, weights)[0]])
    np.testing.assert_allclose(gradient, (losses - mean) / WEIGHTS.sum(), rtol=1e-12)


@pytest.mark.skipif(not hasattr(tf, "function"), reason="TensorFlow 1.13 has no tf.function")
def test_in_a_function_that_autograph_converts():
    def losses(logits, weights):
        return [
            tf1xent.losses.sparse_softmax_cross_entropy(
                LABELS, logits, weights, label_smoothing=0.1, loss_collection=None
            ),
            tf1xent.losses.softmax_cross_entropy(
                SOFT_LABELS, logits, mask=weights > 0, focal_gamma=2.0, loss_collection=None
            ),
            tf1xent.losses.sequence_loss(
                logits[tf.newaxis], LABELS[tf.newaxis], weights[tf.newaxis]
            ),
        ]

    with tf.Graph().as_default(), tf.Session() as session:
        logits, weights = tf.constant(LOGITS), tf.constant(WEIGHTS)
        converted, plain = session.run(
            [tf.function(losses)(logits, weights), losses(logits, weights)]
        )
    assert converted == pytest.approx(plain, rel=1e-14)


# --- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, arguments, error, words",
    [
        (SPARSE, {"labels": None}, ValueError, "labels.* must not be None"),
        (SPARSE, {"logits": None}, ValueError, "logits.* must not be None"),
        (DENSE, {"onehot_labels": None}, ValueError, "onehot_labels.* must not be None"),
        (SPARSE, {"reduction": "mean"}, ValueError, "`reduction` must be one of 'none'"),
        (SPARSE, {"weights": np.ones(5)}, ValueError, "`weights` must have the shape"),
        (SPARSE, {"weights": np.ones((6, 2))}, ValueError, "`weights` must have the shape"),
        (DENSE, {"weights": np.ones((6, 1))}, ValueError, "`weights` must have the shape"),
        (SPARSE, {"class_weights": [1, -1, 1, 1]}, ValueError, "`class_weights` must be"),
        (SPARSE, {"class_weights": [1, np.nan, 1, 1]}, ValueError, "`class_weights` must be"),
        (SPARSE, {"class_weights": [1, 1]}, ValueError, "`class_weights` must be"),
        (SPARSE, {"label_smoothing": 1.0}, ValueError, r"`label_smoothing` must be .*\[0, 1\)"),
        (DENSE, {"label_smoothing": -0.1}, ValueError, r"`label_smoothing` must be .*\[0, 1\)"),
        (DENSE, {"ignore_label": 0}, ValueError, "`ignore_label` must be None with soft labels"),
        (SPARSE, {"mask": True}, ValueError, "`mask` must have the rank"),
        (SPARSE, {"mask": np.ones((6, 4), bool)}, ValueError, "`mask` must have the shape"),
        (SPARSE, {"labels": one_hot(LABELS)}, TypeError, "`labels` must be int32 or int64"),
        (SPARSE, {"logits": LABELS}, TypeError, "`logits` must be half"),
        (DENSE, {"onehot_labels": np.ones((5, 4))}, ValueError, "`labels` must broadcast"),
    ],
)
def test_bad_input(name, arguments, error, words):
    given = {"logits": LOGITS}
    given["labels" if name == SPARSE else "onehot_labels"] = (
        LABELS if name == SPARSE else SOFT_LABELS
    )
    given.update(arguments)
    with tf.Graph().as_default() as graph:
        with pytest.raises(error, match=words):
            getattr(tf1xent.losses, name)(**given)
        assert graph.get_collection(tf.GraphKeys.LOSSES) == []


def test_weights_that_only_the_run_can_refuse():
    with tf.Graph().as_default(), tf.Session() as session:
        weights = tf.placeholder(tf.float64)
        loss = tf1xent.losses.sparse_softmax_cross_entropy(LABELS, tf.constant(LOGITS), weights)
        for bad in (np.ones(5), np.ones((6, 2))):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(loss, {weights: bad})
        assert session.run(loss, {weights: np.ones(6)}) == session.run(loss, {weights: 1.0})
