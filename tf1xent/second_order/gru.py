"""Second derivatives of TensorFlow's fused GRU: GRUBlockCell.

With [r, u] = [x, h'] w_ru + b_ru the gates before their functions and h' the state before; * is
elementwise:

    r = sigmoid(r)    u = sigmoid(u)    c = tanh([x, h' * r] w_c + b_c)    h = u * h' + (1 - u) * c

As in `tf1xent.second_order.lstm`, the activations (r, u, c) that the gradient op reads get their
derivatives in the inputs of the cell by `_activations`.

TensorFlow's gradient of GRUBlockCell itself is exact in first order, but reads r, for the gradient
in w_c, and drops the cotangent that this sends to r. A second derivative would silently lack that
part. So this gradient is replaced by one with the same numbers, which reads r as a function of the
inputs.
"""

from typing import List, NamedTuple, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies
from tf1xent.second_order.written_out import (
    MATRIX,
    VECTOR,
    added,
    axis_size,
    filled,
    shaped,
    written_out,
)


class _Inputs(NamedTuple):
    """What a GRU cell is a function of: x [batch, inputs], h_prev [batch, cells], and weights.

    `w_ru` is [inputs + cells, 2 cells], `w_c` [inputs + cells, cells].
    """

    x: Tensor
    h_prev: Tensor
    w_ru: Tensor
    w_c: Tensor
    b_ru: Tensor
    b_c: Tensor


_SHAPES = (MATRIX, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR)


class _Activations(NamedTuple):
    """What a GRU cell computes on the way to its state, [batch, cells] each."""

    r: Tensor
    u: Tensor
    c: Tensor


class _Backward(NamedTuple):
    """The gradients in the arguments of tanh and of sigmoid, and those in x and h_prev of it."""

    c_bar: Tensor
    ru_bar: Tensor
    x: Tensor
    h_prev: Tensor


def _pull_back(inputs: _Inputs, kept: _Activations, r: Tensor, u: Tensor, c: Tensor) -> _Backward:
    """The gradients, for cotangents of the activations; without the path past them."""
    size = axis_size(inputs.x, 1)
    c_bar = c * (1 - kept.c * kept.c)
    in_second = tf.matmul(c_bar, inputs.w_c, transpose_b=True)
    in_reset = in_second[:, size:]
    r += in_reset * inputs.h_prev
    ru_bar = tf.concat([r * (kept.r - kept.r * kept.r), u * (kept.u - kept.u * kept.u)], axis=1)
    in_first = tf.matmul(ru_bar, inputs.w_ru, transpose_b=True)
    in_x = in_first[:, :size] + in_second[:, :size]
    return _Backward(c_bar, ru_bar, in_x, in_first[:, size:] + in_reset * kept.r)


def _in_inputs(inputs: _Inputs, r: Tensor, found: _Backward) -> List[Tensor]:
    """The gradients in the inputs."""
    in_bias = _tf.raw_op("BiasAddGrad")
    first = tf.concat([inputs.x, inputs.h_prev], axis=1)
    second = tf.concat([inputs.x, inputs.h_prev * r], axis=1)
    gradients = [
        found.x,
        found.h_prev,
        tf.matmul(first, found.ru_bar, transpose_a=True),
        tf.matmul(second, found.c_bar, transpose_a=True),
        in_bias(out_backprop=found.ru_bar),
        in_bias(out_backprop=found.c_bar),
    ]
    return [_tf.with_static_shape(g, i.shape) for g, i in zip(gradients, inputs)]


@_tf.primitive_list("Tf1xentGRUActivations", num_values=3, num_inputs=9)
def _activations(*arguments: Tensor) -> Computed:
    """The activations, which are given last, as a function of the inputs."""
    return _tf.detached(arguments[6:]), ()


@_activations.gradient
def _(
    values: List[Tensor],
    cotangents: List[Optional[Tensor]],
    arguments: Sequence[Tensor],
    residuals: Sequence[Tensor],
) -> Gradients:
    inputs = _Inputs(*shaped(arguments, *_SHAPES))
    kept = _Activations(*shaped(values, *[MATRIX] * 3))
    found = _pull_back(inputs, kept, *filled(cotangents, kept))
    return [*_in_inputs(inputs, kept.r, found), *[None] * 3]


@supplies(
    "GRUBlockCell",
    [],
    "As TensorFlow 1, with r as a function of the inputs.",
    instead_of="contrib.rnn.python.ops.gru_ops",
)
def _gru_block_cell(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
    """TensorFlow's own first gradient, of the same ops."""
    inputs = _Inputs(*shaped(op.inputs, *_SHAPES))
    *kept, state = shaped(op.outputs, *[MATRIX] * 4)
    r, u, c = _activations(*inputs, *kept)
    (in_state,) = filled(cotangents[3:], [state])
    found = _tf.raw_op("GRUBlockCellGrad")(**inputs._asdict(), r=r, u=u, c=c, d_h=in_state)
    in_x, in_h_prev, c_bar, ru_bar = found
    gradients = _in_inputs(inputs, r, _Backward(c_bar, ru_bar, in_x, in_h_prev))
    more = written_out(lambda operands: _activations(*operands, *kept), inputs, cotangents[:3])
    return added(gradients, more)


@supplies("GRUBlockCellGrad", ["GRUBlockCell"], "The cell written out in stock ops: exact, slower.")
def _gru_block_cell_grad(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
    kept = shaped(op.inputs[6:9], *[MATRIX] * 3)

    def first(operands: List[Tensor]) -> List[Tensor]:
        *primary, in_state = shaped(operands, *_SHAPES, MATRIX)
        inputs = _Inputs(*primary)
        activations = _Activations(*_activations(*inputs, *kept))
        in_u = in_state * (inputs.h_prev - activations.c)
        in_c = in_state * (1 - activations.u)
        found = _pull_back(inputs, activations, tf.zeros_like(in_u), in_u, in_c)
        in_h_prev = found.h_prev + in_state * activations.u
        return [found.x, in_h_prev, found.c_bar, found.ru_bar]

    gradients = written_out(first, [*op.inputs[:6], op.inputs[9]], cotangents)
    return [*gradients[:6], *[None] * 3, gradients[6]]
