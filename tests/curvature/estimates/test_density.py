"""The density of the eigenvalues, and the Lanczos quadrature behind it."""

import json

import numpy as np
import pytest

from tests.curvature.matrices import Counted, symmetric
from tests.curvature.numpy_network import trained_on_digits
from tf1xent.curvature.estimates.lanczos import lanczos
from tf1xent.curvature.estimates.spectral_density import spectral_density
from tf1xent.curvature.estimates.symmetric import SymmetricMatrix

# A few large eigenvalues over a bulk, as of a trained network.
SPECTRUM = np.concatenate([[100.0, 60.0, 30.0], np.linspace(-0.5, 1, 297)])


def run(matrix, start, num_steps):
    return lanczos(SymmetricMatrix("lanczos", matrix), start, num_steps)


def without_reorthogonalization(matrix, vector, num_steps):
    """Return the nodes of the plain three-term recursion."""
    before, beta, alphas, betas = 0 * vector, 0.0, [], []
    vector = vector / np.linalg.norm(vector)
    for _ in range(num_steps):
        product = matrix @ vector - beta * before
        alphas.append(vector @ product)
        product = product - alphas[-1] * vector
        beta = np.linalg.norm(product)
        betas.append(beta)
        before, vector = vector, product / beta
    return np.linalg.eigvalsh(np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1))


def test_quadrature_is_exact_for_polynomials():
    matrix, start = symmetric(np.linspace(-1, 2, 30)), np.random.RandomState(1).normal(size=30)
    nodes, weights = run(matrix, start, 5).quadrature()
    unit = start / np.linalg.norm(start)
    for power in range(10):
        expected = unit @ np.linalg.matrix_power(matrix, power) @ unit
        assert weights @ nodes**power == pytest.approx(expected, rel=1e-10)
    power = 10
    expected = unit @ np.linalg.matrix_power(matrix, power) @ unit
    assert weights @ nodes**power != pytest.approx(expected, rel=1e-6)


def test_a_node_of_ones_choice():
    matrix, start = symmetric(np.linspace(0.1, 2, 30)), np.random.RandomState(1).normal(size=30)
    nodes, weights = run(matrix, start, 5).with_node(-0.25).quadrature()
    assert nodes[0] == pytest.approx(-0.25, abs=1e-12) and len(nodes) == 6
    unit = start / np.linalg.norm(start)
    for power in range(11):
        expected = unit @ np.linalg.matrix_power(matrix, power) @ unit
        assert weights @ nodes**power == pytest.approx(expected, rel=1e-10)


def test_no_copies_of_the_largest_eigenvalues():
    matrix, start = np.diag(SPECTRUM), np.random.RandomState(1).normal(size=300)
    plain = without_reorthogonalization(matrix, start, 80)
    assert np.sum(np.abs(plain - 100) < 1e-3) > 1
    nodes, _ = run(matrix, start, 80).quadrature()
    for eigenvalue in SPECTRUM[:3]:
        assert np.sum(np.abs(nodes - eigenvalue) < 1e-3) == 1


@pytest.mark.parametrize(
    "eigenvalues",
    [[0.0], [3.0] * 40, [0.0] * 40, [1.0] * 20 + [-2.0] * 20, [5.0, 1.0] + [0.0] * 38, [1e-30] * 9],
    ids=str,
)
def test_the_iteration_ends_where_the_krylov_space_does(eigenvalues):
    operator = Counted(np.array(eigenvalues))
    found = spectral_density(operator, num_steps=30, num_vectors=3)
    distinct = np.unique(eigenvalues)
    assert operator.count == found.num_products == 3 * len(distinct)
    for nodes, weights in zip(found.nodes, found.weights):
        np.testing.assert_allclose(nodes, distinct, atol=1e-12 * abs(distinct).max())
        assert weights.sum() == pytest.approx(1)
    assert np.isfinite(found.density).all()
    assert found.density @ np.gradient(found.grid) == pytest.approx(1, rel=1e-3)


def test_steps_end_at_the_size():
    matrix = symmetric(np.linspace(0, 1, 10))
    found = spectral_density(matrix, num_steps=80)
    np.testing.assert_allclose(found.nodes[0], np.linspace(0, 1, 10), atol=1e-12)
    assert found.num_products == 10


def test_the_density_is_that_of_all_eigenvalues():
    found = spectral_density(np.diag(SPECTRUM), num_steps=40, num_vectors=60, sigma=0.1)
    differences = (found.grid[:, None] - SPECTRUM) / 0.1
    expected = np.exp(-0.5 * differences**2).mean(1) / (0.1 * np.sqrt(2 * np.pi))
    step = found.grid[1] - found.grid[0]
    assert np.abs(found.density - expected).sum() * step < 0.05
    assert found.density.sum() * step == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("num_vectors, share", [(1, 0.85), (10, 0.95)])
def test_moments_are_within_their_errors(num_vectors, share):
    held = []
    for seed in range(50):
        found = spectral_density(np.diag(SPECTRUM), num_steps=8, num_vectors=num_vectors, seed=seed)
        for power in (1, 2):
            difference = abs(found.moments[power - 1] - np.mean(SPECTRUM**power))
            held.append(difference < 3 * found.moment_errors[power - 1])
    assert np.mean(held) >= share


def test_the_error_of_a_moment_is_the_spread_over_seeds():
    found = [spectral_density(np.diag(SPECTRUM), num_steps=5, seed=seed) for seed in range(300)]
    spread = np.std([density.moments for density in found], axis=0)
    stated = np.sqrt(np.mean(np.square([density.moment_errors for density in found]), axis=0))
    np.testing.assert_allclose(stated, spread, rtol=0.25)


@pytest.mark.exhaustive
@pytest.mark.parametrize("matrix, num_vectors", [("hessian", 4), ("ggn", 10)])
def test_moments_of_a_trained_network(matrix, num_vectors):
    """The first two, in at least nine of ten of 100 seeds within two standard errors."""
    _, _, hessian, ggn = trained_on_digits()
    matrix = hessian if matrix == "hessian" else ggn
    expected = [np.trace(matrix), np.sum(matrix**2)]
    held = []
    for seed in range(100):
        found = spectral_density(matrix, num_steps=6, num_vectors=num_vectors, seed=seed)
        errors = np.abs(found.moments - np.array(expected) / len(matrix))
        held.append(errors <= 2 * np.array(found.moment_errors))
    assert (np.mean(held, axis=0) >= 0.9).all()


def test_grid_and_sigma():
    matrix = np.diag(SPECTRUM)
    found = spectral_density(matrix, num_steps=20)
    assert found.sigma == pytest.approx((found.nodes[0][-1] - found.nodes[0][0]) / 100)
    assert len(found.grid) == 1001 and found.grid[0] < -0.5 and found.grid[-1] > 100
    assert len(spectral_density(matrix, num_steps=20, grid=50).grid) == 50
    points = np.array([0.0, 1.0])
    given = spectral_density(matrix, num_steps=20, grid=points, sigma=2.0)
    assert given.grid.tolist() == [0.0, 1.0] and given.sigma == 2.0


@pytest.mark.parametrize("name", ["num_steps", "num_vectors", "sigma"])
def test_bad_input(name):
    with pytest.raises(ValueError, match=f"^spectral_density: `{name}` must be .*, got 0"):
        spectral_density(np.eye(3), **{name: 0})


def test_json():
    found = spectral_density(np.diag([1.0, 2.0]), grid=3)
    written = json.loads(json.dumps(found.to_dict()))
    assert written["nodes"] == [pytest.approx([1.0, 2.0])]
    assert len(written["grid"]) == len(written["density"]) == 3
    assert written["size"] == 2
