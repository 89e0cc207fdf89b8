"""Effective dimensions against those of dense matrices."""

import json

import numpy as np
import pytest

from tests.curvature.matrices import Counted, symmetric
from tests.curvature.numpy_network import trained_on_digits
from tf1xent.curvature.estimates.effective_dimension import effective_dimension

SPECTRUM = 100.0 / np.arange(1.0, 401) ** 2


def of(eigenvalues, damping):
    return np.sum(eigenvalues / (eigenvalues + damping))


@pytest.mark.parametrize("size", [1, 30, 200])
def test_a_small_matrix_is_exact(size):
    operator = Counted(SPECTRUM[:size])
    found = effective_dimension(operator, 0.5)
    assert found.value == pytest.approx(of(SPECTRUM[:size], 0.5), rel=1e-12)
    assert found.standard_error == found.quadrature_error == 0.0
    assert found.num_products == operator.count == size


@pytest.mark.parametrize("damping", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("num_products", [40, 120])
def test_intervals_hold_it(damping, num_products):
    matrix, held = symmetric(SPECTRUM), []
    for seed in range(20):
        found = effective_dimension(matrix, damping, num_products=num_products, seed=seed)
        held.append(found.interval[0] <= of(SPECTRUM, damping) <= found.interval[1])
        assert found.num_products == num_products
    assert np.mean(held) >= 0.8


def test_steps_bound_the_value_from_both_sides():
    """One vector and its exact value: too few steps are what is wrong, and they say so."""
    errors = []
    for num_products in (20, 40, 100, 300):
        found = effective_dimension(Counted(SPECTRUM), 1e-2, num_products=num_products, seed=5)
        errors.append(found.quadrature_error)
    assert errors[0] > errors[1] > errors[2] > errors[3] and errors[3] < 1e-3
    exact = effective_dimension(Counted(SPECTRUM), 1e-2, num_products=390 * 10, num_vectors=10)
    assert exact.quadrature_error == 0.0


def test_a_matrix_of_low_rank():
    operator = Counted(np.concatenate([[4.0, 1.0], np.zeros(398)]))
    found = effective_dimension(operator, 1.0)
    # Three steps: that many different eigenvalues.
    assert found.quadrature_error < 1e-10 and found.num_products == 30
    assert found.interval[0] <= 1.3 <= found.interval[1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("damping", [1e-5, 1e-4])
def test_a_trained_network(damping):
    _, _, _, ggn = trained_on_digits()
    expected = of(np.linalg.eigvalsh(ggn), damping)
    found = [effective_dimension(ggn, damping, seed=seed) for seed in range(40)]
    held = [e.interval[0] <= expected <= e.interval[1] for e in found]
    assert 0.9 <= np.mean(held)


@pytest.mark.parametrize("size", [50, 400])
def test_negative_eigenvalues_are_refused(size):
    diagonal = np.linspace(1, 0, size)
    diagonal[-1] = -0.1
    with pytest.raises(ValueError, match="must have no negative eigenvalue, got about -0.1.*GGN"):
        effective_dimension(np.diag(diagonal), 1.0)
    # The rounding of float32 is let through.
    diagonal[-1] = -1e-7
    assert np.isfinite(effective_dimension(np.diag(diagonal), 1e-3).value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"damping": 0}, "`damping` must be positive, got 0"),
        ({"damping": 1, "num_vectors": 1}, "`num_vectors` must be from 2 to `num_products`"),
        ({"damping": 1, "num_products": 5}, "`num_vectors` must be from 2 to `num_products`"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match="^effective_dimension: " + message):
        effective_dimension(np.eye(3), **arguments)


def test_json():
    found = effective_dimension(np.diag([1.0, 3.0]), 1.0)
    assert json.loads(json.dumps(found.to_dict()))["value"] == 1.25
