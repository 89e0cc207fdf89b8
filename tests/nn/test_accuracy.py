"""The accuracy contract: value, gradient and Hessian entries against the oracle, on rows that
are random and on rows that were made to break formulas; and stock TensorFlow, which must fail."""

import functools

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import cases, tolerances
from tests.support.loss_graph import DENSE_V1, DENSE_V2, SPARSE, LossGraph
from tests.support.tolerances import (
    assert_rounded_once,
    assert_within_contract,
    errors_over_bound,
)
from tf1xent import nn

pytestmark = pytest.mark.lengthy

# How the number of classes is known when the graph is built.
STATIC, UNKNOWN_CLASSES, UNKNOWN_RANK = "static", "unknown classes", "unknown rank"
LABELS_OF_1000 = ("one_hot", "random", "smoothed", "unnormalized")


@functools.lru_cache(maxsize=None)
def _cached_graph(module, name, dtype, static):
    return LossGraph(module, name, dtype, logits_shape=None if static is None else list(static))


def _graph(name, dtype, num_classes, known=STATIC, module=nn):
    static = {
        STATIC: (None, num_classes),
        UNKNOWN_CLASSES: (None, None),
        UNKNOWN_RANK: None,
    }[known]
    return _cached_graph(module, name, dtype, static)


def _rows(dtype, num_classes):
    return cases.rows(num_classes, dtype, num_random=6 if num_classes <= 100 else 3)


@functools.lru_cache(maxsize=None)
def _sparse_case(dtype, num_classes):
    logits, labels = _rows(dtype, num_classes)
    return logits, labels, reference.Reference(logits)


@functools.lru_cache(maxsize=None)
def _dense_case(dtype, num_classes):
    logits, labels = _rows(dtype, num_classes)
    if num_classes <= 10:  # every kind of labels on every row
        logits = np.repeat(logits, len(cases.DENSE_KINDS), axis=0)
        labels = np.repeat(labels, len(cases.DENSE_KINDS), axis=0)
        kinds = cases.DENSE_KINDS
    else:
        kinds = LABELS_OF_1000
    return logits, cases.dense_labels(logits, labels, kinds), reference.Reference(logits)


@functools.lru_cache(maxsize=None)
def _hessian_case(dtype, num_classes, is_sparse):
    """Rows, labels and unit vectors, and the Hessian columns that these pick."""
    logits, labels = (_sparse_case if is_sparse else _dense_case)(dtype, num_classes)[:2]
    # The oracle takes its time. Dense rows come once with each of five kinds of labels, and the
    # Hessian is the same for each but for a factor; 3 and 5 are coprime, so every kind is tested.
    if num_classes > 100 or not is_sparse:
        logits, labels = logits[1::3], labels[1::3]
    logits, labels, vectors = cases.unit_vectors(logits, labels)
    oracle = reference.Reference(logits)
    soft_labels = None if is_sparse else labels
    return logits, labels, vectors, oracle.derivative_product([vectors], soft_labels)


def _marks(num_classes):
    """Numbers of classes next to others run on the newest TensorFlow only."""
    return [] if num_classes in (1, 10, 65) else [pytest.mark.exhaustive]


def _sparse_rows():
    rows = [(num_classes, STATIC) for num_classes in cases.NUM_CLASSES]
    return rows + [(10, UNKNOWN_CLASSES), (65, UNKNOWN_RANK)]


def _sparse_routes():
    return [pytest.param(*row, marks=_marks(row[0])) for row in _sparse_rows()]


def _dense_routes():
    rows = [(DENSE_V2, *row) for row in _sparse_rows()]
    rows += [(DENSE_V1, 10, STATIC), (DENSE_V1, 65, UNKNOWN_RANK)]
    return [pytest.param(*row, marks=_marks(row[1])) for row in rows]


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("num_classes, known", _sparse_routes())
def test_sparse_value_and_gradient(dtype, num_classes, known):
    logits, labels, oracle = _sparse_case(dtype, num_classes)
    graph = _graph(SPARSE, dtype, num_classes, known)
    loss, gradient = graph.run_all([graph.loss, graph.derivative("logits")], logits, labels)
    assert loss.dtype == gradient.dtype == np.dtype(dtype)
    assert_within_contract(loss, oracle.sparse_loss(labels), logits, what="loss")
    assert_within_contract(gradient, oracle.sparse_gradient(labels), logits, what="gradient")


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("name, num_classes, known", _dense_routes())
def test_dense_value_and_gradient(dtype, name, num_classes, known):
    logits, labels, oracle = _dense_case(dtype, num_classes)
    graph = _graph(name, dtype, num_classes, known)
    loss, gradient = graph.run_all([graph.loss, graph.derivative("logits")], logits, labels)
    assert loss.dtype == gradient.dtype == np.dtype(dtype)
    assert_within_contract(loss, oracle.dense_loss(labels), logits, what="loss")
    scale = tolerances.gradient_scale(oracle, labels)
    want = oracle.dense_gradient(labels)
    assert_within_contract(gradient, want, logits, scale, what="gradient")


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("num_classes, known", _sparse_routes())
def test_labels_gradient(dtype, num_classes, known):
    logits, labels, oracle = _dense_case(dtype, num_classes)
    got = _graph(DENSE_V2, dtype, num_classes, known).run(("labels",), logits, labels)
    assert_within_contract(got, oracle.labels_gradient(), logits, what="labels gradient")


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("num_classes, known", _sparse_routes())
def test_sparse_hessian_entries(dtype, num_classes, known):
    logits, labels, vectors, want = _hessian_case(dtype, num_classes, True)
    graph = _graph(SPARSE, dtype, num_classes, known)
    got = graph.run(("logits", "logits"), logits, labels, vectors)
    assert_within_contract(got, want, logits, what="Hessian column")


@pytest.mark.combinations
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("name, num_classes, known", _dense_routes())
def test_dense_hessian_entries(dtype, name, num_classes, known):
    logits, labels, vectors, want = _hessian_case(dtype, num_classes, False)
    graph = _graph(name, dtype, num_classes, known)
    got = graph.run(("logits", "logits"), logits, labels, vectors)
    assert_within_contract(got, want, logits, what="Hessian column")


@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("num_classes", [10, 65])
def test_hessian_products_with_any_vector(dtype, num_classes):
    logits, labels, oracle = _sparse_case(dtype, num_classes)
    vectors = np.random.RandomState(5).normal(size=logits.shape).astype(dtype)
    for shift in (0.0, 64.0):  # H is blind to a shift of v, and so must its accuracy be
        shifted = (vectors + shift).astype(dtype)
        # <p, w> adds up products that may underflow one by one.
        underflow = 4.0 * num_classes
        want, scale = oracle.derivative_product([shifted]), oracle.product_scale([shifted])
        graph = _graph(SPARSE, dtype, num_classes)
        got = graph.run(("logits", "logits"), logits, labels, shifted)
        assert_within_contract(got, want, logits, scale, underflow, "H v, sparse")
        dense, soft, dense_oracle = _dense_case(dtype, num_classes)
        which = np.arange(len(dense)) % len(shifted)
        graph = _graph(DENSE_V2, dtype, num_classes)
        got = graph.run(("logits", "logits"), dense, soft, shifted[which])
        want = dense_oracle.derivative_product([shifted[which]], soft)
        scale = dense_oracle.product_scale([shifted[which]], soft)
        assert_within_contract(got, want, dense, scale, underflow, "H v, dense")


@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
def test_mixed_derivatives(dtype):
    logits, labels, oracle = _dense_case(dtype, 10)
    graph = _graph(DENSE_V2, dtype, 10)
    vectors = np.abs(np.random.RandomState(6).normal(size=logits.shape)).astype(dtype)
    units = np.eye(10, dtype=dtype)[np.arange(len(logits)) % 10]
    for vector in (vectors, units):
        got = graph.run(("labels", "logits"), logits, labels, vector)
        # A masked class adds nothing to the derivative by its label, so neither to this one.
        absent = np.isneginf(logits) & (labels == 0)
        counted = np.where(absent, 0, vector).astype(dtype)
        scale = tolerances.gradient_scale(oracle, counted)
        want = oracle.mixed_product(counted)
        assert_within_contract(got, want, logits, scale, what="labels, logits")

        got = graph.run(("logits", "labels"), logits, labels, vector)
        want = oracle.mixed_product_transposed(vector)
        want[absent] = mpmath.mpf(0)
        largest = np.abs(vector.astype(np.float64)).max(axis=1, keepdims=True)
        scale = reference.exactly(np.broadcast_to(largest, logits.shape))
        assert_within_contract(got, want, logits, scale, what="logits, labels")


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("num_classes", [3, pytest.param(66, marks=pytest.mark.exhaustive)])
def test_tf_hessians(name, dtype, num_classes):
    logits, labels = cases.rows(num_classes, dtype)
    chosen = [0, 12, 21]  # a random row, a confident and right one, a confident and wrong one
    logits, labels = logits[chosen], labels[chosen]
    graph = LossGraph(nn, name, dtype, logits_shape=[len(chosen), num_classes])
    with graph.graph.as_default():
        (hessian,) = tf.hessians(tf.reduce_sum(graph.loss), graph.logits)
    fed = labels if name == SPARSE else cases.dense_labels(logits, labels, ["one_hot"])
    (hessian,) = graph.run_all([hessian], logits, fed)
    assert hessian.shape == logits.shape * 2
    oracle = reference.Reference(logits)
    for j in range(num_classes):
        unit = np.eye(num_classes)[[j] * len(chosen)]
        want = oracle.derivative_product([unit])
        for other in range(len(chosen)):
            column = hessian[:, :, other, j].copy()
            expected = want.copy()
            expected[np.arange(len(chosen)) != other] = mpmath.mpf(0)
            assert_within_contract(column, expected, logits, what="tf.hessians")


@pytest.mark.computes_no_loss
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_stock_tensorflow_fails_the_same_contract(name, dtype):
    """Else the tests above could not fail. Not by a factor of two: by a thousand and more."""
    logits, labels = cases.rows(10, dtype)
    finite = np.all(np.isfinite(logits), axis=1)
    logits, labels = logits[finite], labels[finite]
    oracle = reference.Reference(logits)
    graph = _graph(name, dtype, 10, module=tf.nn)
    fed = labels if name == SPARSE else cases.dense_labels(logits, labels, ["one_hot"])
    loss, gradient = graph.run_all([graph.loss, graph.derivative("logits")], logits, fed)
    assert errors_over_bound(loss, oracle.sparse_loss(labels), logits).max() > 1e3
    assert errors_over_bound(gradient, oracle.sparse_gradient(labels), logits).max() > 1e3


@pytest.mark.parametrize("name", [SPARSE, DENSE_V1, DENSE_V2])
@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
@pytest.mark.parametrize(
    "known", [STATIC, pytest.param(UNKNOWN_RANK, marks=pytest.mark.exhaustive)]
)
def test_low_precision_is_computed_in_float32_and_rounded_once(name, dtype, known):
    low = tf.as_dtype(dtype).as_numpy_dtype
    logits, labels = cases.low_precision_rows(low)
    unit = np.eye(10, dtype=np.float32)[labels]
    graph = _graph(name, dtype, 10, known)
    fed = labels if name == SPARSE else np.eye(10)[labels]
    oracle = reference.Reference(logits)
    assert graph.loss.dtype == dtype
    pairs = [
        (graph.run((), logits, fed), oracle.sparse_loss(labels)),
        (graph.run(("logits",), logits, fed), oracle.sparse_gradient(labels)),
        (graph.run(("logits", "logits"), logits, fed, unit), oracle.derivative_product([unit])),
    ]
    for got, want in pairs:
        assert got.dtype == np.dtype(low)
        assert_rounded_once(got, want, dtype)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("known", [STATIC, UNKNOWN_CLASSES])
@pytest.mark.parametrize("num_classes", [4, 70])
def test_undefined_rows_are_nan_and_alone(name, known, num_classes):
    logits = np.random.RandomState(9).normal(size=(6, num_classes)).astype(np.float32)
    logits[1, 2] = np.nan
    logits[3, 0] = np.inf
    logits[4, 2] = np.nan
    logits[4, 3] = -np.inf
    labels = np.array([0, 1, 2, 0, 3, 3])
    oracle = reference.Reference(logits)
    fed = labels if name == SPARSE else np.eye(num_classes)[labels]
    graph = _graph(name, "float32", num_classes, known)
    vectors = np.ones_like(logits)
    vectors[:, 1] = -2.0
    tensors = [(), ("logits",), ("logits", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in tensors]
    results = graph.run_all(tensors, logits, fed, vectors)
    wants = [
        oracle.sparse_loss(labels),
        oracle.sparse_gradient(labels),
        oracle.derivative_product([vectors]),
    ]
    scales = [None, None, oracle.product_scale([vectors])]
    for got, want, scale in zip(results, wants, scales):
        assert_within_contract(got, want, logits, scale)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("num_classes", [3, 70])
def test_a_masked_label_has_infinite_loss(name, num_classes):
    logits = np.zeros((2, num_classes), np.float32)
    logits[0, 1] = -np.inf
    labels = np.array([1, 1])
    fed = labels if name == SPARSE else np.eye(num_classes)[labels]
    loss = _graph(name, "float32", num_classes).run((), logits, fed)
    assert_within_contract(loss, reference.Reference(logits).sparse_loss(labels), logits)
