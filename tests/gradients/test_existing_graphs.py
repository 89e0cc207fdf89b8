"""The override of graphs that exist already, and of branches, loops and functions."""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function as function_module
from tensorflow.python.ops import gen_array_ops, gen_nn_ops

import tf1xent
from tests.gradients.overriding import (
    LABELS,
    LOGITS,
    SCOPES,
    U,
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

# --- What exists already ----------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_tensors_built_before_the_override(name, scope):
    """On 1.x they hold PreventGradient nodes."""
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        loss = getattr(tf.nn, name)(labels=labels_of(name), logits=logits)
        (gradient,) = tf.gradients(loss, logits)
        override(graph, scope)
        (tensor,) = tf.gradients(tf.reduce_sum(gradient * V), logits)
        third = product(tf.reduce_sum(gradient * V), logits, U)
        got = run([tensor, third])
        restore(graph, scope)
    oracle = reference.Reference(LOGITS)
    assert_close(got[0], oracle.derivative_product([V], weights_of(name)))
    assert_close(got[1], oracle.derivative_product([V, U], weights_of(name)))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("how", ["meta_graph", "graph_def"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_imported_graphs(how, when, scope):
    with tf.Graph().as_default() as saved:
        logits = tf.constant(LOGITS, name="logits")
        loss = sparse_loss(logits, name="xent")
        tf.identity(tf.gradients(loss, logits)[0], name="gradient")
        meta_graph = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph:
        if when == "before" and scope == "process":
            override(graph, scope)
        if how == "meta_graph":
            tf.train.import_meta_graph(meta_graph)
        else:
            tf.import_graph_def(saved.as_graph_def(), name="")
        if when == "after" or scope == "graph":
            override(graph, scope)
        logits, loss, recorded = (
            graph.get_tensor_by_name(name) for name in ("logits:0", "xent/xent:0", "gradient:0")
        )
        new = product(loss, logits, V)
        old = tf.gradients(tf.reduce_sum(recorded * V), logits)[0]
        got = run([new, old])
        restore(graph, scope)
    want = reference.Reference(LOGITS).derivative_product([V])
    assert_close(got[0], want)
    assert_close(got[1], want)


def test_a_saved_guard_of_1x_is_let_through_on_every_tensorflow():
    """Training graphs of 1.x carry PreventGradient nodes, also where today's would not."""
    with tf.Graph().as_default():
        logits = tf.constant(LOGITS)
        _, backprop = gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, LABELS)
        guarded = gen_array_ops.prevent_gradient(backprop, message="whatever it says")
        with pytest.raises(LookupError):
            tf.gradients(guarded, logits)
        tf1xent.override_gradients()
        got = run(tf.gradients(tf.reduce_sum(guarded * V), logits)[0])
    assert_close(got, reference.Reference(LOGITS).derivative_product([V]))


@pytest.mark.parametrize("scope", SCOPES)
def test_other_guards_stay_refused(scope):
    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        loss, _ = gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, LABELS)
        for guarded in (logits * 2.0, loss, tf.nn.softmax(logits)):
            tensor = gen_array_ops.prevent_gradient(guarded, message="not for you")
            override(graph, scope)
            with pytest.raises(LookupError, match="not for you"):
                tf.gradients(tensor, logits)
            restore(graph, scope)


# --- Control flow and functions ---------------------------------------------------------------


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "control_flow, scope", [("v1", "process"), ("v1", "patch"), ("v2", "graph")]
)
def test_control_flow(control_flow, scope, tmp_path):
    if control_flow == "v2" and not hasattr(tf, "enable_control_flow_v2"):
        pytest.skip("this TensorFlow has no tf.enable_control_flow_v2")
    path = tmp_path / "results.npz"
    module_results("control_flow", control_flow, scope, path)
    with np.load(str(path)) as file:
        got = dict(file)
    oracle = reference.Reference(table.LOGITS)
    want = oracle.derivative_product(table.VECTORS[:1])
    first = {
        "sparse": oracle.sparse_gradient(table.LABELS),
        "dense": oracle.dense_gradient(table.SOFT_LABELS),
    }
    for name in ("sparse", "dense"):
        for place, times in (("cond", 1), ("while", 2)):
            gradient = got[f"{name} {place} gradient"]
            if scope != "patch":
                assert gradient.tobytes() == got[f"{name} {place} before"].tobytes()
            assert_close(gradient, times * first[name], 1e-6)
            key = f"{name} {place} product"
            if place == "cond" or control_flow == "v2":
                assert_close(got[key], times * want, 1e-6)
        if scope != "graph":
            assert_close(got[name + " body product"], 2 * want, 1e-6)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_function_bodies(name, scope):
    if not hasattr(tensorflow, "function"):
        pytest.skip("this TensorFlow has no tf.function")

    @tensorflow.function(autograph=False)
    def body(logits):
        return getattr(tf.nn, name)(labels=labels_of(name), logits=logits)

    with tf.Graph().as_default() as graph:
        logits = tf.constant(LOGITS)
        loss = body(logits)
        override(graph, scope)
        got = run(product(loss, logits, V))
        restore(graph, scope)
    assert_close(got, reference.Reference(LOGITS).derivative_product([V], weights_of(name)))


def test_whole_computations_in_a_defun():
    """All orders inside of the body: TensorFlow has no gradient of the op through a Defun."""
    with tf.Graph().as_default():
        tf1xent.override_gradients()

        @function_module.Defun(tf.float64)
        def body(logits):
            return product(sparse_loss(logits), logits, V)

        got = run(body(tf.constant(LOGITS)))
    assert_close(got, reference.Reference(LOGITS).derivative_product([V]))
