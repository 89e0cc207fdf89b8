"""A loss with options in a cluster, and the hook that looks after its chief."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

from tests.curvature.numpy_network import Network, digits
from tests.parallel_training.running import run

JOBS = dict(ps=1, worker=2)
SMOOTHING, CLASSES, BATCH, STEPS, RATE = 0.1, 10, 32, 16, 0.5
TOLERANCE = 3e-6


def network(rows):
    """The program's model and loss over some rows of the data, in NumPy and float64."""
    images, labels = digits()
    found = Network([64, 16, CLASSES], images[rows], labels[rows])
    found.targets = (1 - SMOOTHING) * found.targets + SMOOTHING / CLASSES
    return found


def start():
    """The program's parameters before the first step."""
    layers = []
    for rows, columns in ((64, 16), (16, CLASSES)):
        weights = np.random.RandomState(rows).normal(0, 1 / np.sqrt(rows), [rows, columns])
        layers += [np.ravel(weights.astype(np.float32)), np.zeros(columns)]
    return np.concatenate(layers)


def largest_eigenvalue(network, values):
    """Of the Hessian, by magnitude."""

    def product(vector):
        return network.products(values, np.ravel(vector)[None])[0]

    operator = LinearOperator((values.size, values.size), product, dtype=float)
    return eigsh(operator, 1, return_eigenvectors=False)[0]


@pytest.mark.parametrize(
    "flags", [[], pytest.param(["--spectrum"], marks=pytest.mark.exhaustive)], ids=["", "spectrum"]
)
def test_losses_of_tf1xent_in_a_cluster_are_those_of_numpy(tmp_path, flags):
    tasks = run(tmp_path / "healthy", "watched", "--curvature", *flags, **JOBS)
    values, wanted = start(), []
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH)
        of_step = network(rows[np.arange(BATCH) % 5 > 0])  # every fifth label is ignored
        wanted.append(of_step.loss(values))
        values = values - RATE * of_step.gradient(values)
    for index, task in enumerate(tasks):
        assert list(task.steps) == list(range(index, STEPS, 2))
        np.testing.assert_allclose(task.losses, wanted[index::2], rtol=TOLERANCE)
        np.testing.assert_allclose(task.values, values, rtol=0, atol=TOLERANCE)
        assert list(task.diagnoses) == []
    if flags:
        assert list(tasks[0].measured_at) == [0, STEPS]
        largest = [largest_eigenvalue(network(slice(300)), at) for at in (start(), values)]
        np.testing.assert_allclose(tasks[0].eigenvalues, largest, rtol=1e-4)
    values, direction = tasks[0].values.astype(float), tasks[0].directions.astype(float)
    (right,) = network(slice(300)).products(values, direction[None])
    atol = TOLERANCE * np.abs(right).max()
    np.testing.assert_allclose(tasks[0].products, right, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "flags, diagnosis",
    [
        # Even steps are the chief's, which sees its data; of the other worker's it sees the result.
        (["--bad_step=8"], "8: inputs not finite"),
        pytest.param(["--bad_step=7"], "8: parameters not finite", marks=pytest.mark.exhaustive),
        # A step is both workers': batches 8 and 9 are those of step 4.
        pytest.param(
            *(["--sync", "--bad_step=8"], "4: inputs not finite"),
            marks=[pytest.mark.lengthy, pytest.mark.both_ends],
        ),
        pytest.param(
            ["--sync", "--bad_step=9"], "5: parameters not finite", marks=pytest.mark.exhaustive
        ),
    ],
    ids=["inputs", "parameters", "sync-inputs", "sync-parameters"],
)
def test_the_chief_names_the_global_step_and_the_cause(tmp_path, flags, diagnosis):
    chief, other = run(tmp_path / "bad", "watched", *flags, **JOBS)
    assert list(chief.diagnoses) == [diagnosis]
    if "inputs" in diagnosis:
        assert "row 6" in chief.output and "row 6 of the batch replaced" in chief.output
    assert list(other.diagnoses) == []
    # Training goes on.
    assert len(chief.losses) == len(other.losses) == STEPS // 2
