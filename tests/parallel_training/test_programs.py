"""Distributed programs with the patch on: the losses of stock TensorFlow, and right curvature."""

import collections

import numpy as np
import pytest

from tests.curvature.numpy_network import Network, digits
from tests.parallel_training.running import run, run_commands

# By program, how many tasks of each job there are, and which of them end by themselves.
PROGRAMS = {
    "parameter_servers": dict(ps=1, worker=2),
    "monitored": dict(ps=1, worker=2),
    "sync_replicas": dict(ps=1, worker=2),
    "towers": dict(ps=1, worker=2, awaited="worker-0"),
    "partitioned": dict(ps=2, worker=1),
    "mirrored": {},
}
STEPS = 16
# Of float32 sums of up to some thousand terms, and over all steps.
TOLERANCE = 3e-6
# `partitioned` has the weights of its last layer by class, [10, 16].
TRANSPOSED = np.r_[:1040, 1040 + np.arange(160).reshape(10, 16).T.ravel(), 1200:1210]
PLACES = {
    "parameter_servers": ["/job:ps/task:0"] * 4,
    "towers": ["/job:worker/task:0", "/job:worker/task:1"],
    "partitioned": [f"/job:ps/task:{index}" for index in (0, 1, 0, 1, 0, 1, 0)],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs a program, once with each of what may stand before it; returns the results of tasks."""
    folder, known = tmp_path_factory.mktemp("parallel_training"), {}

    def results(script, before, *flags):
        if (script, before, *flags) not in known:
            path = folder / "-".join([script, before, *flags])
            curvature = [] if before == "stock" else ["--curvature"]
            known[(script, before, *flags)] = run(
                path, script, *curvature, *flags, before=before, **PROGRAMS[script]
            )
        return known[(script, before, *flags)]

    return results


def losses(tasks):
    """Returns the losses of all tasks, [step, task]; one column if they take turns."""
    found = collections.defaultdict(list)
    for task in tasks:
        for step, loss in zip(task.steps, task.losses):
            found[int(step)].append(loss)
    assert sorted(found) == list(range(STEPS))
    return np.array([found[step] for step in range(STEPS)])


def check_curvature(script, task):
    """Checks the product of a task with NumPy's, float64, at the same point."""
    network = Network([64, 16, 10], *digits(300))
    order = TRANSPOSED if script == "partitioned" else slice(None)
    values, direction = (v[order].astype(float) for v in (task.values, task.directions))
    (right,) = network.products(values, direction[None])
    largest = np.abs(right).max()
    assert largest > 0.1
    np.testing.assert_allclose(task.products[order], right, rtol=0, atol=TOLERANCE * largest)


FIRST = ("parameter_servers", "mirrored", "partitioned")
each_program = pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            script, marks=[] if script in FIRST else [pytest.mark.lengthy, pytest.mark.both_ends]
        )
        for script in PROGRAMS
    ],
)


@each_program
def test_losses_are_those_of_stock_tensorflow(runs, script):
    stock, patched = losses(runs(script, "stock")), losses(runs(script, "patch"))
    assert stock[0].mean() > 2.2 and stock[-1].mean() < 1.8  # it learns
    np.testing.assert_allclose(patched, stock, rtol=TOLERANCE)
    for with_patch, without in zip(runs(script, "patch"), runs(script, "stock")):
        np.testing.assert_allclose(with_patch.values, without.values, rtol=0, atol=TOLERANCE)
        for task in (with_patch, without):
            assert list(getattr(task, "places", ())) == PLACES.get(script, [])


@each_program
def test_curvature_at_the_trained_point_is_right(runs, script):
    check_curvature(script, runs(script, "patch")[0])


@pytest.mark.exhaustive
def test_with_overridden_gradients_losses_are_those_of_stock_bit_by_bit(runs):
    script = "parameter_servers"
    stock, overridden = runs(script, "stock"), runs(script, "override")
    assert losses(overridden).tobytes() == losses(stock).tobytes()
    assert overridden[0].values.tobytes() == stock[0].values.tobytes()
    check_curvature(script, overridden[0])


@pytest.mark.exhaustive
def test_a_last_layer_that_stays_on_the_parameter_servers_trains_alike(runs):
    script = "partitioned"
    (sharded,), (stock,) = runs(script, "patch", "--sharded"), runs(script, "stock")
    np.testing.assert_allclose(sharded.losses, stock.losses, rtol=TOLERANCE)
    np.testing.assert_allclose(sharded.values, stock.values, rtol=0, atol=TOLERANCE)
    assert list(sharded.places) == PLACES[script]
    check_curvature(script, sharded)


@pytest.mark.exhaustive
def test_the_command_that_runs_a_program_runs_each_task_of_a_cluster(runs, tmp_path):
    script = "parameter_servers"
    tasks = run_commands(tmp_path / "commands", script, "--curvature", ps=1, worker=2)
    np.testing.assert_allclose(losses(tasks), losses(runs(script, "stock")), rtol=TOLERANCE)
    check_curvature(script, tasks[0])
