"""Derivatives of every order, mixed ones, and those through labels that depend on parameters:
against the oracle, against finite differences in float64, and against TensorFlow's own."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import tolerances
from tests.support.loss_graph import DENSE_V1, DENSE_V2, SPARSE, LossGraph
from tests.support.tolerances import assert_within_contract
from tf1xent import nn

# Confident and right, confident and wrong, tied, masked, ordinary.
LOGITS = np.array(
    [
        [0.5, -1.25, 2.0, 0.125],
        [25.0, 0.0, 1.0, -2.0],
        [0.0, 12.0, 0.5, -1.0],
        [1.5, 1.5, 1.5, 1.5],
        [0.25, -np.inf, 1.0, 2.0],
    ]
)
LABELS = np.array([2, 0, 3, 1, 0])
SOFT_LABELS = np.array(
    [
        [0.125, 0.25, 0.25, 0.375],
        [0.875, 0.0, 0.125, 0.0],
        [0.5, 0.75, 0.0, 0.25],
        [0.0, 0.0, 0.0, 0.0],
        [0.25, 0.0, 0.75, 0.0],
    ]
)
FINITE = slice(0, 4)


def _wide(values, fill, width=70):
    """The same rows with more classes, which take the library's other route."""
    return np.concatenate([values, np.full((len(values), width - values.shape[1]), fill)], axis=1)


@functools.lru_cache(maxsize=None)
def _graph(name, dtype, static, module=nn):
    return LossGraph(module, name, dtype, logits_shape=None if static is None else list(static))


def _labels(name):
    return LABELS if name == SPARSE else SOFT_LABELS


def _vectors(shape, count, dtype, seed=3):
    random = np.random.RandomState(seed)
    return [random.normal(size=shape).astype(dtype) for _ in range(count)]


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("order", [3, pytest.param(4, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    "width, known",
    [
        (4, True),
        pytest.param(70, True, marks=pytest.mark.exhaustive),
        pytest.param(4, False, marks=pytest.mark.exhaustive),
    ],
)
def test_third_and_fourth_order(name, dtype, order, width, known):
    logits, soft = _wide(LOGITS, -4.0, width).astype(dtype), _wide(SOFT_LABELS, 0.0, width)
    labels = LABELS if name == SPARSE else soft
    graph = _graph(name, dtype, (None, width) if known else None)
    vectors = _vectors(logits.shape, order - 1, dtype)
    got = graph.run(("logits",) * order, logits, labels, *vectors)
    oracle = reference.Reference(logits)
    weights = None if name == SPARSE else soft
    want = oracle.derivative_product(vectors, weights)
    scale = oracle.product_scale(vectors, weights)
    assert_within_contract(got, want, logits, scale, what=f"order {order}")


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_confident_rows_keep_relative_accuracy_at_high_order(name):
    """Third derivative at the largest class of a float32 row with 1 - p of 1e-17."""
    logits = np.array([[40.0, 0.0, 1.0, -1.0]], np.float32)
    vectors = _vectors(logits.shape, 2, "float32")
    labels = np.array([0]) if name == SPARSE else np.eye(4)[:1]
    got = _graph(name, "float32", (None, 4)).run(("logits",) * 3, logits, labels, *vectors)
    want = reference.Reference(logits).derivative_product(vectors)
    np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "dtype, width, known", [("float32", 70, True), ("float64", 4, True), ("float64", 4, False)]
)
def test_mixed_derivatives_of_labels_and_logits(dtype, width, known):
    logits = _wide(LOGITS, -4.0, width).astype(dtype)[FINITE]
    soft = _wide(SOFT_LABELS, 0.0, width).astype(dtype)[FINITE]
    graph = _graph(DENSE_V2, dtype, (None, width) if known else None)
    oracle = reference.Reference(logits)
    m, v = _vectors(logits.shape, 2, dtype)
    bound = tolerances.relative_bound(logits).max()

    def check(arguments, want, *vectors):
        got = graph.run(arguments, logits, soft, *vectors)
        np.testing.assert_allclose(got, want.astype(np.float64), rtol=0, atol=8 * bound)

    check(("labels", "logits"), oracle.mixed_product(m), m)
    check(("logits", "labels"), oracle.mixed_product_transposed(v), v)
    # The loss is linear in the labels: higher derivatives are those of the loss of labels m.
    check(("labels", "logits", "logits"), oracle.derivative_product([v], m), m, v)
    check(("logits", "labels", "logits"), oracle.derivative_product([v], m), v, m)
    curvature = np.sum(oracle.derivative_product([v]) * v, axis=1, keepdims=True)
    check(("logits", "logits", "labels"), np.tile(curvature, (1, width)), v, v)
    fourth = oracle.derivative_product([v, v], m)
    check(("labels", "logits", "logits", "logits"), fourth, m, v, v)
    check(("logits", "labels", "logits", "logits"), fourth, v, m, v)


def test_a_masked_class_without_a_label_has_no_mixed_derivative():
    """Its entry of the gradient in the labels is 0 whatever the logits, so both orders agree."""
    graph = _graph(DENSE_V2, "float64", (None, 4))
    logits = np.array([[1.0, -np.inf, 0.5, 0.0]])
    labels, v = np.array([[0.5, 0.0, 0.25, 0.25]]), np.array([[1.0, 2.0, 3.0, 5.0]])
    rows = [
        graph.run(("labels", "logits"), logits, labels, direction[np.newaxis])[0]
        for direction in np.eye(4)
    ]
    product = graph.run(("logits", "labels"), logits, labels, v)[0]
    assert product[1] == 0 and not rows[1].any()
    np.testing.assert_allclose(product, np.array(rows) @ v[0], rtol=1e-14)


def test_the_loss_is_linear_in_the_labels():
    graph = _graph(DENSE_V2, "float64", (None, 4))
    # The gradient in the labels is there, and no path leads from it back to the labels.
    assert graph.derivative("labels") is not None
    with pytest.raises(ValueError, match="no derivative"):
        graph.derivative("labels", "labels")


def test_version_1_lets_no_gradient_into_labels():
    graph = _graph(DENSE_V1, "float64", (None, 4))
    with pytest.raises(ValueError, match="no derivative"):
        graph.derivative("labels")


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("static", [(None, 4), None])
def test_finite_differences(name, static):
    logits, labels = LOGITS[FINITE], _labels(name)[FINITE]
    graph = _graph(name, "float64", static)
    u, v, w = _vectors(logits.shape, 3, "float64")
    for order, before in ((1, ()), (2, (u,)), (3, (u, v))):
        arguments = ("logits",) * order
        lower = ("logits",) * (order - 1)
        exact = graph.run(arguments, logits, labels, *before)
        along = np.sum(exact * w, axis=1)

        def contracted(point, lower=lower, before=before):
            value = graph.run(lower, point, labels, *before)
            return value if value.ndim == 1 else np.sum(value * before[-1], axis=1)

        slope = reference.central_difference(contracted, logits, w)
        np.testing.assert_allclose(along, slope, rtol=1e-7, atol=1e-8, err_msg=str(order))


def test_finite_differences_in_the_labels():
    logits, labels = LOGITS[FINITE], SOFT_LABELS[FINITE]
    graph = _graph(DENSE_V2, "float64", (None, 4))
    (m,) = _vectors(logits.shape, 1, "float64")
    slope = reference.central_difference(lambda x: graph.run((), logits, x), labels, m)
    exact = np.sum(graph.run(("labels",), logits, labels) * m, axis=1)
    np.testing.assert_allclose(exact, slope, rtol=1e-8, atol=1e-8)
    gradient = functools.partial(graph.run, ("logits",), logits)
    slope = reference.central_difference(gradient, labels, m)
    exact = graph.run(("labels", "logits"), logits, labels, m)
    np.testing.assert_allclose(exact, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_stock_tensorflow_agrees_where_it_has_the_derivative(name):
    logits = LOGITS[[0, 2, 3]]
    labels = LABELS[[0, 2, 3]] if name == SPARSE else np.full((3, 4), 0.25)
    ours, stock = (_graph(name, "float64", (None, 4), module) for module in (nn, tf.nn))
    (v,) = _vectors(logits.shape, 1, "float64")
    pairs = [((), ()), (("logits",), ()), (("logits", "logits"), (v,))]
    for arguments, vectors in pairs:
        try:
            stock.derivative(*arguments)
        except LookupError as error:
            assert name == SPARSE and len(arguments) == 2
            assert "explicitly disabled" in str(error)
            continue
        np.testing.assert_allclose(
            ours.run(arguments, logits, labels, *vectors),
            stock.run(arguments, logits, labels, *vectors),
            rtol=1e-12,
            atol=1e-12,
        )


# --- Labels that depend on parameters -----------------------------------------------------------


def _entropy(x):
    return reference.dense_loss_of(x, reference.softmax(x))


def _cooled(x):
    """Labels softmax(x / 2), as of a student that is its own teacher at another temperature."""
    return reference.dense_loss_of(x, reference.softmax([x_j / 2 for x_j in x]))


def _unnormalized(x):
    """Labels x^2: they neither sum to 1 nor stay clear of 0."""
    return reference.dense_loss_of(x, [x_j * x_j for x_j in x])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "labels_of, function",
    [
        (tf.nn.softmax, _entropy),
        (lambda x: tf.nn.softmax(x / 2.0), _cooled),
        (lambda x: x * x, _unnormalized),
    ],
    ids=["entropy", "cooled", "unnormalized"],
)
@pytest.mark.parametrize("static", [[2, 4], None])
def test_labels_that_depend_on_the_logits(labels_of, function, static):
    point = np.array([[0.5, -1.25, 2.0, 0.125], [1.0, 0.75, -0.5, 3.0]])
    u, v, w = _vectors(point.shape, 3, "float64")
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder("float64", static)
        derivative = nn.softmax_cross_entropy_with_logits_v2(labels=labels_of(x), logits=x)
        for order, vector in enumerate((u, v, w)):
            (derivative,) = tf.gradients(derivative, [x])
            got = session.run(derivative, {x: point})
            for row, unit in np.ndindex(2, 4):
                directions = [d[row] for d in (u, v, w)[:order]] + [np.eye(4)[unit]]
                want = reference.directional_derivative(function, point[row], directions)
                np.testing.assert_allclose(got[row, unit], float(want), rtol=1e-11, atol=1e-13)
            derivative = derivative * vector


def test_entropy_of_a_masked_row_is_that_of_its_open_classes():
    point = np.array([[0.5, -np.inf, 2.0, 0.125]])
    open_classes = [0, 2, 3]
    vector = np.array([[0.5, 1.0, -2.0, 3.0]])
    results = []
    for logits, v in ((point, vector), (point[:, open_classes], vector[:, open_classes])):
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.constant(logits)
            labels = tf.nn.softmax(x)
            loss = nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=x)
            (gradient,) = tf.gradients(loss, [x])
            (product,) = tf.gradients(gradient * v, [x])
            results.append(session.run([loss, gradient, product]))
    for masked, plain in zip(*results):
        if masked.ndim == 2:
            assert masked[0, 1] == 0.0
            masked = masked[:, open_classes]
        np.testing.assert_allclose(masked, plain, rtol=1e-13)


def test_distillation_reaches_the_teacher():
    """Student and teacher share a parameter: the loss's Hessian in it, by finite differences."""
    features = np.random.RandomState(1).normal(size=(5, 4))

    def graph_of(theta):
        teacher = tf.nn.softmax(tf.sin(theta) * features / 2.0)
        loss = nn.softmax_cross_entropy_with_logits_v2(labels=teacher, logits=theta * features)
        return tf.reduce_mean(loss)

    point, direction = np.array([0.5, -0.25, 1.0, 2.0]), np.array([1.0, 2.0, -0.5, 0.25])
    with tf.Graph().as_default(), tf.Session() as session:
        theta = tf.placeholder("float64", [4])
        (gradient,) = tf.gradients(graph_of(theta), [theta])
        (hessian,) = tf.hessians(graph_of(theta), theta)
        hessian = session.run(hessian, {theta: point})

        def at(value):
            return session.run(gradient, {theta: value})

        slope = reference.central_difference(at, point, direction)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(hessian.dot(direction), slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("module_name", [DENSE_V1, DENSE_V2])
def test_one_row_of_labels_for_all_rows(module_name, static):
    """Labels [1, num_classes] broadcast; their gradient sums over the batch."""
    logits, labels = LOGITS[FINITE], SOFT_LABELS[:1]
    tiled = np.tile(labels, (4, 1))
    (v,) = _vectors(logits.shape, 1, "float64")
    oracle = reference.Reference(logits)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder("float64", [4, 4] if static else [None, None])
        l_row = tf.placeholder("float64", [1, 4] if static else [None, None])
        loss = getattr(nn, module_name)(labels=l_row, logits=x)
        (gradient,) = tf.gradients(loss, [x])
        (product,) = tf.gradients(gradient * v, [x])
        feed = {x: logits, l_row: labels}
        tensors = [loss, gradient, product]
        wants = [
            oracle.dense_loss(tiled),
            oracle.dense_gradient(tiled),
            oracle.derivative_product([v], tiled),
        ]
        if module_name == DENSE_V2:
            tensors += tf.gradients(loss, [l_row])
            tensors += tf.gradients(gradient * v, [l_row])
            for want in (oracle.labels_gradient(), oracle.mixed_product_transposed(v)):
                wants.append(np.sum(want, axis=0, keepdims=True))
        for got, want in zip(session.run(tensors, feed), wants):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_hessian_of_a_weighted_linear_model(name):
    """sum_b w_b H_b kron (f_b f_b'), the Hessian of a weighted loss in the weights of a layer."""
    features = np.random.RandomState(2).normal(size=(4, 3))
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    kernel = np.random.RandomState(4).normal(size=(3, 4))
    logits = features.dot(kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("kernel", initializer=kernel)
        labels = LABELS[FINITE] if name == SPARSE else SOFT_LABELS[FINITE]
        loss = getattr(nn, name)(labels=labels, logits=tf.matmul(features, variable))
        (hessian,) = tf.hessians(tf.reduce_sum(weights * loss), variable)
        session.run(tf.global_variables_initializer())
        hessian = session.run(hessian)
    oracle = reference.Reference(logits)
    want = np.zeros((3, 4, 3, 4))
    soft = None if name == SPARSE else SOFT_LABELS[FINITE]
    for j in range(4):
        unit = np.tile(np.eye(4)[j], (4, 1))
        column = oracle.derivative_product([unit], soft).astype(np.float64)
        want[:, :, :, j] = np.einsum("b,bf,bi,bg->fig", weights, features, column, features)
    np.testing.assert_allclose(hessian, want, rtol=1e-11, atol=1e-13)
