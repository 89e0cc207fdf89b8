"""Real programs reach TensorFlow's functions by many routes; after `patch` each has every order.

Each behaviour takes one process, which runs the routes of all tests to come. What TensorFlow
returns for a confident prediction is 0 in float32: a route that silently stayed with TensorFlow's
function fails by its value.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests import ROOT
from tests.oracle import reference
from tests.routes import table


def _results(request, tmp_path_factory, behaviour):
    """The results of the tests that use a fixture, from a process of its own."""
    path = str(tmp_path_factory.mktemp(behaviour) / "results.npz")
    parameters = [
        item.callspec.params
        for item in request.session.items
        if request.fixturename in getattr(item, "fixturenames", ())
    ]
    keys = [table.key(chosen["order"], chosen["route"]) for chosen in parameters]
    process = subprocess.run(
        [sys.executable, "-m", "tests.routes.run", behaviour, path, *keys],
        cwd=str(ROOT),
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, process.stdout
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def graph_results(request, tmp_path_factory):
    return _results(request, tmp_path_factory, "graph")


@pytest.fixture(scope="module")
def eager_results(request, tmp_path_factory):
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")
    return _results(request, tmp_path_factory, "eager")


def _checked(results, route, order):
    """The results of one route by quantity; skips what TensorFlow lacks, fails on an error."""
    key = table.key(order, route) + "/"
    found = {name[len(key) :]: value for name, value in results.items() if name.startswith(key)}
    if "lacks" in found:
        pytest.skip("this TensorFlow has no {}".format(found["lacks"]))
    assert "error" not in found, str(found["error"])
    ordinary = {f"ordinary {quantity}" for quantity in table.quantities(route, order)}
    confident = {f"confident {quantity}" for quantity in table.CONFIDENT_QUANTITIES}
    assert set(found) == ordinary | confident
    return found


def _check(results, route, order):
    got = _checked(results, route, order)
    is_sparse = route.labels == "sparse"

    oracle = reference.Reference(table.LOGITS)
    soft_labels = None if is_sparse else table.SOFT_LABELS
    want = {
        f"order {n + 1}": oracle.derivative_product(table.VECTORS[:n], soft_labels)
        for n in (1, 2, 3)
    }
    if is_sparse:
        want["loss"] = np.sum(oracle.sparse_loss(table.LABELS))
        want["order 1"] = oracle.sparse_gradient(table.LABELS)
    else:
        want["loss"] = np.sum(oracle.dense_loss(soft_labels))
        want["order 1"] = oracle.dense_gradient(soft_labels)
    want["hessian"] = _hessian(oracle, table.LOGITS.shape)
    for quantity in table.quantities(route, order):
        value = np.asarray(want[quantity] / route.divisor, np.float64)
        np.testing.assert_allclose(
            got["ordinary " + quantity], value, rtol=2e-5, atol=1e-6, err_msg=quantity
        )

    # One-hot labels are integer ones to a confident prediction.
    confident = reference.Reference(table.CONFIDENT_LOGITS)
    loss = float(np.sum(confident.sparse_loss(table.LABELS)) / route.divisor)
    if route.rebound == "always" or route.rebound == order:
        np.testing.assert_allclose(got["confident loss"], loss, rtol=1e-4)
        gradient = np.asarray(confident.sparse_gradient(table.LABELS) / route.divisor, np.float64)
        np.testing.assert_allclose(got["confident order 1"], gradient, rtol=1e-4)
    elif route.rebound == "never":
        assert got["confident loss"] == 0.0  # TensorFlow's own value: the table is right
    # The second derivative is ours on every route.
    product = np.asarray(
        confident.derivative_product(table.VECTORS[:1]) / route.divisor, np.float64
    )
    np.testing.assert_allclose(got["confident order 2"], product, rtol=1e-4)


def _hessian(oracle, shape):
    """[batch_size, C, batch_size, C], from its products with unit vectors."""
    hessian = np.zeros(shape + shape, dtype=object)
    for j in range(shape[1]):
        columns = np.tile(np.eye(shape[1])[j], (shape[0], 1))
        product = oracle.derivative_product([columns])
        for i in range(shape[0]):
            hessian[i, :, i, j] = product[i]
    return hessian


def _name(route):
    return f"{route.program}.{route.name}"


@pytest.mark.combinations
@pytest.mark.parametrize("order", table.ORDERS)
@pytest.mark.parametrize("route", table.ROUTES["graph"], ids=_name)
def test_route_in_graphs(graph_results, route, order):
    _check(graph_results, route, order)


@pytest.mark.combinations
@pytest.mark.parametrize("order", table.ORDERS)
@pytest.mark.parametrize("route", table.ROUTES["eager"], ids=_name)
def test_route_under_tapes(eager_results, route, order):
    _check(eager_results, route, order)


def test_every_function_of_a_program_is_in_the_table():
    """A route that is written but not listed would not be tested."""
    routes = table.ROUTES["graph"] + table.ROUTES["eager"]
    for program in {route.program for route in routes}:
        text = (ROOT / "tests" / "routes" / (program + ".py")).read_text(encoding="utf-8")
        written = {line.split("(")[0][4:] for line in text.splitlines() if line.startswith("def ")}
        listed = {r.name for r in routes if r.program == program}
        assert {name for name in written if not name.startswith("_")} == listed
