"""Influence: against dense linear algebra, retraining, and the proximal Bregman response."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from tests.curvature.numpy_network import Network, digits
from tests.curvature.tensorflow_network import Graph
from tf1xent.curvature import GGNOperator, HessianOperator
from tf1xent.curvature.estimates.influence import influence
from tf1xent.errors import ConvergenceError

TRAIN, TEST = 300, 40


def logistic_regression(num_train, num_test, l2=0.02):
    """Return a trained multinomial logistic regression, its parameters, and test data."""
    images, labels = digits(num_train + num_test)
    network = Network([64, 10], images[:num_train], labels[:num_train], l2)
    parameters = network.train(network.initial(), num_iterations=200)
    parameters = minimum(network, parameters, factor(network, parameters))
    return network, parameters, (images[num_train:], labels[num_train:])


def factor(network, parameters):
    return cho_factor(network.matrix(parameters))


def minimum(network, parameters, factored):
    """Return where the gradient is zero: Newton's method with one Hessian from close by."""
    for _ in range(60):
        gradient = network.gradient(parameters)
        if np.abs(gradient).max() < 1e-12:
            return parameters
        parameters = parameters - cho_solve(factored, gradient)
    raise AssertionError(f"no minimum: the gradient is {np.abs(gradient).max()}")


def of_examples(network, parameters, images, labels):
    """Return the gradient of each example's cross-entropy, one after another."""
    singles = [
        Network([64] + [b for _, b in network.shapes], images[[i]], labels[[i]])
        for i in range(len(images))
    ]
    return np.array([single.gradient(parameters) for single in singles])


@pytest.fixture(scope="module")
def model():
    """A trained regression in a session, its operator, and the dense prediction of all values."""
    network, parameters, test = logistic_regression(TRAIN, TEST)
    hessian = network.matrix(parameters)
    train_gradients = of_examples(network, parameters, network.images, network.labels)
    test_gradients = of_examples(network, parameters, *test)
    expected = test_gradients @ np.linalg.solve(hessian, train_gradients.T) / TRAIN
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            train = graph.feeds(128)
            operator = HessianOperator(session, graph.loss, graph.variables, train)
            yield graph, session, operator, train, graph.feeds(16, *test), expected


def test_the_mean_over_unequal_batches(model):
    graph, session, operator, train, test, expected = model
    before = operator.num_products
    found = influence(
        session, tf.reduce_mean(graph.losses), graph.losses, operator, test, train, tol=1e-10
    )
    np.testing.assert_allclose(found.values, expected.mean(0), atol=1e-8 * expected.max())
    assert found.denominator == TRAIN
    assert found.residuals.shape == (1,) and found.residuals[0] < 1e-9
    assert found.num_products == operator.num_products - before


def test_each_test_point(model):
    graph, session, operator, train, test, expected = model
    few = [{key: value[:2] for key, value in test[0].items()}, {**test[1]}]
    few[1] = {key: value[:1] for key, value in few[1].items()}
    found = influence(session, graph.losses, graph.losses, operator, few, train, tol=1e-10)
    assert found.values.shape == (3, TRAIN)
    np.testing.assert_allclose(
        found.values, expected[[0, 1, 16]], atol=1e-8 * np.abs(expected).max()
    )


def test_weights_and_denominator(model):
    graph, session, operator, train, test, expected = model
    sums = HessianOperator(
        session, graph.loss * tf.to_double(tf.size(graph.losses)), graph.variables, train,
        reduction="sum",
    )  # fmt: skip
    arguments = session, tf.reduce_mean(graph.losses), 2 * graph.losses, sums, test, train
    found = influence(*arguments, denominator=1.0, tol=1e-10)
    # The curvature is TRAIN times as large, and the losses twice.
    np.testing.assert_allclose(found.values, 2 * expected.mean(0), atol=1e-7 * expected.max())
    with pytest.raises(ValueError, match="`denominator` must be given where the operator sums"):
        influence(*arguments)


def test_damping_is_part_of_the_operator(model):
    graph, session, operator, train, test, _ = model
    mean = tf.reduce_mean(graph.losses)
    spread = []
    for damping in (0.0, 10.0):
        operator.damping = damping
        spread.append(influence(session, mean, graph.losses, operator, test, train).values.std())
    operator.damping = 0.0
    assert spread[0] > 20 * spread[1] > 0


def test_json(model):
    graph, session, operator, train, test, _ = model
    found = influence(session, tf.reduce_mean(graph.losses), graph.losses, operator, test, train)
    assert len(json.loads(json.dumps(found.to_dict()))["values"]) == TRAIN


def test_a_direction_without_curvature_is_refused(model):
    graph, session, operator, train, test, _ = model
    operator.damping = -1.0
    with pytest.raises(ValueError, match="`operator` must be positive definite.*damping"):
        influence(session, tf.reduce_mean(graph.losses), graph.losses, operator, test, train)
    operator.damping = 0.0


def test_too_few_products(model):
    graph, session, operator, train, test, _ = model
    mean = tf.reduce_mean(graph.losses)
    with pytest.raises(ConvergenceError, match="residual of 1e-05, got .* after 2. Raise") as error:
        influence(session, mean, graph.losses, operator, test, train, max_products=2)
    assert error.value.partial.shape == (650,)


def test_bad_input(model):
    graph, session, operator, train, test, _ = model
    mean = tf.reduce_mean(graph.losses)
    with pytest.raises(ValueError, match="`train_losses` must have 1 dimensions, got shape"):
        influence(session, mean, mean, operator, test, train)
    with pytest.raises(ValueError, match="`test_losses` must have 0 or 1 dimensions"):
        influence(session, graph.logits, graph.losses, operator, test, train)
    with pytest.raises(TypeError, match="`operator` must be one of tf1xent.curvature, got ndarray"):
        influence(session, mean, graph.losses, np.eye(650), test, train)
    with pytest.raises(TypeError, match="`test_losses` must be a float tensor, got list"):
        influence(session, [mean], graph.losses, operator, test, train)
    with tf.Graph().as_default():
        other = tf.constant(1.0)
    with pytest.raises(ValueError, match="`test_losses` must be in the session's graph"):
        influence(session, other, graph.losses, operator, test, train)
    bad = [dict(train[0]), {**train[1], graph.images: np.full([128, 64], np.nan)}]
    with pytest.raises(tf.errors.InvalidArgumentError, match="in training batch 1"):
        influence(session, mean, graph.losses, operator, test, bad)


def test_data_of_an_iterator_and_a_finalized_graph():
    """The mean of 1, 2 and 6 at its minimum; batches of two and of one."""
    with tf.Graph().as_default(), tf.Session() as session:
        data = tf.data.Dataset.from_tensor_slices(np.array([1.0, 2.0, 6.0])).batch(2)
        iterator = tf.data.make_initializable_iterator(data)
        points, mean = iterator.get_next(), tf.get_variable("mean", initializer=np.float64(3))
        losses, at_zero = tf.square(mean - points) / 2, tf.square(mean) / 2
        session.run(tf.global_variables_initializer())
        operator = HessianOperator(
            session, tf.reduce_mean(losses), mean, iterator, batch_weights=tf.size(points)
        )
        found = influence(session, at_zero, losses, operator, None, iterator)
        np.testing.assert_allclose(found.values, [2.0, 1.0, -3.0])
        with pytest.raises(ValueError, match="`test_feeds` must be feed dicts for several test"):
            influence(session, losses, losses, operator, iterator, iterator)
        session.graph.finalize()
        with pytest.raises(RuntimeError, match="^influence: the session's graph must not be final"):
            influence(session, at_zero, losses, operator, None, iterator)


@pytest.mark.exhaustive
def test_leave_one_out_retraining():
    """Multinomial logistic regression: 50 exact refits by another solver; sign and scale count."""
    num_train = 1437
    network, parameters, (images, labels) = logistic_regression(num_train, 360)
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            train = graph.feeds(128)
            operator = HessianOperator(session, graph.loss, graph.variables, train)
            predicted = influence(
                session,
                tf.reduce_mean(graph.losses),
                graph.losses,
                operator,
                graph.feeds(100, images, labels),
                train,
            ).values
    test = Network([64, 10], images, labels)
    # The 25 of largest influence, and 25 others at random.
    order = np.argsort(-np.abs(predicted))
    others = np.random.RandomState(0).choice(order[25:], 25, replace=False)
    chosen = np.concatenate([order[:25], others])
    actual, factored = [], factor(network, parameters)
    for left_out in chosen:
        kept = np.arange(num_train) != left_out
        # The other terms keep their weight 1 / n, and so does the regularizer its own.
        l2 = network.l2 * num_train / (num_train - 1)
        refit = Network([64, 10], network.images[kept], network.labels[kept], l2)
        found = minimum(refit, parameters, factored)
        actual.append(test.loss(found) - test.loss(parameters))
    predicted, actual = predicted[chosen], np.array(actual)
    assert np.corrcoef(predicted, actual)[0, 1] >= 0.999
    assert 0.95 <= actual @ predicted / (predicted @ predicted) <= 1.05
    assert (np.sign(predicted) == np.sign(actual)).mean() > 0.9


def proximal_bregman_response(network, parameters, left_out, damping):
    """Return the parameters that answer to the removal of a training point (Bae et al., 2022).

    The minimum of the mean Bregman divergence of the outputs from those of `parameters`, minus the
    loss of the point by its weight, plus the squared distance from `parameters`.
    """
    values = network.activations(parameters)
    old = network.probabilities(values)
    point = np.zeros([len(network.images), 1])
    point[left_out] = 1 / len(network.images)

    def objective(candidate):
        values = network.activations(candidate)
        logits = values[-1]
        new = network.probabilities(values)
        # Up to a constant: log-sum-exp of the logits minus its tangent at the old ones.
        largest = logits.max(1)
        divergences = largest + np.log(np.exp(logits - largest[:, None]).sum(1))
        divergences = divergences - (old * logits).sum(1)
        loss = divergences.mean() - network.losses(candidate)[left_out] / len(network.images)
        away = candidate - parameters
        errors = (new - old) / len(network.images) - point * (new - network.targets)
        gradient = network.backward(candidate, values, errors) + damping * away
        return loss + damping / 2 * away @ away, gradient

    options = {"maxiter": 2000, "maxcor": 30, "gtol": 1e-10, "ftol": 0.0}
    found = minimize(objective, parameters, jac=True, method="L-BFGS-B", options=options)
    assert np.abs(objective(found.x)[1]).max() < 1e-7
    return found.x


@pytest.mark.exhaustive
def test_proximal_bregman_response_of_a_network():
    images, labels = digits(TRAIN + TEST)
    network = Network([64, 8, 10], images[:TRAIN], labels[:TRAIN])
    parameters = network.train(network.initial(), num_iterations=40)
    test = Network([64, 8, 10], images[TRAIN:], labels[TRAIN:])
    damping = 1e-2
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            train = graph.feeds(128)
            operator = GGNOperator(
                session, graph.loss, graph.logits, graph.variables, train, damping=damping
            )
            predicted = influence(
                session,
                tf.reduce_mean(graph.losses),
                graph.losses,
                operator,
                graph.feeds(16, images[TRAIN:], labels[TRAIN:]),
                train,
            ).values
    order = np.argsort(-np.abs(predicted))
    chosen = np.concatenate([order[:10], order[10::13][:20]])
    actual = np.array(
        [
            test.loss(proximal_bregman_response(network, parameters, i, damping))
            - test.loss(parameters)
            for i in chosen
        ]
    )
    predicted = predicted[chosen]
    assert np.corrcoef(predicted, actual)[0, 1] >= 0.99
    assert 0.9 <= actual @ predicted / (predicted @ predicted) <= 1.1
