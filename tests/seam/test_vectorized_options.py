"""pfor of losses with options, of reduced losses and of the linear loss."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.reference import Reference
from tests.seam.vectorized import ITERATIONS, ROWS, data, pfor
from tests.support import option_cases
from tf1xent import losses


def option_sets(kind):
    """All options at once, and each in one of two halves."""
    names = [name for name in option_cases.OPTIONS[kind] if name != "axis"]
    return [tuple(names), tuple(names[::2]), tuple(names[1::2]) + ("axis",)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["sparse", "soft", "probabilities"])
def test_every_option(kind):
    cases = [option_cases.Case(kind, names) for names in option_sets(kind)]
    factors = np.array([1.0, 0.5])

    def scaled(case, factor):
        return case.arrays["logits"] * (1.0 if case.is_plain else factor)

    results = []
    with tf.Graph().as_default(), tf.Session(config=option_cases.unoptimised()) as session:
        for case in cases:
            logits = tf.constant(np.stack([scaled(case, factor) for factor in factors]))
            others = {n: tf.constant(a) for n, a in case.arrays.items() if n != "logits"}

            def body(i, case=case, logits=logits, others=others):
                own = tf.gather(logits, i)
                loss = case.call(dict(others, logits=own))
                return loss, tf.gradients(loss * case.cotangents, own)[0]

            results.append(pfor(body, len(factors)))
        results = session.run(results)
    faults = option_cases.Faults(rtol=1e-10, atol=1e-12)
    for case, (loss, gradient) in zip(cases, results):
        for i, factor in enumerate(factors):
            case.arrays["logits"] = scaled(case, 1.0 if i == 0 else factor)
            reference = case.reference()
            want = reference.derivatives(case.vectors, case.cotangents)[0]["logits"]
            faults.compare(f"{case.name}, loss", loss[i], reference.loss())
            faults.compare(f"{case.name}, gradient", gradient[i], want)
    faults.none()


def test_reduced_losses():
    values = data(10)
    with tf.Graph().as_default(), tf.Session() as session:
        logits, labels = tf.constant(values.logits), tf.constant(values.classes)
        weights = tf.constant([2.0, 1.0])

        def body(i):
            own = tf.gather(logits, i)
            loss = losses.sparse_softmax_cross_entropy(tf.gather(labels, i), own, weights)
            return loss, tf.gradients(loss, own)[0]

        loss, gradient = session.run(pfor(body, ITERATIONS))
    for i in range(ITERATIONS):
        reference = Reference(values.logits[i])
        shares = np.array([1.0, 0.5])
        want = np.asarray(reference.sparse_loss(values.classes[i]), np.float64) @ shares
        np.testing.assert_allclose(loss[i], want, rtol=1e-5)
        want = np.asarray(reference.sparse_gradient(values.classes[i]), np.float64)
        np.testing.assert_allclose(gradient[i], want * shares[:, np.newaxis], rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("chunk_size", [5, 10])
def test_linear_losses(chunk_size):
    # In a tf.function of TF 1.x several chunks are a loop that its vectorizer cannot convert.
    random = np.random.RandomState(0)
    inputs, weights = random.normal(size=(ITERATIONS, ROWS, 3)), random.normal(size=(3, 10))
    classes = random.randint(10, size=(ITERATIONS, ROWS))
    with tf.Graph().as_default(), tf.Session(config=option_cases.unoptimised()) as session:
        tensors = [tf.constant(array) for array in (inputs, classes)]

        def body(i):
            features, labels = (tf.gather(tensor, i) for tensor in tensors)
            loss = losses.linear_softmax_cross_entropy(
                labels, features, tf.constant(weights), chunk_size=chunk_size, reduction="none"
            )
            (gradient,) = tf.gradients(loss, features)
            return loss, gradient, tf.gradients(gradient, features, grad_ys=features)[0]

        results = session.run(pfor(body, ITERATIONS))
    loss, gradient, product = (array.reshape((-1,) + array.shape[2:]) for array in results)
    rows = inputs.reshape(-1, 3)
    logits = rows @ weights
    reference = Reference(logits)
    want = np.asarray(reference.sparse_loss(classes.ravel()), np.float64)
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    want = np.asarray(reference.sparse_gradient(classes.ravel()), np.float64) @ weights.T
    np.testing.assert_allclose(gradient, want, rtol=1e-12)
    want = np.asarray(reference.derivative_product([logits]), np.float64) @ weights.T
    np.testing.assert_allclose(product, want, rtol=1e-11)
