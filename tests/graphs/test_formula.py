"""What rewrite_graph_def puts in the place of a fused op: its values and derivatives against the
oracle, within the contract."""

import functools

import mpmath
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support import cases, tolerances
from tests.support.fused_ops import (
    STATIC,
    UNKNOWN_CLASSES,
    UNKNOWN_RANK,
    Graph,
    graph_of,
    labels_dtype_of,
    shared_graph,
)
from tests.support.loss_graph import DENSE_V2, SPARSE
from tests.support.tolerances import assert_rounded_once, assert_within_contract

pytestmark = pytest.mark.lengthy

NUM_CLASSES = (1, 2, 10, 65, 1000)
LABELS_OF_MANY = ("one_hot", "random", "smoothed", "unnormalized")


@functools.lru_cache(maxsize=None)
def rows(dtype, num_classes):
    """Logits, integer labels, and the oracle of the logits; the oracle takes its time."""
    logits, labels = cases.rows(num_classes, dtype, num_random=6 if num_classes <= 100 else 2)
    if num_classes > 100:
        logits, labels = logits[::3], labels[::3]
    return logits, labels, reference.Reference(logits)


@functools.lru_cache(maxsize=None)
def case(name, dtype, num_classes):
    """Logits, labels, and the oracle of the logits."""
    logits, labels, oracle = rows(dtype, num_classes)
    if name == SPARSE:
        return logits, labels, oracle
    if num_classes > 10:
        return logits, cases.dense_labels(logits, labels, LABELS_OF_MANY), oracle
    # Every kind of labels on every row.
    logits = np.repeat(logits, len(cases.DENSE_KINDS), axis=0)
    labels = np.repeat(labels, len(cases.DENSE_KINDS), axis=0)
    labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
    return logits, labels, reference.Reference(logits)


@functools.lru_cache(maxsize=None)
def hessian_case(dtype, num_classes):
    """Logits, integer labels and unit vectors, and the Hessian columns that these pick."""
    logits, labels, _ = rows(dtype, num_classes)
    if num_classes > 2:
        logits, labels = logits[::2], labels[::2]
    logits, labels, vectors = cases.unit_vectors(logits, labels)
    return logits, labels, vectors, reference.Reference(logits).derivative_product([vectors])


def output_1_of(oracle, labels):
    """p - labels, and what the errors of its entries are measured by: the larger of the terms,
    which for a class with p_k > 1/2 are 1 - p_k and 1 - l_k."""
    p = oracle.probabilities()
    scale = np.empty(oracle.shape, object)
    exact = reference.exactly(labels)
    with mpmath.workdps(oracle.digits):
        for index, p_j in np.ndenumerate(p):
            pair = [p_j, exact[index]]
            if p_j > 0.5:
                pair = [1 - term for term in pair]
            scale[index] = max(abs(term) for term in pair)
        return p - exact, scale


ROUTES = [(dtype, num, UNKNOWN_RANK) for dtype in cases.PRECISE_DTYPES for num in NUM_CLASSES]
ROUTES += [("float32", 65, UNKNOWN_CLASSES), ("float32", 10, STATIC), ("float64", 1, STATIC)]
FIRST_ORDER = [("output_1",), ("logits",)]


@pytest.mark.parametrize("dtype, num_classes, known", ROUTES)
def test_sparse_value_and_gradient(dtype, num_classes, known):
    logits, labels, oracle = case(SPARSE, dtype, num_classes)
    graph = graph_of(SPARSE, dtype, num_classes, known)
    tensors = [graph.derivative(*arguments) for arguments in [()] + FIRST_ORDER]
    loss, output_1, gradient = graph.run_all(tensors, logits, labels)
    assert loss.dtype == output_1.dtype == gradient.dtype == np.dtype(dtype)
    assert_within_contract(loss, oracle.sparse_loss(labels), logits, what="loss")
    want = oracle.sparse_gradient(labels)
    assert_within_contract(output_1, want, logits, what="output 1")
    assert_within_contract(gradient, want, logits, what="gradient")


@pytest.mark.parametrize("dtype, num_classes, known", ROUTES)
def test_dense_value_and_gradients(dtype, num_classes, known):
    logits, labels, oracle = case(DENSE_V2, dtype, num_classes)
    graph = graph_of(DENSE_V2, dtype, num_classes, known)
    tensors = [graph.derivative(*a) for a in [()] + FIRST_ORDER + [("labels",)]]
    loss, output_1, gradient, of_labels = graph.run_all(tensors, logits, labels)
    assert loss.dtype == output_1.dtype == gradient.dtype == np.dtype(dtype)
    assert_within_contract(loss, oracle.dense_loss(labels), logits, what="loss")
    want, scale = output_1_of(oracle, labels)
    assert_within_contract(output_1, want, logits, scale, what="output 1")
    want, scale = oracle.dense_gradient(labels), tolerances.gradient_scale(oracle, labels)
    assert_within_contract(gradient, want, logits, scale, what="gradient")
    assert_within_contract(of_labels, oracle.labels_gradient(), logits, what="labels gradient")


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype, num_classes, known", ROUTES)
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_hessian_entries(name, dtype, num_classes, known):
    logits, labels, vectors, of_p = hessian_case(dtype, num_classes)
    of_loss = of_p
    if name == DENSE_V2:
        labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
        with mpmath.workdps(60):
            of_loss = of_p * reference.exactly(labels).sum(axis=1, keepdims=True)
    graph = graph_of(name, dtype, num_classes, known)
    tensors = [graph.derivative(*a) for a in [("logits", "logits"), ("output_1", "logits")]]
    from_loss, from_output_1 = graph.run_all(tensors, logits, labels, vectors)
    assert_within_contract(from_loss, of_loss, logits, what="from the loss")
    assert_within_contract(from_output_1, of_p, logits, what="from output 1")


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", cases.PRECISE_DTYPES)
def test_mixed_derivatives(dtype):
    logits, labels, oracle = case(DENSE_V2, dtype, 10)
    graph = shared_graph(DENSE_V2, dtype)
    vectors = np.abs(np.random.RandomState(6).normal(size=logits.shape)).astype(dtype)
    units = np.eye(10, dtype=dtype)[np.arange(len(logits)) % 10]
    for vector in (vectors, units):
        tensors = [graph.derivative(*a) for a in [("labels", "logits"), ("logits", "labels")]]
        by_logits, by_labels = graph.run_all(tensors, logits, labels, vector)
        # A masked class adds nothing to the derivative by its label, so neither to this one.
        absent = np.isneginf(logits) & (labels == 0)
        counted = np.where(absent, 0, vector).astype(dtype)
        scale = tolerances.gradient_scale(oracle, counted)
        want = oracle.mixed_product(counted)
        assert_within_contract(by_logits, want, logits, scale, what="labels, logits")

        want = oracle.mixed_product_transposed(vector)
        want[absent] = mpmath.mpf(0)
        largest = np.abs(vector.astype(np.float64)).max(axis=1, keepdims=True)
        scale = reference.exactly(np.broadcast_to(largest, logits.shape))
        assert_within_contract(by_labels, want, logits, scale, what="logits, labels")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
def test_third_order(name):
    random = np.random.RandomState(3)
    logits = random.normal(size=(5, 4)) * 2.0
    logits[0] += [9.0, 0.0, 0.0, 0.0]
    labels = np.array([0, 3, 2, 1, 0])
    soft = np.eye(4)[labels] + random.uniform(size=(5, 4))
    fed = labels if name == SPARSE else soft
    u, v = random.normal(size=(2, 5, 4))
    graph = Graph(name, "float64", [5, 4])
    got = graph.run(("logits", "logits", "logits"), logits, fed, u, v)

    def product(point):
        return graph.run(("logits", "logits"), point, fed, u, v)

    # Row i of the product depends on row i of the logits alone; so does the bilinear form's.
    for j in range(4):
        unit = np.eye(4)[[j] * 5]
        slope = np.sum(v * reference.central_difference(product, logits, unit), axis=1)
        np.testing.assert_allclose(got[:, j], slope, rtol=1e-6, atol=1e-9)
    oracle = reference.Reference(logits)
    want = oracle.derivative_product([u, v], None if name == SPARSE else soft)
    np.testing.assert_allclose(got, want.astype(np.float64), rtol=1e-11, atol=1e-15)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [SPARSE, DENSE_V2])
@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
def test_low_precision_is_computed_in_float32_and_rounded_once(name, dtype):
    low = tf.as_dtype(dtype).as_numpy_dtype
    logits, labels = cases.low_precision_rows(low)
    unit = np.eye(10, dtype=np.float32)[labels]
    fed = labels if name == SPARSE else unit
    graph = Graph(name, dtype, [8, 10], labels_dtype_of(name, dtype))
    orders = [(), ("output_1",), ("logits",), ("logits", "logits")]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    assert all(tensor.dtype == dtype for tensor in tensors)
    oracle = reference.Reference(logits)
    gradient = oracle.sparse_gradient(labels)
    wants = [oracle.sparse_loss(labels), gradient, gradient, oracle.derivative_product([unit])]
    for got, want in zip(graph.run_all(tensors, logits, fed, unit), wants):
        assert_rounded_once(got, want, dtype)
