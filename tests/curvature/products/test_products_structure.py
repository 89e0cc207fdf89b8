"""Products where graphs are not plain: no path, integers, several outputs, unknown shapes, NaN."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.curvature import small_nets as nets
from tests.curvature.dense import error, matrices, placeholders
from tests.oracle import curvature_reference as reference
from tf1xent.curvature.products.empirical_fisher import empirical_fisher_vector_product
from tf1xent.curvature.products.fisher import fisher_vector_product
from tf1xent.curvature.products.gauss_newton import ggn_product_of, ggn_vector_product
from tf1xent.curvature.products.hessian_diagonal import hessian_diagonal
from tf1xent.curvature.products.hessian_products import hessian_product_of, hessian_vector_product
from tf1xent.curvature.products.hessians import hessians
from tf1xent.curvature.products.jacobian_products import (
    jacobian_vector_product,
    vector_jacobian_product,
)


def values_of(build):
    """Return what `build` makes, run in a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = build()
        session.run(tf.global_variables_initializer())
        return session.run(tensors)


# --- Jacobians --------------------------------------------------------------------------------


def test_jacobian_products_are_those_of_the_oracles_jacobian():
    values = nets.arrays(nets.MLP)
    jacobian = reference.mlp(nets.FEATURES, *reference.variables(values)).first.reshape(24, -1)
    with tf.Graph().as_default(), tf.Session() as session:
        xs = nets.variables(values)
        logits = nets.mlp(tf.constant(nets.FEATURES), *xs)
        tangents, cotangents = placeholders(xs), placeholders([logits])
        forward = jacobian_vector_product(logits, xs, tangents)
        backward = vector_jacobian_product(logits, xs, cotangents)
        session.run(tf.global_variables_initializer())
        (by_columns,) = matrices(session, [forward], tangents)
        (by_rows,) = matrices(session, [backward], cotangents)
    assert error(by_columns, jacobian) <= 1e-13
    assert error(by_rows.T, jacobian) <= 1e-13


def test_a_cotangent_of_zero_is_not_taken_for_a_missing_one():
    # The gradient of TensorFlow's fused op is an output of it, whose own gradient leaves out
    # cotangents that are zeros by construction. J v must be p v - p <p, v>.
    logits_value, vector = np.array([[0.5, -1.0, 2.0]]), np.array([[1.0, 2.0, -1.0]])

    def build():
        logits = tf.constant(logits_value)
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1], logits=logits)
        tf1xent.override_gradients(tf.get_default_graph())
        (fused,) = [op for op in logits.consumers() if op.type.startswith("SparseSoftmax")]
        return jacobian_vector_product(fused.outputs[1], logits, vector)

    p = np.exp(logits_value) / np.exp(logits_value).sum()
    assert error(values_of(build)[0], p * vector - p * (p * vector).sum()) <= 1e-12


def test_nothing_is_computed_at_the_point_of_the_linearization():
    # d sqrt(x) / dx is infinite at 0, and the row is selected away.
    def build():
        x = tf.constant([0.0, 4.0])
        y = tf.where(x > 1.0, tf.sqrt(x), 3.0 * x)
        outputs = tf.stack([y[1], 2.0 * y[1]])
        loss = tf.reduce_sum(tf.square(outputs))
        vector = tf.constant([0.0, 1.0])
        return [
            jacobian_vector_product(outputs, x[1:], vector[1:]),
            jacobian_vector_product(y[1], x, vector),
            ggn_vector_product(loss, outputs, x, vector),
        ]

    unconnected, forward, ggn = values_of(build)
    np.testing.assert_array_equal(unconnected, [[0.0, 0.0]])
    assert np.isfinite(forward[0])
    assert np.isfinite(ggn[0][1])


# --- No dependence ----------------------------------------------------------------------------


def test_what_does_not_depend_is_zero():
    def build():
        x, unused = tf.constant([1.0, 2.0]), tf.constant([[3.0]])
        count, slope = tf.constant([1, 2]), tf.constant([5.0, 6.0])
        outputs = x**2
        loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(slope)
        xs = [x, unused, count, slope]
        vectors = [tf.ones([2]), tf.ones([1, 1]), tf.constant([1, 1]), None]
        elsewhere = tf.constant([7.0])
        return [
            hessian_vector_product(loss, xs, vectors),
            ggn_vector_product(loss, outputs, xs, vectors),
            fisher_vector_product(outputs, xs, vectors),
            empirical_fisher_vector_product(outputs, xs, vectors, weights=1.0),
            vector_jacobian_product(outputs, xs, tf.ones([2])),
            jacobian_vector_product([outputs, elsewhere, tf.argmax(outputs)], xs, vectors),
            jacobian_vector_product(outputs, [], []),
        ]

    *products, forward, nothing = values_of(build)
    expected = [[12.0, 48.0], [8.0, 32.0], None, [4.0, 16.0], [2.0, 4.0]]
    for (by_x, *others), known in zip(products, expected):
        if known is not None:
            np.testing.assert_allclose(by_x, known, rtol=1e-6)
        assert [other.tolist() for other in others] == [[[0.0]], [0, 0], [0.0, 0.0]]
        assert [other.dtype for other in others] == [np.float32, np.int32, np.float32]
    np.testing.assert_array_equal(forward[0], [2.0, 4.0])
    assert forward[1].tolist() == [0.0]
    assert (forward[2], forward[2].dtype) == (0, np.int64)
    np.testing.assert_array_equal(nothing, [[0.0, 0.0]])


# --- The Gauss-Newton matrix ------------------------------------------------------------------


def test_outputs_that_are_computed_from_one_another():
    """G = J^T H J with H the Hessian in each output by itself; other ways to xs are left out."""
    values = nets.arrays(nets.MLP)
    decay = 0.3

    def loss_of(first, second, square, total):
        return total(first * second * second) + total(square(first)) * 0.5

    xs = reference.variables(values)
    first = reference.mlp(nets.FEATURES, *xs)
    second = reference.tanh(first)
    jacobian = np.concatenate([jet.first.reshape(24, -1) for jet in (first, second)])
    loss = loss_of(
        *reference.variables([first.value, second.value]),
        lambda jet: jet * jet,
        lambda jet: jet.reshape(24).sum(0),
    )
    want = jacobian.T @ loss.second @ jacobian
    with tf.Graph().as_default(), tf.Session() as session:
        variables = nets.variables(values)
        outputs = [nets.mlp(tf.constant(nets.FEATURES), *variables)]
        outputs.append(tf.tanh(outputs[0]))
        loss = loss_of(*outputs, tf.square, tf.reduce_sum)
        loss += decay * tf.add_n([tf.nn.l2_loss(x) for x in variables])
        vectors = placeholders(variables)
        predictions = tf.argmax(outputs[0], axis=1)  # integers among the outputs change nothing
        product = ggn_vector_product(loss, [*outputs, predictions], variables, vectors)
        session.run(tf.global_variables_initializer())
        (got,) = matrices(session, [product], vectors)
    assert error(got, want) <= 1e-12


def test_variables_as_outputs():
    def build():
        x = tf.Variable([1.0, 2.0], use_resource=True)
        return ggn_vector_product(tf.reduce_sum(x**3), x, x, tf.constant([1.0, 1.0]))

    np.testing.assert_allclose(values_of(build), [[6.0, 12.0]], rtol=1e-6)


# --- Fisher -----------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["categorical", "bernoulli", "normal"])
def test_the_fisher_matrix_of_each_distribution(distribution):
    values = nets.arrays(nets.MLP)
    logits = reference.mlp(nets.FEATURES, *reference.variables(values))
    with tf.Graph().as_default(), tf.Session() as session:
        xs = nets.variables(values)
        outputs = nets.mlp(tf.constant(nets.FEATURES), *xs)
        of_rank_three = tf.reshape(outputs, [2, 3, nets.CLASSES])
        weights = nets.WEIGHTS.reshape(2, 3)
        vectors = placeholders(xs)
        products = [
            fisher_vector_product(outputs, xs, vectors, distribution=distribution),
            fisher_vector_product(
                of_rank_three, xs, vectors, weights=weights, distribution=distribution
            ),
            fisher_vector_product(
                [outputs, of_rank_three], xs, vectors, weights=2.0, distribution=distribution
            ),
        ]
        session.run(tf.global_variables_initializer())
        mean, weighted, twice = matrices(session, products, vectors)
    assert error(mean, reference.fisher(logits, distribution, np.full(6, 1 / 6))) <= 1e-10
    assert error(weighted, reference.fisher(logits, distribution, nets.WEIGHTS)) <= 1e-10
    assert error(twice, 24 * mean) <= 1e-14


def test_confident_outputs_keep_their_digits():
    # p (1 - p) of sigmoid(z) is e^-|z| but for a relative e^-|z|.
    def build():
        z = tf.constant([[40.0], [-40.0], [200.0]])
        return fisher_vector_product(z, z, tf.ones([3, 1]), weights=1.0, distribution="bernoulli")

    (product,) = values_of(build)
    np.testing.assert_allclose(product[:2, 0], np.exp(-40.0), rtol=1e-6)
    assert product[2, 0] == 0.0


def test_a_mean_over_more_examples_than_a_half_can_count():
    def build():
        z = tf.zeros([70000, 1], tf.half)
        x = tf.constant(0.0, tf.half)
        return empirical_fisher_vector_product(z[:, 0] + x, x, tf.constant(2.0, tf.half))

    (product,) = values_of(build)
    assert np.isfinite(product) and product > 0


# --- Shapes, graphs, orders -------------------------------------------------------------------


def test_unknown_shapes_and_another_default_graph():
    values = nets.arrays(nets.MLP)
    with tf.Graph().as_default() as graph:
        xs = [tf.placeholder_with_default(value, None) for value in values]
        outputs = nets.mlp(tf.placeholder_with_default(nets.FEATURES, None), *xs)
        assert outputs.shape.ndims is None or None in outputs.shape.as_list()
        loss = outputs**4
        vectors = [tf.placeholder(tf.float64, None) for _ in xs]
    with tf.Graph().as_default() as other:
        product = hessian_vector_product(loss, xs, vectors)
        information = fisher_vector_product(outputs, xs, vectors)
    assert other.get_operations() == []
    jet = reference.mlp(nets.FEATURES, *reference.variables(values))
    hessian = (jet**4).reshape(24).sum(0).second
    fisher = reference.fisher(jet, "categorical", np.full(6, 1 / 6))
    vector = np.random.RandomState(1).normal(size=len(hessian))
    with tf.Session(graph=graph) as session:
        feeds = dict(zip(vectors, nets.split(vector, nets.MLP)))
        by_hessian, by_fisher = map(nets.flat, session.run([product, information], feeds))
        feeds[vectors[1]] = np.ones([1])  # which would broadcast
        with pytest.raises(tf.errors.InvalidArgumentError, match="must have the shapes of `xs`"):
            session.run(product, feeds)
    assert error(by_hessian, hessian @ vector) <= 1e-10
    assert error(by_fisher, fisher @ vector) <= 1e-10


@pytest.mark.skipif(not tf.executing_eagerly(), reason="TensorFlow 1.x has no tf.function here")
def test_inside_a_traced_function_by_a_variable_of_the_program():
    x = tf.Variable([1.0, 2.0])
    vector = tf.constant([1.0, 1.0])

    @functools.partial(tf.function, autograph=False)
    def products(scale):
        outputs = x**2
        loss = scale * tf.reduce_sum(outputs**2)
        return (
            hessian_vector_product(loss, x, vector),
            ggn_vector_product(loss, outputs, x, vector),
        )

    (hessian,), (ggn,) = products(tf.constant(2.0))
    np.testing.assert_allclose(hessian, [24.0, 96.0], rtol=1e-6)
    np.testing.assert_allclose(ggn, [16.0, 64.0], rtol=1e-6)

    @functools.partial(tf.function, autograph=False)
    def dense(tensor):
        return hessians(tensor**3, tensor)[0], hessian_diagonal(tensor**3, tensor)[0]

    for found in dense(tf.constant([2.0])):
        np.testing.assert_allclose(np.ravel(found), [12.0], rtol=1e-6)
    # In a loop TensorFlow's gradient by such a variable is None.
    for function in (hessians, hessian_diagonal):
        with pytest.raises(ValueError, match="`xs` must be of a graph, got `Variable:0`"):
            tf.function(lambda function=function: function(x**3, x), autograph=False)()


def test_products_are_differentiable_in_xs_and_in_the_vectors():
    # y = sum x^4 + x_0 x_1^2; H v with v = x^2 is 12 x^4 and the mixed terms.
    def gradient_of_product(x):
        product = hessian_vector_product(tf.reduce_sum(x**4) + x[0] * x[1] ** 2, x, x**2)[0]
        return tf.gradients(tf.reduce_sum(product), x)[0]

    got = values_of(lambda: gradient_of_product(tf.constant([2.0, 3.0], tf.float64)))
    # sum H v = 12 a^4 + 12 b^4 + 2 b b^2 + 2 b a^2 + 2 a b^2
    a, b = 2.0, 3.0
    expected = [48 * a**3 + 4 * a * b + 2 * b**2, 48 * b**3 + 6 * b**2 + 2 * a**2 + 4 * a * b]
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_what_products_share_is_built_once():
    def ops_of(function, *arguments):
        before = len(tf.get_default_graph().get_operations())
        function(*arguments)
        return len(tf.get_default_graph().get_operations()) - before

    with tf.Graph().as_default():
        xs = nets.variables(nets.arrays(nets.MLP))
        logits = nets.mlp(tf.constant(nets.FEATURES), *xs)
        loss = nets.loss_of(logits, "sparse")
        vectors = placeholders(xs)
        hessian, ggn = hessian_product_of(loss, xs), ggn_product_of(loss, logits, xs)
        for product, whole in (
            (hessian, [hessian_vector_product, loss, xs, vectors]),
            (ggn, [ggn_vector_product, loss, logits, xs, vectors]),
        ):
            first, *others = [ops_of(product, vectors) for _ in range(3)]
            assert max(others) <= first < ops_of(*whole)


def test_ops_are_in_a_scope_of_the_functions_name():
    with tf.Graph().as_default() as graph:
        x = tf.constant([1.0])
        y = x**3
        before = set(graph.get_operations())
        hessian_vector_product(y, x, [[1.0]])
        hessian_vector_product(y, x, [[1.0]])
        names = {op.name.split("/")[0] for op in graph.get_operations() if op not in before}
    assert "hessian_vector_product" in names
    assert all(name.startswith("hessian_vector_product") for name in names)
