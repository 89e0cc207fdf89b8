"""A rewritten fused op answers as the fused op: broadcasts, edge rows, invalid labels, shapes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support.fused_ops import (
    STATIC,
    UNKNOWN_RANK,
    Fused,
    Graph,
    Stock,
    graph_of,
    shared_graph,
)
from tests.support.loss_graph import DENSE_V2, SPARSE
from tests.support.tolerances import assert_within_contract

pytestmark = pytest.mark.lengthy

FIRST_ORDER = [("output_1",), ("logits",)]
BROADCASTS = [
    # logits shape, labels shape
    ((4, 3), (1, 3)),
    ((1, 3), (4, 3)),
    ((4, 3), (4, 1)),
    ((4, 1), (4, 3)),
    ((4, 1), (1, 3)),
]


@pytest.mark.parametrize("logits_shape, labels_shape", BROADCASTS)
def test_dense_inputs_are_broadcast(logits_shape, labels_shape):
    random = np.random.RandomState(4)
    logits = random.normal(size=logits_shape)
    labels = random.uniform(size=labels_shape)
    broadcast = np.broadcast(logits, labels).shape
    spread = np.broadcast_to(labels, broadcast)
    oracle = reference.Reference(np.broadcast_to(logits, broadcast))
    # Derivatives in what is broadcast are sums of those in what came of it.
    by_logits = summed_to(oracle.dense_gradient(spread), logits_shape)
    vector = np.full(logits_shape, 3.0) + logits
    product = oracle.derivative_product([np.broadcast_to(vector, broadcast)], spread)
    by_labels = summed_to(oracle.labels_gradient(), labels_shape)
    wants = [by_logits, by_labels, summed_to(product, logits_shape)]

    fused = Graph(DENSE_V2, "float64", None, module=Fused())
    tensors = [fused.derivative(*arguments) for arguments in [(), ("output_1",)]]
    wants = fused.run_all(tensors, logits, labels) + wants

    graph = shared_graph(DENSE_V2, "float64")
    orders = [(), ("output_1",), ("logits",), ("labels",), ("logits", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    for got, want in zip(graph.run_all(tensors, logits, labels, vector), wants):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_static_shapes_are_broadcast():
    shapes = []
    for module in (Fused(), Stock()):
        with tf.Graph().as_default():
            inputs = [tf.placeholder(tf.float32, shape) for shape in ([4, 3], [1, 3])]
            for logits, labels in (inputs, inputs[::-1]):
                outputs = module.loss(DENSE_V2, labels, logits).op.outputs
                shapes.append([output.shape.as_list() for output in outputs])
    assert shapes == [[[4], [4, 3]]] * 4


def summed_to(values, shape):
    axes = tuple(i for i, size in enumerate(shape) if size != values.shape[i])
    return np.sum(values, axis=axes, keepdims=True).astype(np.float64)


INF, NAN = np.inf, np.nan
EDGE_ROWS = [
    # logits, label
    ([1.0, -INF, 2.0], 0),  # a masked class
    ([-INF, 60.0, -INF], 1),
    ([0.0, -INF, 0.0], 1),  # the label's own class masked
    ([0.5, NAN, 1.0], 0),
    ([0.5, NAN, 1.0], 1),
    ([INF, 0.0, 1.0], 0),
    ([INF, 0.0, 1.0], 1),
    ([INF, NAN, -INF], 1),
    ([-INF, -INF, -INF], 2),
    ([3.0, 3.0, 3.0], 2),  # between them all, rows that must not notice
    ([-1e30, 1e30, 0.0], 0),
]


def edge_values(name, module=None):
    """EDGE_ROWS, a graph, and its loss, output 1 and gradient on them; the labels as fed."""
    logits = np.array([row for row, _ in EDGE_ROWS], np.float32)
    labels = np.array([label for _, label in EDGE_ROWS])
    fed = labels if name == SPARSE else np.eye(3)[labels]
    graph = Graph(name, "float32", None, module=module) if module else shared_graph(name, "float32")
    tensors = [graph.derivative(*a) for a in [()] + FIRST_ORDER]
    return logits, labels, graph, graph.run_all(tensors, logits, fed), fed


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_edge_rows(name):
    logits, labels, graph, results, fed = edge_values(name)
    vectors = np.array([[1.0, -2.0, 0.5]] * len(logits), np.float32)
    orders = [("logits", "logits"), ("output_1", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    results += graph.run_all(tensors, logits, fed, vectors)
    oracle = reference.Reference(logits)
    gradient, product = oracle.sparse_gradient(labels), oracle.derivative_product([vectors])
    scale = oracle.product_scale([vectors])
    wants = [(oracle.sparse_loss(labels), None), (gradient, None), (gradient, None)]
    wants += [(product, scale), (product, scale)]
    infinite = np.array([bool(want == np.inf) for want in wants[0][0]])
    assert infinite.sum() == 1
    for what, got, (want, scale) in zip(["loss"] + FIRST_ORDER + orders, results, wants):
        if what != "loss":  # where the loss is infinite its derivative is whatever comes out
            got, want = got[~infinite], want[~infinite]
            scale = None if scale is None else scale[~infinite]
        rows_kept = logits if what == "loss" else logits[~infinite]
        assert_within_contract(got, want, rows_kept, scale, what=str(what))


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_edge_rows_are_those_of_the_fused_op(name):
    """But for a masked class with a dense label of 0, where TensorFlow's loss is NaN."""
    logits, _, _, (loss, output_1, _), _ = edge_values(name)
    _, _, _, (fused_loss, fused_output_1, _), _ = edge_values(name, Fused())
    masked = np.isneginf(logits).any(axis=1) & (name == DENSE_V2)
    np.testing.assert_allclose(loss[~masked], fused_loss[~masked], rtol=1e-6)
    np.testing.assert_allclose(output_1, fused_output_1, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_no_rows_and_one_class(name):
    orders = [(), ("output_1",), ("logits",), ("logits", "logits"), ("output_1", "logits")]
    for shape, known in [
        ((0, 10), STATIC),
        ((0, 10), UNKNOWN_RANK),
        ((0, 1), UNKNOWN_RANK),
        ((4, 1), UNKNOWN_RANK),
    ]:
        graph = graph_of(name, "float32", shape[1], known)
        tensors = [graph.derivative(*arguments) for arguments in orders]
        logits = np.full(shape, 7.0)
        labels = np.zeros(shape[:1], int) if name == SPARSE else np.ones(shape)
        loss, *derivatives = graph.run_all(tensors, logits, labels, np.full(shape, 3.0))
        np.testing.assert_array_equal(loss, np.zeros(shape[:1]))
        for derivative in derivatives:
            np.testing.assert_array_equal(derivative, np.zeros(shape))


@pytest.mark.parametrize("dtype, labels_dtype", [("float32", "int64"), ("float64", "int32")])
def test_invalid_labels(dtype, labels_dtype):
    """Each of the outputs and of the derivatives by itself says so, as TensorFlow's op does."""
    invalid = [3, -1, 2**31 - 1, -(2**31)]
    if labels_dtype == "int64":
        invalid += [2**32 + 1, -(2**32) + 1, 2**63 - 1]
    logits = np.zeros((2, 3))
    graph = shared_graph(SPARSE, dtype)
    assert graph.labels.dtype == labels_dtype
    fused = Graph(SPARSE, dtype, None, labels_dtype, Fused())
    orders = [(), ("output_1",), ("logits",), ("logits", "logits")]
    for label in invalid:
        for arguments in orders:
            with pytest.raises(tf.errors.InvalidArgumentError):
                graph.run(arguments, logits, [1, label], np.ones((2, 3)))
        with pytest.raises(tf.errors.InvalidArgumentError):
            fused.run((), logits, [1, label])


MISMATCHES = [
    # name, logits shape, labels shape
    (SPARSE, (3, 4), (2,)),
    (SPARSE, (2, 4), (3,)),
    (SPARSE, (1, 4), (3,)),
    (SPARSE, (3, 4), (1,)),
    (SPARSE, (3, 4), (0,)),
    (SPARSE, (0, 4), (3,)),
    (SPARSE, (3, 4), ()),
    (SPARSE, (3, 4), (3, 1)),
    (SPARSE, (4,), (4,)),
    (SPARSE, (4,), ()),
    (SPARSE, (3, 4, 2), (3,)),
    (SPARSE, (3, 0), (3,)),
    (SPARSE, (0, 0), (0,)),
    (DENSE_V2, (3, 4), (2, 4)),
    (DENSE_V2, (3, 4), (3, 5)),
    (DENSE_V2, (3, 4, 2), (3, 4, 2)),
    (DENSE_V2, (4,), (4,)),
    (DENSE_V2, (), ()),
]


@pytest.mark.parametrize("name, logits_shape, labels_shape", MISMATCHES)
def test_sizes_that_do_not_fit(name, logits_shape, labels_shape):
    fused = Graph(name, "float32", None, module=Fused())
    graph = shared_graph(name, "float32")
    fed = np.zeros(logits_shape), np.zeros(labels_shape)
    for arguments in [(), ("output_1",)]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            fused.run(arguments, *fed)
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph.run(arguments, *fed)
