"""`patch(control_flow_v2=True)`: second derivatives of loops, and the way back."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import control_flow_util

import tf1xent
from tests.support.loss_graph import SPARSE
from tests.support.processes import run_forked
from tests.support.v1_loops import mapped, scanned
from tf1xent import _tf
from tf1xent.errors import MissingDerivativeError, PatchConflictWarning

pytestmark = pytest.mark.usefixtures("all_restored", "v1_before")

FEATURES = np.random.RandomState(0).randn(2, 4, 3)
POINT, DIRECTION = np.array([0.3, -0.2, 0.5]), np.array([0.2, 0.5, -0.3])


def switch():
    return control_flow_util.ENABLE_CONTROL_FLOW_V2


def set_switch(value):
    control_flow_util.ENABLE_CONTROL_FLOW_V2 = value


@pytest.fixture
def v1_before():
    """TF 2.x with v1 control flow, as after `disable_v2_behavior`; TF 1.x is so by itself."""
    before = switch()
    set_switch(False)
    yield
    assert switch() is False
    set_switch(before)


# --- Second derivatives -------------------------------------------------------------------------


def recurrent(weights, features):
    """States of a cell over sequences of different lengths."""
    try:
        cell = tf.nn.rnn_cell.BasicRNNCell(3)
    except AttributeError:
        pytest.skip("this TensorFlow has no recurrent cells: Keras 3 took their place")
    inputs = features * weights
    return tf.nn.dynamic_rnn(cell, inputs, sequence_length=[2, 4], dtype=tf.float64)[0]


def recurrent_by_hand(weights, features):
    """What dynamic_rnn builds: arrays of inputs and outputs, and states that stop early."""
    rows = tf.transpose(features * weights, [1, 0, 2])
    inputs = tf.TensorArray(tf.float64, 4).unstack(rows)

    def body(turn, state, outputs):
        new = tf.tanh(state + inputs.read(turn))
        return turn + 1, tf.where(turn < [2, 4], new, state), outputs.write(turn, new)

    start = 0, tf.zeros([2, 3], tf.float64), tf.TensorArray(tf.float64, 4)
    return tf.while_loop(lambda turn, *_: turn < 4, body, start)[2].stack()


def looped(weights, features):
    """A branch and a second loop inside of a loop."""

    def inner(turn, state):
        return turn + 1, tf.tanh(state * weights)

    def body(turn, state):
        state = tf.cond(turn > 1, lambda: tf.square(state) * weights, lambda: state)
        return turn + 1, tf.while_loop(lambda t, _: t < turn, inner, (0, state))[1]

    return tf.while_loop(lambda turn, _: turn < 3, body, (0, features))[1]


def loss_of(states):
    """The classifier's loss: cross-entropy of the states as logits, and of their squares."""
    logits = tf.reshape(states, [-1, 3])
    labels = tf.range(tf.shape(logits)[0]) % 3
    function = getattr(tf.nn, SPARSE)
    return tf.reduce_mean(function(labels=labels, logits=2 * logits + tf.square(logits)))


def product_and_differences(build):
    """A Hessian-vector product, and central differences of the gradient of the fourth order."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.set_random_seed(1)
        weights = tf.placeholder_with_default(POINT, [3])
        loss = loss_of(build(weights, tf.constant(FEATURES)))
        (gradient,) = tf.gradients(loss, weights)
        (product,) = tf.gradients(gradient, weights, tf.constant(DIRECTION))
        session.run(tf.global_variables_initializer())

        def at(length):
            return session.run(gradient, {weights: POINT + length * DIRECTION})

        near, far = (at(h) - at(-h) for h in (1e-3, 2e-3))
        ops = {op.type for op in graph.get_operations()}
        assert not {"Enter", "Switch"} & ops
        return session.run(product), (8 * near - far) / 12e-3


@pytest.mark.parametrize(
    "build", [recurrent, recurrent_by_hand, mapped, scanned, looped], ids=lambda f: f.__name__
)
def test_second_derivatives_through_loops(build):
    with tf1xent.patched(control_flow_v2=True):
        product, differences = product_and_differences(build)
    assert np.abs(differences).max() > 1e-3
    np.testing.assert_allclose(product, differences, rtol=1e-8, atol=1e-10)


PROGRAM = """
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import tf1xent
enabled = getattr(tf, "control_flow_v2_enabled", lambda: False)  # not in TF 1.x
assert not enabled()
tf1xent.patch(control_flow_v2=True)
x = tf.constant([1.0, 2.0])
second = tf.gradients(tf.gradients(tf.map_fn(lambda row: row ** 3, x), x)[0], x)[0]
with tf.Session() as session:
    print(session.run(second).tolist())
tf1xent.unpatch()
assert enabled() is False
"""


@pytest.mark.exhaustive
def test_after_disable_v2_behavior():
    process = run_forked("-c", PROGRAM)
    assert process.stdout.strip() == "[6.0, 12.0]", process.stderr[-2000:]


# --- On and off ---------------------------------------------------------------------------------


def loop_type():
    """The op type that a loop is built of: "Exit" or some "While"."""
    with tf.Graph().as_default() as graph:
        tf.while_loop(lambda turn: turn < 3, lambda turn: turn + 1, [tf.constant(0)])
        types = {op.type for op in graph.get_operations()}
    (found,) = types & {"Exit", "While", "StatelessWhile"}
    return found


def test_the_patch_and_its_way_back():
    assert loop_type() == "Exit" and tf1xent.status().control_flow == "v1"
    tf1xent.patch()
    assert loop_type() == "Exit" and switch() is False
    tf1xent.patch(control_flow_v2=True)
    assert loop_type() != "Exit" and switch() == True and repr(switch()) == "True"  # noqa: E712
    tf1xent.patch()  # takes nothing away
    assert loop_type() != "Exit" and tf1xent.status().control_flow == "v2, by tf1xent"
    assert "v2, by tf1xent" in str(tf1xent.status())
    tf1xent.unpatch()
    assert loop_type() == "Exit" and switch() is False


def test_what_was_on_before_stays_on():
    set_switch(True)
    assert tf1xent.status().control_flow == "v2"
    with tf1xent.patched(control_flow_v2=True):
        assert loop_type() != "Exit"
    assert switch() is True
    set_switch(False)


def test_nested_blocks():
    with tf1xent.patched():
        with tf1xent.patched(control_flow_v2=True):
            with tf1xent.patched():
                assert loop_type() != "Exit"
            with tf1xent.patched(control_flow_v2=True):
                assert loop_type() != "Exit"
            assert loop_type() != "Exit"
        assert switch() is False and tf1xent.is_patched()
    with tf1xent.patched(control_flow_v2=True):
        tf1xent.patch(control_flow_v2=True)
    assert loop_type() != "Exit"
    tf1xent.unpatch()


def test_the_way_back_by_an_exception():
    with pytest.raises(KeyError), tf1xent.patched(control_flow_v2=True):
        raise KeyError
    assert switch() is False


@pytest.mark.parametrize("theirs", [True, False])
def test_what_somebody_else_switches_in_between_stays(theirs):
    tf1xent.patch(control_flow_v2=True)
    set_switch(theirs)
    with tf1xent.patched():
        assert switch() is theirs
    assert tf1xent.status().control_flow == ("v2" if theirs else "v1")
    with pytest.warns(PatchConflictWarning, match="control flow v2 in between; theirs was left"):
        tf1xent.unpatch()
    assert switch() is theirs
    set_switch(False)


def test_a_new_request_comes_after_somebody_elses():
    with tf1xent.patched(control_flow_v2=True):
        set_switch(True)
        with tf1xent.patched(control_flow_v2=True):
            assert tf1xent.status().control_flow == "v2, by tf1xent"
    assert switch() is True
    set_switch(False)


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_it_must_be_a_bool(value):
    with pytest.raises(TypeError, match="patch: `control_flow_v2` must be a bool, got"):
        tf1xent.patch(control_flow_v2=value)
    assert not tf1xent.is_patched()


def test_a_tensorflow_without_the_switch_is_refused_and_nothing_patched(monkeypatch):
    _tf.control_flow_v2_refusal.cache_clear()
    monkeypatch.delattr(control_flow_util, "ENABLE_CONTROL_FLOW_V2")
    for patch in (tf1xent.patch, lambda **options: tf1xent.patched(**options).__enter__()):
        with pytest.raises(MissingDerivativeError, match="has no v2 control flow. Use a newer"):
            patch(control_flow_v2=True)
        assert not tf1xent.is_patched() and not tf1xent.status().gradients_overridden
    monkeypatch.undo()
    _tf.control_flow_v2_refusal.cache_clear()
