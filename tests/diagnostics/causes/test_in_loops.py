"""The same causes inside loops and branches of both kinds, and in a loop over the rows."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.causes.digits import diagnosed
from tf1xent import _tf


@pytest.fixture(params=["v1", "v2"])
def control_flow(request):
    """Loops are built as v1 builds them, or as functions."""
    if request.param == "v2" and not hasattr(tf, "enable_control_flow_v2"):
        pytest.skip("this TensorFlow has no tf.enable_control_flow_v2")
    before = _tf.control_flow_v2()
    _tf.set_control_flow_v2(request.param == "v2")
    yield request.param
    _tf.set_control_flow_v2(before)


def repeated(function, value):
    """Applies a function three times."""
    step = lambda i, value: (i + 1, function(value))  # noqa: E731
    return tf.while_loop(lambda i, value: i < 3, step, [tf.constant(0), value])[1]


def beside(term):
    def loss(model):
        return tf.reduce_mean(model.losses()) + 1e-2 * tf.reduce_mean(term(model))

    return loss


def black_image(model, images, labels):
    images[7] = 0


def confident_row(model, images, labels):
    images[6] *= 2e4


def no_weight(model, images, labels):
    return {model.mask: np.zeros(len(images), np.float32)}


def logs(model):
    return repeated(lambda x: tf.log(tf.nn.softmax(x)), model.logits)


def roots(model):
    return repeated(tf.sqrt, tf.reduce_sum(model.hidden, 1))


def quotient(model):
    return tf.cond(
        tf.reduce_sum(model.x) > 0,
        lambda: model.losses() / tf.reduce_sum(model.mask),
        lambda: model.losses(),
    )


def lengths(model):
    return tf.map_fn(lambda row: tf.sqrt(tf.reduce_sum(row)), model.hidden)


@pytest.mark.combinations
@pytest.mark.lengthy
@pytest.mark.parametrize(
    "term, spoil, cause, op_type, row",
    [
        (logs, confident_row, "log of 0", "Log", 6),
        (roots, black_image, "singular gradient", "SqrtGrad", 7),
        (quotient, no_weight, "0/0", "RealDiv", None),
        (lengths, black_image, "singular gradient", "SqrtGrad", 7),
    ],
)
def test_cause_row_and_trial(control_flow, term, spoil, cause, op_type, row):
    finding = diagnosed(beside(term), spoil, steps=0).findings[0]
    assert (finding.cause, finding.op_type, finding.row) == (cause, op_type, row)
    assert finding.trial.helped
    assert "test_in_loops.py" in finding.line


@pytest.mark.lengthy
def test_half_precision_in_a_loop(control_flow):
    def loss(model):
        grown = tf.cast(repeated(lambda x: x * 20, model.hidden), tf.float32)
        return tf.reduce_mean(tf.cast(model.losses(), tf.float32)) + 1e-6 * tf.reduce_mean(grown)

    def spoil(model, images, labels):
        images[6] *= 100

    finding = diagnosed(loss, spoil, dtype=tf.float16, steps=0).findings[0]
    assert finding.cause == "half precision" and finding.row == 6 and finding.trial.helped
