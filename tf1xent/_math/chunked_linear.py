"""Softmax cross-entropy of a linear layer, X W + b, chunk by chunk of its classes.

The logits of all classes at once, [batch_size, num_classes], are never held, neither in the value
nor in a derivative. Chunk c of the classes, with logits x_c = X W_c + b_c, gives for each row

    a_c = the label's logit, if the label lies in this chunk, else 0
    z_c = log sum_{j in chunk, j != y} exp(x_j)         the smallest number if no class is left

and then, since the label's own term is nowhere added to the others,

    loss = cross-entropy of the row [x_y, z_1, ..., z_n] with label 0,      x_y = sum_c a_c.

A map like (X, W, b) -> (x_y, z) is one function applied chunk after chunk. What it reads is the
same for all chunks, or a piece for each; what it makes is summed over the chunks, or laid side by
side. Its vector-Jacobian product reads the same and the cotangents, makes what the map reads, and
is a map of the same sort. So one rule gives derivatives of every order, each computing its chunks
of logits anew.
"""

import collections
import functools
import itertools
from typing import Any, Dict

from tf1xent import _tf
from tf1xent._math import softmax
from tf1xent._math.matrix import (
    is_left_out,
    label_classes,
    put,
    row_sum,
    scale_rows,
    smallest,
    take,
)
from tf1xent._tf import tf

_MAPS: Dict[str, Any] = {}  # what `_registered` made, by name


# --- One chunk ----------------------------------------------------------------------------------
#
# `inside` says which labels lie in the chunk, `classes` which of its classes they are; for a label
# of another chunk, that is its first. A row that has no other class is one of the `lone` rows.


def _at_label(matrix, inside, classes):
    """The entries of `matrix` at the labels, 0 for labels of other chunks: [batch_size]."""
    values = take(matrix, classes)
    return _tf.where(inside, values, tf.zeros_like(values))


def _put_at_label(matrix, inside, classes, new_values):
    """`matrix` with new values at the labels that lie in the chunk."""
    values = take(matrix, classes)
    increments = _tf.where(inside, new_values - values, tf.zeros_like(values))
    new_values = _tf.where(inside, new_values, values)
    return put(matrix, classes, new_values, increments)


def _others(logits, inside, classes):
    """(m, e without the label's, their sum) of each row: e = exp(x - m), m the largest logit."""
    largest = tf.reduce_max(logits, axis=1)
    none_left = is_left_out(largest)
    largest = _tf.where(none_left, tf.zeros_like(largest), largest)
    exponentials = tf.exp(logits - largest[:, tf.newaxis])
    zeros = tf.zeros_like(largest)
    exponentials = _put_at_label(exponentials, inside, classes, zeros)
    return largest, exponentials, row_sum(exponentials)


def _statistics_pull_back(values, cotangents, inputs, residuals):
    at_labels, partitions = (
        _tf.with_static_shape(tf.zeros_like(value) if cotangent is None else cotangent, value.shape)
        for value, cotangent in zip(values, cotangents)
    )
    return [_chunk_gradient(*inputs, at_labels, partitions, rows=residuals), None, None]


_tf.register_pull_back("Tf1xentChunkStatistics", 2, 3, _statistics_pull_back)


def _statistics(logits, inside, classes):
    """(a, z) of a chunk of logits: [batch_size] each."""

    def compute():
        largest, others, others_sum = _others(logits, inside, classes)
        lone = tf.equal(others_sum, 0)
        log_sum = largest + tf.log(_tf.where(lone, tf.ones_like(others_sum), others_sum))
        values = [
            _at_label(logits, inside, classes),
            _tf.where(lone, smallest(log_sum), log_sum),
        ]
        return values, (others, others_sum)

    inputs = logits, inside, classes
    return _tf.with_pull_back("Tf1xentChunkStatistics", compute, inputs, _statistics_pull_back)


def _chunk_gradient_gradient(cotangent, inputs, _):
    logits, inside, classes, _, partitions = inputs
    others = _without_labels(logits, inside, classes)
    lone = _without_labels_and_lone(logits, inside, classes)[1]
    mean = softmax.mean(others, cotangent)
    zeros = tf.zeros_like(partitions)
    return [
        softmax.hessian_product(others, cotangent, _tf.where(lone, zeros, partitions)),
        None,
        None,
        _at_label(cotangent, inside, classes),
        _tf.where(lone, zeros, mean),
    ]


@_tf.primitive("Tf1xentChunkGradient", _chunk_gradient_gradient)
def _chunk_gradient(logits, inside, classes, at_labels, partitions, *, rows=None):
    """Gradient of `at_labels` a + `partitions` z in the logits: [batch_size, chunk_size].

    That is the softmax of the others times d z, and at the label d a.
    """
    others, others_sum = _others(logits, inside, classes)[1:] if rows is None else rows
    lone = tf.equal(others_sum, 0)
    divisor = _tf.where(lone, tf.ones_like(others_sum), others_sum)
    scale = _tf.where(lone, tf.zeros_like(partitions), partitions / divisor)
    gradient = scale_rows(scale, others)
    return _put_at_label(gradient, inside, classes, at_labels), ()


def _without_labels_gradient(cotangent, inputs, _):
    # The derivatives of what is computed from it are 0 at the labels, and where it is all zeros.
    return [cotangent, None, None]


@_tf.primitive("Tf1xentChunkWithoutLabels", _without_labels_gradient)
def _without_labels(logits, inside, classes):
    """The logits with the smallest number at the labels; zeros in rows where no class is left."""
    others, lone = _without_labels_and_lone(logits, inside, classes)
    return _tf.select_rows(lone, tf.zeros_like(others), others), ()


def _without_labels_and_lone(logits, inside, classes):
    """The logits with the smallest number at the labels; which rows have no other, [batch_size]."""
    others = _put_at_label(logits, inside, classes, smallest(logits[:, 0]))
    return others, tf.reduce_max(others, axis=1) <= logits.dtype.min


# --- Functions of one chunk, applied to all -----------------------------------------------------

# How a tensor belongs to the chunks: a piece of its axis `axis` is each chunk's own, one entry for
# each class of the chunk or one in all; with `axis` None it is the same for all as an input, and
# the sum over all as an output.
_Kind = collections.namedtuple("_Kind", ["axis", "by_class"])
_SHARED = _Kind(None, False)
_STACKED = _Kind(1, False)

# function(labels, inputs), of one chunk, returns the list of the chunk's outputs; `inputs` and
# `outputs` are their kinds, and zeros(inputs, num_chunks) the outputs before the first chunk.
_ChunkMap = collections.namedtuple("_ChunkMap", ["name", "function", "zeros", "inputs", "outputs"])


@functools.lru_cache(maxsize=None)
def _statistics_map(transposed, biased):
    """(X, W[, b]) -> (x_y, z)."""

    def function(labels, inputs):
        features, weights = inputs[:2]
        logits = tf.matmul(features, tf.cast(weights, features.dtype), transpose_b=transposed)
        if biased:
            logits = tf.nn.bias_add(logits, tf.cast(inputs[2], features.dtype))
        inside, classes = label_classes(logits, labels)
        at_label, partition = _statistics(logits, inside, classes)
        return [at_label, partition[:, tf.newaxis]]

    def zeros(inputs, num_chunks):
        features = inputs[0]
        batch_size = _size(features, 0)
        shapes = [batch_size], [batch_size, num_chunks]
        return [tf.zeros(shape, features.dtype) for shape in shapes]

    name = "Tf1xentLinear" + ("Transposed" if transposed else "") + ("Biased" if biased else "")
    kinds = [_SHARED, _Kind(0 if transposed else 1, True), _Kind(0, True)]
    return _registered(_ChunkMap(name, function, zeros, kinds[: 2 + biased], [_SHARED, _STACKED]))


@functools.lru_cache(maxsize=None)
def _derivative(name, outputs):
    """The vector-Jacobian product of the map `name`, for cotangents of the given outputs of it."""
    forward = _MAPS[name]
    count = len(forward.inputs)

    def function(labels, inputs):
        def differentiated(operands):
            values = forward.function(labels, operands)
            return [values[i] for i in outputs]

        return _vector_jacobian(differentiated, inputs[:count], inputs[count:])

    def zeros(inputs, _):
        return [_tf.buffer_like(operand) for operand in inputs[:count]]

    name = name + "By" + "And".join(str(i) for i in outputs)
    kinds = forward.inputs + [forward.outputs[i] for i in outputs]
    return _registered(_ChunkMap(name, function, zeros, kinds, forward.inputs))


def _vector_jacobian(function, operands, cotangents):
    """Gradients of <function(operands), cotangents> in the operands."""
    if tf.executing_eagerly():  # 1.13, which has no tf.function
        with tf.GradientTape() as tape:
            tape.watch(operands)
            values = function(operands)
        gradients = tape.gradient(values, operands, output_gradients=cotangents)
    else:
        gradients = tf.gradients(function(operands), operands, grad_ys=cotangents)
    return [
        tf.zeros_like(operand) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, operand in zip(gradients, operands)
    ]


def _piece(tensor, kind, chunk, first, size):
    """What the chunk number `chunk`, of classes [first, first + size), reads of an input."""
    if kind.axis is None:
        return tf.identity(tensor)  # the chunk's own, to be differentiated in this chunk alone
    begin = [0] * tensor.shape.ndims
    sizes = [_size(tensor, axis) for axis in range(tensor.shape.ndims)]
    begin[kind.axis], sizes[kind.axis] = (first, size) if kind.by_class else (chunk, 1)
    return tf.slice(tensor, begin, sizes)


def _apply_chunkwise(chunk_map, labels, inputs, num_chunks):
    """The outputs of the map: of each chunk in turn, summed or laid side by side."""
    num_classes = _size(inputs[1], chunk_map.inputs[1].axis)
    full_size = (num_classes + num_chunks - 1) // num_chunks  # the last chunk may be smaller

    def add_chunk(chunk, outputs, size):
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

    # Nothing starts before all inputs are there, cotangents too: else the first chunk would wait
    # for them, holding its logits, while the function that they are of still computes.
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
            name=_loop_name(counter),
        )[1:]
    with tf.control_dependencies(outputs):
        return add_chunk(last, outputs, num_classes - last * full_size)


def _loop_name(counter):
    """A name that no other loop has. A v1 loop is told from others by its name, and TensorFlow
    keeps that apart from those of loops built here, but not from those of an imported graph; the
    names of ops it does."""
    return None if tf.executing_eagerly() else counter.op.name.split("/")[-1] + "_loop"


def _size(tensor, axis):
    """The number of entries along an axis: an integer where it is known, else a tensor."""
    size = tensor.shape.as_list()[axis]
    return tf.shape(tensor)[axis] if size is None else size


def _with_result(output, result, kind, chunk, first):
    """An output of the map, as far as it is computed, with the result of one more chunk."""
    if kind.axis is None:
        return _tf.with_static_shape(output + result, output.shape)
    return _tf.put_slice(output, result, kind.axis, first if kind.by_class else chunk)


def _chunkwise(chunk_map, num_chunks):
    """`_apply_chunkwise` as a function of tensors; eagerly, one that runs as a graph.

    Only in graphs are pieces written in place; and a tape within, by which to differentiate a chunk
    eagerly, records nothing while a forward accumulator asks for a derivative.
    """
    if tf.executing_eagerly() and hasattr(tf, "function"):
        return _graph_function(chunk_map.name, num_chunks)
    return lambda labels, *inputs: _apply_chunkwise(chunk_map, labels, list(inputs), num_chunks)


@functools.lru_cache(maxsize=None)
def _graph_function(name, num_chunks):
    def function(labels, *inputs):
        return _apply_chunkwise(_MAPS[name], labels, list(inputs), num_chunks)

    return tf.function(function, autograph=False)


def _apply(chunk_map, labels, inputs, num_chunks):
    """The outputs of the map, with its gradient."""
    copies = _tf.detached([labels] + inputs)
    values = _chunkwise(chunk_map, num_chunks)(copies[0], *copies[1:])
    pull_back = functools.partial(_pull_back, chunk_map.name)
    return _tf.with_pull_back(chunk_map.name, lambda: (values, ()), [labels] + inputs, pull_back)


def _pull_back(name, values, cotangents, inputs, _):
    """The gradient of the map `name`, told from the op's values and inputs alone."""
    chunk_map = _MAPS[name]
    labels, inputs = inputs[0], list(inputs[1:])
    kinds = chunk_map.inputs + chunk_map.outputs
    stacked = (inputs + list(values))[kinds.index(_STACKED)]
    # tf.gradients sends zeros for what does not matter. But the zeros that a forward accumulator
    # sends stand for any cotangent: it differentiates in them.
    no_cotangent = _tf.is_zero if _tf.in_plain_graph() else lambda cotangent: cotangent is None
    present = [i for i, cotangent in enumerate(cotangents) if not no_cotangent(cotangent)]
    if not present:
        return [None] * (1 + len(inputs))
    if _STACKED not in chunk_map.inputs:  # the value: both of its outputs are small
        present = list(range(len(values)))
    cotangents = [
        tf.zeros_like(values[i])
        if cotangents[i] is None
        else _tf.with_static_shape(cotangents[i], values[i].shape)
        for i in present
    ]
    derivative = _derivative(name, tuple(present))
    gradients = _apply(derivative, labels, inputs + cotangents, _size(stacked, 1))
    return [None] + [
        _tf.with_static_shape(gradient, operand.shape)
        for gradient, operand in zip(gradients, inputs)
    ]


def _registered(chunk_map):
    """The map, its gradient known to TensorFlow by its name."""
    pull_back = functools.partial(_pull_back, chunk_map.name)
    num_inputs = 1 + len(chunk_map.inputs)  # labels come first
    _tf.register_pull_back(chunk_map.name, len(chunk_map.outputs), num_inputs, pull_back)
    _MAPS[chunk_map.name] = chunk_map
    return chunk_map


def _register_two_derivatives():
    """So that a graph that another process saved can be differentiated in this one."""
    for transposed, biased in itertools.product((False, True), repeat=2):
        first = _derivative(_statistics_map(transposed, biased).name, (0, 1))
        outputs = range(len(first.outputs))
        for count in range(1, len(outputs) + 1):
            for present in itertools.combinations(outputs, count):
                _derivative(first.name, present)


_register_two_derivatives()


# --- All chunks ---------------------------------------------------------------------------------


def statistics(labels, inputs, weights, biases, *, chunk_size, transpose_weights=False):
    """(x_y, z), [batch_size] and [batch_size, num_chunks], of the logits X W + b; see the module.

    `inputs` are [batch_size, dim], float32 or float64; `weights` [dim, num_classes], or with
    `transpose_weights` [num_classes, dim]; `biases` [num_classes] or None. These two may be of
    another dtype; they are cast chunk by chunk. Chunks are of at most `chunk_size` classes, and of
    one size but for the last. x_y is 0 for labels out of range.
    """
    chunk_map = _statistics_map(transpose_weights, biases is not None)
    operands = [inputs, weights] + ([] if biases is None else [biases])
    num_classes = _size(weights, chunk_map.inputs[1].axis)
    return _apply(chunk_map, labels, operands, (num_classes + chunk_size - 1) // chunk_size)
