"""The softcap's derivatives keep their relative accuracy where tanh is nearly 1."""

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent._math.softcap import capped

BOUND = 8.0
LOGITS = np.array([-200.0, -90.0, -20.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 20.0, 90.0, 200.0])


def derivatives(logit, order):
    """Return the derivatives up to an order, by mpmath's own differentiation."""
    with mpmath.workdps(150):
        cap = lambda x: BOUND * mpmath.tanh(x / BOUND)  # noqa: E731
        return [float(mpmath.diff(cap, mpmath.mpf(float(logit)), n)) for n in range(order + 1)]


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-13)])
def test_derivatives_to_third_order(dtype, tolerance):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS, dtype)
        values = [capped(logits, tf.constant(BOUND, dtype))]
        for _ in range(3):
            values.append(tf.gradients(values[-1], logits)[0])
        found = np.array(session.run(values))
    expected = np.array([derivatives(logit, 3) for logit in np.asarray(LOGITS, dtype)]).T
    # The third derivative, 2 sech^2 (3 tanh^2 - 1) / bound^2, is a difference where tanh is small.
    slope = np.abs(expected[1])
    floors = [0, 0, 0, slope / BOUND**2]
    for order in range(4):
        allowed = tolerance * (np.abs(expected[order]) + floors[order])
        assert (np.abs(found[order] - expected[order]) <= allowed).all(), order
    assert found[1].min() > 0
