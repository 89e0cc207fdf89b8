"""Recurrent cells: TensorFlow's fused ops, and the same cells of stock ops.

A cell is a function (inputs, options) -> (states, outputs), each [time, batch, cells]. The inputs
of an LSTM are x [time, batch, inputs], the cell state and the output before the first step, w, the
three peepholes and b; those of a GRU are x, the state, w_ru, w_c, b_ru and b_c.
"""

import importlib

import numpy as np
import tensorflow.compat.v1 as tf

from tf1xent import _tf

try:
    _tf.raw_op("BlockLSTM")
except LookupError:  # 1.13, where the functions that make these ops come with contrib
    importlib.import_module("tensorflow.contrib.rnn")

BATCH, INPUTS, CELLS = 2, 3, 2


def lstm_inputs(time, seed=0):
    """Return float64 arrays, the inputs of an LSTM."""
    shapes = [[time, BATCH, INPUTS], [BATCH, CELLS], [BATCH, CELLS], [INPUTS + CELLS, 4 * CELLS]]
    shapes += [[CELLS]] * 3 + [[4 * CELLS]]
    random = np.random.RandomState(seed)
    return [random.normal(size=shape) for shape in shapes]


def gru_inputs(time, seed=0):
    """Return float64 arrays, the inputs of a GRU."""
    shapes = [[time, BATCH, INPUTS], [BATCH, CELLS], [INPUTS + CELLS, 2 * CELLS]]
    shapes += [[INPUTS + CELLS, CELLS], [2 * CELLS], [CELLS]]
    random = np.random.RandomState(seed)
    return [random.normal(size=shape) for shape in shapes]


def lstm(inputs, peephole, forget_bias, steps, gates=(0, 1, 2, 3), cell_clip=None):
    """An LSTM of stock ops; `gates` are the places of i, g, f and o. No gradient sees the clip."""
    x, cell, output, w, wci, wcf, wco, b = inputs
    cells, outputs = [], []
    for time in range(steps):
        parts = tf.split(tf.matmul(tf.concat([x[time], output], 1), w) + b, 4, axis=1)
        i, g, f, o = (parts[place] for place in gates)
        if peephole:
            i, f = i + wci * cell, f + wcf * cell
        cell = tf.sigmoid(i) * tf.tanh(g) + tf.sigmoid(f + forget_bias) * cell
        if cell_clip is not None:
            cell += tf.stop_gradient(tf.clip_by_value(cell, -cell_clip, cell_clip) - cell)
        output = tf.sigmoid(o + wco * cell if peephole else o) * tf.tanh(cell)
        cells.append(cell)
        outputs.append(output)
    return tf.stack(cells), tf.stack(outputs)


def block_cells(inputs, peephole, forget_bias, steps):
    """As `lstm`, of LSTMBlockCell."""
    x, cell, output, w, wci, wcf, wco, b = inputs
    cells, outputs = [], []
    for time in range(steps):
        _, cell, _, _, _, _, output = _tf.raw_op("LSTMBlockCell")(
            x=x[time],
            cs_prev=cell,
            h_prev=output,
            **dict(w=w, wci=wci, wcf=wcf, wco=wco, b=b),
            forget_bias=forget_bias,
            cell_clip=-1.0,
            use_peephole=peephole,
        )
        cells.append(cell)
        outputs.append(output)
    return tf.stack(cells), tf.stack(outputs)


def block_lstm(inputs, peephole, forget_bias, steps, cell_clip=-1.0):
    """As `lstm`, of BlockLSTM."""
    names = ["x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"]
    _, cells, _, _, _, _, outputs = _tf.raw_op("BlockLSTM")(
        seq_len_max=tf.constant(steps, tf.int64),
        **dict(zip(names, inputs)),
        forget_bias=forget_bias,
        cell_clip=cell_clip,
        use_peephole=peephole,
    )
    return cells[:steps], outputs[:steps]


def gru(inputs, steps):
    """A GRU of stock ops."""
    x, state, w_ru, w_c, b_ru, b_c = inputs
    states = []
    for time in range(steps):
        gates = tf.sigmoid(tf.matmul(tf.concat([x[time], state], 1), w_ru) + b_ru)
        r, u = tf.split(gates, 2, axis=1)
        c = tf.tanh(tf.matmul(tf.concat([x[time], state * r], 1), w_c) + b_c)
        state = u * state + (1 - u) * c
        states.append(state)
    return tf.stack(states), tf.stack(states)


def block_gru(inputs, steps):
    """As `gru`, of GRUBlockCell."""
    x, state, w_ru, w_c, b_ru, b_c = inputs
    states = []
    for time in range(steps):
        state = _tf.raw_op("GRUBlockCell")(
            x=x[time], h_prev=state, w_ru=w_ru, w_c=w_c, b_ru=b_ru, b_c=b_c
        )[3]
        states.append(state)
    return tf.stack(states), tf.stack(states)


def inner(tensors, others):
    """The sum of the inner products of tensors and tensors or arrays, in float64."""
    return tf.add_n([tf.reduce_sum(tf.cast(a * b, tf.float64)) for a, b in zip(tensors, others)])
