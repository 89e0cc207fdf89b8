"""override_gradients, restore_gradients: TensorFlow's own ops with exact higher derivatives."""

import gc
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function as function_module
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_array_ops, gen_nn_ops

import tf1xent
from tests import ROOT
from tests.oracle import reference
from tests.routes import table
from tests.support.loss_graph import DENSE_V1, DENSE_V2, NAMES, SPARSE, LossGraph
from tf1xent import gradients

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"
GUARD_OP = "PreventGradient"
REGISTRY = ops._gradient_registry._registry

LOGITS = np.array(
    [
        [0.5, -1.25, 2.0, 0.125],
        [9.0, 0.0, 1.0, -2.0],
        [0.0, 8.0, 0.5, -1.0],
        [1.5, 1.5, 1.5, 1.5],
    ]
)
LABELS = np.array([2, 0, 3, 1])
SOFT_LABELS = np.array(
    [
        [0.125, 0.25, 0.25, 0.375],
        [0.875, 0.0, 0.125, 0.0],
        [0.5, 0.75, 0.0, 0.25],  # sums to 1.5
        [0.0, 0.0, 0.0, 0.0],
    ]
)
ONE_SUM = slice(0, 2)
RANDOM = np.random.RandomState(17)
U, V, W = RANDOM.normal(size=(3,) + LOGITS.shape)
SCOPES = ("process", "graph")


@pytest.fixture(autouse=True)
def way_back():
    before = {name: REGISTRY[name] for name in (SPARSE_OP, DENSE_OP, GUARD_OP)}
    yield
    tf1xent.restore_gradients()
    assert all(REGISTRY[name] is entry for name, entry in before.items())


def override(graph, scope):
    tf1xent.override_gradients(graph if scope == "graph" else None)


def restore(graph, scope):
    tf1xent.restore_gradients(graph if scope == "graph" else None)


def labels_of(name):
    return LABELS if name == SPARSE else SOFT_LABELS


def weights_of(name):
    return None if name == SPARSE else SOFT_LABELS


def assert_close(got, want, tolerance=1e-12):
    want = np.asarray(want).astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def run(tensors, **session_arguments):
    with tf.Session(**session_arguments) as session:
        return session.run(tensors)


def product(loss, point, vector):
    """d/dpoint <dloss/dpoint, vector>"""
    (gradient,) = tf.gradients(loss, point)
    return tf.gradients(tf.reduce_sum(gradient * vector), point)[0]


def sparse_loss(logits, **arguments):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=logits, **arguments)


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


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_first_order_is_tensorflows_bit_by_bit(name, dtype, weighted, scope):
    stock, stock_count = _first_order(name, dtype, None, weighted)
    got, count = _first_order(name, dtype, scope, weighted)
    assert got == stock
    assert count <= stock_count  # and nothing is added for the second order


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
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_second_to_fourth_order_of_graphs_built_before(name, scope):
    graph = LossGraph(tf.nn, name, "float64", logits_shape=[None, 4])
    override(graph.graph, scope)
    oracle = reference.Reference(LOGITS)
    for order in (2, 3, 4):
        vectors = [U, V, W][: order - 1]
        got = graph.run(("logits",) * order, LOGITS, labels_of(name), *vectors)
        assert_close(got, oracle.derivative_product(vectors, weights_of(name)))
    restore(graph.graph, scope)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name):
    graph = LossGraph(tf.nn, name, "float16", logits_shape=[None, 4])
    tf1xent.override_gradients()
    got = graph.run(("logits", "logits"), LOGITS, labels_of(name), V)
    want = reference.Reference(LOGITS).derivative_product([V], weights_of(name))
    assert_close(got, want, 4e-3)


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


def _module_results(module, *arguments):
    """What `python -m tests.routes.MODULE ARGUMENTS` prints."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.routes." + module] + [str(a) for a in arguments],
        cwd=str(ROOT),
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


@pytest.mark.lengthy
@pytest.mark.parametrize("scope", SCOPES + ("patch",))
@pytest.mark.parametrize("control_flow", ["v1", "v2"])
def test_control_flow(control_flow, scope, tmp_path):
    if control_flow == "v2" and not hasattr(tf, "enable_control_flow_v2"):
        pytest.skip("this TensorFlow has no tf.enable_control_flow_v2")
    path = tmp_path / "results.npz"
    _module_results("control_flow", control_flow, scope, path)
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
    _module_results("saved_graph", path, results)
    want = reference.Reference(table.LOGITS).derivative_product(table.VECTORS[:1])
    with np.load(str(results)) as file:
        assert_close(file["recorded"], want, 1e-6)
        assert_close(file["new"], want, 1e-6)


# --- Eager tapes and forward mode -------------------------------------------------------------


def needs_eager():
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")


def tape_product(function, point, *vectors):
    """Nested tapes: one order more than there are vectors."""

    def of_order(order):
        with tensorflow.GradientTape() as tape:
            tape.watch(point)
            value = function(point) if order == 1 else of_order(order - 1) * vectors[order - 2]
            value = tf.reduce_sum(value)
        return tape.gradient(value, point)

    return of_order(len(vectors) + 1)


def _eager_function(name):
    return lambda logits: getattr(tf.nn, name)(labels=labels_of(name), logits=logits)


@pytest.mark.parametrize("mode", ["eager", "tf.function"])
@pytest.mark.parametrize("name", NAMES)
def test_tapes(name, mode):
    needs_eager()
    stock = tape_product(_eager_function(name), tf.constant(LOGITS)).numpy()
    tf1xent.override_gradients()

    def both(logits):
        function = _eager_function(name)
        return tape_product(function, logits), tape_product(function, logits, V)

    both = both if mode == "eager" else tensorflow.function(both)
    first, second = both(tf.constant(LOGITS))
    if mode == "eager":
        assert first.numpy().tobytes() == stock.tobytes()
    assert_close(first, stock)
    assert_close(second, reference.Reference(LOGITS).derivative_product([V], weights_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_third_order_under_tapes(name):
    """For labels that sum to 1: eager tapes keep no labels, and S counts as a constant."""
    needs_eager()
    tf1xent.override_gradients()
    logits, labels = LOGITS[ONE_SUM], labels_of(name)[ONE_SUM]
    got = tape_product(
        lambda x: getattr(tf.nn, name)(labels=labels, logits=x),
        tf.constant(logits),
        U[ONE_SUM],
        V[ONE_SUM],
    )
    want = reference.Reference(logits).derivative_product([U[ONE_SUM], V[ONE_SUM]])
    assert_close(got, want)


def test_mixed_derivative_under_tapes():
    needs_eager()
    tf1xent.override_gradients()
    logits, labels = tf.constant(LOGITS[ONE_SUM]), tf.constant(SOFT_LABELS[ONE_SUM])

    def derivative(first, second, vector):
        with tensorflow.GradientTape() as outer:
            outer.watch(second)
            with tensorflow.GradientTape() as inner:
                inner.watch(first)
                loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
            along = tf.reduce_sum(inner.gradient(loss, first) * vector)
        return outer.gradient(along, second)

    oracle = reference.Reference(LOGITS[ONE_SUM])
    v = V[ONE_SUM]
    assert_close(derivative(logits, labels, v), oracle.mixed_product_transposed(v))
    assert_close(derivative(labels, logits, v), oracle.mixed_product(v))


def _needs_forward_mode():
    needs_eager()
    if not hasattr(getattr(tensorflow, "autodiff", None), "ForwardAccumulator"):
        pytest.skip("this TensorFlow has no tf.autodiff.ForwardAccumulator")


def _forward_over_reverse(function, point, tangent, target=None):
    target = point if target is None else target
    with tensorflow.autodiff.ForwardAccumulator(point, tf.constant(tangent)) as accumulator:
        with tensorflow.GradientTape() as tape:
            tape.watch(target)
            loss = tf.reduce_sum(function())
        return accumulator.jvp(tape.gradient(loss, target))


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name):
    _needs_forward_mode()
    tf1xent.override_gradients()
    logits = tf.constant(LOGITS)
    with tensorflow.autodiff.ForwardAccumulator(logits, tf.constant(V)) as accumulator:
        loss = _eager_function(name)(logits)
    oracle = reference.Reference(LOGITS)
    if name == SPARSE:
        gradient = oracle.sparse_gradient(LABELS)
    else:  # TensorFlow's first order
        gradient = oracle.probabilities() - SOFT_LABELS
    assert_close(accumulator.jvp(loss), np.sum(gradient * V, axis=1))
    got = _forward_over_reverse(lambda: _eager_function(name)(logits), logits, V)
    assert_close(got, oracle.derivative_product([V], weights_of(name)))


@pytest.mark.parametrize("ran_before", [False, True])
def test_mixed_derivative_in_forward_mode(ran_before):
    """Also where forward mode ran with TensorFlow's own gradients, whose traces it keeps."""
    _needs_forward_mode()
    rows = 1 if ran_before else 2  # shapes that no other test has traced
    logits, labels = tf.constant(LOGITS[:rows, :3]), tf.constant(SOFT_LABELS[:rows, :3])
    tangent = V[:rows, :3]

    def mixed():
        return _forward_over_reverse(
            lambda: tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits),
            labels,
            tangent,
            logits,
        )

    if ran_before:
        mixed()
    tf1xent.override_gradients()
    assert_close(mixed(), reference.Reference(LOGITS[:rows, :3]).mixed_product(tangent))


def test_forward_mode_after_restore_is_stock():
    _needs_forward_mode()
    logits, labels = tf.constant(LOGITS[:3, :2]), tf.constant(SOFT_LABELS[:3, :2])

    def mixed():
        return _forward_over_reverse(
            lambda: tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits),
            labels,
            V[:3, :2],
            logits,
        ).numpy()

    tf1xent.override_gradients()
    assert mixed().any()
    tf1xent.restore_gradients()
    assert not mixed().any()  # stock TensorFlow's wrong zeros


def test_eager_execution_of_1x():
    """Its tapes do not keep the sparse op's inputs: LookupError, and nothing else."""
    if tf.executing_eagerly():
        pytest.skip("this TensorFlow's tapes keep what is needed; see the tests above")
    answers = _module_results("eager_override").splitlines()
    assert "dense close: True" in answers
    (sparse,) = [line for line in answers if line.startswith("sparse raises:")]
    assert sparse.startswith("sparse raises: LookupError")
    assert "tf1xent" in sparse
