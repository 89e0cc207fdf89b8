"""The linear recurrence over time behind every derivative of an LSTM, and its transpose.

A small change of the cell's inputs changes the states c and the outputs h of all later steps. To
first order, with coefficients that depend on the activations, step t does

    z_t = h_{t-1} W                       W [cells, 4 cells]
    c_t = p_t + carry_t c_{t-1} + the sum over the first three gates of gates_t z_t
    h_t = q_t + output_t c_t + gates_t z_t of the last gate

and `forward_recurrence` maps (p, q) to (c, h), from c = h = 0. Its transpose, backward in time, is
what carries a gradient through an LSTM: `backward_recurrence` maps (c', h') to

    H_t = h'_t + Z_{t+1} W^T
    C_t = c'_t + output_t H_t + carry_{t+1} C_{t+1}
    Z_t = gates_t [C_t, C_t, C_t, H_t]

Both are linear in what they map, so the one's derivative is the other. The pairing of a forward
result (c, h) with a backward one (C, H) is the same for both, and is the derivative in each
coefficient:

    carry_t: c_{t-1} C_t    gates_t: z_t [C_t, C_t, C_t, H_t]    output_t: c_t H_t
    W: sum over t of h_{t-1}^T Z_t

So there are derivatives of every order, also where time is known only at run time and TensorFlow
refuses the second derivative of a while loop: no loop is ever differentiated. For a single step
there is no recurrence, and a few stock ops do.
"""

from typing import Callable, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._math.differentiation import loop_name
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Tensor
from tf1xent.second_order.written_out import MATRIX, STEPS, axis_size, filled, shaped

# (state, the elements at one time) -> (next state, the results at that time).
_Step = Callable[[List[Tensor], List[Tensor]], Tuple[List[Tensor], List[Tensor]]]


def is_single(values: Tensor) -> bool:
    """Whether there is one step, known when the graph is built. Much is simple then."""
    return values.shape.as_list()[0] == 1


def one_step(values: Tensor) -> Tensor:
    """Gives the values of a single step a time axis."""
    return tf.expand_dims(values, 0)


def first_step(values: Tensor) -> Tensor:
    """The values of the first step, without the time axis."""
    return tf.squeeze(values, [0]) if is_single(values) else values[0]


def shifted(first: Tensor, values: Tensor) -> Tensor:
    """The values one step before: `first`, and then all of `values` but the last."""
    if is_single(values):
        return one_step(first)
    return tf.concat([one_step(first), values[:-1]], axis=0)


def earlier(values: Tensor) -> Tensor:
    """What reaches the step before: the values one step later, and zeros after the last."""
    if is_single(values):
        return tf.zeros_like(values)
    return tf.concat([values[1:], tf.zeros_like(values[:1])], axis=0)


def times(values: Tensor, matrix: Tensor, transposed: bool = False) -> Tensor:
    """The product of [time, batch, n] with a matrix [n, m], or with the transpose of [m, n]."""
    product = tf.matmul(_flat(values), matrix, transpose_b=transposed)
    sizes = [axis_size(values, 0), axis_size(values, 1), axis_size(product, 1)]
    return tf.reshape(product, sizes)


def summed_products(first: Tensor, second: Tensor) -> Tensor:
    """The sum over time and batch of the outer products of [..., n] and [..., m]: [n, m]."""
    return tf.matmul(_flat(first), _flat(second), transpose_a=True)


def _flat(values: Tensor) -> Tensor:
    return tf.reshape(values, [-1, axis_size(values, 2)])


def for_gates(cells: Tensor, outputs: Tensor) -> Tensor:
    """[C, C, C, H]: what the four gates act on."""
    return tf.concat([cells, cells, cells, outputs], axis=-1)


def _forward(
    carry: Tensor, gates: Tensor, output: Tensor, weights: Tensor, cells: Tensor, outputs: Tensor
) -> List[Tensor]:
    def step(state: List[Tensor], at: List[Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
        (cell, hidden), (carry, gates, output, cells, outputs) = state, at
        *into_cell, into_output = tf.split(gates * tf.matmul(hidden, weights), 4, axis=-1)
        cell = tf.add_n([cells, carry * cell, *into_cell])
        state = [cell, outputs + output * cell + into_output]
        return state, state

    zeros = [tf.zeros_like(cells[0]), tf.zeros_like(outputs[0])]
    return _over_time(step, zeros, [carry, gates, output, cells, outputs])


def _backward(
    carry: Tensor, gates: Tensor, output: Tensor, weights: Tensor, cells: Tensor, outputs: Tensor
) -> List[Tensor]:
    def step(state: List[Tensor], at: List[Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
        carry, gates, output, cells, outputs = at
        hidden = outputs + state[1]
        cell = cells + output * hidden + state[0]
        before = tf.matmul(gates * for_gates(cell, hidden), weights, transpose_b=True)
        return [carry * cell, before], [cell, hidden]

    zeros = [tf.zeros_like(cells[0]), tf.zeros_like(outputs[0])]
    return _over_time(step, zeros, [carry, gates, output, cells, outputs], backward=True)


def _over_time(
    step: _Step, state: List[Tensor], elements: List[Tensor], backward: bool = False
) -> List[Tensor]:
    """The results of all steps, each [time, ...]."""
    size = tf.shape(elements[0])[0]
    read = [tf.TensorArray(e.dtype, size).unstack(e) for e in elements]
    written = [tf.TensorArray(part.dtype, size, element_shape=part.shape) for part in state]
    count = len(state)

    def body(done: Tensor, *carried: Tensor) -> List[Tensor]:
        time = size - 1 - done if backward else done
        state, results = step(list(carried[:count]), [array.read(time) for array in read])
        state = [_tf.with_static_shape(s, old.shape) for s, old in zip(state, carried)]
        arrays = [array.write(time, r) for array, r in zip(carried[count:], results)]
        return [done + 1, *state, *arrays]

    counter = tf.constant(0, name="time")
    carried = tf.while_loop(
        lambda done, *_: done < size,
        body,
        [counter, *state, *written],
        back_prop=False,
        parallel_iterations=1,
        name=loop_name(counter),
    )
    shape = elements[0].shape[:1].concatenate(state[0].shape)
    return [_tf.with_static_shape(array.stack(), shape) for array in carried[1 + count :]]


def _shaped(
    values: Sequence[Tensor], inputs: Sequence[Tensor]
) -> Tuple[List[Tensor], List[Tensor]]:
    return shaped(values, STEPS, STEPS), shaped(inputs, STEPS, STEPS, STEPS, MATRIX)


def _in_coefficients(
    inputs: Sequence[Tensor], forward: Sequence[Tensor], backward: Sequence[Tensor]
) -> List[Tensor]:
    gates, weights = inputs[1], inputs[3]
    before = [shifted(tf.zeros_like(values[0]), values) for values in forward]
    paired = for_gates(*backward)
    return [
        before[0] * backward[0],
        times(before[1], weights) * paired,
        forward[0] * backward[1],
        summed_products(before[1], gates * paired),
    ]


@_tf.primitive_list("Tf1xentForwardRecurrence", num_values=2)
def forward_recurrence(
    carry: Tensor, gates: Tensor, output: Tensor, weights: Tensor, cells: Tensor, outputs: Tensor
) -> Computed:
    """(c, h) of (p, q) = (`cells`, `outputs`), each [time, batch, cells].

    `carry` and `output` are [time, batch, cells], `gates` is [time, batch, 4 cells].
    """
    arguments = _tf.detached([carry, gates, output, weights, cells, outputs])
    return _forward(*arguments), ()


def backward_recurrence(
    carry: Tensor, gates: Tensor, output: Tensor, weights: Tensor, cells: Tensor, outputs: Tensor
) -> List[Tensor]:
    """(C, H) of (c', h') = (`cells`, `outputs`), as in `forward_recurrence`."""
    if is_single(cells):
        return [cells + output * outputs, outputs]
    return list(_backward_recurrence(carry, gates, output, weights, cells, outputs))


@_tf.primitive_list("Tf1xentBackwardRecurrence", num_values=2)
def _backward_recurrence(
    carry: Tensor, gates: Tensor, output: Tensor, weights: Tensor, cells: Tensor, outputs: Tensor
) -> Computed:
    arguments = _tf.detached([carry, gates, output, weights, cells, outputs])
    return _backward(*arguments), ()


@forward_recurrence.gradient
def _(
    values: List[Tensor],
    cotangents: List[Optional[Tensor]],
    inputs: Sequence[Tensor],
    residuals: Sequence[Tensor],
) -> Gradients:
    values, inputs = _shaped(values, inputs)
    back = backward_recurrence(*inputs, *filled(cotangents, values))
    return [*_in_coefficients(inputs, values, back), *back]


@_backward_recurrence.gradient
def _(
    values: List[Tensor],
    cotangents: List[Optional[Tensor]],
    inputs: Sequence[Tensor],
    residuals: Sequence[Tensor],
) -> Gradients:
    values, inputs = _shaped(values, inputs)
    ahead = forward_recurrence(*inputs, *filled(cotangents, values))
    return [*_in_coefficients(inputs, ahead, values), *ahead]
