"""Random gamma samples and the incomplete gamma function, against mpmath and quantiles."""

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from scipy import special

import tf1xent
from tests.second_order.checking import quick_session


@pytest.fixture(autouse=True)
def override():
    tf1xent.override_gradients()
    yield
    tf1xent.restore_gradients()


def test_derivatives_of_the_incomplete_gamma_function_in_its_shape():
    points = [(a, a * factor) for a in (0.01, 0.5, 3.0, 200.0) for factor in (0.3, 0.97, 1.2, 2.0)]
    shapes, xs = np.transpose(points)
    with tf.Graph().as_default(), quick_session() as session:
        a = tf.constant(shapes)
        derivatives = [tf.igamma(a, tf.constant(xs))]
        for _ in range(3):
            derivatives += tf.gradients(derivatives[-1], a)
        found = np.transpose(session.run(derivatives))
    with mpmath.workdps(40):
        for (shape, x), values in zip(points, found):

            def cumulative(a, x=x):
                return mpmath.gammainc(a, 0, x, regularized=True)

            wanted = [float(mpmath.diff(cumulative, shape, order)) for order in range(4)]
            np.testing.assert_allclose(values, wanted, rtol=1e-8, atol=1e-14)


def test_random_samples_move_with_their_shape_as_quantiles_do():
    shapes = np.array([0.3, 2.0, 25.0])
    with tf.Graph().as_default(), quick_session() as session:
        a = tf.constant(shapes)
        samples = tf.random_gamma([4], a, dtype=tf.float64, seed=1)
        first = tf.gradients(tf.reduce_sum(samples), a)[0]
        second = tf.gradients(first, a)[0]
        samples, second = session.run([samples, second])
    ranks, step = special.gammainc(shapes, samples), 1e-3 * shapes
    up, down = (special.gammaincinv(shapes + d, ranks) for d in (step, -step))
    differences = np.sum((up - 2 * samples + down) / step**2, axis=0)
    np.testing.assert_allclose(second, differences, rtol=1e-4)


def test_samples_at_the_bound_of_their_dtype_have_finite_derivatives():
    """Of a small shape many samples are too small for float32."""
    with tf.Graph().as_default(), quick_session() as session:
        a = tf.constant(np.float32([1e-4]))
        samples = tf.random_gamma([3], a, seed=2)
        first = tf.gradients(tf.reduce_sum(samples**2), a)[0]
        samples, second = session.run([samples, tf.gradients(first, a)[0]])
    assert np.all(samples < 2e-38) and np.isfinite(second)
