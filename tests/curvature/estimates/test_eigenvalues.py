"""The largest eigenvalues: against dense ones, in degenerate cases, and when they do not come."""

import json

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import tensorflow.compat.v1 as tf
from scipy.sparse.linalg import aslinearoperator

from tests.curvature.matrices import Counted, symmetric
from tests.curvature.numpy_network import Network, digits, trained_on_digits
from tests.curvature.tensorflow_network import Graph
from tf1xent.curvature import HessianOperator
from tf1xent.curvature.estimates.eigenvalues import top_eigenvalues
from tf1xent.errors import ConvergenceError

SPECTRUM = np.concatenate([[5.0, -4.0, 3.0, -2.5, 2.0], np.linspace(-1, 1, 195)])


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(
    "kind", [np.asarray, np.ndarray.tolist, scipy.sparse.csr_matrix, aslinearoperator]
)
def test_the_largest_come_first_whatever_their_sign(k, kind):
    found = top_eigenvalues(kind(symmetric(SPECTRUM)), k, tol=1e-8)
    np.testing.assert_allclose(found.values, SPECTRUM[:k], rtol=1e-10)
    assert found.vectors is None and found.residuals is None


@pytest.mark.parametrize("size, k", [(1, 1), (5, 5), (28, 1), (30, 29), (200, 120), (200, 4)])
def test_any_number_of_them_up_to_all(size, k):
    matrix = symmetric(np.linspace(-0.7, 1, size) ** 3)
    expected = np.linalg.eigvalsh(matrix)
    expected = expected[np.argsort(-np.abs(expected))][:k]
    found = top_eigenvalues(matrix, k, tol=0, vectors=True)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-10)
    assert found.residuals.max() < 1e-10


def test_residuals_are_those_of_the_vectors():
    matrix = symmetric(SPECTRUM)
    found = top_eigenvalues(matrix, 3, tol=0.3, vectors=True)
    lengths = np.linalg.norm(matrix @ found.vectors - found.vectors * found.values, axis=0)
    np.testing.assert_allclose(found.residuals, lengths, rtol=1e-6)
    assert 1e-9 < found.residuals.max() < 1
    # Within its residual of a value there is an eigenvalue.
    distances = np.abs(np.linalg.eigvalsh(matrix)[:, None] - found.values).min(0)
    assert (distances <= found.residuals + 1e-12).all()


@pytest.mark.parametrize("size", [20, 3000])
@pytest.mark.parametrize("vectors", [False, True])
def test_products_are_counted(size, vectors):
    operator = Counted(1 / np.arange(1.0, size + 1))
    found = top_eigenvalues(operator, 2, vectors=vectors)
    assert found.num_products == operator.count <= 30


def test_the_seed_decides_all_bits():
    matrix = symmetric(SPECTRUM)
    runs = [top_eigenvalues(matrix, 2, tol=0.1, seed=seed).values for seed in (1, 1, 2)]
    assert runs[0].tobytes() == runs[1].tobytes() != runs[2].tobytes()


@pytest.mark.exhaustive
def test_the_seed_decides_degenerate_eigenvectors():
    """Of which any are right, and old versions of SciPy return others each time."""
    runs = [top_eigenvalues(np.eye(90), 3, seed=seed, vectors=True).vectors for seed in (1, 1, 2)]
    assert runs[0].tobytes() == runs[1].tobytes() != runs[2].tobytes()


@pytest.mark.parametrize(
    "top, rest", [([0, 0], 0), ([2, 2], 2), ([3, -1], 0), ([3, 0], 0)], ids=str
)
def test_degenerate_matrices(top, rest):
    found = top_eigenvalues(symmetric(top + [rest] * 98), 2, tol=1e-8, vectors=True)
    np.testing.assert_allclose(found.values, top, atol=1e-10)
    assert found.residuals.max() < 1e-8
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(2), atol=1e-10)


@pytest.mark.parametrize("vectors", [False, True])
def test_without_convergence_there_is_an_error_with_what_was_found(vectors):
    operator = Counted(np.concatenate([[100.0], np.linspace(0, 1, 20000)]))
    with pytest.raises(
        ConvergenceError, match="`max_products` must let all 5 .* got 1 of them"
    ) as e:
        top_eigenvalues(operator, 5, tol=1e-6, max_products=40, vectors=vectors)
    np.testing.assert_allclose(e.value.partial.values, [100.0])
    assert (e.value.partial.vectors is not None) == vectors


@pytest.mark.parametrize(
    "operator, arguments, error, message",
    [
        (np.ones([2, 3]), {}, ValueError, "`operator` must be a square matrix.*shape .2, 3."),
        (np.zeros([0, 0]), {}, ValueError, "`operator` must be a square matrix"),
        (3.0, {}, ValueError, "`operator` must be a square matrix, got float"),
        (np.triu(np.ones([3, 3])), {}, ValueError, "`operator` must be symmetric.*differ.* by 1"),
        (np.eye(3) * 1j, {}, TypeError, "`operator` must be real, got complex128"),
        (np.eye(90) * np.nan, {}, ValueError, "`operator` must have finite products"),
        (np.eye(3), {"k": 0}, ValueError, "`k` must be from 1 to the 3 rows.*got 0"),
        (np.eye(3), {"k": 4}, ValueError, "`k` must be from 1 to the 3 rows.*got 4"),
        (np.eye(3), {"tol": -1}, ValueError, "`tol` must be at least 0, got -1"),
    ],
)
def test_bad_input(operator, arguments, error, message):
    with pytest.raises(error, match="^top_eigenvalues: " + message):
        top_eigenvalues(operator, **arguments)


def test_json():
    found = top_eigenvalues(np.diag([2.0, 1.0]), vectors=True)
    assert json.loads(json.dumps(found.to_dict())) == {
        "values": [2.0],
        "residuals": [0.0],
        "num_products": 3,
    }


@pytest.mark.exhaustive
def test_a_trained_network():
    network, parameters, hessian, _ = trained_on_digits()
    expected = np.linalg.eigvalsh(hessian)
    expected = expected[np.argsort(-np.abs(expected))][:10]
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            operator = HessianOperator(session, graph.loss, graph.variables, graph.feeds(256))
            found = top_eigenvalues(operator, 10)
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)
    assert found.num_products < 40


@pytest.mark.exhaustive
def test_a_trained_network_of_ten_thousand_parameters():
    network = Network([64, 100, 30, 10], *digits(200))
    assert network.size == 9840
    parameters = network.train(network.initial(), num_iterations=15)
    assert 1e-3 < network.loss(parameters) < 0.1
    with tf.Graph().as_default():
        graph = Graph(network, parameters)
        with graph.session() as session:
            operator = HessianOperator(session, graph.loss, graph.variables, graph.feeds(64))
            found = top_eigenvalues(operator, 10, vectors=True)
    # float32 has the largest of them to 1e-5, in half the time.
    images, labels = digits(200)
    network = Network([64, 100, 30, 10], images.astype(np.float32), labels)
    hessian = network.matrix(parameters.astype(np.float32))
    vectors = found.vectors.astype(np.float32)
    products = hessian @ vectors
    quotients = np.einsum("ij,ij->j", vectors, products)
    np.testing.assert_allclose(found.values, quotients, rtol=1e-4)
    residuals = np.linalg.norm(products - vectors * quotients, axis=0)
    assert (residuals < 2e-3 * np.abs(quotients)).all()
    # None is larger: without these ten, the matrix is less than the tenth, on both sides. Cholesky
    # factors of two matrices tell that in a fraction of the time of all eigenvalues.
    hessian -= (vectors * quotients) @ vectors.T
    bound = 1.001 * np.abs(quotients[-1])
    for sign in (1, -1):
        shifted = sign * hessian
        shifted[np.diag_indices_from(shifted)] += bound
        scipy.linalg.cholesky(shifted, overwrite_a=True, check_finite=False)
    shifted = -hessian
    shifted[np.diag_indices_from(shifted)] += 0.5 * bound
    with pytest.raises(np.linalg.LinAlgError):
        scipy.linalg.cholesky(shifted, overwrite_a=True, check_finite=False)
