"""Small losses, one for each kind of obstacle: the audit says what is true of each."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.second_order.networks import variable
from tests.second_order.truth import agreement


def _image():
    return tf.reshape(variable("image", 16), [1, 2, 2, 4])


def _rows(*shape):
    return tf.constant(np.random.RandomState(5).normal(size=shape), tf.float32)


def smooth():
    return tf.reduce_sum(tf.tanh(variable("x", 3)) ** 2)


def linear():
    return tf.reduce_sum(3.0 * variable("x", 3))


def linear_resize():
    """The gradient of a resize has no gradient, and needs none where all is linear."""
    return tf.reduce_sum(tf.image.resize_nearest_neighbor(_image(), [4, 4]) * _rows(1, 4, 4, 4))


def resize_of_a_square():
    return tf.reduce_sum(
        tf.image.resize_nearest_neighbor(_image() ** 2, [4, 4]) * _rows(1, 4, 4, 4)
    )


def square_of_a_resize():
    return tf.reduce_sum(tf.image.resize_nearest_neighbor(_image(), [4, 4]) ** 2)


def square_of_a_bilinear_resize():
    return tf.reduce_sum(tf.image.resize_bilinear(_image(), [4, 4], align_corners=True) ** 2)


def resize_times_a_stopped_one():
    """Its cotangent depends on the variable by a path that ends."""
    factor = tf.stop_gradient(0.0 * tf.reduce_sum(_image()) + 2.0)
    return tf.reduce_sum(tf.image.resize_nearest_neighbor(_image_again(), [4, 4])) * factor


def _image_again():
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        return tf.reshape(tf.get_variable("image"), [1, 2, 2, 4])


def normalization():
    return tf.reduce_sum(tf.nn.lrn(_image(), alpha=0.5) * _rows(1, 2, 2, 4))


def softsign():
    return tf.reduce_sum(tf.nn.softsign(variable("x", 3)))


def quantization():
    quantized = tf.quantization.fake_quant_with_min_max_args(
        variable("x", 3), min=-6.0, max=6.0, num_bits=16
    )
    return tf.reduce_sum(quantized**2)


def sparse_cross_entropy():
    logits = tf.reshape(variable("x", 6), [2, 3])
    return tf.reduce_sum(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 2], logits=logits)
    )


def dense_cross_entropy():
    logits = tf.reshape(variable("x", 6), [2, 3])
    labels = tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits))


def distillation():
    logits = tf.reshape(variable("x", 6), [2, 3])
    labels = tf.nn.softmax(tf.reshape(variable("teacher", 6), [2, 3]))
    return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits))


def labels_only():
    logits = _rows(2, 3)
    labels = tf.nn.softmax(tf.reshape(variable("teacher", 6), [2, 3]))
    return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits))


def argmax():
    x = variable("x", 3)
    return tf.reduce_sum(x**2) * tf.cast(tf.argmax(x) + 1, tf.float32)


def whole_numbers():
    x = variable("x", 3)
    return tf.reduce_sum(x**2 * (2.0 + tf.floor(x) + tf.cast(tf.cast(x, tf.int32), tf.float32)))


def stopped():
    x = variable("x", 3)
    return tf.reduce_sum(x**2 + tf.stop_gradient(tf.nn.softsign(x)))


def gathered_twice():
    """The gather behind tanh hands it IndexedSlices."""
    matrix = tf.tanh(tf.reshape(variable("x", 6), [3, 2]))
    return tf.reduce_sum(tf.gather(tf.gather(matrix, [0, 1, 2, 1]), [0, 3, 3]) ** 2)


def resource_variable():
    x = tf.get_variable("x", initializer=tf.constant([0.1, 0.2, -0.3]), use_resource=True)
    return tf.reduce_sum(tf.gather(x, [0, 2, 2]) ** 3 + x**2)


def branch():
    x = variable("x", 3)
    return tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.reduce_sum(x**3), lambda: tf.norm(x))


def branch_with_softsign():
    x = variable("x", 3)
    return tf.cond(
        tf.reduce_sum(x) > 9.0, lambda: tf.reduce_sum(x**3), lambda: tf.norm(tf.nn.softsign(x))
    )


def _loop(body, *start):
    return tf.while_loop(lambda i, *_: i < 3, lambda i, *x: (i + 1, *body(*x)), [0, *start])[1:]


def loop_of_powers():
    return tf.reduce_sum(_loop(lambda x: (x * x,), variable("x", 3))[0] ** 2)


def loop_left_out():
    """TF leaves the loop out without a word, because its cotangent is constant."""
    x = variable("x", 3)
    return tf.reduce_sum(x**2) + tf.reduce_sum(_loop(lambda v: (v * v,), x)[0])


def loop_that_is_linear():
    x = variable("x", 3)
    return tf.reduce_sum(x**3) + tf.reduce_sum(_loop(lambda v: (v * 2.0,), x)[0])


def loop_over_a_square():
    return tf.reduce_sum(_loop(lambda v: (v * 2.0,), variable("x", 3) ** 2)[0])


def linear_loop_under_a_square():
    return tf.reduce_sum(_loop(lambda v: (v * 2.0,), variable("x", 3))[0] ** 2)


def before_a_loop():
    x = variable("x", 3)
    return tf.reduce_sum(x**2 * _loop(lambda v: (v * 2.0,), tf.constant([0.1, 0.2, 0.3]))[0])


def loop_with_softsign():
    return tf.reduce_sum(_loop(lambda x: (tf.nn.softsign(x),), variable("x", 3))[0])


def mapped():
    x = variable("x", 3)
    return tf.reduce_sum(tf.map_fn(lambda row: tf.tanh(row * x), _rows(4, 3)) ** 2)


def loop_in_a_loop():
    def body(x):
        return (_loop(lambda y: (y * x,), x)[0],)

    return tf.reduce_sum(_loop(body, variable("x", 2) + 1.0)[0])


def array_loop():
    """A TensorArray of v1 control flow, or a list of v2."""
    x = variable("x", 3)
    array = tf.TensorArray(tf.float32, 2).write(0, x).write(1, x * x)
    return tf.reduce_sum(array.stack() ** 2)


def linear_array_loop():
    x = variable("x", 3)
    return tf.reduce_sum(x**2) + tf.reduce_sum(tf.TensorArray(tf.float32, 1).write(0, x).stack())


def mapped_by_rows():
    rows = tf.reshape(variable("x", 6), [2, 3])
    return tf.reduce_sum(tf.map_fn(lambda row: 2.0 * row, rows)) + tf.reduce_sum(rows**2)


def steps_by_a_variable():
    x = variable("x", 3)
    (steps,) = _loop(lambda s: (s + tf.cast(tf.reduce_sum(x) < 9.0, tf.float32),), 0.0)
    return tf.reduce_sum(x**2) + steps


def custom_gradient():
    @tf.custom_gradient
    def cube(x):
        return x**3, lambda cotangent: cotangent * 3.0 * x**2

    return tf.reduce_sum(cube(variable("x", 3)))


def custom_gradient_with_softsign():
    @tf.custom_gradient
    def function(x):
        inner = tf.nn.softsign(x)
        return inner**2, lambda cotangent: cotangent * 2.0 * tf.gradients(inner, x)[0] * inner

    return tf.reduce_sum(function(variable("x", 3)))


def of_tf1xent():
    from tf1xent import nn

    logits = tf.reshape(variable("x", 6), [2, 3])
    return tf.reduce_sum(nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 2], logits=logits))


def connectionist():
    logits = tf.reshape(variable("x", 24), [4, 1, 6])
    labels = tf.SparseTensor([[0, 0], [0, 1]], tf.constant([1, 2]), [1, 2])
    return tf.reduce_sum(tf.nn.ctc_loss(labels, logits, [4]))


def gradient_penalty():
    """A loss that holds a gradient already, whose own second derivative is a third one."""
    x = variable("x", 3)
    (slope,) = tf.gradients(tf.reduce_sum(tf.tanh(x) ** 3), x)
    return tf.reduce_sum(slope**2)


def penalty_through_a_resize():
    image = _image()
    (slope,) = tf.gradients(
        tf.reduce_sum(tf.image.resize_nearest_neighbor(image, [4, 4]) ** 2), image
    )
    return tf.reduce_sum(slope**2)


@tf.RegisterGradient("Tf1xentTestOfTheAudit")
def _half(op, cotangent):
    return cotangent / tf.square(1.0 + tf.abs(op.inputs[0]))


def gradient_by_name():
    x = variable("x", 3)
    with tf.get_default_graph().gradient_override_map({"Softsign": "Tf1xentTestOfTheAudit"}):
        return tf.reduce_sum(tf.nn.softsign(x) ** 2)


LOSSES = [
    function
    for name, function in list(globals().items())
    if getattr(function, "__module__", "") == __name__ and not name.startswith("_")
]
CONTROL_FLOW = [
    f for f in LOSSES if any(w in f.__name__ for w in "loop branch mapped steps".split())
]


# What differs most between TensorFlows; the others are for the oldest and the newest.
EVERYWHERE = (square_of_a_bilinear_resize, resize_of_a_square, quantization, sparse_cross_entropy)
EVERYWHERE += (distillation, argmax, branch, loop_of_powers, loop_left_out, mapped, array_loop)
EVERYWHERE += (loop_that_is_linear, custom_gradient, gathered_twice, penalty_through_a_resize)


@pytest.mark.parametrize("loss", EVERYWHERE, ids=lambda loss: loss.__name__)
def test_the_audit_says_what_is_true(loss):
    agreement(lambda: (loss(), tf.trainable_variables()))


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if loss not in EVERYWHERE], ids=lambda loss: loss.__name__
)
def test_the_audit_says_what_is_true_at_the_ends(loss):
    agreement(lambda: (loss(), tf.trainable_variables()))


@pytest.mark.lengthy
@pytest.mark.parametrize("loss", CONTROL_FLOW, ids=lambda loss: loss.__name__)
def test_control_flow_of_the_other_version(loss):
    if not hasattr(tf, "enable_control_flow_v2"):
        pytest.skip("this TensorFlow has one version of control flow")
    was_enabled = tf.control_flow_v2_enabled()
    switch, back = tf.enable_control_flow_v2, tf.disable_control_flow_v2
    if was_enabled:
        switch, back = back, switch
    switch()
    try:
        agreement(lambda: (loss(), tf.trainable_variables()))
    finally:
        back()
