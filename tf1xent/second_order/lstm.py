"""Second derivatives of TensorFlow's fused LSTMs: LSTMBlockCell, BlockLSTM and BlockLSTMV2.

One step of the cell, with [i, g, f, o] = [x, h'] w + b the four gates before their functions and
c', h' the state before; * is elementwise:

    i = sigmoid(i + wci * c')    f = sigmoid(f + wcf * c' + forget_bias)    ci = tanh(g)
    c = clip(i * ci + f * c')    o = sigmoid(o + wco * c)    co = tanh(c)    h = o * co

The fused gradient op reads the activations (i, c, f, o, ci, co) that the forward op has kept; but
TensorFlow's gradient of the forward op has no use for their cotangents, and drops them. So its
second derivative is not that of the gradient op in each of its inputs. Here `_activations` stands
between: its values are those that were kept, its derivatives are in the inputs of the cell. The
gradient op is written out in stock ops of these and is differentiated; its recurrence over time is
`tf1xent.second_order.recurrence`.

Half is computed in float32. TensorFlow's first gradient takes the clip of c for the identity, and
the higher ones do too: where c is clipped, they are those of c = i * ci + f * c' + a constant.
"""

from typing import Callable, List, NamedTuple, Optional, Sequence

from tf1xent import _tf
from tf1xent._tf import Computed, Gradients, tf
from tf1xent._typing import Operation, Tensor
from tf1xent.errors import MissingDerivativeError
from tf1xent.second_order.recurrence import (
    backward_recurrence,
    earlier,
    first_step,
    for_gates,
    is_single,
    one_step,
    shifted,
    summed_products,
    times,
)
from tf1xent.second_order.table import supplies
from tf1xent.second_order.written_out import (
    MATRIX,
    ONE_STEP,
    STEPS,
    VECTOR,
    Shape,
    added,
    axis_size,
    filled,
    shaped,
    written_out,
)


class _Inputs(NamedTuple):
    """What an LSTM is a function of, or the gradients in it.

    `x` is [time, batch, inputs]; the states before the first step are [batch, cells]; `w` is
    [inputs + cells, 4 cells] and `b` [4 cells], gates in the order i, g, f, o; `wci`, `wcf` and
    `wco` are [cells], zeros without peepholes.
    """

    x: Tensor
    cs_prev: Tensor
    h_prev: Tensor
    w: Tensor
    wci: Tensor
    wcf: Tensor
    wco: Tensor
    b: Tensor


# Of the inputs but x.
_OTHER_SHAPES = (MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, VECTOR)


class _Activations(NamedTuple):
    """What an LSTM computes in each step, [time, batch, cells] each."""

    i: Tensor
    cs: Tensor
    f: Tensor
    o: Tensor
    ci: Tensor
    co: Tensor
    h: Tensor


class _Backward(NamedTuple):
    """The gradients in the inputs of an LSTM, and in its gates before their functions."""

    inputs: _Inputs
    gates: Tensor


def _pull_back(
    inputs: _Inputs,
    kept: _Activations,
    cells: Tensor,
    outputs: Tensor,
    gates: Optional[Tensor] = None,
) -> _Backward:
    """The gradients in the inputs, for cotangents of c, of h, and of the gates."""
    cells_before = shifted(inputs.cs_prev, kept.cs)
    slope_i, slope_g, slope_f, slope_o, slope_co = _slopes(kept)
    from_i, from_f, from_o = slope_i * kept.ci, slope_f * cells_before, slope_o * kept.co
    from_g = slope_g * kept.i
    carry = kept.f + from_i * inputs.wci + from_f * inputs.wcf
    output = kept.o * slope_co + from_o * inputs.wco
    by_gates = tf.concat([from_i, from_g, from_f, from_o], axis=-1)
    recurrent = inputs.w[axis_size(inputs.x, -1) :]
    if gates is None:
        cells, outputs = backward_recurrence(carry, by_gates, output, recurrent, cells, outputs)
        return _in_inputs(inputs, kept, carry * cells, by_gates * for_gates(cells, outputs))
    i, _, f, o = tf.split(gates, 4, axis=-1)
    carried = i * inputs.wci + f * inputs.wcf
    cells += o * inputs.wco + earlier(carried)
    outputs += earlier(times(gates, recurrent, transposed=True))
    cells, outputs = backward_recurrence(carry, by_gates, output, recurrent, cells, outputs)
    in_gates = by_gates * for_gates(cells, outputs) + gates
    return _in_inputs(inputs, kept, carry * cells + carried, in_gates)


def _slopes(kept: _Activations) -> List[Tensor]:
    """The derivatives of i, ci, f, o and co by the arguments of sigmoid and tanh."""
    i, f, o = (gate - gate * gate for gate in (kept.i, kept.f, kept.o))
    ci, co = (1 - values * values for values in (kept.ci, kept.co))
    return [i, ci, f, o, co]


def _in_inputs(
    inputs: _Inputs, kept: _Activations, in_cells_before: Tensor, in_gates: Tensor
) -> _Backward:
    """The gradients in the inputs, from those in each step's gates and state before it."""
    cells_before = shifted(inputs.cs_prev, kept.cs)
    both = tf.concat([inputs.x, shifted(inputs.h_prev, kept.h)], axis=-1)
    in_both = times(in_gates, inputs.w, transposed=True)
    size = axis_size(inputs.x, -1)
    i, _, f, o = tf.split(in_gates, 4, axis=-1)
    gradients = _Inputs(
        x=in_both[:, :, :size],
        cs_prev=first_step(in_cells_before),
        h_prev=first_step(in_both[:, :, size:]),
        w=summed_products(both, in_gates),
        wci=_sum(i * cells_before),
        wcf=_sum(f * cells_before),
        wco=_sum(o * kept.cs),
        b=_sum(in_gates),
    )
    return _Backward(gradients, in_gates)


def _sum(values: Tensor) -> Tensor:
    return tf.reduce_sum(values, axis=[0, 1])


def _activations_primitive(name: str, steps: Shape) -> _tf.Primitive:
    """A primitive: the activations, which are given last, as a function of the inputs."""

    @_tf.primitive_list(name, num_values=7, num_inputs=15)
    def activations(*arguments: Tensor) -> Computed:
        return _tf.detached(arguments[8:]), ()

    @activations.gradient
    def _(
        values: List[Tensor],
        cotangents: List[Optional[Tensor]],
        arguments: Sequence[Tensor],
        residuals: Sequence[Tensor],
    ) -> Gradients:
        inputs = _Inputs(*shaped(arguments, steps, *_OTHER_SHAPES))
        kept = _Activations(*shaped(values, *[steps] * 7))
        i, cs, f, o, ci, co, h = filled(cotangents, kept)
        slope_i, slope_g, slope_f, slope_o, slope_co = _slopes(kept)
        gates = tf.concat([i * slope_i, ci * slope_g, f * slope_f, o * slope_o], axis=-1)
        found = _pull_back(inputs, kept, cs + co * slope_co, h, gates)
        return [*found.inputs, *[None] * 7]

    return activations


_of_all_steps = _activations_primitive("Tf1xentLSTMActivations", STEPS)
_of_one_step = _activations_primitive("Tf1xentLSTMStepActivations", ONE_STEP)


def _differentiable(inputs: _Inputs, kept: Sequence[Tensor]) -> _Activations:
    """The activations with their derivatives in the inputs."""
    activations = _of_one_step if is_single(inputs.x) else _of_all_steps
    return _Activations(*activations(*inputs, *(tf.cast(k, inputs.x.dtype) for k in kept)))


def _first_gradient(
    inputs: _Inputs,
    kept: Sequence[Tensor],
    cells: Tensor,
    outputs: Tensor,
    op: Operation,
) -> _Backward:
    """What the gradient op computes, in stock ops that know how the activations depend on it."""
    inputs = _with_peepholes(op, inputs)
    activations = _differentiable(inputs, kept)
    found = _pull_back(inputs, activations, cells, outputs)
    return found._replace(inputs=_with_peepholes(op, found.inputs))


def _with_peepholes(op: Operation, inputs: _Inputs) -> _Inputs:
    """`inputs`, or gradients in them; without peepholes their weights are zeros."""
    if op.get_attr("use_peephole"):
        return inputs
    none = {name: tf.zeros_like(getattr(inputs, name)) for name in ("wci", "wcf", "wco")}
    return inputs._replace(**none)


_METHOD = "The cell written out in stock ops: exact, and slower than the fused op."


@supplies("LSTMBlockCell", [], "As TensorFlow 1: LSTMBlockCellGrad and matrix products.")
def _lstm_block_cell(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
    """The first gradient, which TensorFlow 2 lacks: graphs of 1.x hold the op."""
    inputs = _Inputs(*shaped(op.inputs, MATRIX, *_OTHER_SHAPES))
    kept = _Activations(*shaped(op.outputs, *[MATRIX] * 7))
    in_cells, in_outputs = filled([cotangents[1], cotangents[6]], [kept.cs, kept.h])
    in_state, in_gates, *in_peepholes = _tf.raw_op("LSTMBlockCellGrad")(
        **inputs._asdict(),
        **{name: value for name, value in kept._asdict().items() if name != "h"},
        cs_grad=in_cells,
        h_grad=in_outputs,
        **_tf.attributes(op, "use_peephole"),
    )
    in_both = tf.matmul(in_gates, inputs.w, transpose_b=True)
    both = tf.concat([inputs.x, inputs.h_prev], axis=1)
    size = axis_size(inputs.x, -1)
    gradients = [
        in_both[:, :size],
        in_state,
        in_both[:, size:],
        tf.matmul(both, in_gates, transpose_a=True),
        *in_peepholes,
        tf.reduce_sum(in_gates, axis=0),
    ]

    def activations(operands: List[Tensor]) -> Sequence[Tensor]:
        primary = shaped(operands, MATRIX, *_OTHER_SHAPES)
        inputs = _with_peepholes(op, _Inputs(one_step(primary[0]), *primary[1:]))
        found = _differentiable(inputs, [one_step(k) for k in kept])
        return [first_step(a) for a in found]

    others = [None if k in (1, 6) else c for k, c in enumerate(cotangents)]
    gradients = added(gradients, written_out(activations, inputs, others))
    return [_tf.with_static_shape(g, i.shape) for g, i in zip(gradients, inputs)]


@supplies("LSTMBlockCellGrad", ["LSTMBlockCell"], _METHOD)
def _lstm_block_cell_grad(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
    i, cs, f, o, ci, co = shaped(op.inputs[8:14], *[MATRIX] * 6)
    kept = [one_step(tensor) for tensor in (i, cs, f, o, ci, co, o * co)]

    def first(operands: List[Tensor]) -> List[Tensor]:
        *primary, cells, outputs = shaped(operands, MATRIX, *_OTHER_SHAPES, MATRIX, MATRIX)
        inputs = _Inputs(one_step(primary[0]), *primary[1:])
        found = _first_gradient(inputs, kept, one_step(cells), one_step(outputs), op)
        in_peepholes = [found.inputs.wci, found.inputs.wcf, found.inputs.wco]
        return [found.inputs.cs_prev, first_step(found.gates), *in_peepholes]

    gradients = written_out(first, [*op.inputs[:8], *op.inputs[14:]], cotangents)
    return [*gradients[:8], *[None] * 6, *gradients[8:]]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _swapped(tensor: Tensor) -> Tensor:
    """With the two middle gates in the other order."""
    first, second, third, fourth = tf.split(tensor, 4, axis=-1)
    return tf.concat([first, third, second, fourth], axis=-1)


def _block_lstm_gradient(
    op: Operation, cotangents: Sequence[Optional[Tensor]], ordered: Callable[[Tensor], Tensor]
) -> Gradients:
    """The gradient of BlockLSTMGrad; `ordered` changes the order of gates to i, g, f, o and back.

    Steps from `seq_len_max` on are not computed: the memory of their activations is not set.
    """
    x, *kept = shaped([op.inputs[1], *op.inputs[9:16]], *[STEPS] * 8)
    steps = tf.range(tf.shape(x, out_type=tf.int64)[0])
    computed = steps < op.inputs[0]

    def masked(tensor: Tensor) -> Tensor:
        return tf.where(computed, tensor, tf.zeros_like(tensor))

    kept = [masked(activation) for activation in kept]

    def first(operands: List[Tensor]) -> _Inputs:
        *primary, cells, outputs = shaped(operands, STEPS, *_OTHER_SHAPES, STEPS, STEPS)
        inputs = _Inputs(*primary)
        inputs = inputs._replace(x=masked(inputs.x), w=ordered(inputs.w), b=ordered(inputs.b))
        found = _first_gradient(inputs, kept, masked(cells), masked(outputs), op).inputs
        return found._replace(w=ordered(found.w), b=ordered(found.b))

    gradients = written_out(first, [*op.inputs[1:9], *op.inputs[16:]], cotangents)
    return [None, *gradients[:8], *[None] * 7, *gradients[8:]]


@supplies("BlockLSTMGrad", ["BlockLSTM"], _METHOD)
def _block_lstm_grad(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
    if not tf.executing_eagerly() and op.inputs[9].op.type == "BlockLSTMV2":
        # TensorFlow's gradient of BlockLSTMV2 makes a BlockLSTMGrad, not a BlockLSTMGradV2.
        raise MissingDerivativeError(
            "BlockLSTMGrad: the activations must be those of a BlockLSTM, got those of a "
            "BlockLSTMV2, of which TensorFlow's own first gradient is wrong: it mixes up the gates "
            "f and g. Use BlockLSTM, forget_bias 0, with the middle parts of `w` and `b` swapped."
        )
    return _block_lstm_gradient(op, cotangents, _same)


@supplies("BlockLSTMGradV2", [], _METHOD)
def _block_lstm_grad_v2(op: Operation, *cotangents: Optional[Tensor]) -> Gradients:
    return _block_lstm_gradient(op, cotangents, _swapped)
