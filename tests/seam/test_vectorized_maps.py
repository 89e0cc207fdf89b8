"""pfor, and so `tf.vectorized_map`, of losses and their derivatives."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.reference import Reference
from tests.seam.vectorized import ITERATIONS, Data, arrays_of, data, loss_of, pfor, quantity_of
from tests.support import option_cases

ALL = ("logits", "labels", "vectors")


def check_maps(implementation, kind, num_classes, wanted, static="known", label_dtype=np.int32):
    """The quantities of each iteration, in one run; `wanted`: (quantity, what is stacked)."""
    values = data(num_classes)
    loss = loss_of(kind, implementation)
    results = {}
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = {
            name: option_cases.placeholder(array, static)
            for name, array in arrays_of(kind, values, label_dtype).items()
        }
        for quantity, stacked in wanted:

            def body(i, stacked=stacked, quantity=quantity):
                own = {n: tf.gather(t, i if n in stacked else 0) for n, t in tensors.items()}
                return quantity_of(quantity, loss, **own)

            results[quantity, stacked] = pfor(body, ITERATIONS)
        results = session.run(results)
    for (quantity, stacked), got in results.items():
        values.check(kind, quantity, got, stacked)


PRODUCTS = [("product", ALL)] + [("product", (name,)) for name in ALL]


@pytest.mark.parametrize("implementation", ["graph", "kernel"])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_maps(kind, implementation, request):
    if implementation == "kernel":
        request.getfixturevalue("library")
    quantities = ["loss", "gradient"] + ["label gradient"] * (kind == "dense")
    check_maps(implementation, kind, 10, [(name, ALL) for name in quantities] + PRODUCTS)
    # Products contain what the others are made of.
    check_maps(implementation, kind, 100, PRODUCTS[:1], "unknown sizes", np.int64)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_maps_of_many_classes(kind):
    check_maps("graph", kind, 100, PRODUCTS)


def test_maps_of_the_implementation_that_is_there(library):
    check_maps("auto", "sparse", 10, PRODUCTS[:1], label_dtype=np.int64)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_maps_of_tensorflows_own_ops_with_overridden_gradients(overridden, kind):
    check_maps("stock", kind, 10, PRODUCTS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("implementation", ["graph", "kernel"])
def test_a_hundred_thousand_classes(implementation, request):
    if implementation == "kernel":
        request.getfixturevalue("library")
    values = Data(100000, rows=1)
    with tf.Graph().as_default(), tf.Session() as session:
        results = {}
        for kind in ("sparse", "dense"):
            arrays = arrays_of(kind, values, np.int64)
            tensors = {n: option_cases.placeholder(a, "unknown sizes") for n, a in arrays.items()}

            def body(i, kind=kind, tensors=tensors):
                own = {name: tf.gather(tensor, i) for name, tensor in tensors.items()}
                return quantity_of("gradient", loss_of(kind, implementation), **own)

            results[kind] = pfor(body, ITERATIONS)
        results = session.run(results)
    logits = values.logits.astype(np.float64)  # rounding errors of these formulas do not count
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    labels = {"sparse": np.zeros_like(logits), "dense": values.distributions}
    np.put_along_axis(labels["sparse"], values.classes[..., np.newaxis], 1, axis=-1)
    for kind, got in results.items():
        total = labels[kind].sum(axis=-1, keepdims=True, dtype=np.float64)
        want = total * probabilities - labels[kind]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("num_classes", [pytest.param(20000, marks=pytest.mark.lengthy), None])
def test_an_invalid_label_among_many_classes_is_found_in_its_iteration(num_classes):
    """A valid label is checked on one zero, an invalid one on as many as there are classes."""
    logits = np.random.RandomState(0).normal(size=(3, 2, 20000)).astype(np.float32)
    good, bad = np.array([[0, 19999], [7, 1], [2, 3]]), np.array([[0, 5], [7, 20000], [2, 3]])
    with tf.Graph().as_default(), tf.Session() as session:
        fed, loss = tf.placeholder(tf.float32, [3, 2, num_classes]), loss_of("sparse", "graph")
        labels = tf.placeholder(tf.int64, [3, 2])
        losses = pfor(lambda i: loss(tf.gather(fed, i), tf.gather(labels, i)), 3)
        got = session.run(losses, {fed: logits, labels: good})
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"20000 which .* \[0, 20000\)"):
            session.run(losses, {fed: logits, labels: bad})
    want = Reference(logits.reshape(6, -1)).sparse_loss(good.reshape(-1)).astype(np.float64)
    np.testing.assert_allclose(got.reshape(-1), want, rtol=1e-6)
