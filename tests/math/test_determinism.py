"""With op determinism on: the same bits in two runs, and the right ones."""

import numpy as np
import pytest

from tests.math import determinism_program as program
from tests.oracle.reference import Reference
from tests.support import processes


@pytest.fixture(scope="module")
def lines():
    """By function, number of classes and number of the result: its state and first numbers."""
    environment = processes.environment()
    for kind in ("INTEROP", "INTRAOP"):  # one thread is always the same
        environment[f"TF_NUM_{kind}_THREADS"] = "4"
    if not program.has_switch():
        environment["TF_DETERMINISTIC_OPS"] = "1"
    output = processes.output_of("-m", program.__name__, variables=environment)
    found = {}
    for line in output.splitlines():
        name, num_classes, number, state, *numbers = line.split()
        values = np.array([float.fromhex(number) for number in numbers])
        found[name, int(num_classes), int(number)] = state, values
    return found


def _expected(name, num_classes):
    """The first numbers of loss, gradients and products, by the oracle: of the first rows."""
    rows = slice(0, program.SHOWN)
    labels = program.LABELS[num_classes][rows]
    weights = program.DISTRIBUTIONS[num_classes][rows].astype(np.float64)
    logits = program.LOGITS[num_classes][rows].astype(np.float64)
    if name == "linear":
        logits = program.INPUTS[rows].astype(np.float64) @ program.WEIGHTS[num_classes]
    oracle = Reference(logits)
    if name == "dense":
        return [
            oracle.dense_loss(weights),
            oracle.dense_gradient(weights),
            oracle.labels_gradient(),
        ]
    loss, gradient = oracle.sparse_loss(labels), oracle.sparse_gradient(labels)
    if name == "linear":
        layer = program.WEIGHTS[num_classes].astype(np.float64)
        gradient = gradient.astype(np.float64) @ layer.T
    return [loss, gradient]


@pytest.mark.exhaustive
def test_every_result_is_the_same_in_two_runs(lines):
    results = {"sparse": 3, "dense": 5, "linear": 5}
    assert {key: state for key, (state, _) in lines.items()} == {
        (name, num_classes, number): "same"
        for name, count in results.items()
        for num_classes in program.NUM_CLASSES
        for number in range(count)
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("num_classes", program.NUM_CLASSES)
@pytest.mark.parametrize("name", program.FUNCTIONS)
def test_values_and_gradients_are_right(lines, name, num_classes):
    for number, want in enumerate(_expected(name, num_classes)):
        want = want.astype(np.float64).ravel()[: program.SHOWN]
        got = lines[name, num_classes, number][1]
        np.testing.assert_allclose(got, want, rtol=3e-5, atol=1e-7, err_msg=f"result {number}")
