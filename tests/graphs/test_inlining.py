"""Functions in the place of their calls: order, branches, loops, and guards on the other side."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function as tf_function

import tf1xent
from tests.support.called_losses import (
    DIRECTION,
    LABELS,
    LOGITS,
    both_outputs,
    computed,
    exact,
    inputs,
    probabilities,
)


@tf_function.Defun(tf.float64, tf.int64)
def loss_of_a_loop(logits, labels):
    """The loss of logits that a v1 loop doubles and halves again."""
    turned = tf.while_loop(
        lambda turn, _: turn < 2,
        lambda turn, x: (turn + 1, x * tf.cast(tf.where(tf.equal(turn, 0), 2.0, 0.5), x.dtype)),
        [0, logits],
    )[1]
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=turned)


def rewritten(build, mode):
    """The MetaGraphDef of what `build(logits, labels)` returns, under the name `result`."""
    with tf.Graph().as_default():
        tf.identity(build(*inputs()), name="result")
        return tf1xent.graphs.rewrite_meta_graph(tf.train.export_meta_graph(), mode)


def derivatives(result, logits):
    (gradient,) = tf.gradients(result, logits)
    return [tf.reduce_sum(result), gradient, tf.gradients(gradient * DIRECTION, logits)[0]]


@pytest.mark.parametrize("mode", ["tag", "logsumexp"])
def test_a_guard_behind_a_call_is_lifted(mode):
    def guarded(logits, labels):
        from tensorflow.python.ops import gen_array_ops

        return gen_array_ops.prevent_gradient(both_outputs(logits, labels)[1], message="closed")

    def products(result, logits):
        return [result, tf.gradients(result * DIRECTION, logits)[0]]

    gradient, product = computed(rewritten(guarded, mode), products)
    np.testing.assert_allclose(gradient, exact()[1], rtol=1e-12)
    np.testing.assert_allclose(product, exact()[2], rtol=1e-12)


@pytest.mark.parametrize("mode", ["tag", "logsumexp"])
@pytest.mark.parametrize("taken", [True, False])
def test_a_call_in_a_branch(mode, taken):
    def branch(logits, labels):
        decides = tf.placeholder(tf.bool, [], name="decides")
        return tf.cond(
            decides,
            lambda: both_outputs(logits, labels)[0],
            lambda: tf.reduce_sum(logits, axis=1),
        )

    meta_graph = rewritten(branch, mode)
    if taken:
        found = computed(meta_graph, derivatives, decides=True)
        for value, expected in zip(found, exact()):
            np.testing.assert_allclose(value, expected, rtol=1e-12)
    else:
        found = computed(meta_graph, lambda r, x: [r, tf.gradients(r, x)[0]], decides=False)
        np.testing.assert_allclose(found[0], LOGITS.sum(axis=1))
        np.testing.assert_array_equal(found[1], np.ones_like(LOGITS))


def test_loops_of_two_calls_do_not_meet():
    def twice(logits, labels):
        return loss_of_a_loop(logits, labels) + loss_of_a_loop(2 * logits, labels)

    meta_graph = rewritten(twice, "logsumexp")
    # TF 1.x makes v1 loops in a Defun, TF 2.x ops.
    nodes = meta_graph.graph_def.node
    frames = {node.attr["frame_name"].s for node in nodes if node.op == "Enter"}
    ops = [node for node in nodes if node.op in ("While", "StatelessWhile")]
    assert len(frames) + len(ops) == 2
    value = computed(meta_graph, lambda result, _: result)
    p = probabilities()
    doubled = np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum(axis=1, keepdims=True)
    rows = np.arange(2)
    expected = -np.log(p[rows, LABELS]) - np.log(doubled[rows, LABELS])
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_what_a_function_does_beside_its_result_is_still_done():
    @tf_function.Defun(tf.float64, tf.int64)
    def checked(logits, labels):
        check = tf.Assert(tf.reduce_all(logits < 10), [logits])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        with tf.control_dependencies([check]):
            return tf.identity(loss)

    meta_graph = rewritten(checked, "logsumexp")
    np.testing.assert_allclose(computed(meta_graph, lambda r, _: r).sum(), exact()[0], rtol=1e-12)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        with pytest.raises(tf.errors.InvalidArgumentError, match="assert"):
            session.run("result:0", {"logits:0": LOGITS + 20, "labels:0": LABELS})


def test_a_call_waits_for_what_it_waited_for():
    with tf.Graph().as_default() as graph:
        logits, labels = inputs()
        first = tf.Assert(tf.reduce_all(logits < 10), [logits], name="first")
        with tf.control_dependencies([first]):
            tf.identity(both_outputs(logits, labels)[0], name="result")
    stock = tf1xent.graphs.rewrite_graph_def(graph.as_graph_def())
    waiting = [n.name for n in stock.node if any("first" in r for r in n.input if r[0] == "^")]
    assert waiting
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(stock, name="")
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run("result:0", {"logits:0": LOGITS + 20, "labels:0": LABELS})


def test_inspect_tells_of_calls_before_the_logits():
    @tf_function.Defun(tf.float64)
    def network(features):
        return tf.tanh(features)

    with tf.Graph().as_default() as graph:
        logits, labels = inputs()
        hidden = network(logits)
        hidden.set_shape([2, 3])
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=hidden, name="after")
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="beside")
    after, beside = tf1xent.graphs.inspect_graph(graph.as_graph_def()).ops
    assert "depend on calls of functions" in after.reason
    assert "calls" not in beside.reason
