"""Softmax cross-entropy of a linear layer, X W + b, chunk by chunk of its classes.

The whole matrix of logits, [batch_size, num_classes], is never in memory, neither for the value nor
for a derivative. Chunk c of the classes, with logits x_c = X W_c + b_c, gives for each row

    a_c = the label's logit, if the label lies in this chunk, else 0
    z_c = log sum_{j in chunk, j != y} exp(x_j)         the smallest number if no class is left

(`tf1xent._math.chunk`) and, because the label's own term is never added to the others,

    loss = cross-entropy of the row [x_y, z_1, ..., z_n] with label 0,      x_y = sum_c a_c.

A map like (X, W, b) -> (x_y, z) is one function applied chunk after chunk. An input is the same for
all chunks, or sliced; an output is summed over the chunks, or concatenated. The map's
vector-Jacobian product takes the inputs and the cotangents, returns what is like the inputs, and is
a map of the same form. So one rule gives derivatives of every order; each recomputes its chunks of
logits.
"""

import functools
import itertools
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from tf1xent import _tf
from tf1xent._math import chunk as one_chunk
from tf1xent._math.differentiation import loop_name, vector_jacobian
from tf1xent._math.labels import label_classes
from tf1xent._tf import Gradients, tf
from tf1xent._typing import Tensor

# By name, what `_registered` made.
_MAPS: Dict[str, "_ChunkMap"] = {}
_PRIMITIVES: Dict[str, _tf.Primitive] = {}


# An integer where it is known when the graph is built.
_Size = Union[int, Tensor]


class _Kind(NamedTuple):
    """How a tensor splits: a slice along an axis for each chunk, or shared by all.

    Attributes:
      axis: the sliced axis. None: as an input it is the same for all chunks; as an output it is the
        sum over all chunks.
      by_class: whether a slice has one entry for each class of the chunk, or one entry in all.
    """

    axis: Optional[int]
    by_class: bool


_SHARED = _Kind(None, False)
_STACKED = _Kind(1, False)


class _ChunkMap(NamedTuple):
    """A function of one chunk, to be applied to all.

    Attributes:
      name: under which the gradient is registered.
      function: (labels, inputs) -> the outputs, of one chunk.
      zeros: (inputs, num_chunks) -> the outputs before the first chunk.
      inputs, outputs: how each splits.
    """

    name: str
    function: Callable[[Tensor, List[Tensor]], List[Tensor]]
    zeros: Callable[[List[Tensor], _Size], List[Tensor]]
    inputs: List[_Kind]
    outputs: List[_Kind]


@functools.lru_cache(maxsize=None)
def _statistics_map(transposed: bool, biased: bool) -> _ChunkMap:
    """(X, W[, b]) -> (x_y, z)."""

    def function(labels: Tensor, inputs: List[Tensor]) -> List[Tensor]:
        features, weights = inputs[:2]
        logits = tf.matmul(features, tf.cast(weights, features.dtype), transpose_b=transposed)
        if biased:
            logits = tf.nn.bias_add(logits, tf.cast(inputs[2], features.dtype))
        inside, classes = label_classes(logits, labels)
        at_label, log_partition = one_chunk.statistics(logits, inside, classes)
        return [at_label, log_partition[:, tf.newaxis]]

    def zeros(inputs: List[Tensor], num_chunks: _Size) -> List[Tensor]:
        features = inputs[0]
        batch_size = _size(features, 0)
        shapes = [batch_size], [batch_size, num_chunks]
        return [tf.zeros(shape, features.dtype) for shape in shapes]

    name = "Tf1xentLinear" + ("Transposed" if transposed else "") + ("Biased" if biased else "")
    kinds = [_SHARED, _Kind(0 if transposed else 1, True), _Kind(0, True)]
    return _registered(_ChunkMap(name, function, zeros, kinds[: 2 + biased], [_SHARED, _STACKED]))


@functools.lru_cache(maxsize=None)
def _derivative(name: str, outputs: Tuple[int, ...]) -> _ChunkMap:
    """The vector-Jacobian product of the map `name`, for cotangents of the given outputs of it."""
    forward = _MAPS[name]
    count = len(forward.inputs)

    def function(labels: Tensor, inputs: List[Tensor]) -> List[Tensor]:
        def differentiated(operands: List[Tensor]) -> List[Tensor]:
            values = forward.function(labels, operands)
            return [values[i] for i in outputs]

        return vector_jacobian(differentiated, inputs[:count], inputs[count:])

    def zeros(inputs: List[Tensor], _: _Size) -> List[Tensor]:
        return [_tf.buffer_like(operand) for operand in inputs[:count]]

    name = name + "By" + "And".join(str(i) for i in outputs)
    kinds = forward.inputs + [forward.outputs[i] for i in outputs]
    return _registered(_ChunkMap(name, function, zeros, kinds, forward.inputs))


def _piece(tensor: Tensor, kind: _Kind, chunk: _Size, first: _Size, size: _Size) -> Tensor:
    """The part of an input that chunk number `chunk`, classes [first, first + size), reads."""
    if kind.axis is None:
        return tf.identity(tensor)  # a copy, to be differentiated in this chunk alone
    begin = [0] * tensor.shape.ndims
    sizes = [_size(tensor, axis) for axis in range(tensor.shape.ndims)]
    begin[kind.axis], sizes[kind.axis] = (first, size) if kind.by_class else (chunk, 1)
    return tf.slice(tensor, begin, sizes)


def _apply_chunkwise(
    chunk_map: _ChunkMap, labels: Tensor, inputs: List[Tensor], num_chunks: _Size
) -> List[Tensor]:
    """The outputs of the map: those of the chunks, summed or concatenated."""
    num_classes = _size(inputs[1], chunk_map.inputs[1].axis)
    full_size = (num_classes + num_chunks - 1) // num_chunks  # the last chunk may be smaller

    def add_chunk(chunk: _Size, outputs: List[Tensor], size: _Size) -> List[Tensor]:
        first = chunk * full_size
        operands = [
            _piece(tensor, kind, chunk, first, size)
            for tensor, kind in zip(inputs, chunk_map.inputs)
        ]
        results = chunk_map.function(labels - tf.cast(first, labels.dtype), operands)
        return [
            _with_result(output, result, kind, chunk, first)
            for output, result, kind in zip(outputs, results, chunk_map.outputs)
        ]

    # Nothing starts before all inputs, cotangents included, are computed. Otherwise the first chunk
    # would hold its logits in memory while it waits for them.
    with tf.control_dependencies(inputs):
        outputs = chunk_map.zeros(inputs, num_chunks)
    last = num_chunks - 1
    if not isinstance(last, int) or last:
        counter = tf.constant(0, name="chunk")
        outputs = tf.while_loop(
            lambda chunk, *_: chunk < last,
            lambda chunk, *outputs: [chunk + 1] + add_chunk(chunk, outputs, full_size),
            [counter] + outputs,
            back_prop=False,
            parallel_iterations=1,
            name=loop_name(counter),
        )[1:]
    with tf.control_dependencies(outputs):
        return add_chunk(last, outputs, num_classes - last * full_size)


def _size(tensor: Tensor, axis: Optional[int]) -> _Size:
    """The number of entries along an axis: an integer where it is known, else a tensor."""
    size = tensor.shape.as_list()[axis]
    return tf.shape(tensor)[axis] if size is None else size


def _with_result(output: Tensor, result: Tensor, kind: _Kind, chunk: _Size, first: _Size) -> Tensor:
    """A partial output of the map with the result of one more chunk."""
    if kind.axis is None:
        return _tf.with_static_shape(output + result, output.shape)
    return _tf.put_slice(output, result, kind.axis, first if kind.by_class else chunk)


def _chunkwise(chunk_map: _ChunkMap, num_chunks: _Size) -> Callable[..., List[Tensor]]:
    """`_apply_chunkwise` as a function of tensors; eagerly, one that runs as a graph.

    Slices are written in place only in graphs. And an inner tape, by which a chunk would be
    differentiated eagerly, records nothing while a forward accumulator is active.
    """
    if tf.executing_eagerly() and hasattr(tf, "function"):
        return _graph_function(chunk_map.name, num_chunks)
    return lambda labels, *inputs: _apply_chunkwise(chunk_map, labels, list(inputs), num_chunks)


@functools.lru_cache(maxsize=None)
def _graph_function(name: str, num_chunks: _Size) -> Callable[..., List[Tensor]]:
    def function(labels: Tensor, *inputs: Tensor) -> List[Tensor]:
        return _apply_chunkwise(_MAPS[name], labels, list(inputs), num_chunks)

    return tf.function(function, autograph=False)


def _apply(
    chunk_map: _ChunkMap, labels: Tensor, inputs: List[Tensor], num_chunks: _Size
) -> List[Tensor]:
    """The outputs of the map, with its gradient."""
    copies = _tf.detached([labels] + inputs)
    values = _chunkwise(chunk_map, num_chunks)(copies[0], *copies[1:])
    return _PRIMITIVES[chunk_map.name](labels, *inputs, values=values)


def _map_gradient(
    chunk_map: _ChunkMap,
    values: List[Tensor],
    cotangents: Sequence[Optional[Tensor]],
    labels: Tensor,
    inputs: List[Tensor],
) -> Gradients:
    """The gradient of `_apply` in `inputs`, from what the primitive's op holds.

    `cotangents` has None for a value that nothing uses.
    """
    kinds = chunk_map.inputs + chunk_map.outputs
    stacked = (inputs + list(values))[kinds.index(_STACKED)]
    # tf.gradients passes zeros for unused outputs; they are skipped. Forward mode differentiates in
    # the zeros that it passes; they are not.
    no_cotangent = _tf.is_zero if _tf.in_plain_graph() else lambda cotangent: cotangent is None
    present = [i for i, cotangent in enumerate(cotangents) if not no_cotangent(cotangent)]
    if not present:
        return [None] * len(inputs)
    if _STACKED not in chunk_map.inputs:  # the map itself, whose two outputs are small
        present = list(range(len(values)))
    cotangents = [
        tf.zeros_like(values[i])
        if cotangents[i] is None
        else _tf.with_static_shape(cotangents[i], values[i].shape)
        for i in present
    ]
    derivative = _derivative(chunk_map.name, tuple(present))
    gradients = _apply(derivative, labels, inputs + cotangents, _size(stacked, 1))
    return [
        _tf.with_static_shape(gradient, operand.shape)
        for gradient, operand in zip(gradients, inputs)
    ]


def _registered(chunk_map: _ChunkMap) -> _ChunkMap:
    """The map, its gradient registered with TensorFlow under its name."""
    num_inputs = 1 + len(chunk_map.inputs)  # labels come first

    @_tf.primitive_list(chunk_map.name, len(chunk_map.outputs), num_inputs)
    def carried(*_: Tensor, values: List[Tensor]) -> Tuple[List[Tensor], Sequence[Tensor]]:
        return values, ()

    @carried.gradient
    def _(
        values: List[Tensor],
        cotangents: Sequence[Optional[Tensor]],
        inputs: Sequence[Tensor],
        _: Sequence[Tensor],
    ) -> Gradients:
        labels, *operands = inputs
        return [None, *_map_gradient(chunk_map, values, cotangents, labels, operands)]

    _MAPS[chunk_map.name] = chunk_map
    _PRIMITIVES[chunk_map.name] = carried
    return chunk_map


def _register_two_derivatives() -> None:
    """Registers what a graph saved by another process needs to be differentiated twice."""
    for transposed, biased in itertools.product((False, True), repeat=2):
        first = _derivative(_statistics_map(transposed, biased).name, (0, 1))
        outputs = range(len(first.outputs))
        for count in range(1, len(outputs) + 1):
            for present in itertools.combinations(outputs, count):
                _derivative(first.name, present)


_register_two_derivatives()


# --- All chunks ---------------------------------------------------------------------------------


def statistics(
    labels: Tensor,
    inputs: Tensor,
    weights: Tensor,
    biases: Optional[Tensor],
    *,
    chunk_size: int,
    transpose_weights: bool = False,
) -> List[Tensor]:
    """(x_y, z), [batch_size] and [batch_size, num_chunks], of the logits X W + b; see the module.

    `inputs` are [batch_size, dim], float32 or float64; `weights` are [dim, num_classes], or with
    `transpose_weights` [num_classes, dim]; `biases` are [num_classes] or None. Weights and biases
    may have another dtype; they are cast chunk by chunk. Chunks have at most `chunk_size` classes,
    all the same number but for the last. x_y is 0 for labels out of range.
    """
    chunk_map = _statistics_map(transpose_weights, biases is not None)
    operands = [inputs, weights] + ([] if biases is None else [biases])
    num_classes = _size(weights, chunk_map.inputs[1].axis)
    return _apply(chunk_map, labels, operands, (num_classes + chunk_size - 1) // chunk_size)
