"""Vectorization of ops by TensorFlow's pfor: `tf.vectorized_map`, `jacobian`, `batch_jacobian`.

pfor runs all iterations of a loop body at once. For each op type in the body it looks up a
converter in a registry: a function from the op's inputs to its outputs. An input that differs
between iterations is *stacked*: it holds all iterations, along a new first axis. So are outputs.
Converters that TensorFlow lacks, for ops that losses are made of, are added here.

The registry belongs to the process, so these converters serve every program that vectorizes the op.
One is registered only where this TensorFlow has none. So it replaces a "No converter defined" error
or a slow loop, never a converter of TensorFlow's own.
"""

from typing import Any, Callable, List, Sequence

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gen_array_ops

from tf1xent._tf.modules import module_if_there
from tf1xent._typing import Tensor

# pfor's own description of an op to convert; and what it takes for the op's outputs.
_PforInput = Any
_Converted = Any

_pfor = module_if_there("ops.parallel_for.pfor")


def register_converter(
    op_types: Sequence[str], converter: Callable[[_PforInput], _Converted]
) -> None:
    """Registers ``converter(pfor_input)`` for the op types that have none."""
    for op_type in op_types:
        if op_type not in _pfor._pfor_converter_registry:
            _pfor.RegisterPFor(op_type)(converter)


def register_batch_ops(
    op_types: Sequence[str], by_column: Sequence[int] = (), outputs_by_column: Sequence[int] = ()
) -> None:
    """Registers a converter for ops that treat rows independently: all iterations make one batch.

    Rows lie along the first axis of each input and output. In the matrices with the numbers
    `by_column` and `outputs_by_column` they are columns.
    """

    def converter(pfor_input: _PforInput) -> _Converted:
        pfor_input.stack_inputs()
        inputs = [wrapped.t for wrapped in pfor_input.inputs]
        sizes = tf.shape(inputs[0])[:2]  # the first input has a row for an entry
        outputs = _same_op(pfor_input, [_merged(t, i in by_column) for i, t in enumerate(inputs)])
        split = [_split(t, sizes, i in outputs_by_column) for i, t in enumerate(outputs)]
        return [_pfor.wrap(tensor, True) for tensor in split]

    register_converter(op_types, converter)


def _merged(stacked: Tensor, by_column: bool) -> Tensor:
    """Reshapes [iterations, rows, ...] to [iterations * rows, ...].

    With `by_column`, [iterations, kinds, rows] to [kinds, iterations * rows].
    """
    if by_column:
        stacked = tf.transpose(stacked, [1, 0, 2])
    shape, axis = tf.shape(stacked), int(by_column)
    merged = [shape[:axis], [shape[axis] * shape[axis + 1]], shape[axis + 2 :]]
    return tf.reshape(stacked, tf.concat(merged, axis=0))


def _split(merged: Tensor, sizes: Tensor, by_column: bool) -> Tensor:
    """The inverse of `_merged`; `sizes` is [iterations, rows]."""
    shape, axis = tf.shape(merged), int(by_column)
    split = tf.reshape(merged, tf.concat([shape[:axis], sizes, shape[axis + 1 :]], axis=0))
    return tf.transpose(split, [1, 0, 2]) if by_column else split


def _same_op(pfor_input: _PforInput, inputs: List[Tensor]) -> List[Tensor]:
    """The outputs of an op of the same type and attributes with other inputs."""
    dtypes = [output.dtype for output in pfor_input.outputs]
    attributes = pfor_input.op.node_def.attr
    return _pfor._create_op(pfor_input.op_type, inputs, dtypes, attrs=attributes).outputs


# --- Stock ops --------------------------------------------------------------------------------


def _convert_elementwise(pfor_input: _PforInput) -> _Converted:
    """Ops of one input that treat entries, or vectors along the last axis, independently."""
    return _pfor.wrap(_same_op(pfor_input, [pfor_input.stacked_input(0)])[0], True)


def _convert_reduction(pfor_input: _PforInput) -> _Converted:
    """Ops that take a tensor and the axis, or axes, to reduce."""
    axes = pfor_input.unstacked_input(1)
    axes = axes + tf.cast(axes >= 0, axes.dtype)
    return _pfor.wrap(_same_op(pfor_input, [pfor_input.stacked_input(0), axes])[0], True)


def _convert_gather_nd(pfor_input: _PforInput) -> _Converted:
    params, params_stacked = pfor_input.input(0)[:2]
    if not params_stacked:
        return _pfor.wrap(_same_op(pfor_input, [params, pfor_input.stacked_input(1)])[0], True)
    pfor_input.stack_inputs([1])
    indices = _with_iteration(pfor_input.stacked_input(1))
    return _pfor.wrap(_same_op(pfor_input, [params, indices])[0], True)


def _convert_scatter_nd(pfor_input: _PforInput) -> _Converted:
    pfor_input.stack_inputs([0, 1])
    indices, updates = pfor_input.stacked_input(0), pfor_input.stacked_input(1)
    shape = pfor_input.unstacked_input(2)
    iterations = tf.cast(pfor_input.pfor.loop_len_vector, shape.dtype)
    inputs = [_with_iteration(indices), updates, tf.concat([iterations, shape], axis=0)]
    return _pfor.wrap(_same_op(pfor_input, inputs)[0], True)


def _convert_tensor_scatter(pfor_input: _PforInput) -> _Converted:
    pfor_input.stack_inputs()
    tensor, indices, updates = (pfor_input.stacked_input(i) for i in range(3))
    return _pfor.wrap(_same_op(pfor_input, [tensor, _with_iteration(indices), updates])[0], True)


def _with_iteration(indices: Tensor) -> Tensor:
    """Stacked indices with the iteration's number as a new first index: depth becomes depth + 1."""
    first = indices[..., :1]
    rank = tf.rank(first)
    count = tf.shape(first)[:1]
    shape = tf.concat([count, tf.ones([rank - 1], tf.int32)], axis=0)
    numbers = tf.reshape(tf.range(count[0]), shape)
    return tf.concat([tf.zeros_like(first) + tf.cast(numbers, first.dtype), indices], axis=-1)


def _convert_broadcast_to(pfor_input: _PforInput) -> _Converted:
    tensor, shape = pfor_input.stacked_input(0), pfor_input.unstacked_input(1)
    own = tf.shape(tensor, out_type=shape.dtype)
    ones = tf.ones([tf.size(shape) + 1 - tf.size(own)], shape.dtype)
    tensor = tf.reshape(tensor, tf.concat([own[:1], ones, own[1:]], axis=0))
    return _pfor.wrap(_same_op(pfor_input, [tensor, tf.concat([own[:1], shape], axis=0)])[0], True)


def _convert_clip(pfor_input: _PforInput) -> _Converted:
    bounds = pfor_input.unstacked_input(1), pfor_input.unstacked_input(2)
    return _pfor.wrap(_same_op(pfor_input, [pfor_input.stacked_input(0), *bounds])[0], True)


def _convert_empty(pfor_input: _PforInput) -> _Converted:
    """New memory, of the same shape in all iterations.

    The op is stateful, so pfor needs a converter even if nothing is stacked.
    """
    return _pfor.wrap(_same_op(pfor_input, [pfor_input.unstacked_input(0)])[0], False)


def _convert_strided_update(pfor_input: _PforInput) -> _Converted:
    """The assignment of a slice. Its masks get a bit for the new first axis."""
    pfor_input.stack_inputs([0, 4])
    tensor, values = pfor_input.stacked_input(0), pfor_input.stacked_input(4)
    begin, end, strides = (
        tf.concat([[first], pfor_input.unstacked_input(i)], axis=0)
        for i, first in ((1, 0), (2, 0), (3, 1))
    )
    masks = {
        name: pfor_input.get_attr(name) << 1
        for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    }
    for name in ("begin_mask", "end_mask"):
        masks[name] = pfor_input.get_attr(name) << 1 | 1
    updated = gen_array_ops.tensor_strided_slice_update(
        tensor, begin, end, strides, values, **masks
    )
    return _pfor.wrap(updated, True)


# TF 2.4's own converter of a gather makes the axis a tensor, and refuses such an axis when the
# vectorizer runs twice, as in a map of Jacobians. pfor prefers a converter that is set on an
# operation to the registry's, so these two apply only to gathers made here.


def _convert_take_by_row(pfor_input: _PforInput) -> _Converted:
    pfor_input.stack_inputs([0, 1])
    matrices, columns, axis = (wrapped.t for wrapped in pfor_input.inputs)
    inputs = [_merged(matrices, False), _merged(columns, False), axis]
    taken = taken_by_row(_same_op(pfor_input, inputs)[0])
    return _pfor.wrap(_split(taken, tf.shape(columns)[:2], False), True)


def _convert_take_by_position(pfor_input: _PforInput) -> _Converted:
    vectors, stacked = pfor_input.input(0)[:2]
    positions = pfor_input.input(1)[0]
    if not stacked:
        return _pfor.wrap(taken_by_position(tf.gather(vectors, positions)), True)
    pfor_input.stack_inputs([1])
    positions = pfor_input.stacked_input(1)
    taken = tf.gather(vectors, positions, axis=1, batch_dims=1)
    return _pfor.wrap(taken_by_row(taken), True)


def taken_by_row(tensor: Tensor) -> Tensor:
    """`tensor`, the result of a gather from each row of a matrix: axis 1, one batch dimension."""
    if not tf.executing_eagerly():
        tensor.op.pfor_converter = _convert_take_by_row
    return tensor


def taken_by_position(tensor: Tensor) -> Tensor:
    """`tensor`, the result of a gather of entries of a vector."""
    if not tf.executing_eagerly():
        tensor.op.pfor_converter = _convert_take_by_position
    return tensor


def clipped(tensor: Tensor) -> Tensor:
    """`tensor`, a result of ClipByValue. TF 2.4 to 2.11 have a converter, which always fails."""
    if not tf.executing_eagerly():
        tensor.op.pfor_converter = _convert_clip
    return tensor


def _convert_fill(pfor_input: _PforInput) -> _Converted:
    shapes, stacked = pfor_input.input(0)[:2]
    value = pfor_input.unstacked_input(1)
    if not stacked:
        return _pfor.wrap(filled(tf.fill(shapes, value)), False)
    shape = tf.concat([tf.shape(shapes)[:1], tf.reduce_max(shapes, axis=0)], axis=0)
    return _pfor.wrap(filled(tf.fill(shape, value)), True)


def filled(tensor: Tensor) -> Tensor:
    """`tensor`, a result of Fill, whose shape may be another in each iteration: the largest is.

    TensorFlow's converter takes one shape for all.
    """
    if not tf.executing_eagerly():
        tensor.op.pfor_converter = _convert_fill
    return tensor


# In the first group the class axis, if there is one, is the last.
_CONVERTERS = (
    (("Bitcast", "LogSoftmax", "PreventGradient", "Softmax"), _convert_elementwise),
    (("All", "Any", "ArgMax", "Mean"), _convert_reduction),
    (("BroadcastTo",), _convert_broadcast_to),
    (("ClipByValue",), _convert_clip),
    (("Empty",), _convert_empty),
    (("GatherNd",), _convert_gather_nd),
    (("ScatterNd",), _convert_scatter_nd),
    (("ScatterNdNonAliasingAdd", "TensorScatterUpdate"), _convert_tensor_scatter),
    (("TensorStridedSliceUpdate",), _convert_strided_update),
)

for _op_types, _converter in _CONVERTERS:
    register_converter(_op_types, _converter)
register_batch_ops(["SparseSoftmaxCrossEntropyWithLogits"])
