"""Losses with functions: tf.function, tf.Defun, 1.13's defun, v2 branches in them."""

import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests.second_order.networks import variable
from tests.second_order.truth import agreement
from tf1xent.second_order import audit


def _traced(function):
    """Traces a function as this TensorFlow does; each loss needs a trace of its own."""
    if hasattr(tf, "function"):
        return tf.function(function, autograph=False)
    return tensorflow.contrib.eager.defun(function)


def smooth_call():
    return tf.reduce_sum(_traced(lambda x: tf.tanh(x) ** 2)(variable("x", 3)))


def call_with_softsign():
    return tf.reduce_sum(_traced(lambda x: tf.nn.softsign(x) ** 2)(variable("x", 3)))


def linear_call():
    x = variable("x", 3)
    return tf.reduce_sum(_traced(lambda x: 2.0 * x)(x) + x**2)


def _image():
    return tf.reshape(variable("image", 16), [1, 2, 2, 4])


def call_with_a_linear_resize():
    image = _image()
    resized = _traced(lambda i: tf.image.resize_nearest_neighbor(i, [4, 4]))(image)
    return tf.reduce_sum(resized) + tf.reduce_sum(image**2)


def call_with_a_resize_of_a_square():
    """Within a call TensorFlow differentiates by all inputs, also by cotangents that are fixed."""
    call = _traced(lambda i: tf.image.resize_nearest_neighbor(i**2, [4, 4]))
    return tf.reduce_sum(call(_image()))


def call_of_a_call():
    inner = _traced(tf.nn.softsign)
    return tf.reduce_sum(_traced(lambda x: inner(x) ** 2)(variable("x", 3)))


def call_with_a_branch():
    def function(x):
        return tf.cond(tf.reduce_sum(x) > 9.0, lambda: tf.nn.softsign(x), lambda: x**3)

    return tf.reduce_sum(_traced(function)(variable("x", 3)))


def call_with_a_variable():
    x = tf.get_variable("x", initializer=tf.constant([0.1, 0.2, -0.3]), use_resource=True)
    return tf.reduce_sum(_traced(lambda: tf.tanh(x * x))())


def call_after_softsign():
    return tf.reduce_sum(_traced(lambda x: x**2)(tf.nn.softsign(variable("x", 3))))


def two_calls_of_one_function():
    function = _traced(lambda x: tf.nn.softsign(x))
    x = variable("x", 3)
    return tf.reduce_sum(function(x) * function(2.0 * x))


CALLS = [
    value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
]


# The others are for the oldest and the newest TensorFlow.
EVERYWHERE = (call_with_softsign, call_with_a_linear_resize, call_with_a_branch)


@pytest.mark.parametrize("loss", EVERYWHERE, ids=lambda loss: loss.__name__)
def test_the_audit_of_calls_says_what_is_true(loss):
    agreement(lambda: (loss(), tf.trainable_variables()))


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "loss", [loss for loss in CALLS if loss not in EVERYWHERE], ids=lambda loss: loss.__name__
)
def test_the_audit_of_calls_says_what_is_true_at_the_ends(loss):
    agreement(lambda: (loss(), tf.trainable_variables()))


def test_an_op_inside_a_function_is_named_with_its_path():
    if not hasattr(tf, "function"):
        pytest.skip("1.13 has no second derivative of any function")
    with tf.Graph().as_default():
        report = audit(call_of_a_call(), tf.trainable_variables())
    (found,) = report.findings
    assert found.op_type == "Softsign" and found.meets == "SoftsignGrad"
    assert len(found.path) == 2 and "PartitionedCall" in found.path[0]
    assert "test_audit_functions.py" in found.source
