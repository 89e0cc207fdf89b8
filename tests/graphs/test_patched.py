"""Graphs that were built under `tf1xent.patch()`, or with `tf1xent.nn`: told of, and made of stock
ops that need no tf1xent."""

import functools

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.oracle import reference
from tests.support.patched_losses import dense, placeholders, sparse
from tests.support.tolerances import assert_within_contract
from tf1xent import graphs, nn
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs import Verdict

# Confident rows, where a derivative that subtracts loses all digits, and others.
LOGITS = np.array([[9.0, 0.0, 1.0], [0.5, -1.25, 2.0], [0.0, 8.0, 30.0], [0.0, 0.0, 0.0]])
LABELS = np.array([0, 1, 2, 1])
SOFT = np.array([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])
VECTOR = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
FEED = {"logits:0": LOGITS, "labels:0": LABELS, "soft:0": SOFT, "vector:0": VECTOR}


def smoothed(logits, labels, soft):
    return nn.weighted_sparse_softmax_cross_entropy_with_logits(
        labels, logits, label_smoothing=0.1, z_loss=0.2, softcap=30.0
    )


LOSSES = [sparse, dense, smoothed]
OP_TYPES = {sparse: "Tf1xentSparseLoss", dense: "Tf1xentDenseLoss", smoothed: "Tf1xentSparseLoss"}


@functools.lru_cache(maxsize=None)
def saved(loss, dtype="float64", shape=(None, 3)):
    """The MetaGraphDef of a loss and its derivatives: value, first, second, first by labels."""
    with tf.Graph().as_default():
        logits, labels, soft, vector = placeholders(tf.as_dtype(dtype), shape)
        with tf1xent.patched():
            value = tf.identity(loss(logits, labels, soft), name="value")
            first = tf.identity(tf.gradients(value, logits)[0], name="first")
            tf.identity(tf.gradients(first, logits, vector)[0], name="second")
            if loss is dense:
                by_labels = tf.identity(tf.gradients(value, soft)[0], name="by_labels")
                tf.identity(tf.gradients(by_labels, logits, vector)[0], name="mixed")
        return tf.train.export_meta_graph()


def names_of(loss):
    names = ["value:0", "first:0", "second:0"]
    return [*names, "by_labels:0", "mixed:0"] if loss is dense else names


def run(meta_graph, build, feed=FEED):
    """What `build(graph)` of an imported graph computes."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        return session.run(build(graph), feed)


def serialized(proto):
    """As bytes: protos with a NaN in them are not equal to themselves."""
    return proto.SerializeToString(deterministic=True)


def gradient_names(graph_def):
    nodes = list(graph_def.node)
    for function in graph_def.library.function:
        nodes += function.node_def
    names = [n.attr["_gradient_op_type"].s for n in nodes if "_gradient_op_type" in n.attr]
    return {name.decode() for name in names}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_the_loss_is_listed_as_what_it_is(loss):
    report = graphs.inspect_graph(saved(loss))
    op = report.ops[0]  # in the derivative of a derivative by labels, there is one more
    assert len(report.ops) == (2 if loss is dense else 1)
    assert (op.op_type, op.gradient_attribute) == (OP_TYPES[loss],) * 2
    assert op.gradient_registered and op.verdict is Verdict.AS_IT_IS and "import" in op.reason
    assert (op.dtype, op.shape, op.context, op.guards) == ("float64", (None, 3), None, ())
    # The first derivatives alone: by logits, and by labels, each of which was asked for.
    assert len(op.gradients) == (4 if loss is dense else 1)
    kind = "dense, tf1xent" if loss is dense else "sparse, tf1xent"
    assert kind in str(report) and not report.needs_rewrite


def test_the_name_is_the_one_that_the_program_gave():
    with tf1xent.patched(), tf.Graph().as_default() as graph:
        logits, labels, soft, _ = placeholders()
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="one")
        tf.nn.softmax_cross_entropy_with_logits_v2(labels=soft, logits=logits, name="two")
    listed = [(op.name, op.op_type) for op in graphs.inspect_graph(graph.as_graph_def()).ops]
    assert listed == [("one/one", "Tf1xentSparseLoss"), ("two", "Tf1xentDenseLoss")]


@pytest.mark.parametrize("mode", ["tag", "untag"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_other_modes_leave_it(loss, mode):
    before = saved(loss)
    assert serialized(graphs.rewrite_meta_graph(before, mode)) == serialized(before)


CASES = [
    ("float64", (None, 3)),
    pytest.param("float64", (4, 3), marks=pytest.mark.exhaustive),
    ("float32", (None, None)),
]


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype, shape", CASES, ids=str)
@pytest.mark.parametrize("loss", [sparse, dense], ids=lambda loss: loss.__name__)
def test_values_and_new_derivatives_of_stock_ops_meet_the_contract(loss, dtype, shape):
    stock = graphs.rewrite_meta_graph(saved(loss, dtype, shape))
    assert not gradient_names(stock.graph_def) and not graphs.inspect_graph(stock).ops

    def derivatives(graph):
        value, logits, vector = (graph.get_tensor_by_name(n + ":0") for n in NAMES)
        (gradient,) = tf.gradients(value, logits)
        (product,) = tf.gradients(gradient, logits, vector)
        first = graph.get_tensor_by_name("first:0")
        (of_recorded,) = tf.gradients(first, logits, vector)
        recorded = [graph.get_tensor_by_name(name) for name in names_of(loss)[1:3]]
        return [value, gradient, product, of_recorded, *recorded]

    value, gradient, product, of_recorded, *recorded = run(stock, derivatives)
    oracle = reference.Reference(LOGITS)
    if loss is sparse:
        wants = oracle.sparse_loss(LABELS), oracle.sparse_gradient(LABELS)
        second = oracle.derivative_product([VECTOR])
    else:
        wants = oracle.dense_loss(SOFT), oracle.dense_gradient(SOFT)
        second = oracle.derivative_product([VECTOR], SOFT)
    logits = LOGITS.astype(dtype)
    assert value.dtype == np.dtype(dtype)
    assert_within_contract(value, wants[0], logits)
    for found, want in [(gradient, wants[1]), (recorded[0], wants[1])]:
        assert_within_contract(found, want, logits)
    for found in (product, of_recorded, recorded[1]):
        assert_within_contract(found, second, logits)


NAMES = ("value", "logits", "vector")


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_all_that_was_recorded_stays(loss):
    fetch = lambda graph: names_of(loss)  # noqa: E731
    stock = graphs.rewrite_meta_graph(saved(loss))
    for before, after in zip(run(saved(loss), fetch), run(stock, fetch)):
        np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-15)
    assert serialized(graphs.rewrite_meta_graph(stock)) == serialized(stock)


def test_derivatives_of_a_loss_with_options():
    """In tf1xent and of stock ops."""

    def products(graph):
        value, logits, vector = (graph.get_tensor_by_name(n + ":0") for n in NAMES)
        (gradient,) = tf.gradients(tf.square(value), logits)
        return [gradient, tf.gradients(gradient, logits, vector)[0]]

    stock = graphs.rewrite_meta_graph(saved(smoothed))
    assert not gradient_names(stock.graph_def)
    for before, after in zip(run(saved(smoothed), products), run(stock, products)):
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["half", pytest.param("bfloat16", marks=pytest.mark.lengthy)])
def test_narrow_dtypes_are_cast_outside(dtype):
    stock = graphs.rewrite_meta_graph(saved(sparse, dtype))
    (before,), (after,) = (run(g, lambda _: ["value:0"]) for g in (saved(sparse, dtype), stock))
    assert before.dtype == after.dtype
    np.testing.assert_array_equal(before.astype(np.float32), after.astype(np.float32))


def test_invalid_labels_are_refused_as_before():
    for meta_graph in (saved(sparse), graphs.rewrite_meta_graph(saved(sparse))):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.train.import_meta_graph(meta_graph)
            for name in names_of(sparse):
                session.run(name, FEED)
                for labels in ([0, 3, 2, 1], [0, -1, 2, 1]):
                    with pytest.raises(tf.errors.InvalidArgumentError):
                        session.run(name, dict(FEED, **{"labels:0": labels}))


def test_what_a_gradient_keeps_is_not_computed_for_the_value():
    (op,) = graphs.inspect_graph(saved(sparse)).ops
    stock = graphs.rewrite_meta_graph(saved(sparse))
    (node,) = [node for node in stock.graph_def.node if node.name == op.name]
    assert node.op == "IdentityN" and len(node.input) == len(node.attr["T"].list.type) == 3


# --- Branches, loops and functions --------------------------------------------------------------


def in_branch(logits, labels, soft):
    return tf.cond(
        tf.reduce_sum(logits) > -1e9,
        lambda: tf.reduce_sum(sparse(logits, labels, soft) + dense(logits, labels, soft)),
        lambda: tf.zeros([], logits.dtype),
    )


def in_loop(logits, labels, soft):
    def body(turn, total):
        losses = sparse(logits, labels, soft) + dense(logits, labels, soft)
        return turn + 1, total + tf.reduce_sum(losses)

    start = tf.constant(0), tf.zeros([], logits.dtype)
    return tf.while_loop(lambda turn, _: turn < 1, body, start, maximum_iterations=1)[1]


def in_function(logits, labels, soft):
    function = getattr(tensorflow, "function", None) or tensorflow.contrib.eager.defun
    return function(in_branch, autograph=False)(logits, labels, soft)


def check_both(build, v2, has_hessian):
    meta_graph = with_control_flow(build, v2)
    wants = reference.Reference(LOGITS)
    value = wants.sparse_loss(LABELS).sum() + wants.dense_loss(SOFT).sum()
    gradient = wants.sparse_gradient(LABELS) + wants.dense_gradient(SOFT)
    product = wants.derivative_product([VECTOR]) + wants.derivative_product([VECTOR], SOFT)

    def derivatives(graph):
        total, logits, vector = (graph.get_tensor_by_name(n + ":0") for n in NAMES)
        (first,) = tf.gradients(total, logits)
        second = tf.gradients(first, logits, vector) if has_hessian else []
        return [total, first, *second]

    stock = graphs.rewrite_meta_graph(meta_graph)
    assert not gradient_names(stock.graph_def)
    found = run(stock, derivatives)
    assert len(found) == 2 + has_hessian
    for got, want in zip(found, (value, gradient, product)):
        np.testing.assert_allclose(got, np.asarray(want).astype(np.float64), rtol=1e-11)


def with_control_flow(build, v2):
    enabled = getattr(tf, "control_flow_v2_enabled", lambda: False)()
    switch = {True: "enable_control_flow_v2", False: "disable_control_flow_v2"}
    if v2 != enabled:
        getattr(tf, switch[v2])()
    try:
        with tf.Graph().as_default(), tf1xent.patched():
            logits, labels, soft, _ = placeholders()
            tf.identity(build(logits, labels, soft), name="value")
            return tf.train.export_meta_graph()
    finally:
        if v2 != enabled:
            getattr(tf, switch[enabled])()


@pytest.mark.parametrize("build", [in_branch, in_loop], ids=lambda build: build.__name__)
def test_in_v1_branches_and_loops(build):
    check_both(build, v2=False, has_hessian=build is in_branch)


needs_v2 = pytest.mark.skipif(
    not hasattr(tf, "control_flow_v2_enabled"), reason="TF 1.13 cannot switch to control flow v2"
)


@pytest.mark.lengthy
@needs_v2
@pytest.mark.parametrize("build", [in_branch, in_loop], ids=lambda build: build.__name__)
def test_in_v2_branches_and_loops(build):
    check_both(build, v2=True, has_hessian=True)


@pytest.mark.lengthy
@needs_v2
def test_in_a_branch_of_a_function():
    meta_graph = with_control_flow(in_function, v2=True)
    verdicts = {op.verdict for op in graphs.inspect_graph(meta_graph).ops}
    assert verdicts == {Verdict.REWRITE}
    check_both(in_function, v2=True, has_hessian=True)


# --- What is refused ----------------------------------------------------------------------------


def test_a_chunked_loss_is_refused():
    with tf.Graph().as_default() as graph:
        features = tf.placeholder(tf.float32, [4, 5])
        weights, bias = tf.placeholder(tf.float32, [5, 6]), tf.placeholder(tf.float32, [6])
        tf1xent.losses.linear_softmax_cross_entropy(LABELS, features, weights, bias, chunk_size=2)
    with pytest.raises(RewriteError, match="is tf1xent's own"):
        graphs.rewrite_graph_def(graph.as_graph_def())


@pytest.mark.parametrize("change", ["input", "types", "dtype"])
def test_malformed_nodes_are_refused(change):
    graph_def = tf.GraphDef()
    graph_def.CopyFrom(saved(sparse).graph_def)
    (op,) = graphs.inspect_graph(graph_def).ops
    (node,) = [node for node in graph_def.node if node.name == op.name]
    if change == "input":
        del node.input[1:]
    elif change == "types":
        del node.attr["T"].list.type[:]
    else:
        node.attr["T"].list.type[0] = tf.int32.as_datatype_enum
    graphs.inspect_graph(graph_def)
    with pytest.raises(GraphFileError, match=op.name):
        graphs.rewrite_graph_def(graph_def)
