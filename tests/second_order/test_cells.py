"""Fused recurrent cells: derivatives against those of the same cells in stock ops, in float64."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

import tf1xent
from tests.second_order import cells
from tests.second_order.cells import inner
from tests.second_order.checking import gradients, quick_session, skip_without_gap
from tf1xent import _tf
from tf1xent.errors import MissingDerivativeError

REGISTRY = ops._gradient_registry._registry


@pytest.fixture(autouse=True)
def overridden():
    tf1xent.override_gradients()
    yield
    tf1xent.restore_gradients()


def loss_of(cell, inputs):
    """A loss that is curved in the states and in the outputs, which weighs each differently."""
    weights = np.random.RandomState(1)
    terms = [
        tf.reduce_sum(values**power * weights.normal(size=cells.CELLS))
        for values, power in zip((tf.cast(v, tf.float64) for v in cell(inputs)), (2, 3))
    ]
    return tf.add_n(terms)


def derivatives(cell, arrays, dtype):
    """The gradient, and a Hessian-vector product."""
    directions = [
        np.random.RandomState(n).normal(size=array.shape).astype(dtype)
        for n, array in enumerate(arrays)
    ]
    with tf.Graph().as_default(), quick_session() as session:
        inputs = [tf.constant(array.astype(dtype)) for array in arrays]
        first = gradients(loss_of(cell, inputs), inputs)
        return session.run([first, gradients(inner(first, directions), inputs)])


LSTM = functools.partial(cells.lstm, forget_bias=0.5)
BLOCK = functools.partial(cells.block_lstm, forget_bias=0.5)


def test_a_clipped_state_has_the_derivatives_that_tensorflow_gives_it():
    skip_without_gap("BlockLSTMGrad")
    options = dict(steps=2, peephole=True, cell_clip=0.4)
    arrays = cells.lstm_inputs(2)
    found = derivatives(functools.partial(BLOCK, **options), arrays, np.float32)
    wanted = derivatives(functools.partial(LSTM, **options), arrays, np.float64)
    for ours, theirs in zip(found, wanted):
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * (1 + np.abs(b).max()))
    with tf.Graph().as_default(), quick_session() as session:
        states = session.run(BLOCK([tf.constant(a.astype(np.float32)) for a in arrays], **options))
    clipped = np.isclose(np.abs(states[0]), 0.4)
    assert np.any(clipped[0]) and not np.all(clipped)


def test_steps_that_are_not_computed_count_for_nothing():
    skip_without_gap("BlockLSTMGrad")
    arrays = cells.lstm_inputs(3)
    arrays[0][1:] = np.nan
    options = dict(steps=1, peephole=False)
    found = derivatives(functools.partial(BLOCK, **options), arrays, np.float32)
    arrays[0] = arrays[0][:1]
    wanted = derivatives(functools.partial(LSTM, **options), arrays, np.float64)
    for ours, theirs in zip(found, wanted):
        assert not np.any(ours[0][1:])
        ours[0] = ours[0][:1]
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_wrong_first_gradient_of_the_second_version_is_not_built_upon():
    skip_without_gap("BlockLSTMGradV2")
    with tf.Graph().as_default():
        inputs = [tf.constant(array.astype(np.float32)) for array in cells.lstm_inputs(2)]
        outputs = _tf.raw_op("BlockLSTMV2")(
            seq_len_max=tf.constant(2, tf.int64),
            **dict(zip(["x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"], inputs)),
        )[6]
        first = tf.gradients(tf.reduce_sum(outputs), inputs[3])[0]
        with pytest.raises(MissingDerivativeError, match="BlockLSTMV2"):
            tf.gradients(tf.reduce_sum(first), inputs[3])


@pytest.mark.lengthy
def test_one_live_graph_alone():
    skip_without_gap("GRUBlockCellGrad")
    tf1xent.restore_gradients()
    with tf.Graph().as_default() as graph, quick_session() as session:
        inputs = [tf.constant(array.astype(np.float32)) for array in cells.gru_inputs(2)]
        y = tf.reduce_sum(cells.block_gru(inputs, 2)[1] ** 2)
        wanted = tf.reduce_sum(cells.gru(inputs, 2)[1] ** 2)
        tf1xent.override_gradients(graph)
        pair = [
            tf.gradients(tf.reduce_sum(tf.gradients(loss, inputs[3])[0] ** 2), inputs[3])[0]
            for loss in (y, wanted)
        ]
        np.testing.assert_allclose(*session.run(pair), rtol=1e-3, atol=1e-4)


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["eager", "function"])
def test_tapes(kind):
    skip_without_gap("BlockLSTMGrad")
    if kind == "function" and not hasattr(tf, "function"):
        pytest.skip("TF 1.13 has no tf.function")
    arrays = cells.lstm_inputs(2)
    options = dict(steps=2, peephole=True)

    def product(w):
        inputs = [tf.constant(array.astype(np.float32)) for array in arrays]
        inputs[3] = w
        with tf.GradientTape() as outer:
            outer.watch(w)
            with tf.GradientTape() as tape:
                tape.watch(w)
                y = tf.reduce_sum(BLOCK(inputs, **options)[1] ** 2)
            first = tf.reduce_sum(tape.gradient(y, w))
        return outer.gradient(first, w)

    with tf.Graph().as_default(), quick_session() as session:
        inputs = [tf.constant(array) for array in arrays]
        y = tf.reduce_sum(LSTM(inputs, **options)[1] ** 2)
        first = tf.reduce_sum(tf.gradients(y, inputs[3])[0])
        wanted = tf.gradients(first, inputs[3])[0]
        w = tf.constant(arrays[3].astype(np.float32))
        # The body of a py_function runs eagerly.
        found = (
            tf.function(product)(w)
            if kind == "function"
            else tf.py_function(product, [w], tf.float32)
        )
        np.testing.assert_allclose(*session.run([found, wanted]), rtol=1e-4, atol=1e-4)


@pytest.mark.lengthy
@pytest.mark.skipif(not hasattr(tf, "function"), reason="TF 1.13 has no v2 loops")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_in_loops(kind):
    """In v2 loops not even ranks are known."""
    lstm = kind == "LSTM"
    arrays = cells.lstm_inputs(2) if lstm else cells.gru_inputs(2)
    weights = 3 if lstm else 2
    num_states = 2 if lstm else 1

    def product(cell, inputs):
        states = cell(inputs)
        gradient = tf.gradients(tf.reduce_sum(states**2), inputs[weights])[0]
        return tf.gradients(tf.reduce_sum(gradient**2), inputs[weights])[0]

    def looped(inputs):
        def step(time, *states):
            at = [inputs[0][time : time + 1], *states, *inputs[1 + num_states :]]
            found = cells.block_cells(at, True, 0.5, 1) if lstm else cells.block_gru(at, 1)[:1]
            return [time + 1, *(state[0] for state in found)]

        start = [tf.constant(0), *inputs[1 : 1 + num_states]]
        return tf.while_loop(lambda time, *_: time < 2, step, start)[-1]

    def composed(inputs):
        return (LSTM(inputs, steps=2, peephole=True) if lstm else cells.gru(inputs, 2))[1][-1]

    with tf.Graph().as_default(), quick_session() as session:
        inputs = [tf.constant(array.astype(np.float32)) for array in arrays]
        found = tf.function(lambda *inputs: product(looped, inputs))(*inputs)
        wanted = product(composed, [tf.constant(array) for array in arrays])
        np.testing.assert_allclose(*session.run([found, wanted]), rtol=1e-4, atol=1e-4)


def test_an_incomplete_gradient_that_comes_late_is_replaced_too():
    def incomplete(op, *cotangents):
        raise AssertionError("TensorFlow's own gradient was called")

    incomplete.__module__ = "tensorflow.contrib.rnn.python.ops.gru_ops"
    tf1xent.restore_gradients()
    before = REGISTRY.pop("GRUBlockCell", None)
    try:
        tf1xent.override_gradients()
        ours = REGISTRY["GRUBlockCell"]["type"]
        tf.RegisterGradient("GRUBlockCell")(incomplete)
        assert REGISTRY["GRUBlockCell"]["type"] is ours
        tf1xent.restore_gradients()
        assert REGISTRY["GRUBlockCell"]["type"] is incomplete
        tf1xent.override_gradients()
        assert REGISTRY["GRUBlockCell"]["type"] is ours
    finally:
        tf1xent.restore_gradients()
        del REGISTRY["GRUBlockCell"]
        if before is not None:
            REGISTRY["GRUBlockCell"] = before


def test_first_order_of_contrib_is_untouched():
    pytest.importorskip("tensorflow.contrib.rnn")
    arrays = [array.astype(np.float32) for array in cells.gru_inputs(2)]
    with tf.Graph().as_default(), quick_session() as session:
        inputs = [tf.constant(array) for array in arrays]
        y = tf.reduce_sum(cells.block_gru(inputs, 2)[1] ** 2)
        ours = session.run(tf.gradients(y, inputs))
        tf1xent.restore_gradients()
        assert REGISTRY["GRUBlockCell"]["type"].__module__.endswith("gru_ops")
        theirs = session.run(tf.gradients(y, inputs))
    for a, b in zip(ours, theirs):
        assert np.array_equal(a, b)


def test_a_tagger_of_contrib_cells():
    """All weights: finite differences of TensorFlow's own gradient, and symmetry."""
    rnn = pytest.importorskip("tensorflow.contrib.rnn")
    random = np.random.RandomState(8)
    x = random.normal(size=[2, 2, 3]).astype(np.float32)
    with tf.Graph().as_default(), quick_session() as session:
        tf.set_random_seed(1)
        first = rnn.LSTMBlockFusedCell(2, use_peephole=True)
        tagged, _ = first(tf.constant(x), dtype=tf.float32, sequence_length=[2, 1])
        layers = [rnn.LSTMBlockCell(2), rnn.GRUBlockCellV2(2)]
        stack = tf.nn.rnn_cell.MultiRNNCell(layers)
        tagged, _ = tf.nn.static_rnn(stack, tf.unstack(tagged), dtype=tf.float32)
        logits = tf.layers.dense(tf.stack(tagged), 3)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=random.randint(3, size=[2, 2]), logits=logits
            )
        )
        weights = tf.trainable_variables()
        session.run(tf.global_variables_initializer())
        values = session.run([2 * w for w in weights])
        directions = [
            [random.normal(size=value.shape).astype(np.float32) for value in values] for _ in "vw"
        ]
        first = gradients(loss, weights)
        products = [gradients(inner(first, d), weights) for d in directions]
        feed = dict(zip(weights, values))
        (one, other), slopes = session.run([products, first], feed)
        pair = [
            sum(np.sum(a * b) for a, b in zip(p, d)) for p, d in zip((one, other), directions[::-1])
        ]
        np.testing.assert_allclose(*pair, rtol=1e-3)
        ends = [
            session.run(first, {w: v + s * d for w, v, d in zip(weights, values, directions[0])})
            for s in (1e-2, -1e-2)
        ]
        for weight, up, down, product in zip(weights, *ends, one):
            wanted = (up - down) / 2e-2
            np.testing.assert_allclose(product, wanted, rtol=2e-2, atol=2e-3, err_msg=weight.name)
        assert max(np.abs(slope).max() for slope in slopes) > 1e-3
