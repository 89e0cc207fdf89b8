"""Derivatives outside of sessions: eager tapes, tf.function, XLA, forward mode."""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests.oracle.reference import Reference
from tests.seam import tape_program as program
from tests.support.processes import output_of

XLA_ROUTES = ("tapes in XLA", "XLA under tapes")


def _run_program(path):
    output_of("-m", program.__name__, path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the program computed, by route."""
    path = str(tmp_path_factory.mktemp("tapes") / "result.npz")
    if tf.executing_eagerly():
        program.main(path)
    else:  # on TF 1.x eager execution is a process's own choice
        _run_program(path)
    return _read(path)


@pytest.fixture(scope="module")
def xla_results(tmp_path_factory):
    if not hasattr(tensorflow, "autodiff"):
        pytest.skip("this TensorFlow has no tf.autodiff, and its tf.function no XLA to rely on")
    path = str(tmp_path_factory.mktemp("xla") / "result.npz")
    program.main_xla(path)
    return _read(path)


def _read(path):
    routes = {}
    with np.load(path) as stored:
        for key in stored.files:
            routes.setdefault(key.rsplit("/", 1)[0], []).append(stored[key])
    return routes


def _unweighted_orders():
    """Gradient, product and third derivative along the vector, row by row, of each kind of loss."""
    reference = Reference(program.LOGITS)
    vectors = [program.VECTOR]
    return {
        "sparse": [reference.sparse_gradient(program.LABELS)]
        + [reference.derivative_product(vectors * n) for n in (1, 2)],
        "dense": [reference.dense_gradient(program.DENSE_LABELS)]
        + [reference.derivative_product(vectors * n, program.DENSE_LABELS) for n in (1, 2)],
    }


def _expected():
    reference = Reference(program.LOGITS)
    rows = program.WEIGHTS[:, np.newaxis]
    orders = {
        name: [rows * order.astype(np.float64) for order in found]
        for name, found in _unweighted_orders().items()
    }
    mixed = rows * reference.mixed_product_transposed(program.VECTOR).astype(np.float64)
    return orders, mixed, reference.sparse_loss(program.LABELS).astype(np.float64)


def _check(got, want, route):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13, err_msg=route)


def test_every_route_agrees_with_the_oracle(results):
    _check_routes(results)


@pytest.mark.lengthy
@pytest.mark.xla
def test_every_route_by_xla_agrees_with_the_oracle(xla_results):
    _check_routes(xla_results)
    expected = {f"{kind} {way}" for kind in ("sparse", "dense") for way in XLA_ROUTES}
    assert set(xla_results) == expected | {"XLA invalid labels"}


def _check_routes(results):
    orders, mixed, losses = _expected()
    for route, got in results.items():
        kind = route.split()[0]
        if route.endswith("rows picked"):
            rows = program.PICKED[:, np.newaxis]
            for order, want in enumerate(_unweighted_orders()[kind]):
                _check(got[order], rows ** (order + 1) * want.astype(np.float64), route)
        elif kind == "mixed":
            _check(got[0], mixed, route)
        elif route.endswith("vectorized_map"):
            _check(got[0], np.stack([losses, losses]), route)
        elif "forward over reverse" in route:
            _check(got[0], orders[kind][1], route)
        elif "forward over forward" in route:
            _check(got[0], (orders[kind][0] * program.VECTOR).sum(), route)
            _check(got[1], (orders[kind][1] * program.VECTOR).sum(), route)
        elif route.endswith("batch_jacobian"):
            product = np.einsum("bij,bj->bi", got[0], program.VECTOR)
            _check(product, orders[kind][1], route)
        elif kind != "XLA":
            for order, want in enumerate(orders[kind]):
                _check(got[order], want, route)


def test_routes_that_this_tensorflow_must_have(results):
    expected = {"sparse eager", "dense eager", "mixed eager"}
    expected |= {"sparse eager, rows picked", "dense eager, rows picked"}
    if hasattr(tf, "function"):
        expected |= {"sparse tapes in a function", "dense function under tapes"}
    if hasattr(tensorflow, "autodiff"):
        expected |= {"sparse forward over reverse", "dense forward over forward"}
    assert expected <= set(results)


@pytest.mark.lengthy
@pytest.mark.xla
def test_an_invalid_label_is_a_nan_row_under_xla(xla_results):
    loss, gradient = xla_results["XLA invalid labels"]
    labels = program.BAD_LABELS
    valid = (labels >= 0) & (labels < program.LOGITS.shape[1])
    assert np.array_equal(np.isnan(loss), ~valid)
    assert np.array_equal(np.isnan(gradient), np.repeat(~valid[:, np.newaxis], 5, axis=1))
    reference = Reference(program.LOGITS[valid])
    _check(loss[valid], reference.sparse_loss(labels[valid]).astype(np.float64), "valid rows")
