"""Rewritten fused ops inside v1 branches and loops, and compiled by XLA."""

import contextlib
import inspect

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests.oracle import reference
from tests.support.fused_ops import OP_TYPES, Graph, Stock, node_of
from tests.support.loss_graph import SPARSE
from tf1xent.graphs import rewrite_graph_def, rewrite_meta_graph

pytestmark = pytest.mark.lengthy


@contextlib.contextmanager
def control_flow_v1():
    if not hasattr(tf, "control_flow_v2_enabled"):  # 1.13 has no other
        yield
        return
    enabled = tf.control_flow_v2_enabled()
    tf.disable_control_flow_v2()
    try:
        yield
    finally:
        if enabled:
            tf.enable_control_flow_v2()


LOGITS = np.array([[0.5, -1.25, 2.0], [9.0, 0.0, 1.0], [0.0, 8.0, 0.5]])
LABELS = np.array([2, 0, 2])
SOFT_LABELS = np.array([[0.25, 0.25, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])
WEIGHTS = np.array([1.0, -2.0, 0.5])
VECTOR = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 0.0], [1.0, 1.0, -1.0]])


def both_losses(logits):
    """A branch of sparse and a branch of dense losses, as functions without arguments."""
    return (
        lambda: tf.reduce_sum(
            WEIGHTS
            * tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.constant(LABELS), logits=logits
            )
        ),
        lambda: tf.reduce_sum(
            WEIGHTS
            * tf.nn.softmax_cross_entropy_with_logits_v2(
                labels=tf.constant(SOFT_LABELS), logits=logits
            )
        ),
    )


def cond_loss(logits, is_sparse):
    return tf.cond(is_sparse, *both_losses(logits))


def loop_loss(logits, is_sparse):
    """The loss of 1, 2 and 3 times the logits; the branch inside of the loop."""

    def body(turn, total):
        return turn + 1, total + cond_loss(tf.cast(turn, tf.float64) * logits, is_sparse)

    start = (tf.constant(1), tf.constant(0.0, tf.float64))
    return tf.while_loop(lambda turn, _: turn < 4, body, start)[1]


def rewritten_meta_graph(loss_of):
    with control_flow_v1(), tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float64, [None, 3], name="logits")
        is_sparse = tf.placeholder(tf.bool, [], name="is_sparse")
        tf.identity(loss_of(logits, is_sparse), name="loss")
        meta_graph = tf.train.export_meta_graph()
        ops = {op.type for op in graph.get_operations()}
    assert "Switch" in ops and set(OP_TYPES.values()) < ops
    return rewrite_meta_graph(meta_graph)


@pytest.mark.parametrize("loss_of, turns", [(cond_loss, [1]), (loop_loss, [1, 2, 3])])
def test_v1_control_flow(loss_of, turns):
    meta_graph = rewritten_meta_graph(loss_of)
    with control_flow_v1(), tf.Graph().as_default() as graph, tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        assert not set(OP_TYPES.values()) & {op.type for op in graph.get_operations()}
        names = ("logits:0", "is_sparse:0", "loss:0")
        logits, is_sparse, loss = [graph.get_tensor_by_name(name) for name in names]
        tensors = [loss] + tf.gradients(loss, logits)
        if loss_of is cond_loss:  # TensorFlow has no second derivative of v1 loops
            tensors += tf.gradients(tf.reduce_sum(tensors[1] * VECTOR), logits)
        for branch in (True, False):
            got = session.run(tensors, {logits: LOGITS, is_sparse: branch})
            for value, want in zip(got, control_flow_wants(turns, branch)):
                np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-14)


def control_flow_wants(turns, is_sparse):
    """Value, gradient and Hessian product of the loss summed over the turns."""
    wants = []
    for turn in turns:
        oracle = reference.Reference(turn * LOGITS)
        if is_sparse:
            value, gradient = oracle.sparse_loss(LABELS), oracle.sparse_gradient(LABELS)
        else:
            value, gradient = oracle.dense_loss(SOFT_LABELS), oracle.dense_gradient(SOFT_LABELS)
        product = oracle.derivative_product([VECTOR], None if is_sparse else SOFT_LABELS)
        weights = WEIGHTS[:, np.newaxis]
        parts = [np.sum(WEIGHTS * value), turn * weights * gradient, turn**2 * weights * product]
        wants.append([np.asarray(part).astype(np.float64) for part in parts])
    return [sum(parts) for parts in zip(*wants)]


XLA_LOGITS = np.array([[0.5, -1.25, 2.0], [9.0, 0.0, 1.0], [0.0, 8.0, 0.5], [1.0, -np.inf, 0.0]])
XLA_LABELS = np.array([2, 0, 3, 0])


class CompiledStock(Stock):
    """Fused ops that somebody marked for XLA, replaced by stock ops."""

    @staticmethod
    def changed(graph_def):
        xent = node_of(graph_def, "xent")
        xent.attr["_XlaCompile"].b = True
        xent.attr["_XlaScope"].s = b"jit_scope_0"
        xent.attr["_XlaSeparateCompiledGradients"].b = False
        return rewrite_graph_def(graph_def)


def test_xla():
    """An invalid label is an error on a CPU, but in compiled code a row of NaN."""
    graph = Graph(SPARSE, "float64", [None, 3], module=CompiledStock())
    orders = [(), ("output_1",), ("logits",)]
    tensors = [graph.derivative(*arguments) for arguments in orders]
    options, metadata = tf.RunOptions(output_partition_graphs=True), tf.RunMetadata()
    feeds = {graph.logits: XLA_LOGITS, graph.labels: XLA_LABELS}
    with tf.Session(graph=graph.graph) as session:
        results = session.run(tensors, feeds, options, metadata)
    assert "_XlaRun" in {node.op for part in metadata.partition_graphs for node in part.node}
    valid = XLA_LABELS < 3
    oracle, labels = reference.Reference(XLA_LOGITS[valid]), XLA_LABELS[valid]
    wants = [oracle.sparse_loss(labels)] + [oracle.sparse_gradient(labels)] * 2
    for got, want in zip(results, wants):
        assert np.all(np.isnan(got[~valid]))
        np.testing.assert_allclose(got[valid], want.astype(np.float64), rtol=1e-12, atol=1e-15)


def compiled_sparse(logits):
    """Loss, output 1, gradient and Hessian product, with one invalid label."""
    loss = Stock().loss(SPARSE, tf.constant(XLA_LABELS), logits)
    (gradient,) = tf.gradients(loss, logits)
    (product,) = tf.gradients(gradient[:, 0], logits)
    return [loss, loss.op.outputs[1], gradient, product]


def test_xla_in_a_function():
    function = getattr(tensorflow, "function", None)
    options = [] if function is None else inspect.signature(function).parameters
    if "jit_compile" not in options:
        pytest.skip("this TensorFlow has no tf.function(jit_compile=True)")
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(XLA_LOGITS)
        tensors = function(compiled_sparse, autograph=False, jit_compile=True)(logits)
        loss, output_1, gradient, product = session.run(tensors)
    valid = XLA_LABELS < 3
    for values in (loss, output_1, gradient):
        assert np.all(np.isnan(values[~valid]))
    oracle = reference.Reference(XLA_LOGITS[valid])
    labels = XLA_LABELS[valid]
    unit = np.eye(3)[[0, 0, 0]]
    wants = [oracle.sparse_loss(labels), *[oracle.sparse_gradient(labels)] * 2]
    wants.append(oracle.derivative_product([unit]))
    for got, want in zip((loss, output_1, gradient, product), wants):
        np.testing.assert_allclose(got[valid], want.astype(np.float64), rtol=1e-12, atol=1e-15)
