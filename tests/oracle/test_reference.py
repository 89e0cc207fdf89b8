"""The oracle against three things that share nothing with it: mpmath's own differentiation of
the loss, finite differences, and stock TensorFlow in float64 where that is accurate."""

import ast
import functools

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import cases, loss_graph, tolerances
from tests.support.loss_graph import DENSE_V2, SPARSE, LossGraph

# Confident, wrong, tied and near-tied, but all within what float64 represents well.
LOGITS = np.array(
    [
        [0.3, -1.2, 2.0, 0.1],
        [30.0, 0.0, 1.0, -2.0],
        [1.5, 1.5, 1.5, 1.5],
        [-3.0, 4.0, 4.0, -60.0],
    ]
)
LABELS = np.array([2, 0, 3, 0])
SOFT_LABELS = np.array(
    [[0.1, 0.2, 0.3, 0.4], [0.9, 0.0, 0.1, 0.0], [0.5, 0.7, 0.0, 0.3], [0.0, 0.0, 0.0, 0.0]]
)
VECTORS = np.random.RandomState(3).normal(size=(4,) + LOGITS.shape)


def _close(got, want, relative=1e-30):
    """Whether mpmath numbers agree; mpmath differentiates to about half of its digits."""
    return abs(got - want) <= relative * max(abs(want), mpmath.mpf(10) ** -30)


def _functions(row):
    sparse = functools.partial(reference.sparse_loss_of, label=int(LABELS[row]))
    labels = [mpmath.mpf(float(x)) for x in SOFT_LABELS[row]]
    return sparse, functools.partial(reference.dense_loss_of, labels=labels)


@pytest.mark.exhaustive
@pytest.mark.parametrize("row", range(len(LOGITS)))
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_derivatives_are_those_of_the_loss_by_numerical_differentiation(row, order):
    oracle = reference.Reference(LOGITS)
    sparse, dense = _functions(row)
    directions = list(VECTORS[: max(0, order - 1)])
    for loss, labels in ((sparse, LABELS), (dense, SOFT_LABELS)):
        is_sparse = loss is sparse
        if order == 0:
            value = oracle.sparse_loss(labels) if is_sparse else oracle.dense_loss(labels)
            assert _close(reference.directional_derivative(loss, LOGITS[row], []), value[row])
            continue
        if order == 1:
            known = oracle.sparse_gradient(labels) if is_sparse else oracle.dense_gradient(labels)
        else:
            known = oracle.derivative_product(directions, None if is_sparse else labels)
        for j, unit in enumerate(np.eye(4)):
            along = [direction[row] for direction in directions] + [unit]
            want = reference.directional_derivative(loss, LOGITS[row], along, digits=90)
            assert _close(known[row, j], want, 1e-20), (is_sparse, row, j)


def test_derivatives_by_labels_are_those_of_the_loss():
    oracle = reference.Reference(LOGITS)
    v = VECTORS[0]
    for row, logits in enumerate(LOGITS):
        for i, unit in enumerate(np.eye(4)):

            def loss(joint):
                return reference.dense_loss_of(joint[:4], joint[4:])

            point = np.concatenate([logits, SOFT_LABELS[row]])
            by_label = np.concatenate([np.zeros(4), unit])
            by_logits = np.concatenate([v[row], np.zeros(4)])
            first = reference.directional_derivative(loss, point, [by_label])
            assert _close(oracle.labels_gradient()[row, i], first, 1e-20)
            mixed = reference.directional_derivative(loss, point, [by_label, by_logits])
            assert _close(oracle.mixed_product_transposed(v)[row, i], mixed, 1e-20)
            product = oracle.mixed_product(np.tile(unit, (4, 1)))[row]
            with mpmath.workdps(60):
                along = mpmath.fdot(reference.exactly(v[row]), product)
            assert _close(along, mixed, 1e-20)


def test_hessian_products_add_up_to_their_definition():
    oracle = reference.Reference(LOGITS)
    p = oracle.probabilities()
    for j, unit in enumerate(np.eye(4)):
        column = oracle.derivative_product([np.tile(unit, (4, 1))])
        for row, i in np.ndindex(4, 4):
            want = p[row, i] * ((1 if i == j else 0) - p[row, j])
            assert _close(column[row, i], want, 1e-14)


def test_finite_differences_agree():
    oracle = reference.Reference(LOGITS)

    def value(logits):
        return reference.Reference(logits).sparse_loss(LABELS).astype(np.float64)

    def gradient(logits):
        return reference.Reference(logits).sparse_gradient(LABELS).astype(np.float64)

    v = VECTORS[0]
    slope = np.sum(oracle.sparse_gradient(LABELS).astype(np.float64) * v, axis=1)
    np.testing.assert_allclose(
        reference.central_difference(value, LOGITS, v), slope, rtol=1e-8, atol=1e-9
    )
    np.testing.assert_allclose(
        reference.central_difference(gradient, LOGITS, v),
        oracle.derivative_product([v]).astype(np.float64),
        rtol=1e-8,
        atol=1e-9,
    )


def test_stock_tensorflow_agrees_where_it_is_accurate():
    logits, labels = LOGITS[[0, 2]], LABELS[[0, 2]]
    soft = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.5, 0.0]])
    oracle = reference.Reference(logits)
    sparse = LossGraph(tf.nn, SPARSE, "float64", logits_shape=[None, 4])
    dense = LossGraph(tf.nn, DENSE_V2, "float64", logits_shape=[None, 4])
    v = VECTORS[0, :2]
    pairs = [
        (sparse.run((), logits, labels), oracle.sparse_loss(labels)),
        (sparse.run(("logits",), logits, labels), oracle.sparse_gradient(labels)),
        (dense.run((), logits, soft), oracle.dense_loss(soft)),
        (dense.run(("logits",), logits, soft), oracle.dense_gradient(soft)),
        (dense.run(("labels",), logits, soft), oracle.labels_gradient()),
        (dense.run(("logits", "logits"), logits, soft, v), oracle.derivative_product([v], soft)),
    ]
    for got, want in pairs:
        np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-13, atol=1e-15)


def test_masked_and_undefined_rows():
    inf, nan = np.inf, np.nan
    logits = np.array([[0.0, -inf, 1.0], [0.0, nan, 1.0], [0.0, inf, 1.0], [0.5, 0.5, 0.5]])
    oracle = reference.Reference(logits)
    open_row = reference.Reference(np.array([[0.0, 1.0]]))
    unit = np.tile([1.0, 2.0, 3.0], (4, 1))
    assert oracle.sparse_loss([0, 0, 0, 0])[0] == open_row.sparse_loss([0])[0]
    assert oracle.sparse_loss([1, 0, 0, 0])[0] == mpmath.inf
    assert oracle.sparse_gradient([0, 0, 0, 0])[0, 1] == 0
    assert oracle.derivative_product([unit])[0, 1] == 0
    assert oracle.dense_loss(np.array([[0.5, 0.0, 0.5]] * 4))[0] != mpmath.inf
    assert oracle.dense_loss(np.array([[0.5, 0.1, 0.4]] * 4))[0] == mpmath.inf
    for row, defined in enumerate([True, False, False, True]):
        assert mpmath.isnan(oracle.sparse_loss([0] * 4)[row]) != defined
        assert all(mpmath.isnan(h) != defined for h in oracle.derivative_product([unit])[row])


def test_one_class_and_zero_rows():
    one = reference.Reference(np.array([[3.0], [-1e30]]))
    assert list(one.sparse_loss([0, 0])) == [0, 0]
    assert list(one.sparse_gradient([0, 0]).ravel()) == [0, 0]
    none = reference.Reference(np.zeros((0, 3), np.float32))
    assert none.sparse_gradient([]).shape == (0, 3)


@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
def test_the_smallest_gradients_keep_their_digits(dtype):
    """1 - p of a confident row is a geometric series in exp(-margin), down to the last normal."""
    margin = 80.0 if dtype == "float32" else 700.0
    logits = np.array([[margin, 0.0]], dtype)
    with mpmath.workdps(700):
        q = mpmath.exp(-mpmath.mpf(margin))
        want = -q / (1 + q)
        got = reference.Reference(logits).sparse_gradient([0])[0, 0]
        assert abs(got / want - 1) < mpmath.mpf(10) ** -50


@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
def test_the_contract_passes_rounding_and_fails_absolute_accuracy(dtype):
    logits, labels = cases.rows(10, dtype)
    want = reference.Reference(logits).sparse_gradient(labels)
    rounded = want.astype(np.float64).astype(dtype)
    assert tolerances.errors_over_bound(rounded, want, logits).max() < 0.1
    off = rounded + np.asarray(1e-7, dtype)
    assert tolerances.errors_over_bound(off, want, logits).max() > 1e6
    with pytest.raises(AssertionError, match="miss the accuracy contract"):
        tolerances.assert_within_contract(off, want, logits)


def test_the_contract_wants_infinity_and_nan_where_they_are_true():
    logits = np.zeros((4, 2))
    want = np.array([mpmath.inf, mpmath.nan, mpmath.mpf(1), mpmath.mpf(10) ** 400])
    right = np.array([np.inf, np.nan, 1.0, np.inf])
    assert tolerances.errors_over_bound(right, want, logits).max() == 0.0
    wrong = np.array([np.nan, np.inf, np.nan, -np.inf])
    assert np.all(tolerances.errors_over_bound(wrong, want, logits) == np.inf)


@pytest.mark.parametrize("module", [reference, tolerances, cases])
def test_the_foundation_imports_neither_the_library_nor_tensorflow(module):
    with open(module.__file__) as source:
        tree = ast.parse(source.read())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= {"collections", "mpmath", "numpy"}


def test_every_shape_admits_what_is_fed():
    for shape in cases.SHAPES:
        assert tf.TensorShape(shape.static).is_compatible_with(shape.concrete), shape.name
        labels = loss_graph.labels_shape(SPARSE, shape.static)
        assert tf.TensorShape(labels).is_compatible_with(shape.concrete[:-1]), shape.name
