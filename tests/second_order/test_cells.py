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
# float32 against float64.
CLOSE = dict(rtol=2e-5, atol=2e-5)

try:  # On 1.13 the ops come with contrib, on 1.x the first gradients.
    from tensorflow.contrib.rnn.python.ops import gru_ops, lstm_ops
except ImportError:
    gru_ops = lstm_ops = None


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


def derivatives(cell, arrays, dtype, orders, static=True):
    """The gradient, a Hessian-vector product and, for `orders` = 3, one order more."""
    directions = [
        np.random.RandomState(n).normal(size=array.shape).astype(dtype)
        for n, array in enumerate(arrays)
    ]
    with tf.Graph().as_default(), quick_session() as session:
        inputs = [
            tf.placeholder_with_default(
                array.astype(dtype),
                array.shape if static or n > 2 else (*[None] * (array.ndim - 1), array.shape[-1]),
            )
            for n, array in enumerate(arrays)
        ]
        found = [gradients(loss_of(cell, inputs), inputs)]
        for _ in range(orders - 1):
            found.append(gradients(inner(found[-1], directions), inputs))
        return session.run(found)


LSTM = functools.partial(cells.lstm, forget_bias=0.5)
CELL = functools.partial(cells.block_cells, forget_bias=0.5)
BLOCK = functools.partial(cells.block_lstm, forget_bias=0.5)
GRU, GRU_CELL = cells.gru, cells.block_gru
# By the gradient op and what is special: the cell, the same of stock ops, their options, and
# whether sizes are known.
CASES = {
    "LSTMBlockCellGrad": (CELL, LSTM, dict(steps=2, peephole=True), False),
    "BlockLSTMGrad": (BLOCK, LSTM, dict(steps=3, peephole=True), False),
    "BlockLSTMGrad, clip": (BLOCK, LSTM, dict(steps=2, peephole=True, cell_clip=0.4), True),
    "GRUBlockCellGrad": (GRU_CELL, GRU, dict(steps=2), False),
}
THIRD = {
    "BlockLSTMGrad": (BLOCK, LSTM, dict(steps=2, peephole=False), True),
    "GRUBlockCellGrad": (GRU_CELL, GRU, dict(steps=1), True),
}


def compare(name, case, orders):
    skip_without_gap(name.split(",")[0])
    fused, composed, options, static = case
    make = cells.gru_inputs if composed is cells.gru else cells.lstm_inputs
    arrays = make(options["steps"])
    found = derivatives(functools.partial(fused, **options), arrays, np.float32, orders, static)
    wanted = derivatives(functools.partial(composed, **options), arrays, np.float64, orders)
    for order, (ours, theirs) in enumerate(zip(found, wanted), 1):
        for number, (a, b) in enumerate(zip(ours, theirs)):
            scale = 1 + np.abs(b).max()
            np.testing.assert_allclose(a / scale, b / scale, **CLOSE, err_msg=f"{order} {number}")


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_are_those_of_the_cell_in_stock_ops(name):
    compare(name, CASES[name], 2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", THIRD)
def test_third_derivatives_are_those_of_the_cell_in_stock_ops(name):
    compare(name, THIRD[name], 3)


def test_steps_that_are_not_computed_count_for_nothing():
    skip_without_gap("BlockLSTMGrad")
    arrays = cells.lstm_inputs(3)
    arrays[0][1:] = np.nan
    options = dict(steps=1, peephole=False)
    found = derivatives(functools.partial(BLOCK, **options), arrays, np.float32, 2)
    arrays[0] = arrays[0][:1]
    wanted = derivatives(functools.partial(LSTM, **options), arrays, np.float64, 2)
    for ours, theirs in zip(found, wanted):
        assert not np.any(ours[0][1:])
        ours[0] = ours[0][:1]
        for a, b in zip(ours[:-1], theirs[:-1]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_gradient_op_of_the_second_version():
    """No gradient of TensorFlow's makes it; programs make it themselves."""
    skip_without_gap("BlockLSTMGradV2")
    arrays = cells.lstm_inputs(2)
    random = np.random.RandomState(6)
    in_outputs = random.normal(size=[2, cells.BATCH, cells.CELLS])
    directions = [random.normal(size=array.shape) for array in arrays]
    names = ["x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"]

    def first_of_op(inputs):
        given = dict(zip(names, inputs), seq_len_max=tf.constant(2, tf.int64), use_peephole=True)
        kept = _tf.raw_op("BlockLSTMV2")(cell_clip=-1.0, **given)
        kept = dict(zip(["i", "cs", "f", "o", "ci", "co", "h"], kept))
        cotangents = dict(cs_grad=tf.zeros_like(kept["cs"]), h_grad=in_outputs.astype(np.float32))
        return _tf.raw_op("BlockLSTMGradV2")(**given, **kept, **cotangents)

    def first_of_composition(inputs):
        outputs = cells.lstm(inputs, True, 0.0, 2, gates=(0, 2, 1, 3))[1]
        return gradients(tf.reduce_sum(outputs * in_outputs), inputs)

    with tf.Graph().as_default(), quick_session() as session:
        results = []
        for dtype, first in ((np.float32, first_of_op), (np.float64, first_of_composition)):
            inputs = [tf.constant(array.astype(dtype)) for array in arrays]
            found = first(inputs)
            second = gradients(inner(found, [d.astype(dtype) for d in directions]), inputs)
            results.append(session.run([*found, *second]))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


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


def test_activations_have_derivatives_too():
    """Where the first gradient of LSTMBlockCell and GRUBlockCell is ours."""
    if lstm_ops is not None or _tf.op_definition("LSTMBlockCell") is None:
        pytest.skip("TensorFlow has first gradients")
    for fused, arrays in (
        ("LSTMBlockCell", cells.lstm_inputs(1)),
        ("GRUBlockCell", cells.gru_inputs(1)),
    ):
        arrays[0] = arrays[0][0]
        names = (
            ["x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"]
            if len(arrays) == 8
            else ["x", "h_prev", "w_ru", "w_c", "b_ru", "b_c"]
        )
        with tf.Graph().as_default(), quick_session() as session:
            inputs = [tf.placeholder_with_default(a.astype(np.float32), a.shape) for a in arrays]
            options = dict(use_peephole=True) if len(arrays) == 8 else {}
            kept = _tf.raw_op(fused)(**dict(zip(names, inputs)), **options)
            y = tf.add_n([tf.reduce_sum(k * (n + 1)) for n, k in enumerate(kept)])
            found = session.run(tf.gradients(y, inputs))
            for n, (x, array, gradient) in enumerate(zip(inputs, arrays, found)):
                move = 1e-2 * np.random.RandomState(n).normal(size=array.shape)
                up, down = (session.run(y, {x: array + m}) for m in (move, -move))
                np.testing.assert_allclose(
                    np.sum(gradient * move), (up - down) / 2, rtol=1e-2, atol=2e-4
                )


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


@pytest.mark.skipif(gru_ops is None, reason="contrib")
def test_first_order_of_contrib_is_untouched():
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


@pytest.mark.skipif(lstm_ops is None, reason="contrib")
def test_a_tagger_of_contrib_cells():
    """All weights: finite differences of TensorFlow's own gradient, and symmetry."""
    random = np.random.RandomState(8)
    x = random.normal(size=[2, 2, 3]).astype(np.float32)
    with tf.Graph().as_default(), quick_session() as session:
        tf.set_random_seed(1)
        first = lstm_ops.LSTMBlockFusedCell(2, use_peephole=True)
        tagged, _ = first(tf.constant(x), dtype=tf.float32, sequence_length=[2, 1])
        layers = [lstm_ops.LSTMBlockCell(2), gru_ops.GRUBlockCellV2(2)]
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
