"""The oracle of curvature against mpmath's differentiation, and against matrices known by heart."""

import mpmath
import numpy as np
import pytest

from tests.oracle import curvature_reference as reference

RANDOM = np.random.RandomState(5)
POINT = RANDOM.uniform(0.2, 0.9, size=3)


def two_ways(x, y, z):
    """The same function of jets and of mpmath numbers."""
    if isinstance(x, reference.Jet):
        exp, log, tanh = reference.exp, reference.log, reference.tanh
    else:
        exp, log, tanh = mpmath.exp, mpmath.log, mpmath.tanh
    return tanh(x * y) * exp(-z) + log(1 + x * x) * (1 - y) ** 2.5 - (2 - z) ** 3 * y + 3 * z


def test_derivatives_are_those_of_numerical_differentiation():
    x, y, z = reference.variables(list(POINT))
    jet = two_ways(x, y, z)
    point = tuple(map(float, POINT))
    for i in range(3):
        orders = [int(k == i) for k in range(3)]
        assert jet.first[i] == pytest.approx(float(mpmath.diff(two_ways, point, orders)), rel=1e-9)
        for j in range(3):
            both = tuple(orders[k] + int(k == j) for k in range(3))
            assert jet.second[i, j] == pytest.approx(
                float(mpmath.diff(two_ways, point, both)), rel=1e-9
            )


def test_matrices_sums_and_parts():
    a, b = RANDOM.normal(size=(2, 3)), RANDOM.normal(size=(3, 2))
    left, right = reference.variables([a, b])
    product = (left @ right).reshape(4)
    np.testing.assert_allclose(product.value.reshape(2, 2), a @ b, rtol=1e-14)
    trace = product[0] + product[3]
    # The trace of A B has the gradient (B^T, A^T), and the Hessian that pairs a_ij with b_ji.
    np.testing.assert_allclose(trace.first, np.concatenate([b.T.ravel(), a.T.ravel()]), rtol=1e-14)
    pairing = np.zeros((12, 12))
    for i in range(2):
        for j in range(3):
            pairing[3 * i + j, 6 + 2 * j + i] = pairing[6 + 2 * j + i, 3 * i + j] = 1
    np.testing.assert_array_equal(trace.second, pairing)
    halves = reference.concatenated(reference.variables([a[:1], a[1:]]))
    (whole,) = reference.variables([a])
    for part in ("value", "first", "second"):
        np.testing.assert_array_equal(getattr(halves, part), getattr(whole, part))


def test_the_hessian_of_cross_entropy_in_the_logits():
    logits = RANDOM.normal(size=(2, 4))
    targets = RANDOM.dirichlet(np.ones(4), size=2)
    (jet,) = reference.variables([logits])
    loss = reference.cross_entropy(jet, targets, weights=np.array([1.0, 3.0])).sum(0)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.zeros((8, 8))
    for row, weight in enumerate([1.0, 3.0]):
        block = weight * (np.diag(p[row]) - np.outer(p[row], p[row]))
        expected[4 * row : 4 * row + 4, 4 * row : 4 * row + 4] = block
    np.testing.assert_allclose(loss.second, expected, atol=1e-14)
    np.testing.assert_allclose(
        loss.first.reshape(2, 4), (p - targets) * [[1], [3]], rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        reference.fisher(jet, "categorical", [1.0, 3.0]), expected, atol=1e-14
    )


def test_the_fisher_information_of_other_distributions():
    outputs = RANDOM.normal(size=(2, 3))
    (jet,) = reference.variables([outputs])
    p = 1 / (1 + np.exp(-outputs.ravel()))
    weights = np.array([0.5, 2.0])
    expected = np.diag(np.repeat(weights, 3) * p * (1 - p))
    np.testing.assert_allclose(reference.fisher(jet, "bernoulli", weights), expected, atol=1e-14)
    expected = np.diag(np.repeat(weights, 3))
    np.testing.assert_allclose(reference.fisher(jet, "normal", weights), expected, atol=1e-14)
