"""The statistics of chunks of classes against NumPy, and what they cost in graphs."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tf1xent._math import shard_statistics

BATCH_SIZE, DIM, NUM_CLASSES = 4, 3, 7
RANDOM = np.random.RandomState(5)
INPUTS = RANDOM.normal(size=(BATCH_SIZE, DIM))
WEIGHTS = 2 * RANDOM.normal(size=(DIM, NUM_CLASSES))
BIASES = RANDOM.normal(size=NUM_CLASSES)
LABELS = np.array([0, 6, 3, 2])
# The logarithm of an empty sum; finite, since NaN detectors look at every tensor.
NOTHING_LEFT = np.finfo(np.float64).min


def chunks_of(num_classes, chunk_size):
    """The classes of each chunk: as few chunks as fit, of one size but for the last."""
    num_chunks = -(-num_classes // chunk_size)
    size = -(-num_classes // num_chunks)
    return [range(first, min(first + size, num_classes)) for first in range(0, num_classes, size)]


def statistics_of(logits, labels, chunk_size):
    """(x_y, z), written down from their definition."""
    at_label = np.array([row[y] if 0 <= y < len(row) else 0 for row, y in zip(logits, labels)])
    chunks = chunks_of(logits.shape[1], chunk_size)
    partitions = np.full((len(logits), len(chunks)), NOTHING_LEFT)
    for i, (row, label) in enumerate(zip(logits, labels)):
        for c, chunk in enumerate(chunks):
            others = [row[j] for j in chunk if j != label]
            if np.any(np.isfinite(others)):
                partitions[i, c] = np.log(np.sum(np.exp(others)))
    return at_label, partitions


def build(chunk_size, labels=LABELS, biases=BIASES, transposed=False, known=True):
    """The tensors (x_y, z), and what they are differentiated in."""
    weights = WEIGHTS.T if transposed else WEIGHTS

    def given(value):
        return tf.placeholder_with_default(value, value.shape if known else [None] * value.ndim)

    operands = [given(INPUTS), given(weights)] + ([] if biases is None else [given(biases)])
    return statistics_by_chunk(given(labels), operands, chunk_size, transposed), operands


def statistics_by_chunk(labels, operands, chunk_size, transposed=False):
    """The tensors (x_y, z) of inputs, weights and maybe biases."""
    names = ("inputs", "transposed_weights" if transposed else "weights", "biases")
    found = shard_statistics.statistics(labels, dict(zip(names, operands)), chunk_size=chunk_size)
    return [found.at_label, found.others]


@pytest.mark.exhaustive
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 3, 5, NUM_CLASSES, 100])
def test_statistics(chunk_size, known):
    """All layouts; one chunk, many, uneven ones; chunks that hold nothing but the label."""
    with tf.Graph().as_default(), tf.Session() as session:
        # Biases with one layout where sizes are known, with the other where not.
        for transposed in (False, True):
            biases = BIASES if transposed == known else None
            logits = INPUTS.dot(WEIGHTS) + (0 if biases is None else biases)
            values, _ = build(chunk_size, LABELS, biases, transposed, known)
            got = session.run(values)
            for one, want in zip(got, statistics_of(logits, LABELS, chunk_size)):
                np.testing.assert_allclose(one, want, rtol=1e-12, atol=1e-12)


def test_labels_out_of_range_lie_in_no_chunk():
    labels = np.array([-1, 7, 10**6, -(10**6)])
    with tf.Graph().as_default(), tf.Session() as session:
        got = session.run(build(3, labels)[0])
    logits = INPUTS.dot(WEIGHTS) + BIASES
    for one, want in zip(got, statistics_of(logits, labels, 3)):
        np.testing.assert_allclose(one, want, rtol=1e-12)


def test_masked_classes_and_lone_labels_have_no_derivative():
    """Classes at -inf, a chunk of nothing but them and a label: 0, never NaN, to second order."""
    biases = np.where(np.arange(NUM_CLASSES) % 3 == 0, BIASES, -np.inf)
    labels = np.array([0, 3, 3, 6])
    with tf.Graph().as_default(), tf.Session() as session:
        (at_label, partitions), operands = build(3, labels, biases)
        finite = tf.where(partitions > -1e9, partitions, tf.zeros_like(partitions))
        total = tf.reduce_sum(at_label) + tf.reduce_sum(tf.sin(finite))
        first = tf.gradients(total, operands)
        second = tf.gradients(sum(tf.reduce_sum(tf.sin(g)) for g in first), operands)
        parts, gradients, products = session.run([partitions, first, second])
    # The label is all that its chunk holds.
    assert parts[0, 0] == parts[1, 1] == NOTHING_LEFT
    for value in gradients + products:
        assert np.isfinite(value).all()
    masked = np.isneginf(biases)
    assert not gradients[1][:, masked].any() and not gradients[2][masked].any()
    assert gradients[1][:, ~masked].all()
    assert not products[1][:, masked].any()


@pytest.mark.exhaustive
def test_third_order_against_finite_differences(chunk_size=3):
    random = np.random.RandomState(2)
    directions = [random.normal(size=value.shape) for value in (INPUTS, WEIGHTS, BIASES)]
    with tf.Graph().as_default(), tf.Session() as session:
        (at_label, partitions), operands = build(chunk_size)
        others = tf.where(partitions > -1e9, partitions, tf.zeros_like(partitions))
        value = tf.reduce_sum(tf.sin(at_label)) + tf.reduce_sum(tf.sin(others))
        orders = [value]
        for _ in range(3):
            gradients = tf.gradients(orders[-1], operands)
            orders.append(tf.add_n([tf.reduce_sum(g * v) for g, v in zip(gradients, directions)]))
        step = 1e-5

        def at(offset):
            values = (INPUTS, WEIGHTS, BIASES)
            return session.run(
                orders,
                {o: x + offset * v for o, x, v in zip(operands, values, directions)},
            )

        got, above, below = at(0), at(step), at(-step)
    for order in (1, 2, 3):
        want = (above[order - 1] - below[order - 1]) / (2 * step)
        np.testing.assert_allclose(got[order], want, rtol=1e-6, atol=1e-6)


def all_tensors(graph):
    """Every tensor of a graph, those in the bodies of its loops too."""
    graphs = [graph]
    for function in getattr(graph, "_functions", {}).values():
        inner = getattr(function, "graph", None)
        if inner is not None:
            graphs.append(inner)
    return [t for g in graphs for op in g.get_operations() for t in op.outputs]


def test_no_tensor_is_as_large_as_the_logits():
    """Value, gradient and Hessian-vector product of a batch of 101 and 997 classes."""
    batch_size, dim, num_classes, chunk_size = 101, 5, 997, 50
    with tf.Graph().as_default() as graph:
        operands = [
            tf.placeholder(tf.float32, shape)
            for shape in ([batch_size, dim], [dim, num_classes], [num_classes])
        ]
        labels = tf.placeholder(tf.int32, [batch_size])
        at_label, partitions = statistics_by_chunk(labels, operands, chunk_size)
        loss = tf.reduce_sum(tf.sin(at_label)) + tf.reduce_sum(tf.sin(partitions))
        gradients = tf.gradients(loss, operands)
        products = tf.gradients(sum(tf.reduce_sum(tf.square(g)) for g in gradients), operands)
        assert None not in products
        sizes = {t.shape.num_elements() for t in all_tensors(graph)} - {None}
        # Chunks and what is of the weights' size are there, and nothing larger.
        assert batch_size * chunk_size in sizes
        assert max(sizes) <= batch_size * chunk_size
        assert num_classes * dim < batch_size * chunk_size


def test_a_larger_vocabulary_is_not_a_larger_graph():
    counts = []
    for num_classes in (100, 100000):
        with tf.Graph().as_default() as graph:
            weights = tf.placeholder(tf.float32, [DIM, num_classes])
            inputs = tf.placeholder(tf.float32, [BATCH_SIZE, DIM])
            labels = tf.placeholder(tf.int32, [BATCH_SIZE])
            values = statistics_by_chunk(labels, [inputs, weights], chunk_size=10)
            tf.gradients(values, [inputs, weights])
            counts.append(len(all_tensors(graph)))
    assert abs(counts[1] - counts[0]) < 10  # the size decides how TensorFlow writes zeros
