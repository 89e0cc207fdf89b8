"""First and higher derivatives of TensorFlow's own ops under the override."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gen_nn_ops

import tf1xent
from tests.gradients.overriding import (
    DENSE_OP,
    LABELS,
    LOGITS,
    ONE_SUM,
    SCOPES,
    SOFT_LABELS,
    SPARSE_OP,
    U,
    V,
    W,
    assert_close,
    labels_of,
    override,
    product,
    restore,
    run,
    weights_of,
)
from tests.oracle import reference
from tests.support.loss_graph import DENSE_V1, DENSE_V2, NAMES, SPARSE, LossGraph

# --- First order ------------------------------------------------------------------------------


def _first_order(name, dtype, overridden, weighted=True):
    """Loss and gradients as bytes, with the override (built after it) or without."""
    graph = tf.Graph()
    with graph.as_default():
        logits = tf.constant(LOGITS, dtype)
        labels = tf.constant(LABELS) if name == SPARSE else tf.constant(SOFT_LABELS, dtype)
        loss = getattr(tf.nn, name)(labels=labels, logits=logits)
        points = [logits] if name in (SPARSE, DENSE_V1) else [logits, labels]
        cotangents = tf.constant(U[:, 0], dtype) if weighted else None
        if overridden:
            override(graph, overridden)
        tensors = [loss] + tf.gradients(loss, points, grad_ys=cotangents)
        if overridden:
            restore(graph, overridden)
        return [array.tobytes() for array in run(tensors)], len(graph.get_operations())


@pytest.mark.combinations
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_first_order_is_tensorflows_bit_by_bit(name, dtype, weighted, scope):
    stock, stock_count = _first_order(name, dtype, None, weighted)
    got, count = _first_order(name, dtype, scope, weighted)
    assert got == stock
    assert count == stock_count  # so that random ops built later keep their seeds


def test_first_order_of_unusual_rows_is_tensorflows():
    rows = np.array(
        [[np.inf, 0.0, 1.0], [np.nan, 0.0, 1.0], [-np.inf, 0.0, 1.0], [1e30, -1e30, 0.0]],
        np.float32,
    )
    results = []
    for overridden in (False, True):
        with tf.Graph().as_default():
            if overridden:
                tf1xent.override_gradients()
            logits = tf.constant(rows)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1] * 4, logits=logits)
            results.append(run([loss, tf.gradients(loss, logits)[0]]))
    assert all(one.tobytes() == other.tobytes() for one, other in zip(*results))


def test_zero_rows():
    with tf.Graph().as_default():
        tf1xent.override_gradients()
        logits = tf.placeholder(tf.float32, [None, 3])
        labels = tf.placeholder(tf.int64, [None])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        tensor = product(loss, logits, 1.0)
        with tf.Session() as session:
            feed = {logits: np.zeros((0, 3)), labels: np.zeros(0)}
            assert session.run(tensor, feed).shape == (0, 3)


# --- Higher orders ----------------------------------------------------------------------------


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "name, scope",
    [(SPARSE, "process"), (SPARSE, "graph"), (DENSE_V1, "graph"), (DENSE_V2, "process")],
)
def test_second_to_fourth_order_of_graphs_built_before(name, scope):
    graph = LossGraph(tf.nn, name, "float64", logits_shape=[None, 4])
    override(graph.graph, scope)
    oracle = reference.Reference(LOGITS)
    for order in (2, 3, 4):
        vectors = [U, V, W][: order - 1]
        got = graph.run(("logits",) * order, LOGITS, labels_of(name), *vectors)
        assert_close(got, oracle.derivative_product(vectors, weights_of(name)))
    restore(graph.graph, scope)


@pytest.mark.parametrize("scope", SCOPES)
def test_mixed_derivatives_of_the_dense_op(scope):
    graph = LossGraph(tf.nn, DENSE_V2, "float64", logits_shape=[None, 4])
    override(graph.graph, scope)
    oracle = reference.Reference(LOGITS)

    def check(arguments, want, *vectors):
        assert_close(graph.run(arguments, LOGITS, SOFT_LABELS, *vectors), want)

    check(("labels", "logits"), oracle.mixed_product(U), U)
    check(("logits", "labels"), oracle.mixed_product_transposed(U), U)
    check(("labels", "logits", "logits"), oracle.derivative_product([V], U), U, V)
    check(("logits", "labels", "logits"), oracle.derivative_product([V], U), V, U)
    curvature = np.sum(oracle.derivative_product([V]) * V, axis=1, keepdims=True)
    check(("logits", "logits", "labels"), np.tile(curvature, (1, 4)), V, V)
    restore(graph.graph, scope)


@pytest.mark.parametrize("scope", SCOPES)
def test_first_order_of_unnormalised_labels_stays_and_second_is_of_the_loss(scope):
    labels = SOFT_LABELS[2:]
    graph = LossGraph(tf.nn, DENSE_V2, "float64", logits_shape=[None, 4])
    override(graph.graph, scope)
    oracle = reference.Reference(LOGITS[2:])
    got = graph.run(("logits",), LOGITS[2:], labels)
    assert_close(got, oracle.probabilities() - labels)  # the loss's own would be S p - l
    got = graph.run(("logits", "logits"), LOGITS[2:], labels, V[2:])
    assert_close(got, oracle.derivative_product([V[2:]], labels))
    restore(graph.graph, scope)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", ["entropy", "distillation"])
def test_labels_that_depend_on_parameters(kind, scope):
    """The product against finite differences of the first order, which is right in stock too."""
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder_with_default(LOGITS, [4, 4])
        labels = tf.nn.softmax(logits if kind == "entropy" else 0.5 * logits + U)
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
        (gradient,) = tf.gradients(loss, logits)
        override(graph, scope)
        tensor = product(loss, logits, V)
        with tf.Session() as session:
            slope = reference.central_difference(
                lambda point: session.run(gradient, {logits: point}), LOGITS, V
            )
            assert_close(session.run(tensor), slope, 1e-7)
        restore(graph, scope)


@pytest.mark.parametrize("scope", SCOPES)
def test_one_row_of_labels_for_all_rows_of_logits(scope):
    with tf.Graph().as_default() as graph:
        logits, labels = tf.constant(LOGITS), tf.constant(SOFT_LABELS[:1])
        loss, _ = gen_nn_ops.softmax_cross_entropy_with_logits(logits, labels)
        override(graph, scope)
        in_logits, in_labels = tf.gradients(loss, [logits, labels])
        hessian_product = tf.gradients(tf.reduce_sum(in_logits * V), logits)[0]
        mixed = tf.gradients(tf.reduce_sum(in_logits * V), labels)[0]
        transposed = tf.gradients(tf.reduce_sum(in_labels * U[:1]), logits)[0]
        got = run([in_logits, in_labels, hessian_product, mixed, transposed])
        restore(graph, scope)
    oracle, all_labels = reference.Reference(LOGITS), np.tile(SOFT_LABELS[:1], (4, 1))
    assert_close(got[0], oracle.dense_gradient(all_labels))
    assert_close(got[1], oracle.labels_gradient().sum(axis=0, keepdims=True))
    assert_close(got[2], oracle.derivative_product([V], all_labels))
    assert_close(got[3], oracle.mixed_product_transposed(V).sum(axis=0, keepdims=True))
    assert_close(got[4], oracle.mixed_product(np.tile(U[:1], (4, 1))))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("op_type", [SPARSE_OP, DENSE_OP])
def test_both_outputs(op_type, scope):
    """The second output used as a value, alone and together with the loss."""
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS[ONE_SUM])
        if op_type == SPARSE_OP:
            outputs = gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, LABELS[ONE_SUM])
        else:
            soft = tf.constant(SOFT_LABELS[ONE_SUM])
            outputs = gen_nn_ops.softmax_cross_entropy_with_logits(logits, soft)
        override(graph, scope)
        backprop = tf.reduce_sum(outputs[1] * V[ONE_SUM])
        both = tf.reduce_sum(outputs[0]) + backprop
        got = run([tf.gradients(x, logits)[0] for x in (outputs[0], backprop, both)])
        third = run(product(backprop, logits, U[ONE_SUM]))
        restore(graph, scope)
    oracle = reference.Reference(LOGITS[ONE_SUM])
    if op_type == SPARSE_OP:
        first = oracle.sparse_gradient(LABELS[ONE_SUM])
    else:
        first = oracle.dense_gradient(SOFT_LABELS[ONE_SUM])
    second = oracle.derivative_product([V[ONE_SUM]])
    assert_close(got[0], first)
    assert_close(got[1], second)
    assert_close(got[2], first + second)
    assert_close(third, oracle.derivative_product([V[ONE_SUM], U[ONE_SUM]]))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_hessians(name, scope):
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS[:1])
        loss = getattr(tf.nn, name)(labels=labels_of(name)[:1], logits=logits)
        override(graph, scope)
        (hessian,) = tf.hessians(loss, logits)
        got = run(hessian)[0, :, 0]
        restore(graph, scope)
    p = reference.Reference(LOGITS[:1]).probabilities()[0].astype(np.float64)
    assert_close(got, np.diag(p) - np.outer(p, p))
