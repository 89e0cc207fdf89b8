"""The cause "NaN hidden": an op that makes numbers of NaN, named with what it hides."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.diagnostics.stuck.trainings import Training


def causes(found):
    return [finding.cause for finding in found.findings]


def test_max_pool_hides_nan_that_arises_in_the_model():
    """The root of numbers that are negative here and there."""

    def pooled(x):
        rows = tf.reshape(tf.pow(x, 0.5), [-1, 4, 4, 1])
        most = tf.nn.max_pool(rows, [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
        return tf.nn.relu(tf.reshape(most, [-1, 16]))

    with Training(pooled) as training:
        found = training.diagnose()
    assert "not finite, though the loss is" in found.problem
    assert "NaN hidden" in causes(found)
    finding = found.findings[causes(found).index("NaN hidden")]
    assert finding.op_type == "MaxPool"
    assert "make" in finding.what and "test_hidden.py" in finding.line
    assert finding.numbers["count"] > 10


def test_a_relu_in_front_of_which_grappler_has_fused_a_layer():
    """On 2.21 the loss is finite and the gradients are NaN; before, the loss is NaN."""
    with Training() as training:
        feed = training.feed()
        feed[training.x] = feed[training.x].copy()
        feed[training.x][5, 7] = np.nan
        loss = training.session.run([training.loss, training.train], feed)[0]
        before = Training().values()
        found = training.diagnose(feed, variables=before)
    assert found.cause == "inputs not finite"
    if np.isfinite(loss):
        assert "gradients" in found.problem
        assert "NaN hidden" in causes(found)
        finding = found.findings[causes(found).index("NaN hidden")]
        assert finding.numbers["fused"] and finding.op_type == "Relu"
        assert "(Relu), fused with its layer, makes numbers of them" in finding.what
        assert "in the step itself" in found.how
    else:
        assert found.problem == "the loss is nan"
        assert "NaN hidden" not in causes(found)


def test_parameters_that_are_nan_behind_a_relu():
    with Training() as training:
        kernel = training.values()["hidden/kernel"]
        kernel[3, 4] = np.nan
        training.load(hidden__kernel=kernel)
        loss = training.session.run([training.loss, training.train], training.feed())[0]
        training.load(hidden__kernel=kernel)
        found = training.diagnose()
    assert found.problem is not None
    assert ("NaN hidden" in causes(found)) == bool(np.isfinite(loss))


def test_a_where_that_drops_nan_is_healthy():
    def root(x):
        safe = tf.where(x > 0, x, tf.ones_like(x))
        return tf.where(x > 0, tf.sqrt(safe), tf.zeros_like(x))

    with Training(root) as training:
        assert training.diagnose(steps=3).problem is None
    # Dropped, and no gradient reaches it.
    with Training(lambda x: tf.where(x > 0, x, tf.stop_gradient(tf.log(x) * 0))) as training:
        found = training.diagnose(steps=3)
    assert "NaN hidden" not in causes(found) or found.problem is not None
