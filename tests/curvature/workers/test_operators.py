"""Operators whose passes run on workers, in processes of their own: the bits of those without."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature.workers.network import KINDS, SIZES, looked_up, network, same, vectors
from tests.support import clusters
from tf1xent.curvature import HessianOperator, influence, top_eigenvalues, trace

NUM_WORKERS = 2


@pytest.fixture(scope="module")
def targets():
    with clusters.started_apart(NUM_WORKERS) as cluster:
        yield cluster.targets


@pytest.fixture(scope="module")
def running():
    with network() as made:
        yield made


class Pair:
    """The same operator on workers and without; `feeds` may be set before each pass."""

    def __init__(self, network, targets, kind="hessian", **options):
        def feeds():
            return self.feeds

        self.feeds = network.feeds
        self.on_workers = network.operator(kind, targets, feeds=feeds, **options)
        self.alone = network.operator(kind, feeds=feeds, **options)

    def agree(self, compute):
        same(compute(self.on_workers), compute(self.alone))


@pytest.fixture(scope="module")
def hessians(running, targets):
    return Pair(running, targets)


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "ggn" else pytest.param(kind, marks=pytest.mark.exhaustive) for kind in KINDS],
)
def test_products_are_the_same_bits(running, targets, kind):
    pair = Pair(running, targets, kind, block_size=2, damping=0.5)
    pair.agree(lambda operator: operator @ vectors(5))
    if kind == "ggn":
        pair.agree(lambda operator: operator.loss())
        pair.agree(lambda operator: operator.gradient())
        pair.agree(lambda operator: influences(running, operator, running.loss))
        pair.agree(lambda operator: influences(running, operator, running.losses))


def influences(network, operator, test_losses):
    """Return the influence of all points on a test loss or on some."""
    weights = network.count if test_losses is network.loss else None
    return influence(
        network.session,
        test_losses,
        network.losses,
        operator,
        network.feeds[1:3],
        network.feeds,
        test_weights=weights,
        tol=1e-3,
    ).values


@pytest.mark.parametrize("weights", [None, [1.0, 0, 2, 0.5, 0, 3, 1], len, "sum"], ids=str)
def test_weights_and_reductions(hessians, running, weights):
    tensor = running.count
    for operator in (hessians.on_workers, hessians.alone):
        operator._data.weights = None if weights == "sum" else weights
        operator._data.reduction = "sum" if weights == "sum" else "mean"
    hessians.feeds = [{k: v for k, v in f.items() if k is not running.rate} for f in running.feeds]
    try:
        hessians.agree(lambda operator: operator @ vectors())
    finally:
        hessians.feeds = running.feeds
        for operator in (hessians.on_workers, hessians.alone):
            operator._data.weights, operator._data.reduction = tensor, "mean"


@pytest.mark.exhaustive
def test_what_is_made_of_products(hessians):
    hessians.agree(lambda operator: top_eigenvalues(operator, 3).values)
    hessians.agree(lambda operator: trace(operator, 6).value)
    for selection in ("kernel/part_1", "out"):
        hessians.agree(lambda operator, s=selection: operator.submatrix(s).to_dense())
    hessians.agree(lambda operator: operator.gradient())


@pytest.mark.exhaustive
def test_a_log_goes_on_with_workers_and_without(running, targets, hessians, tmp_path):
    for number, some in ((3, targets), (0, None)):
        logged = running.operator(workers=some, log=tmp_path / "log")
        same(logged @ vectors(3), hessians.alone @ vectors(3))
        assert logged.num_products == number


def test_variables_count_with_their_values_at_the_time(running, hessians):
    for changed in (running.xs[0], running.scale, running.average):
        before = hessians.alone @ vectors()
        changed.load(running.session.run(changed) + np.float32(0.25), running.session)
        hessians.agree(lambda operator: operator @ vectors())
        assert (hessians.alone @ vectors() != before).any()


@pytest.mark.lengthy
def test_ops_are_only_added_when_an_operator_is_made(targets):
    with network() as made:
        graph, numbers = made.session.graph, []
        for some in (None, None, targets):
            before = len(graph.get_operations())
            operator = made.operator(workers=some)
            numbers.append(len(graph.get_operations()) - before)
        # The reads of the resource variables: one of these, or on some versions all four.
        assert numbers[0] == numbers[1] <= numbers[2] - 2 <= numbers[0] + 2
        graph.finalize()
        assert np.isfinite(operator @ vectors()).all()


def test_feeds_are_read_only_a_little_ahead(running, targets):
    ahead = []

    class Watched:
        """Notes, when a batch is read, how many were read and not summed."""

        summed = 0

        def __iter__(self):
            for number in range(30):
                ahead.append(number - self.summed)
                yield running.feeds[number % len(SIZES)]

    watched = Watched()
    operator = running.operator(workers=targets, feeds=watched)
    add = operator._data._add

    def counted(*arguments):
        add(*arguments)
        watched.summed += 1

    operator._data._add = counted
    operator.loss()
    assert watched.summed == 30
    assert 1 <= max(ahead) <= 2 * NUM_WORKERS


def test_the_bar_shows_workers(running, targets, capsys):
    operator = running.operator(workers=targets, progress=True)
    operator.loss()
    shown = capsys.readouterr().err
    assert "/7" in shown and re.search("[12] of 2 workers", shown)


# --- Errors ---------------------------------------------------------------------------------------


def changed_batch(network, number, **values):
    feeds = [dict(feed) for feed in network.feeds]
    feeds[number].update((getattr(network, name), value) for name, value in values.items())
    return feeds


SHORT = np.zeros([6, 2], np.float32)
BAD = {
    "shape": lambda n: changed_batch(n, 4, data=SHORT),
    "size": lambda n: changed_batch(n, 1, targets=SHORT),
    "nan": lambda n: changed_batch(n, 2, data=np.full([9, 5], np.nan, np.float32)),
    "two of them": lambda n: [*changed_batch(n, 1, targets=SHORT)[:3], {"no such:0": 1}],
    "no data": lambda n: [*n.feeds[:2], {n.targets: SHORT}],
    "no dict": lambda n: [n.feeds[0], 5],
    "nothing": lambda n: [],
    "key": lambda n: [{**n.feeds[0], "no such:0": 1}],
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_errors_are_those_without_workers(running, hessians, name):
    caught = []
    hessians.feeds = BAD[name](running)
    for operator in (hessians.alone, hessians.on_workers):
        with pytest.raises(Exception) as error:
            operator @ vectors()
        caught.append((type(error.value), re.match(r"[^:]*: [^:,]*", str(error.value)).group()))
    hessians.feeds = running.feeds
    assert caught[0] == caught[1]
    hessians.agree(lambda operator: operator.gradient())  # the workers go on


def test_other_state_is_refused_unless_it_is_fed(targets):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.get_variable("x", [], tf.float64, tf.ones_initializer())
        found, fill = looked_up(3.0, tf.float64)
        session.run([tf.global_variables_initializer(), fill])
        operator = HessianOperator(session, found * x**2, x, None, workers=targets)
        match = r"^HessianOperator: `workers` get .* no other state, .*HashTable.* Feed what it"
        with pytest.raises(ValueError, match=match):
            operator @ [1.0]
        operator = HessianOperator(session, found * x**2, x, [{found: 3.0}], workers=targets)
        assert operator @ [1.0] == [6.0]


def test_an_iterator_of_data_is_refused(targets):
    with tf.Graph().as_default(), tf.Session() as session:
        iterator = tf.data.make_initializable_iterator(tf.data.Dataset.from_tensors(1.0))
        x = tf.get_variable("x", [])
        loss = iterator.get_next() * x**2
        options = {"reduction": "sum", "workers": targets}
        with pytest.raises(ValueError, match="`feeds` must be feed dicts with `workers`"):
            HessianOperator(session, loss, x, iterator, **options)


@pytest.mark.parametrize("timeout", [0, -1, "5", None, True, float("inf")])
def test_a_limit_must_be_seconds(running, targets, timeout):
    with pytest.raises(ValueError, match="`worker_timeout` must be seconds"):
        running.operator(workers=targets, worker_timeout=timeout)


def test_a_session_without_values_and_a_closed_one(targets):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.get_variable("x", [])
        operator = HessianOperator(session, x**2, x, None, workers=targets)
        with pytest.raises(tf.errors.FailedPreconditionError, match="^HessianOperator: batch 0"):
            operator.loss()
        session.close()
        with pytest.raises(RuntimeError, match="`session` must be open, got a closed one"):
            operator.loss()
