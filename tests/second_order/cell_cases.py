"""Cases of fused recurrent cells."""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order import cells
from tests.second_order.checking import Case, differentiated_by
from tf1xent import _tf

FINE = dict(step=1e-2, tolerance=5e-4)
LSTM_NAMES = ["x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"]
GRU_NAMES = ["x", "h_prev", "w_ru", "w_c", "b_ru", "b_c"]


def in_float32(arrays):
    return tuple((array / 2).astype(np.float32) for array in arrays)


def states(cell, **options):
    """A function of the inputs of a cell: its states and outputs. Only batch and time may vary."""

    def function(x, *others):
        x.set_shape([None, None, cells.INPUTS])
        others[0].set_shape([None, cells.CELLS])
        found = cell([x, *others], **options)
        return tf.concat(found, axis=-1)

    return function


def all_outputs(op_type, names, **options):
    """A function of the inputs of a cell of one step: all that the op computes."""

    def function(x, *others):
        found = _tf.raw_op(op_type)(**dict(zip(names, (x[0], *others))), **options)
        return tf.concat(list(found), axis=-1)

    return function


def lstm_activations(x, cell, output, w, wci, wcf, wco, b):
    """What LSTMBlockCell computes, of stock ops: i, c, f, o, ci, co, h."""
    i, g, f, o = tf.split(tf.matmul(tf.concat([x[0], output], 1), w) + b, 4, axis=1)
    i, f, g = tf.sigmoid(i + wci * cell), tf.sigmoid(f + wcf * cell + 1), tf.tanh(g)
    cell = i * g + f * cell
    o, activated = tf.sigmoid(o + wco * cell), tf.tanh(cell)
    return tf.concat([i, cell, f, o, g, activated, o * activated], axis=1)


def gru_activations(x, state, w_ru, w_c, b_ru, b_c):
    """What GRUBlockCell computes, of stock ops: r, u, c, h."""
    r, u = tf.split(tf.sigmoid(tf.matmul(tf.concat([x[0], state], 1), w_ru) + b_ru), 2, axis=1)
    c = tf.tanh(tf.matmul(tf.concat([x[0], state * r], 1), w_c) + b_c)
    return tf.concat([r, u, c, u * state + (1 - u) * c], axis=1)


def second_version(*inputs):
    """BlockLSTMV2 with its own gradient op. TensorFlow's gradient makes that of BlockLSTM."""

    def gradient(op, *cotangents):
        kept = dict(zip(["i", "cs", "f", "o", "ci", "co", "h"], op.outputs))
        in_inputs = _tf.raw_op("BlockLSTMGradV2")(
            **dict(zip(["seq_len_max", *LSTM_NAMES], op.inputs)),
            **kept,
            cs_grad=cotangents[1],
            h_grad=cotangents[6],
            use_peephole=True,
        )
        return [None, *in_inputs]

    with differentiated_by(BlockLSTMV2=gradient):
        found = _tf.raw_op("BlockLSTMV2")(
            seq_len_max=tf.constant(2, tf.int64),
            **dict(zip(LSTM_NAMES, inputs)),
            use_peephole=True,
        )
    return tf.concat([found[1], found[6]], axis=-1)


CELL = functools.partial(cells.block_cells, forget_bias=0.5)
BLOCK = functools.partial(cells.block_lstm, forget_bias=0.5)
LSTM = functools.partial(cells.lstm, forget_bias=0.5)


def lstm_case(name, op_type, cell, static=True, third=False, **options):
    return Case(
        name,
        op_type,
        states(cell, **options),
        in_float32(cells.lstm_inputs(options["steps"])),
        composition=states(LSTM, **options),
        static=static,
        third=third,
        **FINE,
    )


def gru_case(name, static=True, third=False, steps=2):
    return Case(
        name,
        "GRUBlockCellGrad",
        states(cells.block_gru, steps=steps),
        in_float32(cells.gru_inputs(steps)),
        composition=states(cells.gru, steps=steps),
        static=static,
        third=third,
        **FINE,
    )


CASES = [
    lstm_case("2 steps", "LSTMBlockCellGrad", CELL, static=False, steps=2, peephole=False),
    lstm_case("peepholes", "LSTMBlockCellGrad", CELL, third=True, steps=1, peephole=True),
    lstm_case("3 steps", "BlockLSTMGrad", BLOCK, static=False, steps=3, peephole=True),
    lstm_case("2 steps", "BlockLSTMGrad", BLOCK, third=True, steps=2, peephole=False),
    Case(
        "2 steps",
        "BlockLSTMGradV2",
        second_version,
        in_float32(cells.lstm_inputs(2)),
        composition=states(cells.lstm, steps=2, peephole=True, forget_bias=0.0, gates=(0, 2, 1, 3)),
        third=False,
        **FINE,
    ),
    gru_case("2 steps", static=False),
    gru_case("1 step", third=True, steps=1),
    Case(
        "all outputs",
        "LSTMBlockCell",
        all_outputs("LSTMBlockCell", LSTM_NAMES, use_peephole=True),
        in_float32(cells.lstm_inputs(1)),
        composition=lstm_activations,
        third=False,
        **FINE,
    ),
    Case(
        "all outputs",
        "GRUBlockCell",
        all_outputs("GRUBlockCell", GRU_NAMES),
        in_float32(cells.gru_inputs(1)),
        composition=gru_activations,
        third=False,
        **FINE,
    ),
]
