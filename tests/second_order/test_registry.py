"""The supplied gradients come with the override and go with it; what a program registers counts."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

import tf1xent
from tf1xent import _tf
from tf1xent.second_order.table import SUPPLIED

REGISTRY = ops._gradient_registry._registry
IMAGE = np.random.RandomState(0).normal(size=[1, 3, 3, 1]).astype(np.float32)


@pytest.fixture(autouse=True)
def way_back():
    before = {op_type: REGISTRY.get(op_type) for op_type in SUPPLIED}
    register = ops.RegisterGradient.__call__
    yield
    tf1xent.restore_gradients()
    tf1xent.unpatch()
    assert {op_type: REGISTRY.get(op_type) for op_type in SUPPLIED} == before
    assert all(REGISTRY.get(op_type) is entry for op_type, entry in before.items())
    assert ops.RegisterGradient.__call__ is register


def resized(image):
    return tf.reduce_sum(tf.image.resize_bilinear(image, [5, 5]) ** 4)


def third_order(loss, x):
    gradient = tf.gradients(loss, x)[0]
    for _ in range(2):
        gradient = tf.gradients(tf.reduce_sum(gradient**2), x)[0]
    return gradient


def values(graph_scope):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.constant(IMAGE)
        loss = resized(x)
        if graph_scope:
            tf1xent.override_gradients(graph)
        return session.run(third_order(loss, x))


def test_nothing_is_there_before():
    for op_type in SUPPLIED:
        if _tf.op_definition(op_type) is not None:
            function = (REGISTRY.get(op_type) or {"type": None})["type"]
            assert function is None or function.__module__.startswith("tensorflow")


@pytest.mark.parametrize("begin", ["override_gradients", "patch"])
def test_the_override_and_the_patch_bring_them(begin):
    assert _tf.has_gap("ResizeBilinearGrad")
    getattr(tf1xent, begin)()
    assert REGISTRY["ResizeBilinearGrad"]["type"] is not None
    assert np.all(np.isfinite(values(graph_scope=False)))


def test_a_live_graph_alone_has_the_same_derivatives():
    tf1xent.override_gradients()
    wanted = values(graph_scope=False)
    tf1xent.restore_gradients()
    np.testing.assert_allclose(values(graph_scope=True), wanted, rtol=1e-5)


def test_a_live_graph_gives_its_attributes_back():
    with tf.Graph().as_default() as graph:
        resized(tf.constant(IMAGE))
        before = graph.as_graph_def()
        tf1xent.override_gradients(graph)
        assert graph.as_graph_def() != before
        tf1xent.restore_gradients(graph)
        marked = {n.name: n.attr[_tf.GRADIENT_ATTRIBUTE].s for n in graph.as_graph_def().node}
        types = {n.name: n.op for n in before.node}
        # TF 1.13 cannot remove an attribute: there it names the op type, which means the same.
        assert all(name in (b"", types[node].encode()) for node, name in marked.items())


def test_gradients_that_exist_already_can_be_differentiated_again():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.constant(IMAGE)
        gradient = tf.gradients(resized(x), x)[0]
        tf1xent.override_gradients(graph)
        second = tf.gradients(tf.reduce_sum(gradient), x)[0]
        assert np.all(session.run(second) >= 0) and np.any(session.run(second) > 0)


def test_a_program_may_register_its_own():
    name = "ResizeNearestNeighborGrad"  # no TensorFlow has an entry for it
    tf1xent.override_gradients()
    try:
        registered = tf.RegisterGradient(name)(lambda op, cotangent: [cotangent, None])
        assert REGISTRY[name]["type"] is registered
        with pytest.raises(KeyError, match=name):
            tf.RegisterGradient(name)(registered)
        tf1xent.restore_gradients()  # and no warning
        assert REGISTRY[name]["type"] is registered
        tf1xent.override_gradients()
        assert REGISTRY[name]["type"] is registered
    finally:
        tf1xent.restore_gradients()
        del REGISTRY[name]


def test_what_tensorflow_calls_not_differentiable_a_program_cannot_register_either():
    name = "ResizeBilinearGrad"
    if name not in REGISTRY:
        pytest.skip(f"this TensorFlow has no entry for {name}")
    tf1xent.override_gradients()
    ours = REGISTRY[name]["type"]
    with pytest.raises(KeyError, match=name):
        tf.RegisterGradient(name)(lambda op, cotangent: [cotangent, None])
    assert REGISTRY[name]["type"] is ours


def test_a_function_of_an_ended_override_does_as_tensorflow_does():
    tf1xent.override_gradients()
    function = REGISTRY["ResizeBilinearGrad"]["type"]
    tf1xent.restore_gradients()
    with tf.Graph().as_default() as graph:
        x = tf.constant(IMAGE)
        tf.gradients(resized(x), x)
        op = next(op for op in graph.get_operations() if op.type == "ResizeBilinearGrad")
        with pytest.raises(LookupError, match="No gradient defined for operation"):
            function(op, x)


def test_first_order_is_untouched():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant(IMAGE)
        loss = resized(x)
        before = session.run(tf.gradients(loss, x)[0])
        tf1xent.override_gradients()
        assert np.array_equal(session.run(tf.gradients(loss, x)[0]), before)


def test_a_graph_that_was_saved_with_them_can_be_rewritten():
    with tf.Graph().as_default() as graph:
        logits = tf.reshape(tf.image.resize_bilinear(tf.constant(IMAGE), [5, 5]), [1, 25])
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)
        tf.nn.ctc_loss(tf.SparseTensor([[0, 0]], [1], [1, 1]), tf.reshape(logits, [5, 1, 5]), [5])
        tf1xent.override_gradients(graph)
        saved = graph.as_graph_def()
        tf1xent.restore_gradients(graph)
    named = {node.op for node in saved.node if _tf.gradient_attribute(node) is not None}
    assert {"ResizeBilinear", "CTCLoss"} < named
    rewritten = tf1xent.graphs.rewrite_graph_def(saved)
    ours = [n.op for n in rewritten.node if (_tf.gradient_attribute(n) or "").startswith("Tf1x")]
    assert not ours
