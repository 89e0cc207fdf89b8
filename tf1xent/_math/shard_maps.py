"""Functions of one shard of the classes, chunk by chunk, on the shard's device, to every order.

A shard of logits, or of the weights that give them, may live on another device or task, and may be
too large for its logits to be in memory at once. So nothing of its size may be touched by an op
that somebody else builds, nor by one that TensorFlow places. A `ShardMap` is one function applied
to one chunk of the shard's classes after another. An input is the same for all chunks, or sliced;
an output is summed over the chunks, or concatenated. The map's vector-Jacobian product takes the
inputs and the cotangents, returns what is like the inputs, and is a map of the same form. So one
rule gives derivatives of every order, each of which recomputes its chunks; and all ops of each are
built here, beside the shard.
"""

import contextlib
import functools
from typing import Callable, ContextManager, List, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._math.differentiation import loop_name
from tf1xent._math.shard_structures import (
    OPERANDS,
    Given,
    Kind,
    ShardFunction,
    ShardMap,
    Size,
    map_of,
    shard_position,
    structure_of,
)
from tf1xent._tf import Gradients, Structure, tf
from tf1xent._typing import Tensor

# --- All chunks ---------------------------------------------------------------------------------


def size(tensor: Tensor, axis: int) -> Size:
    """The number of entries along an axis: an integer where it is known, else a tensor."""
    known = tensor.shape.as_list()[axis]
    return tf.shape(tensor)[axis] if known is None else known


def _shard(shard_map: ShardMap, inputs: Sequence[Tensor]) -> Tuple[Tensor, Kind]:
    """The operand that is the shard's own, and how it splits."""
    position = shard_position(shard_map.head)
    return inputs[position], shard_map.inputs[position]


def _scope(shard_map: ShardMap, inputs: Sequence[Tensor]) -> ContextManager[None]:
    """Where ops on the shard are built."""
    if not shard_map.head.is_placed:
        return contextlib.nullcontext()
    return _tf.beside(_shard(shard_map, inputs)[0])


def _classes_and_chunks(shard_map: ShardMap, inputs: Sequence[Tensor]) -> Tuple[Size, Size]:
    """The numbers of classes and of chunks of the shard."""
    chunk_size = shard_map.head.chunk_size
    if not chunk_size:
        return 1, 1
    shard, kind = _shard(shard_map, inputs)
    num_classes = size(shard, kind.axis or 0)
    return num_classes, (num_classes + chunk_size - 1) // chunk_size


def _piece(tensor: Tensor, kind: Kind, chunk: Size, first: Size, length: Size) -> Tensor:
    """The part of an input that chunk number `chunk`, classes [first, first + length), reads."""
    if kind.axis is None:
        return tf.identity(tensor)  # a copy, to be differentiated in this chunk alone
    begin = [0] * tensor.shape.ndims
    sizes = [size(tensor, axis) for axis in range(tensor.shape.ndims)]
    begin[kind.axis], sizes[kind.axis] = (first, length) if kind.by_class else (chunk, 1)
    return tf.slice(tensor, begin, sizes)


def _zeros(
    shard_map: ShardMap, labels: Tensor, inputs: List[Tensor], num_chunks: Size
) -> List[Tensor]:
    """The outputs before the first chunk."""
    batch_size, zeros = size(labels, 0), []
    for kind, position in zip(shard_map.outputs, shard_map.like):
        if position is not None:
            zeros.append(_tf.buffer_like(inputs[position]))
        else:
            shape = [batch_size] if kind.axis is None else [batch_size, num_chunks]
            zeros.append(tf.zeros(shape, _computing_dtype(inputs)))
    return zeros


def _computing_dtype(inputs: Sequence[Tensor]) -> tf.DType:
    is_double = any(tensor.dtype.base_dtype == tf.float64 for tensor in inputs)
    return tf.float64 if is_double else tf.float32


def _apply_chunkwise(shard_map: ShardMap, labels: Tensor, inputs: List[Tensor]) -> List[Tensor]:
    """The outputs of the map: those of the chunks, summed or concatenated."""
    num_classes, num_chunks = _classes_and_chunks(shard_map, inputs)
    if isinstance(num_chunks, int) and num_chunks == 1:
        copies = [tf.identity(tensor) for tensor in inputs]  # each differentiated by itself
        return shard_map.function(labels, copies)
    full_size = (num_classes + num_chunks - 1) // num_chunks  # the last chunk may be smaller

    def add_chunk(chunk: Size, outputs: List[Tensor], length: Size) -> List[Tensor]:
        first = chunk * full_size
        operands = [
            _piece(tensor, kind, chunk, first, length)
            for tensor, kind in zip(inputs, shard_map.inputs)
        ]
        results = shard_map.function(labels - tf.cast(first, labels.dtype), operands)
        return [
            _with_result(output, result, kind, chunk, first)
            for output, result, kind in zip(outputs, results, shard_map.outputs)
        ]

    # Nothing starts before all inputs, cotangents included, are computed. Otherwise the first chunk
    # would hold its logits in memory while it waits for them.
    with tf.control_dependencies(inputs):
        outputs = _zeros(shard_map, labels, inputs, num_chunks)
    last = num_chunks - 1
    if not isinstance(last, int) or last:
        counter = tf.constant(0, name="chunk")
        outputs = tf.while_loop(
            lambda chunk, *_: chunk < last,
            lambda chunk, *outputs: [chunk + 1] + add_chunk(chunk, list(outputs), full_size),
            [counter] + outputs,
            back_prop=False,
            parallel_iterations=1,
            name=loop_name(counter),
        )[1:]
    with tf.control_dependencies(outputs):
        return add_chunk(last, outputs, num_classes - last * full_size)


def _with_result(output: Tensor, result: Tensor, kind: Kind, chunk: Size, first: Size) -> Tensor:
    """A partial output of the map with the result of one more chunk."""
    if kind.axis is None:
        return _tf.with_static_shape(output + result, output.shape)
    return _tf.put_slice(output, result, kind.axis, first if kind.by_class else chunk)


def _outputs(structure: Structure, labels: Tensor, inputs: Sequence[Tensor]) -> List[Tensor]:
    """The outputs of the map, of inputs of any rank."""
    shard_map = map_of(structure)
    matrices = [
        _as_matrix(tensor) if kind.is_flattened else tensor
        for tensor, kind in zip(inputs, shard_map.inputs)
    ]
    outputs = _apply_chunkwise(shard_map, labels, matrices)
    for i, position in enumerate(shard_map.like):
        if position is not None and matrices[position] is not inputs[position]:
            outputs[i] = tf.reshape(outputs[i], tf.shape(inputs[position]))
    return outputs


def _as_matrix(tensor: Tensor) -> Tensor:
    if tensor.shape.ndims == 2:
        return tensor
    matrix = tf.reshape(tensor, tf.stack([-1, tf.shape(tensor)[-1]]))
    rows = tensor.shape[:-1].num_elements()
    return _tf.set_static_shape(matrix, [rows, tensor.shape.as_list()[-1]])


# --- The gradient -------------------------------------------------------------------------------


def _chunkwise(structure: Structure) -> Callable[..., List[Tensor]]:
    """`_outputs` as a function of tensors; eagerly, one that runs as a graph.

    Slices are written in place only in graphs. And an inner tape, by which a chunk would be
    differentiated eagerly, records nothing while a forward accumulator is active.
    """
    if tf.executing_eagerly() and hasattr(tf, "function"):
        return _graph_function(structure)
    return lambda labels, *inputs: _outputs(structure, labels, inputs)


@functools.lru_cache(maxsize=None)
def _graph_function(structure: Structure) -> Callable[..., List[Tensor]]:
    def function(labels: Tensor, *inputs: Tensor) -> List[Tensor]:
        return _outputs(structure, labels, inputs)

    return tf.function(function, autograph=False)


def _apply(structure: Structure, labels: Tensor, inputs: List[Tensor]) -> List[Tensor]:
    """The outputs of the map, with its gradient."""
    with _scope(map_of(structure), inputs):
        copies = _tf.detached([labels] + inputs)
        values = _chunkwise(structure)(copies[0], *copies[1:])
        return _CARRIED(structure, [labels] + inputs, values)


def _map_gradient(
    structure: Structure,
    values: List[Tensor],
    cotangents: Sequence[Optional[Tensor]],
    inputs: Sequence[Tensor],
) -> Gradients:
    """The gradient of `_apply` in labels and inputs; a cotangent of None: nothing uses the value.

    tf.gradients passes zeros for unused outputs; they are skipped. Forward mode differentiates in
    the zeros that it passes; they are not.
    """
    shard_map = map_of(structure)
    labels, *operands = inputs
    no_cotangent = _tf.is_zero if _tf.in_plain_graph() else lambda cotangent: cotangent is None
    present = [
        i
        for i, cotangent in enumerate(cotangents)
        if not shard_map.outputs[i].constant and not no_cotangent(cotangent)
    ]
    gradients: Gradients = [None] * len(inputs)
    variables = [i for i, kind in enumerate(shard_map.inputs) if not kind.constant]
    if not present or not variables:
        return gradients
    with _scope(shard_map, operands):
        given = [_tf.with_static_shape(cotangents[i], values[i].shape) for i in present]
        derivative = (*structure, len(present), *present)
        found = _apply(derivative, labels, operands + given)
        for i, gradient in zip(variables, found):
            gradients[1 + i] = _tf.with_static_shape(gradient, operands[i].shape)
    return gradients


_CARRIED = _tf.StructuredPrimitive("Tf1xentShardMap", _map_gradient)


def apply(
    function: ShardFunction,
    labels: Tensor,
    operands: Given,
    *,
    constants: Sequence[str] = (),
    flag: bool = False,
    chunk_size: int = 0,
    is_placed: bool = False,
) -> List[Tensor]:
    """The outputs of a function of the operands given by name, summed or stacked over its chunks.

    `constants` are operands that are not differentiated. `is_placed`: on the shard's device, else
    where it is built, and derivatives where they are built. `chunk_size` 0: all in one.
    """
    structure = structure_of(
        function, operands, constants, flag=flag, is_placed=is_placed, chunk_size=chunk_size
    )
    inputs = [operands[name] for name in OPERANDS if name in operands]
    return _apply(structure, labels, inputs)
