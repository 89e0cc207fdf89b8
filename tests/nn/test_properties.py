"""Identities that hold for all logits, and the contract itself, on rows that hypothesis makes up.

The graphs are built once, on placeholders of unknown shape, and fed every example.
"""

import functools

import numpy as np
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import reference
from tests.support import tolerances
from tests.support.loss_graph import DENSE_V2, SPARSE, LossGraph
from tests.support.tolerances import assert_within_contract
from tf1xent import nn

FEW = settings(max_examples=40, deadline=None, derandomize=True)

_ORDINARY = st.floats(-60, 60, width=32)
_EXTREMES = st.sampled_from([0.0, 1.0, -1.0, 1e30, -1e30, 87.0, -103.0, 1e-30, -np.inf])


@functools.lru_cache(maxsize=None)
def _graph(name, dtype="float32", module=nn):
    return LossGraph(module, name, dtype, logits_shape=[None, None])


@st.composite
def _finite_matrices(draw, elements=_ORDINARY, least_classes=1):
    num_rows = draw(st.integers(0, 3))
    num_classes = draw(st.integers(least_classes, 6))
    size = num_rows * num_classes
    values = draw(st.lists(elements, min_size=size, max_size=size))
    return np.array(values, np.float32).reshape(num_rows, num_classes)


@st.composite
def _cases(draw, elements=_ORDINARY, least_classes=1):
    """Logits and labels whose own class is not masked."""
    logits = draw(_finite_matrices(elements, least_classes))
    labels = np.array([draw(st.integers(0, logits.shape[1] - 1)) for _ in logits], np.int64)
    masked = np.isneginf(logits[np.arange(len(labels)), labels])
    logits[np.arange(len(labels))[masked], labels[masked]] = 0.5
    return logits, labels


def _one_hot(logits, labels):
    return np.eye(logits.shape[1])[labels].reshape(logits.shape)


def _both(logits, labels):
    """Each loss, with its labels."""
    return [(_graph(SPARSE), labels), (_graph(DENSE_V2), _one_hot(logits, labels))]


def _vector(logits, seed):
    return np.random.RandomState(seed).normal(size=logits.shape).astype(np.float32)


_MIXED = st.one_of(_ORDINARY, _EXTREMES)


@FEW
@given(_cases(_MIXED))
def test_value_gradient_and_hessian_columns_meet_the_contract(case):
    logits, labels = case
    oracle = reference.Reference(logits)
    for graph, fed in _both(logits, labels):
        assert_within_contract(graph.run((), logits, fed), oracle.sparse_loss(labels), logits)
        got = graph.run(("logits",), logits, fed)
        assert_within_contract(got, oracle.sparse_gradient(labels), logits)
        for column in range(logits.shape[1]):
            unit = np.zeros_like(logits)
            unit[:, column] = 1.0
            got = graph.run(("logits", "logits"), logits, fed, unit)
            assert_within_contract(got, oracle.derivative_product([unit]), logits)


@FEW
@given(_cases(_MIXED), st.integers(0, 2**31 - 1))
def test_dense_loss_and_gradient_meet_the_contract_for_any_labels(case, seed):
    logits, _ = case
    labels = np.random.RandomState(seed).gamma(0.5, size=logits.shape).astype(np.float32)
    labels[np.isneginf(logits)] = 0.0
    oracle = reference.Reference(logits)
    graph = _graph(DENSE_V2)
    # sum_j l_j (t - d_j) adds up products that may underflow one by one, and l_j may be tiny.
    got = graph.run((), logits, labels)
    assert_within_contract(got, oracle.dense_loss(labels), logits, underflow=10.0)
    scale = tolerances.gradient_scale(oracle, labels)
    got = graph.run(("logits",), logits, labels)
    assert_within_contract(got, oracle.dense_gradient(labels), logits, scale, underflow=10.0)


@FEW
@given(_cases(_MIXED))
def test_loss_is_not_negative_and_only_the_labels_gradient_is(case):
    logits, labels = case
    for graph, fed in _both(logits, labels):
        loss, gradient = graph.run_all([graph.loss, graph.derivative("logits")], logits, fed)
        assert np.all(loss >= 0)
        at_label = np.arange(logits.shape[1]) == labels[:, np.newaxis]
        assert np.all(gradient[at_label] <= 0)
        assert np.all(gradient[~at_label] >= 0)
        bound = 2 * tolerances.relative_bound(logits) * np.max(np.abs(gradient), 1, initial=0.0)
        assert np.all(np.abs(np.sum(gradient.astype(np.float64), axis=1)) <= bound + 1e-37)


@FEW
@given(_cases(_MIXED), st.integers(0, 2**31 - 1))
def test_hessian_is_symmetric_positive_and_blind_to_constants(case, seed):
    logits, labels = case
    u, v = _vector(logits, seed), _vector(logits, seed ^ 1)
    ones = np.ones_like(logits)
    for graph, fed in _both(logits, labels):
        products = [
            graph.run(("logits", "logits"), logits, fed, w).astype(np.float64)
            for w in (u, v, ones, 1024 * ones)
        ]
        assert not products[2].any() and not products[3].any()
        # By Cauchy and Schwarz, |u' H v| is at most the root of u' H u times v' H v.
        uu, vv = np.sum(products[0] * u, axis=1), np.sum(products[1] * v, axis=1)
        uv, vu = np.sum(products[1] * u, axis=1), np.sum(products[0] * v, axis=1)
        terms = sum(np.sum(np.abs(h * w), axis=1) for h in products[:2] for w in (u, v))
        slack = 4 * tolerances.relative_bound(logits) * terms + 1e-36
        assert np.all(np.abs(uv - vu) <= slack)
        assert np.all(uu >= -slack) and np.all(vv >= -slack)
        sums = np.abs(np.sum(products[1], axis=1))
        assert np.all(sums <= slack / np.maximum(1e-3, np.abs(u).max(axis=1, initial=1e-3)) + slack)


@FEW
@given(
    _cases(st.integers(-400, 400).map(lambda n: n / 8.0)),
    st.integers(-1000, 1000),
    st.integers(0, 2**31 - 1),
)
def test_a_shift_of_the_logits_changes_nothing(case, shift, seed):
    """Eighths and a whole shift are exact in float32, so the results are, bit for bit."""
    logits, labels = case
    v = _vector(logits, seed)
    for graph, fed in _both(logits, labels):
        for arguments, vectors in ((), ()), (("logits",), ()), (("logits", "logits"), (v,)):
            plain = graph.run(arguments, logits, fed, *vectors)
            shifted = graph.run(arguments, logits + np.float32(shift), fed, *vectors)
            np.testing.assert_array_equal(plain, shifted)


@FEW
@given(_cases(_MIXED, least_classes=2), st.integers(0, 2**31 - 1))
def test_the_order_of_classes_does_not_matter(case, seed):
    logits, labels = case
    order = np.random.RandomState(seed).permutation(logits.shape[1])
    moved = np.argsort(order)[labels] if len(labels) else labels
    bounds = tolerances.relative_bound(logits)[:, np.newaxis]
    graph = _graph(SPARSE)
    plain = graph.run(("logits",), logits, labels)[:, order]
    permuted = graph.run(("logits",), logits[:, order], moved)
    assert np.all(np.abs(plain - permuted) <= 2 * bounds * np.abs(plain) + 1e-37)


@FEW
@given(_cases(_MIXED), st.integers(0, 2), st.sampled_from([np.nan, np.inf]))
def test_an_undefined_row_leaves_the_others_alone(case, which, bad):
    logits, labels = case
    if which >= len(logits):
        return
    spoiled = logits.copy()
    spoiled[which, -1] = bad
    v = _vector(logits, which)
    others = np.arange(len(logits)) != which
    for graph, fed in _both(logits, labels):
        for arguments, vectors in ((), ()), (("logits",), ()), (("logits", "logits"), (v,)):
            clean = graph.run(arguments, logits, fed, *vectors)
            result = graph.run(arguments, spoiled, fed, *vectors)
            np.testing.assert_array_equal(result[others], clean[others])
            assert np.all(np.isnan(result[which]))


@FEW
@given(_cases(st.floats(-3, 3, width=32)), st.integers(0, 2**31 - 1))
def test_finite_differences_in_float64(case, seed):
    logits, labels = case
    point, v = logits.astype(np.float64), _vector(logits, seed).astype(np.float64)
    graph = _graph(SPARSE, "float64")
    slope = reference.central_difference(lambda x: graph.run((), x, labels), point, v)
    exact = np.sum(graph.run(("logits",), point, labels) * v, axis=1)
    np.testing.assert_allclose(exact, slope, rtol=1e-6, atol=1e-8)
    gradient = functools.partial(graph.run, ("logits",))
    slope = reference.central_difference(lambda x: gradient(x, labels), point, v)
    exact = graph.run(("logits", "logits"), point, labels, v)
    np.testing.assert_allclose(exact, slope, rtol=1e-6, atol=1e-8)


def test_stock_tensorflow_fails_the_contract_on_such_rows():
    """Hypothesis draws rows on which the fused op returns 0 for a loss that is not."""
    logits = np.array([[87.0, 0.0, 1.0]], np.float32)
    oracle = reference.Reference(logits)
    loss = _graph(SPARSE, module=tf.nn).run((), logits, [0])
    assert tolerances.errors_over_bound(loss, oracle.sparse_loss([0]), logits)[0] > 1e3
