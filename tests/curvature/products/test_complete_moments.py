"""Products through `tf.nn.moments`, where TensorFlow's second derivative lacks a part.

The reference is differences of TensorFlow's first gradient, which is right.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent import curvature
from tf1xent.second_order import Kind, Verdict, audit

X = np.random.RandomState(2).normal(size=[2, 4])
VECTOR = np.random.RandomState(0).normal(size=[2, 4])
SLOPES = np.random.RandomState(1).normal(size=[2, 4])
STEP = 1e-5


def normalized(x, mean, variance):
    return tf.reduce_sum(tf.sin((x - mean) * tf.rsqrt(variance + 1e-3) * SLOPES))


def by_moments(x):
    return normalized(x, *tf.nn.moments(x, [1], keep_dims=True))


def in_a_branch(x):
    return tf.cond(tf.reduce_sum(x) < 100.0, lambda: by_moments(x), lambda: tf.reduce_sum(x))


def by_a_stop_of_its_own(x):
    """A program that means it: the mean is a constant for all that reads it."""
    mean = tf.stop_gradient(tf.reduce_mean(x, 1, keepdims=True))
    return normalized(x, mean, tf.reduce_mean(tf.squared_difference(x, mean), 1, keepdims=True))


def differences(session, x, gradient, value):
    ends = [session.run(gradient, {x: value + sign * STEP * VECTOR}) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize("loss_of", [by_moments, in_a_branch], ids=lambda f: f.__name__)
def test_products_are_complete(loss_of):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, X.shape)
        loss = loss_of(x)
        (gradient,) = tf.gradients(loss, x)
        products = [
            curvature.hessian_vector_product(loss, x, VECTOR)[0],
            tf.tensordot(curvature.hessians(loss, x)[0], VECTOR, 2),
            tf.gradients(gradient, x, tf.constant(VECTOR))[0],
        ]
        wanted = differences(session, x, gradient, X)
        ours, block, stock = session.run(products, {x: X})
    np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(block, wanted, rtol=1e-6, atol=1e-7)
    assert np.abs(stock - wanted).max() > 0.1  # what this is for


def test_a_program_that_stops_its_own_mean_is_believed():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, X.shape)
        loss = by_a_stop_of_its_own(x)
        (gradient,) = tf.gradients(loss, x)
        ours = curvature.hessian_vector_product(loss, x, VECTOR)[0]
        stock = tf.gradients(gradient, x, tf.constant(VECTOR))[0]
        np.testing.assert_allclose(*session.run([ours, stock], {x: X}), rtol=1e-12)
        assert not audit(loss, x).obstacles


def test_the_audit_names_the_stop():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, X.shape)
        (found,) = audit(by_moments(x), x).obstacles
    assert (found.op_type, found.kind, found.verdict) == (
        "StopGradient",
        Kind.LEFT_OUT,
        Verdict.NEVER,
    )
    assert "stops the gradient from the variance to the mean" in found.reason
    assert "tf1xent.curvature" in found.remedy
