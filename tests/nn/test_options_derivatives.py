"""First and second derivatives of the losses with options, alone and together, in every argument.

The second derivative is the Hessian in logits, soft labels, weights and class weights together,
times one vector: mixed derivatives are in it.
"""

import itertools
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import OptionReference
from tests.support.option_cases import (
    FUNCTIONS,
    OPTIONS,
    Case,
    Faults,
    differentiated,
    differentiated_results,
    placeholder,
)
from tests.support.processes import output_of

pytestmark = pytest.mark.exhaustive

KINDS = ("sparse", "soft", "probabilities")


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_differentiated_alone_and_with_every_other(kind):
    chosen = [set(case.names) for case in differentiated(kind).cases]
    for one, other in itertools.permutations(OPTIONS[kind], 2):
        assert {one} in chosen
        assert any({one, other} <= names for names in chosen)
        assert any(one in names and other not in names for names in chosen[len(OPTIONS[kind]) :])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_hessian_products(kind):
    faults = Faults(rtol=1e-10, atol=1e-12)
    for case, (loss, gradient, product) in zip(
        differentiated(kind).cases, differentiated_results(kind)
    ):
        reference = case.reference()
        wanted_gradient, wanted_product = reference.derivatives(case.vectors, case.cotangents)
        faults.compare(case.name, loss, reference.loss())
        for name in case.vectors:
            faults.compare(
                f"{case.name}; gradient in {name}", gradient[name], wanted_gradient[name]
            )
            faults.compare(f"{case.name}; product in {name}", product[name], wanted_product[name])
    faults.none()


def _dot(vectors, others):
    return sum(np.sum(vectors[name] * others[name]) for name in vectors)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind):
    graph, step = differentiated(kind), 1e-5
    ahead, behind = (
        graph.run(
            [
                {name: case.arrays[name] + size * v for name, v in case.vectors.items()}
                for case in graph.cases
            ]
        )
        for size in (step, -step)
    )
    faults = Faults(rtol=1e-6, atol=1e-6)
    for case, here, there, back in zip(graph.cases, differentiated_results(kind), ahead, behind):
        slope = (there[0] - back[0]) / (2 * step)
        along = np.sum(slope * case.cotangents)
        faults.compare(f"{case.name}; slope", _dot(here[1], case.vectors), along)
        for name in case.vectors:
            slope = (there[1][name] - back[1][name]) / (2 * step)
            faults.compare(f"{case.name}; slope of the gradient in {name}", here[2][name], slope)
    faults.none()


@pytest.mark.parametrize("kind", KINDS)
def test_hessians_with_all_options(kind):
    case = Case(kind, tuple(name for name in OPTIONS[kind] if name != "axis"))
    with tf.Graph().as_default(), tf.Session() as session:
        case.build(derivatives=0)
        total = tf.reduce_sum(case.loss * case.cotangents)
        hessian = session.run(tf.hessians(total, case.inputs["logits"])[0])
    vectors = {name: np.zeros(vector.shape) for name, vector in case.vectors.items()}
    vectors["logits"] = case.vectors["logits"]
    want = case.reference().derivatives(vectors, case.cotangents)[1]["logits"]
    got = np.tensordot(hessian, vectors["logits"], 2)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


# --- The focal factor at its ends ---------------------------------------------------------------

# A loss of 2e-20; one of exactly 0; one where the probability is exactly 0.
EXTREME_LOGITS = np.array([[46.0, 0.0, 0.5], [900.0, 0.0, 1.0], [1.0, 900.0, 0.0]])


@pytest.mark.parametrize("num_classes", [3, 1])
def test_focal_losses_of_certain_predictions(num_classes):
    logits = EXTREME_LOGITS[:, :num_classes]
    labels, soft = np.zeros(3, np.int64), np.eye(3)[[0, 0, 0], :num_classes]
    vector = np.random.RandomState(0).normal(size=logits.shape)
    calls = [(gamma, FUNCTIONS["sparse"][0], labels) for gamma in (0.5, 1.0, 2.0)]
    calls += [(gamma, FUNCTIONS["soft"][1], soft) for gamma in (0.5, 2.0)]
    with tf.Graph().as_default(), tf.Session() as session:
        fed, tensors = placeholder(logits), []
        for gamma, function, given in calls:
            loss = function(given, fed, focal_gamma=gamma)
            (gradient,) = tf.gradients(loss, fed)
            (product,) = tf.gradients(gradient * vector, fed)
            tensors.append((loss, gradient, product))
        results = session.run(tensors)
    faults = Faults(rtol=1e-10, atol=1e-150)
    for (gamma, _, _), got in zip(calls, results):
        # Where a probability differs from 1 or 0 by less than the oracle's last digit, it is 0.
        reference = OptionReference(labels, logits, focal_gamma=gamma)
        gradient, product = reference.derivatives({"logits": vector}, np.ones(3))
        for name, value, want in (
            ("loss", got[0], reference.loss()),
            ("gradient", got[1], gradient["logits"]),
            ("product", got[2], product["logits"]),
        ):
            faults.compare(f"gamma {gamma}, {name}", value, want)
    faults.none()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_losses_of_certain_probabilities(gamma):
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    labels = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    with tf.Graph().as_default(), tf.Session() as session:
        given = placeholder(probabilities)
        loss = FUNCTIONS["probabilities"][0](labels, given, focal_gamma=gamma)
        (gradient,) = tf.gradients(loss, given)
        (product,) = tf.gradients(gradient, given)
        loss, gradient, product = session.run([loss, gradient, product])
    want = [0.0, (1 - 1e-10) ** gamma * 10 * np.log(10), 0.5**gamma * np.log(2)]
    np.testing.assert_allclose(loss, want, rtol=1e-13)
    # With P = 1/2: (1 - P)^gamma (-log P)' and so on, by hand.
    slope = -gamma * 0.5 ** (gamma - 1) * np.log(2) - 0.5**gamma * 2
    np.testing.assert_allclose(gradient[2], [slope, 0.0], rtol=1e-13)
    assert np.isfinite(gradient).all() and np.isfinite(product).all()


# --- Tapes --------------------------------------------------------------------------------------


def _tape_cases():
    return [
        Case(kind, names, variant=i)
        for i, kind in enumerate(KINDS)
        for names in (("focal_gamma",), tuple(name for name in OPTIONS[kind] if name != "axis"))
    ]


def _of_tapes(case):
    """Loss, gradients and the Hessian times the case's vectors, by nested tapes."""
    inputs = {name: tf.constant(value) for name, value in case.arrays.items()}
    watched = [inputs[name] for name in case.vectors]
    with tf.GradientTape() as second:
        second.watch(watched)
        with tf.GradientTape() as first:
            first.watch(watched)
            loss = case.call(inputs)
            total = tf.reduce_sum(loss * case.cotangents)
        gradients = [tf.convert_to_tensor(x) for x in first.gradient(total, watched)]
        along = [tf.reduce_sum(x * v) for x, v in zip(gradients, case.vectors.values())]
        along = tf.add_n(along)
    zero = tf.UnconnectedGradients.ZERO
    products = second.gradient(along, watched, unconnected_gradients=zero)
    return [loss] + gradients + [tf.convert_to_tensor(x) for x in products]


def _write_tape_results(path):
    tf.enable_eager_execution()
    results = {
        f"{i} {j}": tensor.numpy()
        for i, case in enumerate(_tape_cases())
        for j, tensor in enumerate(_of_tapes(case))
    }
    np.savez(path, **results)


def test_eager_tapes(tmp_path):
    """In a process of its own, since eager execution is a process's choice on TF 1.x."""
    path = str(tmp_path / "results.npz")
    output_of("-m", "tests.nn.test_options_derivatives", path)
    faults = Faults(rtol=1e-10, atol=1e-12)
    with np.load(path) as results:
        for i, case in enumerate(_tape_cases()):
            reference = case.reference()
            gradient, product = reference.derivatives(case.vectors, case.cotangents)
            wanted = [reference.loss()]
            wanted += [
                derivatives[name] for derivatives in (gradient, product) for name in case.vectors
            ]
            for j, want in enumerate(wanted):
                faults.compare(f"{case.name}; {j}", results[f"{i} {j}"], want)
    faults.none()


if __name__ == "__main__":
    _write_tape_results(sys.argv[1])
