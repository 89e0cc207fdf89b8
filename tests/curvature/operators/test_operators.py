"""Operators over data: weights of batches, reductions, blocks, iterators, and SciPy."""

import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow.compat.v1 as tf

from tests.curvature import logistic_regression as reference
from tests.curvature.logistic_regression import SIZE, Model, batches, digits
from tf1xent.curvature.operators.empirical_fisher_operator import EmpiricalFisherOperator
from tf1xent.curvature.operators.fisher_operator import FisherOperator
from tf1xent.curvature.operators.ggn_operator import GGNOperator
from tf1xent.curvature.operators.hessian_operator import HessianOperator

SIZES = [9, 12, 2]
KINDS = ("hessian", "ggn", "fisher", "empirical_fisher")


class Running:
    """A model with its values in a session, and operators of it."""

    def __init__(self, graph, session, model):
        self.graph, self.session, self.model = graph, session, model
        self.values = session.run(model.xs)
        self.feeds = [model.feed(batch) for batch in batches(SIZES)]
        self._made = {}

    def operator(self, kind, feeds=None, **options):
        """Return an operator of a kind, weighed by the loss's own denominator."""
        if feeds is None and not options:
            if kind not in self._made:
                self._made[kind] = self._operator(kind, None)
            return self._made[kind]
        return self._operator(kind, feeds, **options)

    def _operator(self, kind, feeds, **options):
        model = self.model
        options.setdefault("batch_weights", model.count)
        made = {
            "hessian": (HessianOperator, (model.loss,), {}),
            "ggn": (GGNOperator, (model.loss, model.logits), {}),
            "fisher": (FisherOperator, (model.logits,), {"weights": model.weights}),
            "empirical_fisher": (
                EmpiricalFisherOperator,
                (model.losses,),
                {"weights": model.weights},
            ),
        }
        make, functions, own = made[kind]
        feeds = self.feeds if feeds is None else feeds
        return make(self.session, *functions, model.xs, feeds, **own, **options)

    def expected(self, kind, batch=None):
        """Return the matrix in NumPy."""
        matrix = reference.empirical_fisher if kind == "empirical_fisher" else reference.hessian
        return matrix(batch or digits(), *self.values)


@pytest.fixture(scope="module")
def running():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        model = Model()
        session.run(tf.global_variables_initializer())
        yield Running(graph, session, model)


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.fixture
def vector():
    return np.random.RandomState(0).normal(size=SIZE)


# --- Data and weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_of_unequal_batches_is_that_of_all_data(running, kind):
    close(running.operator(kind).to_dense(), running.expected(kind))


class Twice:
    """An iterable that is no sequence."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


@pytest.mark.parametrize("form", [tuple, Twice, lambda feeds: lambda: iter(feeds)])
def test_feeds_are_any_iterable_or_a_function(running, form, vector):
    operator = running.operator("hessian", form(running.feeds))
    for _ in range(2):
        close(operator @ vector, running.expected("hessian") @ vector)


@pytest.mark.parametrize(
    "weights",
    [
        [batch[2].sum() for batch in batches(SIZES)],
        np.array([batch[2].sum() for batch in batches(SIZES)]),
        lambda feed: sum(value.sum() for key, value in feed.items() if "mask" in key.name),
    ],
    ids=["list", "array", "function"],
)
def test_weights_are_given_in_any_form(running, weights, vector):
    operator = running.operator("hessian", batch_weights=weights)
    close(operator @ vector, running.expected("hessian") @ vector)


def test_the_leading_dimension_weighs_by_default(running, vector):
    operator = running.operator("hessian", batch_weights=None)
    expected = sum(
        size * running.expected("hessian", batch) for size, batch in zip(SIZES, batches(SIZES))
    )
    close(operator @ vector, expected @ vector / sum(SIZES))


def test_a_sum_takes_no_weights(running, vector):
    operator = running.operator("hessian", batch_weights=None, reduction="sum")
    expected = sum(running.expected("hessian", batch) for batch in batches(SIZES))
    close(operator @ vector, expected @ vector)


@pytest.mark.parametrize("by", ["tensor", "sequence"])
def test_a_batch_of_weight_0_counts_for_nothing_also_if_it_is_nan(running, by, vector):
    features, labels, mask = digits()
    empty = running.model.feed((features, labels, 0 * mask))  # 0 / 0
    feeds = [running.model.feed(digits()), empty]
    weights = running.model.count if by == "tensor" else [mask.sum(), 0]
    operator = running.operator("hessian", feeds, batch_weights=weights)
    close(operator @ vector, running.expected("hessian") @ vector)


def test_no_feeds_are_one_run(running, vector):
    with running.graph.as_default():
        model = Model(inputs=[tf.constant(array) for array in digits()])
    operators = [
        HessianOperator(running.session, model.loss, model.xs, feeds) for feeds in (None, [{}])
    ]
    for operator in operators:
        close(operator @ vector, running.expected("hessian") @ vector)


@pytest.mark.parametrize("kind", ["hessian", "fisher"])
def test_an_iterator_is_initialized_for_each_pass(kind, vector):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        dataset = tf.data.Dataset.from_tensor_slices(digits()).batch(9)
        iterator = tf.data.make_initializable_iterator(dataset)
        model = Model(inputs=iterator.get_next())
        session.run(tf.global_variables_initializer())
        running = Running(graph, session, model)
        operator = running.operator(kind, iterator, block_size=3)
        for _ in range(2):
            close(operator @ vector, running.expected(kind) @ vector)
        close(operator.to_dense(), running.expected(kind))  # a pass for each block
        if kind == "hessian":
            close(operator.gradient(), reference.gradient(digits(), *running.values))
        total = running.operator(kind, iterator, batch_weights=None, reduction="sum")
        sums = [running.expected(kind, batch) for batch in batches([9, 9, 5])]
        close(total @ vector, sum(sums) @ vector)


# --- One pass, blocks, bits -----------------------------------------------------------------------


class Counting:
    """A session that counts its runs."""

    def __init__(self, session):
        self.graph, self.runs, self._run = session.graph, 0, session.run

    def run(self, *args, **kwargs):
        self.runs += 1
        return self._run(*args, **kwargs)


class Reads:
    """Feeds that count how often they are read."""

    def __init__(self, feeds):
        self.feeds, self.number = feeds, 0

    def __iter__(self):
        self.number += 1
        return iter(self.feeds)


@pytest.mark.parametrize("block_size, runs", [(1, 15), (2, 9), (5, 3), (8, 3)])
def test_blocks_are_one_run_each_in_one_pass_and_the_bits_stay(running, block_size, runs):
    session, feeds = Counting(running.session), Reads(running.feeds)
    model = running.model
    operator = HessianOperator(
        session, model.loss, model.xs, feeds, batch_weights=model.count, block_size=block_size
    )
    assert session.runs == 0
    vectors = np.random.RandomState(1).normal(size=[SIZE, 5])
    products = operator @ vectors
    assert (session.runs, feeds.number, operator.num_products) == (runs, 1, 5)
    one_by_one = [running.operator("hessian") @ column for column in vectors.T]
    np.testing.assert_array_equal(products, np.transpose(one_by_one))


def test_no_product_adds_an_op_also_in_a_finalized_graph(vector):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        model = Model()
        session.run(tf.global_variables_initializer())
        running = Running(graph, session, model)
        operator = running.operator("hessian", block_size=2)
        part = operator.submatrix("dense/bias")
        graph.finalize()
        number = len(graph.get_operations())
        operator @ vector
        operator.to_dense()
        operator.gradient()
        operator.loss()
        part.to_dense()
        assert len(graph.get_operations()) == number


def test_a_product_counts_variables_with_the_values_of_its_time(vector):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        model = Model(resource=False)
        change = tf.assign(model.bias, model.bias + 1.5 * tf.range(4, dtype=tf.float64))
        session.run(tf.global_variables_initializer())
        running = Running(graph, session, model)
        operator = running.operator("hessian")
        close(operator @ vector, running.expected("hessian") @ vector)
        session.run(change)
        moved = Running(graph, session, model)
        close(operator @ vector, moved.expected("hessian") @ vector)
        assert np.abs(moved.expected("hessian") - running.expected("hessian")).max() > 1e-3


# --- Damping, parts, loss and gradient ------------------------------------------------------------


def test_damping_is_added_to_the_diagonal_and_may_change(running):
    operator = running.operator("ggn", damping=0.25)
    close(operator.to_dense(), running.expected("ggn") + 0.25 * np.eye(SIZE))
    operator.damping = 0.0
    close(operator.to_dense(), running.expected("ggn"))


@pytest.mark.parametrize(
    "kind",
    [
        "hessian",
        "fisher",
        *(pytest.param(kind, marks=pytest.mark.lengthy) for kind in ("ggn", "empirical_fisher")),
    ],
)
def test_a_submatrix_is_a_block_of_the_same_kind(running, kind):
    operator = running.operator(kind, damping=0.5)
    part = operator.submatrix("dense/bias")
    assert type(part) is type(operator) and part.parameters.names == ["dense/bias"]
    close(part.to_dense(), running.expected(kind)[24:, 24:] + 0.5 * np.eye(4))
    assert (part.num_products, operator.num_products) == (4, 0)
    assert operator.submatrix("dense").parameters.names == operator.parameters.names


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_loss_and_gradient_are_those_of_all_data(running, kind):
    operator = running.operator(kind)
    close(operator.gradient(), reference.gradient(digits(), *running.values))
    close(operator.loss(), reference.loss(digits(), *running.values))


def test_partitioned_and_embedding_variables(vector):
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.get_variable(
            "table",
            [7, 2],
            tf.float64,
            initializer=tf.initializers.random_normal(seed=1, dtype=tf.float64),
            partitioner=tf.fixed_size_partitioner(2),
        )
        ids = tf.placeholder(tf.int64, [None], "ids")
        rows = tf.nn.embedding_lookup(table, ids, partition_strategy="div")
        loss = tf.reduce_mean(tf.reduce_sum(rows**4, axis=1))
        session.run(tf.global_variables_initializer())
        operator = HessianOperator(session, loss, table, [{ids: [0, 1, 1]}, {ids: [6]}])
        values = session.run(tf.convert_to_tensor(table))
        # Of x^4 the second derivative is 12 x^2, of each row as often as it is looked up.
        counts = np.array([1, 2, 0, 0, 0, 0, 1])[:, np.newaxis]
        expected = np.diag(np.ravel(12 * values**2 * counts / 4))
        close(operator.to_dense(), expected)
        assert operator.parameters.layers() == {"table": ["table/part_0", "table/part_1"]}


# --- SciPy ----------------------------------------------------------------------------------------


def test_it_is_a_scipy_operator(running, vector):
    operator, dense = running.operator("hessian"), running.expected("hessian")
    assert isinstance(operator, scipy.sparse.linalg.LinearOperator)
    assert (operator.shape, operator.dtype) == ((SIZE, SIZE), np.float64)
    matrix = np.stack([vector, -vector, vector**2], axis=1)
    for product, expected in (
        (operator @ vector, dense @ vector),
        (operator.matvec(vector[:, np.newaxis]), dense @ vector[:, np.newaxis]),
        (operator @ matrix, dense @ matrix),
        (operator @ list(vector), dense @ vector),
        (operator.T @ vector, dense @ vector),
        (operator.H @ matrix, dense @ matrix),
        (operator.rmatvec(vector), dense @ vector),
        ((2 * operator + operator) @ vector, 3 * dense @ vector),
        (
            (operator + scipy.sparse.linalg.aslinearoperator(np.eye(SIZE))) @ vector,
            dense @ vector + vector,
        ),
        ((operator @ operator) @ vector, dense @ (dense @ vector)),
        (operator @ vector.astype(np.float32), dense @ vector.astype(np.float32)),
    ):
        assert product.dtype == np.float64
        close(product, expected)


def test_eigenvalues_and_linear_systems(running, vector):
    dense = running.expected("ggn")
    values = scipy.sparse.linalg.eigsh(
        running.operator("ggn"), k=3, which="LM", return_eigenvectors=False
    )
    close(np.sort(values), np.linalg.eigvalsh(dense)[-3:], 1e-10)
    solution, failed = scipy.sparse.linalg.cg(
        running.operator("ggn", damping=0.1), vector, maxiter=200, atol=0.0
    )
    assert not failed
    close(solution, np.linalg.solve(dense + 0.1 * np.eye(SIZE), vector), 1e-4)


def test_float32_models_add_up_in_float64(vector):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        model = Model(dtype=tf.float32)
        session.run(tf.global_variables_initializer())
        running = Running(graph, session, model)
        product = running.operator("hessian") @ vector
        assert product.dtype == np.float64
        close(product, running.expected("hessian") @ vector, 1e-5)


# --- What is shown --------------------------------------------------------------------------------


def test_a_bar_is_shown_when_asked_for_and_not_off_a_terminal(running, vector, capsys):
    for progress, shown in ((None, False), (False, False), (True, True)):
        running.operator("ggn", progress=progress) @ vector
        assert ("GGNOperator" in capsys.readouterr().err) == shown


def test_repr_says_what_it_is(running):
    assert repr(running.operator("ggn")) == "<GGNOperator of 28 parameters in 2 variables>"
