"""Distributed programs with the patch on: the losses of stock TensorFlow, and right curvature."""

import collections

import numpy as np
import pytest

from tests.curvature.numpy_network import Network, digits
from tests.parallel_training.running import run

# By program: how its tasks are started, and how often a step of it is counted.
PROGRAMS = {
    "parameter_servers": dict(ps=1, worker=2),
    "monitored": dict(ps=1, worker=2),
    "sync_replicas": dict(ps=1, worker=2),
    "towers": dict(ps=1, worker=2, awaited="worker-0"),
    "mirrored": {},
}
STEPS = 16
# Of float32 sums of a thousand terms, over 16 steps.
TOLERANCE = 3e-6


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs a program, once with each of what may stand before it; returns the results of tasks."""
    folder, known = tmp_path_factory.mktemp("parallel_training"), {}

    def results(script, before):
        if (script, before) not in known:
            curvature = [] if before == "stock" else ["--curvature"]
            path = folder / f"{script}-{before}"
            known[script, before] = run(path, script, *curvature, before=before, **PROGRAMS[script])
        return known[script, before]

    return results


def losses(tasks):
    """Returns the losses of all tasks, by step and in the order of tasks."""
    found = collections.defaultdict(list)
    for task in tasks:
        for step, loss in zip(task.steps, task.losses):
            found[int(step)].append(loss)
    assert sorted(found) == list(range(STEPS))
    return np.array([found[step] for step in range(STEPS)])


def oracle():
    """The network of the programs over the rows of `for_curvature`, in NumPy and float64."""
    return Network([64, 16, 10], *digits(300))


@pytest.mark.parametrize("script", PROGRAMS)
def test_losses_are_those_of_stock_tensorflow(runs, script):
    stock, patched = losses(runs(script, "stock")), losses(runs(script, "patch"))
    assert stock[0].mean() > 2 and stock[-1].mean() < 1.7  # it learns
    np.testing.assert_allclose(patched, stock, rtol=TOLERANCE)
    for with_patch, without in zip(runs(script, "patch"), runs(script, "stock")):
        np.testing.assert_allclose(with_patch.values, without.values, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("script", PROGRAMS)
def test_curvature_at_the_trained_point_is_right(runs, script):
    for task in runs(script, "patch"):
        (right,) = oracle().products(task.values.astype(float), task.directions.astype(float)[None])
        largest = np.abs(right).max()
        np.testing.assert_allclose(task.products, right, rtol=0, atol=TOLERANCE * largest)
        assert largest > 0.1
