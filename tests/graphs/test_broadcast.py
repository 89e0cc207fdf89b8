"""Dense ops whose logits and labels are broadcast to one shape.

TensorFlow takes a size that it does not know for the other's, 1, and the gradient of a mean is too
large by as much.
"""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gen_nn_ops

import tf1xent
from tf1xent import graphs
from tf1xent.graphs import Verdict

X = np.random.RandomState(0).randn(5, 3)
VECTOR = np.random.RandomState(1).randn(5, 3)
SHARED = np.array([[0.2, 0.3, 0.5]])
P = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
MEAN = -np.mean((SHARED * np.log(P)).sum(axis=1))
GRADIENT = (P - SHARED) / 5
PRODUCT = P * (VECTOR - (P * VECTOR).sum(axis=1, keepdims=True)) / 5
IN_LABELS = -np.log(P).mean(axis=0, keepdims=True)


def by_op(logits, labels):
    return gen_nn_ops.softmax_cross_entropy_with_logits(logits, labels, name="xent")[0]


def by_function(logits, labels):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits, name="xent")


def weighted(logits, labels):
    """More ops between the loss and its mean."""
    return tf.reshape(2.0 * by_function(logits, labels), [-1]) / 2.0


LOSSES = [by_op, by_function, weighted]


def saved(loss, rows):
    with tf.Graph().as_default():
        logits = tf.placeholder(tf.float64, [rows, 3], name="logits")
        labels = tf.placeholder(tf.float64, [1, 3], name="labels")
        tf.reduce_mean(loss(logits, labels), name="mean")
        return tf.train.export_meta_graph()


def numbers(proto):
    """(mean, gradient, product, gradient by the labels) of what an imported graph computes."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        if isinstance(proto, tf.GraphDef):
            tf.import_graph_def(proto, name="")
        else:
            tf.train.import_meta_graph(proto)
        names = ("mean:0", "logits:0", "labels:0")
        mean, logits, labels = (graph.get_tensor_by_name(name) for name in names)
        gradient, in_labels = tf.gradients(mean, [logits, labels])
        (product,) = tf.gradients(gradient, logits, VECTOR)
        return session.run([mean, gradient, product, in_labels], {logits: X, labels: SHARED})


def check_right(proto):
    for found, want in zip(numbers(proto), (MEAN, GRADIENT, PRODUCT, IN_LABELS)):
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-15)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "recorded",
    [
        pytest.param(True, id="shapes recorded"),
        pytest.param(False, id="not", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_batch_of_unknown_size_takes_a_rewrite(loss, recorded):
    meta_graph = saved(loss, None)
    (op,) = graphs.inspect_graph(meta_graph).ops
    assert op.verdict is Verdict.REWRITE and "broadcast" in op.reason
    proto, rewrite = meta_graph, graphs.rewrite_meta_graph
    if not recorded:
        proto, rewrite = meta_graph.graph_def, graphs.rewrite_graph_def
        for node in proto.node:
            node.attr.pop("_output_shapes", None)
    for mode in ("tag", "logsumexp"):
        rewritten = rewrite(proto, mode)
        check_right(rewritten)
        assert not graphs.inspect_graph(rewritten).needs_rewrite
        assert rewrite(rewritten, mode) == rewritten
    # What makes this necessary:
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        mean, logits = (graph.get_tensor_by_name(name) for name in ("mean:0", "logits:0"))
        (found,) = session.run(tf.gradients(mean, logits), {logits: X, "labels:0": SHARED})
    np.testing.assert_allclose(found, 5 * GRADIENT, rtol=1e-12)


def test_the_values_of_tag_stay_bit_by_bit():
    values = []
    for proto in (saved(by_op, None), graphs.rewrite_meta_graph(saved(by_op, None), "tag")):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.train.import_meta_graph(proto)
            values.append(session.run(["xent:0", "xent:1"], {"logits:0": X, "labels:0": SHARED}))
    for before, after in zip(*values):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_batch_of_known_size_takes_an_override(loss):
    meta_graph = saved(loss, 5)
    (op,) = graphs.inspect_graph(meta_graph).ops
    assert op.verdict is Verdict.OVERRIDE and "broadcast" in op.reason
    with pytest.raises((ValueError, tf.errors.OpError)):
        numbers(meta_graph)
    tf1xent.override_gradients()
    try:
        check_right(meta_graph)
    finally:
        tf1xent.restore_gradients()
    for mode in ("tag", "logsumexp"):
        check_right(graphs.rewrite_meta_graph(meta_graph, mode))


def test_logits_that_are_broadcast_and_equal_shapes():
    verdicts = []
    for shapes in ([(1, 3), (None, 3)], [(5, 3), (5, 3)], [(None, 3), (None, 3)], [(1, 3), (1, 3)]):
        with tf.Graph().as_default() as graph:
            logits, labels = (tf.placeholder(tf.float64, shape) for shape in shapes)
            by_function(logits, labels)
        verdicts += [op.verdict for op in graphs.inspect_graph(graph.as_graph_def()).ops]
    assert verdicts == [Verdict.REWRITE] + [Verdict.AS_IT_IS] * 3


@pytest.mark.skipif(
    not hasattr(tensorflow, "function"), reason="TF 1.13 makes v1 branches in traced functions"
)
@pytest.mark.parametrize("mode", ["tag", pytest.param("logsumexp", marks=pytest.mark.lengthy)])
def test_in_a_branch_of_a_function(mode):
    def losses(logits, labels):
        return tf.cond(
            tf.reduce_sum(logits) > -1e9,
            lambda: by_function(logits, labels),
            lambda: tf.reduce_sum(logits, axis=1),
        )

    def called(logits, labels):
        return tensorflow.function(losses, autograph=False)(logits, labels)

    check_right(graphs.rewrite_meta_graph(saved(called, None), mode))
