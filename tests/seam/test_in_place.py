"""Losses of many classes are computed in place where nobody else can see it, and only there."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.oracle.reference import Reference
from tf1xent import nn

LOGITS = np.random.RandomState(0).normal(size=(4, 100)).astype(np.float32)
LABELS = np.array([1, 99, 3, 7])


def loss_and_gradient(logits):
    loss = nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=logits)
    return [loss, tf.gradients(loss, logits)[0]]


def check(loss, gradient):
    oracle = Reference(LOGITS)
    want = oracle.sparse_loss(LABELS), oracle.sparse_gradient(LABELS)
    np.testing.assert_allclose(loss, want[0].astype(np.float64), rtol=1e-6)
    np.testing.assert_allclose(gradient, want[1].astype(np.float64), rtol=1e-5)


def test_what_is_fed_and_what_a_variable_holds_stay_as_they_are():
    fed = LOGITS.copy()
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder, variable = tf.placeholder(tf.float32, [4, 100]), tf.Variable(LOGITS)
        tensors = [loss_and_gradient(source) for source in (placeholder, variable)]
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            for results in session.run(tensors, {placeholder: fed}):
                check(*results)
        np.testing.assert_array_equal(fed, LOGITS)
        np.testing.assert_array_equal(session.run(variable), LOGITS)


@pytest.mark.skipif(not hasattr(tf, "where_v2"), reason="1.13 has another op, which copies")
@pytest.mark.parametrize("is_dense", [False, True])
def test_a_loss_and_its_gradient_take_the_memory_of_one_matrix(is_dense):
    """Or of two: what a dense loss sums is a matrix of products with the labels."""
    rows, classes = 8, 4096
    random = np.random.RandomState(0)
    logits = random.normal(size=(rows, classes)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.Variable(logits, use_resource=True)
        if is_dense:
            soft = random.dirichlet(np.ones(classes), rows).astype(np.float32)
            labels = tf.Variable(soft, use_resource=True).read_value()
            function = nn.softmax_cross_entropy_with_logits_v2
        else:
            labels, function = np.arange(rows), nn.sparse_softmax_cross_entropy_with_logits
        loss = function(labels=labels, logits=variable.read_value())
        fetches = [loss.op, tf.gradients(loss, variable)[0].op]
        session.run(tf.global_variables_initializer())
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(fetches, options=options, run_metadata=metadata)
    large = [
        (node.node_name, memory.total_bytes)
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
        for memory in node.memory
        if memory.total_bytes >= logits.nbytes
    ]
    assert len(large) == (2 if is_dense else 1), large


@pytest.mark.lengthy
@pytest.mark.xla
@pytest.mark.skipif(not tf.executing_eagerly(), reason="XLA of TF 1.x is not built for processors")
def test_xla_compiles_the_ops_of_a_v1_graph():
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [4, 100])
        compiled = tf.xla.experimental.compile(loss_and_gradient, [logits])
        check(*session.run(compiled, {logits: LOGITS}))
