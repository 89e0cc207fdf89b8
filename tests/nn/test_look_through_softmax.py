"""The loss of probabilities computed from the logits of the softmax that they come from."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.option_reference import OptionReference
from tests.support.option_cases import CLASS_WEIGHTS, LOGITS, SOFT_LABELS, WEIGHTS, placeholder
from tf1xent.nn import softmax_cross_entropy_with_probabilities

# The softmax rounds the other classes to 0, of a loss of 200 too.
CONFIDENT = np.array([[200.0, 0.0, 1.0, -1.0]] + [list(row) for row in LOGITS[1:]])
MASK = np.arange(6) != 2
OPTIONS = {"label_smoothing": 0.125, "focal_gamma": 1.5, "mask": MASK, "weights": WEIGHTS}
OPTIONS["class_weights"] = CLASS_WEIGHTS


def loss_of(probabilities, **options):
    return softmax_cross_entropy_with_probabilities(
        SOFT_LABELS, probabilities, look_through_softmax=True, **options
    )


@pytest.mark.parametrize("static", ["known", "unknown sizes", "unknown"])
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "options"])
def test_value_gradient_and_second_order_are_those_of_the_logits(options, static):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = placeholder(CONFIDENT, static)
        loss = loss_of(tf.identity(tf.nn.softmax(logits)), **options)
        (gradient,) = tf.gradients(loss, logits)
        (product,) = tf.gradients(gradient * LOGITS, logits)
        got = session.run([loss, gradient, product])
    reference = OptionReference(SOFT_LABELS, CONFIDENT, **options)
    vectors = {name: np.zeros(value.shape) for name, value in reference.arguments.items()}
    vectors["logits"] = LOGITS
    first, second = reference.derivatives(vectors, np.ones(6))
    np.testing.assert_allclose(got[0], reference.loss(), rtol=1e-12)
    np.testing.assert_allclose(got[1], first["logits"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got[2], second["logits"], rtol=1e-10, atol=1e-12)


def test_it_is_off_by_default():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(CONFIDENT)
        loss = softmax_cross_entropy_with_probabilities(SOFT_LABELS, tf.nn.softmax(logits))
        clipped, exact = session.run([loss, loss_of(tf.nn.softmax(logits))])
    assert clipped[0] < 0.2 * exact[0]
    np.testing.assert_allclose(clipped[1:], exact[1:], rtol=1e-6)


def test_other_ranks_axes_and_empty_batches():
    cube, labels = LOGITS.reshape(2, 3, 4), SOFT_LABELS.reshape(2, 3, 4)
    with tf.Graph().as_default(), tf.Session() as session:
        found = [
            softmax_cross_entropy_with_probabilities(
                labels[:rows],
                tf.nn.softmax(tf.constant(cube[:rows])),
                axis=axis,
                look_through_softmax=True,
            )
            for rows, axis in ((2, -1), (2, 2), (0, -1))
        ]
        first, second, empty = session.run(found)
    want = OptionReference(labels, cube).loss()
    np.testing.assert_allclose([first, second], [want, want], rtol=1e-12)
    assert empty.shape == (0, 3)


def _with_own_gradient(tensor):
    @tf.RegisterGradient("LookThroughSoftmaxTest")
    def _(op, cotangent):
        return 2 * cotangent

    with tf.get_default_graph().gradient_override_map({"Identity": "LookThroughSoftmaxTest"}):
        return tf.identity(tensor)


def _with_a_check(tensor):
    with tf.control_dependencies([tf.assert_positive(tensor)]):
        return tf.identity(tensor)


NO_SOFTMAX = {
    "constant": lambda logits: tf.constant(SOFT_LABELS),
    "array": lambda logits: SOFT_LABELS,
    "placeholder": lambda logits: tf.placeholder(tf.float64, [6, 4]),
    "product": lambda logits: 0.5 * tf.nn.softmax(logits),
    "stopped": lambda logits: tf.stop_gradient(tf.nn.softmax(logits)),
    "log": tf.nn.log_softmax,
    "an own gradient": lambda logits: _with_own_gradient(tf.nn.softmax(logits)),
    "a check": lambda logits: _with_a_check(tf.nn.softmax(logits)),
}


@pytest.mark.parametrize("name", NO_SOFTMAX)
def test_what_is_no_softmax_is_refused(name):
    with tf.Graph().as_default():
        probabilities = NO_SOFTMAX[name](tf.constant(LOGITS))
        words = "`probabilities` must be the output of tf.nn.softmax .* Give the logits to"
        with pytest.raises(ValueError, match=words):
            loss_of(probabilities)


def test_another_class_axis_is_refused():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="the class axis 0"):
        loss_of(tf.nn.softmax(tf.constant(LOGITS)), axis=0)


def test_eager_tensors_are_refused():
    found = []

    def eagerly():
        with pytest.raises(ValueError, match="an eager tensor, which keeps no op"):
            loss_of(tf.nn.softmax(tf.constant(LOGITS)))
        found.append(True)
        return 0.0

    # The body of a py_function runs eagerly, on every version and without a switch.
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(tf.py_function(eagerly, [], tf.float32))
    assert found == [True]
