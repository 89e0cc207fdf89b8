"""Losses behind functions: what names a function in an attribute, what is around the call, and
functions that call themselves."""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.support.called_losses import DIRECTION, LABELS, LOGITS, computed, exact, inputs
from tests.support.v1_loops import can_be_functional
from tf1xent import graphs
from tf1xent.errors import RewriteError
from tf1xent.graphs import Verdict

traced = getattr(tensorflow, "function", None) or tensorflow.contrib.eager.defun
HAS_FUNCTION = hasattr(tensorflow, "function")

ONE_ANSWER = "TF 1.13 makes v1 branches and loops in what contrib.eager.defun traces"
needs_v2 = pytest.mark.skipif(not HAS_FUNCTION, reason=ONE_ANSWER)


def mean_loss(logits, labels):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def mean_loss_by_call(logits, labels):
    return traced(mean_loss, autograph=False)(logits, labels)


def branch(logits, labels, loss=mean_loss):
    return tf.cond(
        tf.reduce_sum(logits) > -1e9,
        lambda: loss(logits, labels),
        lambda: tf.zeros([], logits.dtype),
    )


def loop(logits, labels):
    def body(turn, total):
        return turn + 1, total + mean_loss(logits, labels)

    start = tf.constant(0), tf.zeros([], logits.dtype)
    return tf.while_loop(lambda turn, _: turn < 1, body, start, maximum_iterations=1)[1]


def case(logits, labels):
    losses = [lambda: tf.zeros([], logits.dtype), lambda: mean_loss(logits, labels)]
    return tf.switch_case(tf.shape(logits)[1] - 2, losses)


def branch_in_branch(logits, labels):
    return branch(logits, labels, branch)


def call_in_branch(logits, labels):
    return branch(logits, labels, mean_loss_by_call)


FUNCTIONS = [
    branch,
    loop,
    case,
    pytest.param(branch_in_branch, marks=pytest.mark.lengthy),
    call_in_branch,
]


def meta_graph_of(build, patched=False):
    """The MetaGraphDef of `build(logits, labels)`, called as a function, under `result`."""
    with tf.Graph().as_default():
        tf.identity(build(*inputs()), name="result")
        return tf.train.export_meta_graph()


def derivatives(result, logits):
    (gradient,) = tf.gradients(result, logits)
    return [result, gradient, tf.gradients(gradient * DIRECTION, logits)[0]]


def check_right(meta_graph):
    for found, want in zip(computed(meta_graph, derivatives), exact()):
        np.testing.assert_allclose(found, want / 2, rtol=1e-12)


@needs_v2
@pytest.mark.parametrize("build", FUNCTIONS, ids=lambda build: build.__name__)
def test_losses_in_branches_and_loops_of_a_call(build):
    def new_graph():
        # Other names of functions each time: a TensorFlow keeps those of a process together.
        return meta_graph_of(traced(build, autograph=False))

    meta_graph = new_graph()
    assert any(node.op.endswith("PartitionedCall") for node in meta_graph.graph_def.node)
    report = graphs.inspect_graph(meta_graph)
    assert [op.verdict for op in report.ops] == [Verdict.REWRITE] and report.needs_rewrite
    for mode in ("tag", "logsumexp"):
        rewritten = graphs.rewrite_meta_graph(new_graph(), mode)
        assert not any(node.op.endswith("PartitionedCall") for node in rewritten.graph_def.node)
        assert not graphs.inspect_graph(rewritten).needs_rewrite
        check_right(rewritten)


@needs_v2
@pytest.mark.parametrize("build", FUNCTIONS, ids=lambda build: build.__name__)
def test_losses_in_branches_and_loops_of_a_live_call(build):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        logits, labels = inputs()
        result = traced(build, autograph=False)(logits, labels)
        assert not graphs.inspect_graph(graph).needs_rewrite
        tf1xent.override_gradients()
        try:
            tensors = derivatives(result, logits)
        finally:
            tf1xent.restore_gradients()
        for found, want in zip(session.run(tensors, {logits: LOGITS, labels: LABELS}), exact()):
            np.testing.assert_allclose(found, want / 2, rtol=1e-12)


@pytest.mark.parametrize("mode", ["tag", "logsumexp"])
def test_a_dataset_that_computes_losses(mode):
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float64, [2, 3], name="logits")
        rows = tf.data.Dataset.from_tensor_slices(logits)
        losses = rows.map(
            lambda row: tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=tf.constant([2]), logits=row[tf.newaxis]
            )
        )
        iterator = tf.data.make_initializable_iterator(losses)
        tf.identity(iterator.get_next(), name="loss")
        tf.group(iterator.initializer, name="start")
    graph_def = graph.as_graph_def()
    report = graphs.inspect_graph(graph_def)
    assert [op.verdict for op in report.ops] == [Verdict.UNSUPPORTED]
    assert "Dataset" in report.ops[0].reason and "no gradient" in report.ops[0].reason
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graphs.rewrite_graph_def(graph_def, mode), name="")
        session.run("start", {"logits:0": LOGITS})
        want = np.log(np.exp(LOGITS[0]).sum()) - LOGITS[0, 2]
        np.testing.assert_allclose(session.run("loss:0"), [want], rtol=1e-12)


# --- Functions that call themselves -------------------------------------------------------------


def add_function(graph_def, name, op=None, **callees):
    """A function of (a, b) that returns a: with an op of both, and nodes that name functions."""
    function = graph_def.library.function.add()
    function.signature.name = name
    for argument, dtype in (("a", tf.float64), ("b", tf.int64)):
        function.signature.input_arg.add(name=argument, type=dtype.as_datatype_enum)
    function.signature.output_arg.add(name="r", type=tf.float64.as_datatype_enum)
    function.ret["r"] = "a"
    if op is not None:
        node = function.node_def.add(name="xent", op=op, input=["a", "b"])
        node.attr["T"].type = tf.float64.as_datatype_enum
    for key, callee in callees.items():
        add_call(function.node_def, key, callee, ["a", "b"])
    return function


def add_call(nodes, name, callee, reads):
    node = nodes.add(name=name, op="PartitionedCall", input=reads)
    node.attr["Tin"].list.type.extend([tf.float64.as_datatype_enum, tf.int64.as_datatype_enum])
    node.attr["Tout"].list.type.append(tf.float64.as_datatype_enum)
    node.attr["f"].func.name = callee


def calling_graph(callee):
    with tf.Graph().as_default() as graph:
        logits, labels = inputs()
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="xent")
    graph_def = graph.as_graph_def()
    add_call(graph_def.node, "call", callee, ["logits", "labels"])
    return graph_def


def test_a_function_without_a_loss_may_call_itself():
    graph_def = calling_graph("f")
    add_function(graph_def, "f", call="f")
    assert [op.name for op in graphs.inspect_graph(graph_def).ops] == ["xent/xent"]
    for mode in ("tag", "logsumexp", "untag"):
        after = graphs.rewrite_graph_def(graph_def, mode)
        assert after.library == graph_def.library and after.node[-1 if mode == "tag" else 2]


@pytest.mark.parametrize("loss_in", ["f", "g", "h"])
def test_a_function_with_a_loss_that_calls_itself_is_judged_and_refused(loss_in):
    """f and g call each other, g calls h."""
    graph_def = calling_graph("f")
    op = "SparseSoftmaxCrossEntropyWithLogits"
    for name, callees in (("f", ["g"]), ("g", ["f", "h"]), ("h", [])):
        calls = {f"call_{callee}": callee for callee in callees}
        add_function(graph_def, name, op if name == loss_in else None, **calls)
    report = graphs.inspect_graph(graph_def)
    verdicts = {op.function: (op.verdict, op.reason) for op in report.ops}
    assert set(verdicts) == {None, loss_in} and verdicts[None][0] is not Verdict.UNSUPPORTED
    judged, reason = verdicts[loss_in]
    assert judged is Verdict.UNSUPPORTED and "calls itself" in reason
    for mode in ("tag", "logsumexp"):
        with pytest.raises(RewriteError, match="function `[fg]` calls itself"):
            graphs.rewrite_graph_def(graph_def, mode)


# --- What is around a loss ----------------------------------------------------------------------


def loss_in_v1_loop(logits, labels, loss):
    def body(turn, total):
        return turn + 1, total + loss(logits, labels)

    start = tf.constant(0), tf.zeros([], logits.dtype)
    return tf.while_loop(lambda turn, _: turn < 2, body, start)[1]


def loss_in_v1_cond_in_loop(logits, labels):
    return loss_in_v1_loop(logits, labels, branch)


def loss_in_v1_cond_in_cond_in_loop(logits, labels):
    return loss_in_v1_loop(logits, labels, lambda x, y: branch(x, y, branch))


def call_in_v1_loop(logits, labels):
    return loss_in_v1_loop(logits, labels, mean_loss_by_call)


def loop_in_v1_cond(logits, labels):
    return branch(logits, labels, lambda x, y: loss_in_v1_loop(x, y, mean_loss))


V1 = [loss_in_v1_cond_in_loop, loss_in_v1_cond_in_cond_in_loop, call_in_v1_loop, loop_in_v1_cond]


def without_control_flow_v2(build):
    """The MetaGraphDef of a graph of v1 branches and loops."""
    enabled = getattr(tf, "control_flow_v2_enabled", lambda: False)()
    if enabled:
        tf.disable_control_flow_v2()
    try:
        return meta_graph_of(build)
    finally:
        if enabled:
            tf.enable_control_flow_v2()


@pytest.mark.parametrize("build", V1, ids=lambda build: build.__name__)
def test_every_loop_around_a_loss_counts(build):
    """By what the loop closes over TensorFlow's second derivative is None, without a word."""

    def of_product(logits, labels):
        return build(2 * logits, labels)

    meta_graph = without_control_flow_v2(of_product)
    (op,) = graphs.inspect_graph(meta_graph).ops
    assert op.verdict is (Verdict.REWRITE if can_be_functional() else Verdict.UNSUPPORTED)
    assert "v1 while loop" in op.reason and "--loops functional" in op.reason
    for mode in ("tag", "logsumexp"):
        rewritten = graphs.rewrite_meta_graph(meta_graph, mode)
        with tf.Graph().as_default() as graph:
            tf.train.import_meta_graph(rewritten)
            result, logits = (graph.get_tensor_by_name(n) for n in ("result:0", "logits:0"))
            (gradient,) = tf.gradients(result, logits)
            assert has_no_second_derivative(gradient, logits)


def has_no_second_derivative(gradient, logits):
    try:
        return tf.gradients(gradient, logits) == [None]
    except (AttributeError, TypeError):  # as "Second-order gradient for while loops not supported"
        return True


@pytest.mark.parametrize("mode", ["tag", "logsumexp"])
@pytest.mark.parametrize("build", V1, ids=lambda build: build.__name__)
def test_values_and_gradients_in_v1_loops_stay(build, mode):
    meta_graph = without_control_flow_v2(build)
    first = lambda result, logits: [result, tf.gradients(result, logits)[0]]  # noqa: E731
    found = computed(graphs.rewrite_meta_graph(meta_graph, mode), first)
    for value, want in zip(found, exact()):
        np.testing.assert_allclose(value, want, rtol=1e-12)  # twice the mean of two rows
