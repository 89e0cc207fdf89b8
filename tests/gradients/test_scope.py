"""What the override changes, how it is undone, and the names of the gradients."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

import tf1xent
from tests.gradients.overriding import (
    DENSE_OP,
    GUARD_OP,
    LABELS,
    LOGITS,
    REGISTRY,
    SCOPES,
    SOFT_LABELS,
    SPARSE_OP,
    V,
    assert_close,
    labels_of,
    module_results,
    override,
    product,
    restore,
    run,
    sparse_loss,
    weights_of,
)
from tests.oracle import reference
from tests.routes import table
from tests.support.loss_graph import NAMES
from tf1xent import gradients

# --- Scope and way back -----------------------------------------------------------------------


def test_process_override_adds_no_op_and_changes_none():
    with tf.Graph().as_default() as graph:
        sparse_loss(tf.constant(LOGITS))
        before = graph.as_graph_def()
        tf1xent.override_gradients()
        assert graph.as_graph_def() == before
        sparse_loss(tf.constant(LOGITS))
        after = [op.type for op in graph.get_operations()]
    assert after[: len(after) // 2] == after[len(after) // 2 :]


def test_graph_override_adds_no_op_and_is_undone():
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        tf.gradients(sparse_loss(logits), logits)
        before = graph.as_graph_def()
        tf1xent.override_gradients(graph)
        during = graph.as_graph_def()
        assert [node.name for node in during.node] == [node.name for node in before.node]
        assert during != before
        tf1xent.restore_gradients(graph)
        after = graph.as_graph_def()
        for one, other in zip(before.node, after.node):
            attribute = other.attr["_gradient_op_type"].s.decode()
            # 1.13 cannot take an attribute away; there it names the op's own gradient.
            if "_gradient_op_type" not in one.attr and attribute:
                assert attribute == other.op and not hasattr(tf.Operation, "_clear_attr")
                del other.attr["_gradient_op_type"]
            elif not attribute:
                del other.attr["_gradient_op_type"]
        assert after == before


def test_graph_override_leaves_the_process_and_other_graphs_alone():
    entries = {name: REGISTRY[name] for name in (SPARSE_OP, DENSE_OP, GUARD_OP)}

    def build():
        labels = tf.constant(SOFT_LABELS)
        logits = tf.constant(LOGITS)
        return (
            logits,
            labels,
            tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits),
        )

    with tf.Graph().as_default() as graph:
        build()
    with tf.Graph().as_default() as other:
        logits, labels, loss = build()
        before = other.as_graph_def()
        tf1xent.override_gradients(graph)
        assert other.as_graph_def() == before
        assert all(REGISTRY[name] is entry for name, entry in entries.items())
        (gradient,) = tf.gradients(loss, logits)
        (mixed,) = tf.gradients(tf.reduce_sum(gradient * V), labels)
        assert mixed is None or not run(mixed).any()  # stock TensorFlow's wrong zeros
    tf1xent.restore_gradients(graph)


def test_a_second_graph_override_takes_in_what_was_added():
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        tf1xent.override_gradients(graph)
        loss = sparse_loss(logits)
        tf1xent.override_gradients(graph)
        assert_close(
            run(product(loss, logits, V)), reference.Reference(LOGITS).derivative_product([V])
        )
        tf1xent.restore_gradients(graph)
        tf1xent.restore_gradients(graph)


def test_restore_without_an_override():
    tf1xent.restore_gradients()
    with tf.Graph().as_default() as graph:
        sparse_loss(tf.constant(LOGITS))
        before = graph.as_graph_def()
        tf1xent.restore_gradients(graph)
        assert graph.as_graph_def() == before


@pytest.mark.parametrize("scope", SCOPES)
def test_after_restore_all_is_stock(scope):
    with tf.Graph().as_default() as graph:
        logits, labels = tf.constant(LOGITS), tf.constant(SOFT_LABELS)
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
        override(graph, scope)
        restore(graph, scope)
        (gradient,) = tf.gradients(loss, logits)
        (mixed,) = tf.gradients(tf.reduce_sum(gradient * V), labels)
        assert mixed is None or not run(mixed).any()


def test_programs_own_attributes_are_not_touched():
    name = "GradientsTestOwn"
    if name not in REGISTRY:
        ops.RegisterGradient(name)(lambda op, *_: (op.outputs[1] * 5.0, None))
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        with graph.gradient_override_map({SPARSE_OP: name}):
            loss = sparse_loss(logits)
        for scope in SCOPES:
            override(graph, scope)
            got = run(tf.gradients(loss, logits)[0])
            assert_close(got, 5.0 * reference.Reference(LOGITS).sparse_gradient(LABELS))
            restore(graph, scope)
        (op,) = [op for op in graph.get_operations() if op.type == SPARSE_OP]
        assert op.get_attr("_gradient_op_type").decode() == name


def test_an_overridden_graph_is_not_kept_alive():
    graph = tf.Graph()
    with graph.as_default():
        sparse_loss(tf.constant(LOGITS))
    tf1xent.override_gradients(graph)
    reference_to_graph = weakref.ref(graph)
    del graph
    gc.collect()
    assert reference_to_graph() is None


@pytest.mark.parametrize("function", [tf1xent.override_gradients, tf1xent.restore_gradients])
@pytest.mark.parametrize("graph", ["graph", 0, object()])
def test_what_is_not_a_graph(function, graph):
    with pytest.raises(TypeError, match=f"{function.__name__}: `graph` must be a tf.Graph"):
        function(graph)


# --- The public names -------------------------------------------------------------------------


def test_names_are_public_plain_and_registered():
    names = (gradients.SPARSE_GRADIENT, gradients.DENSE_GRADIENT, gradients.GUARD_GRADIENT)
    assert len(set(names)) == 3
    for name in names:
        assert name.isalnum() and name in REGISTRY


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_gradient_override_map(name):
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        override_map = {
            SPARSE_OP: gradients.SPARSE_GRADIENT,
            DENSE_OP: gradients.DENSE_GRADIENT,
            GUARD_OP: gradients.GUARD_GRADIENT,
        }
        with graph.gradient_override_map(override_map):
            loss = getattr(tf.nn, name)(labels=labels_of(name), logits=logits)
        got = run(product(loss, logits, V))
    assert_close(got, reference.Reference(LOGITS).derivative_product([V], weights_of(name)))


def test_a_saved_meta_graph_works_in_a_process_that_only_imports_tf1xent(tmp_path):
    path, results = tmp_path / "graph.meta", tmp_path / "results.npz"
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder_with_default(table.LOGITS, table.LOGITS.shape)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=table.LABELS, logits=logits)
        (gradient,) = tf.gradients(loss, logits)
        for tensor in (logits, loss, gradient):
            tf.add_to_collection("tensors", tensor)
        tf1xent.override_gradients(graph)
        tf.train.export_meta_graph(str(path))
        tf1xent.restore_gradients(graph)
    module_results("saved_graph", path, results)
    want = reference.Reference(table.LOGITS).derivative_product(table.VECTORS[:1])
    with np.load(str(results)) as file:
        assert_close(file["recorded"], want, 1e-6)
        assert_close(file["new"], want, 1e-6)
