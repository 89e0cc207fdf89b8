"""Batch normalization: frozen derivatives hold the statistics constant, batch ones do not.

The reference is a graph of plain float64 ops, whose first derivatives are differenced.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

from tf1xent.curvature.operators.ggn_operator import GGNOperator
from tf1xent.curvature.operators.hessian_operator import HessianOperator

EPSILON = 1e-3
DATA = np.random.RandomState(2).normal(size=[6, 2, 2, 3])
VALUES = {
    "kernel": np.random.RandomState(3).normal(size=[3, 2]),
    "scale": np.array([1.0, 2.0]),
    "offset": np.array([0.5, -0.25]),
}
MOVING = (np.array([0.25, -0.5]), np.array([2.0, 3.0]))
SIZE = 10
KINDS = (
    "fused",
    pytest.param("fused_cond", marks=pytest.mark.lengthy),
    "moments",
    "moments_cond",
    "moments_of_rows",
)


def by_moments(hidden, scale, offset, axes):
    mean, variance = tf.nn.moments(hidden, axes)
    return tf.nn.batch_normalization(hidden, mean, variance, offset, scale, EPSILON)


class Net:
    """A layer, its normalization in the way named `kind`, and a loss."""

    def __init__(self, kind):
        self.dtype = tf.float32 if "fused" in kind else tf.float64
        self.data = tf.placeholder(self.dtype, [None, 2, 2, 3], "data")
        self.training = tf.placeholder_with_default(True, [], "training")
        self.kernel, self.scale, self.offset = self.xs = [
            tf.get_variable(name, dtype=self.dtype, initializer=tf.constant(value, self.dtype))
            for name, value in VALUES.items()
        ]
        self.moving = [
            tf.get_variable(
                name,
                dtype=self.dtype,
                initializer=tf.constant(value, self.dtype),
                trainable=False,
            )
            for name, value in zip(("moving_mean", "moving_variance"), MOVING)
        ]
        rows = tf.matmul(tf.reshape(self.data, [-1, 3]), self.kernel)
        self.hidden = tf.reshape(rows, [-1, 2, 2, 2])
        self.rows = rows
        self.outputs = tf.identity(getattr(self, kind)(), "outputs")
        self.loss = tf.reduce_mean(tf.sin(self.outputs) + 0.5 * tf.square(self.outputs))

    def fused(self):
        return tf.nn.fused_batch_norm(self.hidden, self.scale, self.offset, epsilon=EPSILON)[0]

    def fused_moving(self):
        return tf.nn.fused_batch_norm(
            self.hidden, self.scale, self.offset, *self.moving, EPSILON, is_training=False
        )[0]

    def fused_cond(self):
        return tf.cond(self.training, self.fused, self.fused_moving)

    def moments(self):
        return by_moments(self.hidden, self.scale, self.offset, [0, 1, 2])

    def moments_of_rows(self):
        return by_moments(self.rows, self.scale, self.offset, [0])

    def moments_cond(self):
        mean, variance = (
            tf.cond(self.training, lambda own=own: own, lambda moved=moved: tf.identity(moved))
            for own, moved in zip(tf.nn.moments(self.hidden, [0, 1, 2]), self.moving)
        )
        return tf.nn.batch_normalization(
            self.hidden, mean, variance, self.offset, self.scale, EPSILON
        )

    def moments_moving(self):
        return tf.nn.batch_normalization(
            self.hidden, *self.moving, self.offset, self.scale, EPSILON
        )

    def layer_norm(self):
        mean, variance = tf.nn.moments(self.hidden, [3], keep_dims=True)
        return tf.nn.batch_normalization(
            self.hidden, mean, variance, self.offset, self.scale, EPSILON
        )

    def stopped_by_the_program(self):
        mean = tf.stop_gradient(tf.reduce_mean(self.rows, 0, keepdims=True))
        variance = tf.reduce_mean(tf.squared_difference(self.rows, mean), 0, keepdims=True)
        variance = tf.stop_gradient(variance)
        return (self.rows - mean) * tf.rsqrt(variance + EPSILON) * self.scale + self.offset

    def weight_standardization(self):
        mean, variance = tf.nn.moments(self.kernel, [0])
        kernel = (self.kernel - mean) * tf.rsqrt(variance + EPSILON)
        return tf.matmul(tf.reshape(self.data, [-1, 3]), kernel) * self.scale + self.offset


class Reference:
    """The Hessian, Jacobian and outputs of plain ops, by central differences."""

    def __init__(self, normalized):
        """`normalized` of (rows, kernel, data) gives them, and what is fed with its own values."""
        with tf.Graph().as_default(), tf.Session() as session:
            xs = [tf.placeholder(tf.float64, value.shape) for value in VALUES.values()]
            data = tf.constant(DATA.reshape(-1, 3))
            outputs, fixed = normalized(tf.matmul(data, xs[0]), xs[0], data)
            outputs = outputs * xs[1] + xs[2]
            loss = tf.reduce_mean(tf.sin(outputs) + 0.5 * tf.square(outputs))
            gradient = tf.concat([tf.reshape(g, [-1]) for g in tf.gradients(loss, xs)], 0)
            fetches = [gradient, tf.reshape(outputs, [-1])]
            constants = session.run(fixed, dict(zip(xs, VALUES.values())))

            def at(point):
                parts = np.split(point, [6, 8])
                feed = dict(zip(xs, [parts[0].reshape(3, 2), *parts[1:]]))
                feed.update(zip(fixed, constants))
                return session.run(fetches, feed)

            point = np.concatenate([value.ravel() for value in VALUES.values()])
            self.outputs = at(point)[1]
            step = 1e-5
            pairs = [(at(point + unit), at(point - unit)) for unit in step * np.eye(SIZE)]
        self.hessian, self.jacobian = (
            np.array([(above[i] - below[i]) / (2 * step) for above, below in pairs])
            for i in range(2)
        )


def statistics_of(axis):
    def plain(rows, kernel, data):
        mean = tf.reduce_mean(rows, axis, keepdims=True)
        variance = tf.reduce_mean(tf.square(rows - mean), axis, keepdims=True)
        return (rows - mean) / tf.sqrt(variance + EPSILON), []

    return plain


def frozen(rows, kernel, data):
    mean = tf.reduce_mean(rows, 0)
    variance = tf.reduce_mean(tf.square(rows - mean), 0)
    fixed = [tf.stop_gradient(mean), tf.stop_gradient(variance)]
    return (rows - fixed[0]) / tf.sqrt(fixed[1] + EPSILON), fixed


def moving(rows, kernel, data):
    return (rows - MOVING[0]) / np.sqrt(MOVING[1] + EPSILON), []


def standardized(rows, kernel, data):
    mean = tf.reduce_mean(kernel, 0)
    variance = tf.reduce_mean(tf.square(kernel - mean), 0)
    return tf.matmul(data, (kernel - mean) / tf.sqrt(variance + EPSILON)), []


@pytest.fixture(scope="module")
def reference():
    return {
        "frozen": Reference(frozen),
        "batch": Reference(statistics_of(0)),
        "moving": Reference(moving),
        "layer": Reference(statistics_of(1)),
        "standardized": Reference(standardized),
    }


def operators(kind, make=HessianOperator, **feed):
    """Return {mode: (matrix, operator)} of a net in both modes, and the net's moving averages."""
    with tf.Graph().as_default(), tf.Session() as session:
        net = Net(kind)
        feeds = [{net.data: DATA, **{getattr(net, name): value for name, value in feed.items()}}]
        functions = (net.loss,) if make is HessianOperator else (net.loss, net.outputs)
        made = {
            mode: make(session, *functions, net.xs, feeds, batch_norm=mode, batch_weights=[1])
            for mode in ("frozen", "batch")
        }  # before the first run, as v2 branches need it
        session.run(tf.global_variables_initializer())
        found = {mode: (operator.to_dense(), operator) for mode, operator in made.items()}
        return found, session.run(net.moving)


def close(actual, expected, kind):
    tolerance = (2e-4 if "fused" in kind else 1e-6) * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_both_modes(kind, reference):
    found, averages = operators(kind)
    for mode, (matrix, operator) in found.items():
        close(matrix, reference[mode].hessian, kind)
        uses = set(operator.batch_norm_statistics.values())
        if "cond" in kind:
            assert uses == {"decided by training:0"}
        else:
            assert uses == {"batch, held constant" if mode == "frozen" else "batch"}
        assert f"batch normalization: {uses.pop()}>" in repr(operator)
    for value, before in zip(averages, MOVING):
        np.testing.assert_allclose(value, before)
    gap = np.abs(reference["frozen"].hessian - reference["batch"].hessian).max()
    assert gap > 0.05 * np.abs(reference["batch"].hessian).max()


@pytest.mark.parametrize("kind", ["fused", "moments"])
def test_the_gauss_newton_matrix(kind, reference):
    found, _ = operators(kind, GGNOperator)
    for mode, (matrix, _) in found.items():
        # The loss's second derivative in an output is (1 - sin) / number.
        jacobian, outputs = reference[mode].jacobian, reference[mode].outputs
        expected = (jacobian * (1 - np.sin(outputs)) / outputs.size) @ jacobian.T
        close(matrix, expected, kind)


@pytest.mark.parametrize(
    "kind",
    [
        "fused_moving",
        "moments_moving",
        pytest.param("fused_cond", marks=pytest.mark.lengthy),
        "moments_cond",
    ],
)
def test_moving_averages_are_constants_in_both_modes(kind, reference):
    found, _ = operators(kind, **({"training": False} if "cond" in kind else {}))
    for matrix, operator in found.values():
        close(matrix, reference["moving"].hessian, kind)
        if "cond" not in kind:
            assert set(operator.batch_norm_statistics.values()) == {"moving averages"}


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("layer_norm", "layer"),
        ("weight_standardization", "standardized"),
        ("stopped_by_the_program", "frozen"),
    ],
)
def test_other_statistics_are_what_the_program_says(kind, expected, reference):
    found, _ = operators(kind)
    for matrix, operator in found.values():
        close(matrix, reference[expected].hessian, kind)
        assert operator.batch_norm_statistics == {}


def test_the_registry_is_as_before_also_after_an_error():
    types = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Mean", "StopGradient")
    registry = ops._gradient_registry._registry
    before = [registry.get(op_type) for op_type in types]
    with tf.Graph().as_default(), tf.Session() as session:
        net = Net("moments")
        HessianOperator(session, net.loss, net.xs, None)
        with pytest.raises(ValueError, match="moving_mean"):
            HessianOperator(session, net.loss, net.moving, None)
    assert all(registry.get(op_type) is entry for op_type, entry in zip(types, before))
