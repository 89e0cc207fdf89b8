"""What rewriting keeps and what it takes away, and whether reports are true.

The graphs are those of the corpus, of which mostly the protos alone are compared, and live ones.
"""

import functools
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import control_flow_pb2, saved_model_pb2

import tf1xent
from tests.corpus.reading import entries
from tf1xent import graphs
from tf1xent.graphs import Verdict

ENTRIES = {entry.id: entry for entry in entries()}
FUSED = ("SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits")
GRADIENT = "_gradient_op_type"
CONTEXTS = {
    "cond_context": control_flow_pb2.CondContextDef,
    "while_context": control_flow_pb2.WhileContextDef,
}
# The programs that call functions which hold cross-entropy ops.
CALLING = ("defun", "defun_with_gradient", "tf_function")

parametrize_entries = pytest.mark.parametrize("name", ENTRIES)
parametrize_modes = pytest.mark.parametrize("mode", ("tag", "logsumexp"))


def proto_of(entry):
    return entry.load_graph_def() if entry.kind == "graph_def" else entry.meta_graph()


@functools.lru_cache(maxsize=None)
def original(name):
    """Return the proto of an entry, not to be changed."""
    return proto_of(ENTRIES[name])


@functools.lru_cache(maxsize=None)
def rewritten(name, mode):
    """Return the proto of an entry, rewritten; not to be changed."""
    return rewrite(original(name), mode)


def rewrite(proto, mode):
    is_graph_def = isinstance(proto, tf.GraphDef)
    return (graphs.rewrite_graph_def if is_graph_def else graphs.rewrite_meta_graph)(proto, mode)


def graph_def_of(proto):
    return proto if isinstance(proto, tf.GraphDef) else proto.graph_def


def serialized(proto):
    return proto.SerializeToString(deterministic=True)


def every_node(graph_def):
    """Return the nodes of a graph and of its functions."""
    nodes = list(graph_def.node)
    for function in graph_def.library.function:
        nodes += function.node_def
    return nodes


def is_guard(node):
    return node.op == "PreventGradient" and b"cross_entropy" in node.attr["message"].s


def gradient_name(node):
    """Return the gradient that a node names; reading an attribute that is not there adds it."""
    return node.attr[GRADIENT].s.decode() if GRADIENT in node.attr else ""


def called(node):
    """Return the name of the function that a node might call."""
    return node.attr["f"].func.name if node.op.endswith("PartitionedCall") else node.op


def holding(graph_def):
    """Return the functions with a cross-entropy op or guard in them or in what they call."""
    found = set()
    for _ in graph_def.library.function:
        found |= {
            function.signature.name
            for function in graph_def.library.function
            for node in function.node_def
            if node.op in FUSED or is_guard(node) or called(node) in found
        }
    return found


def nodes_before(nodes, name):
    """Return the names of the nodes that one waits for."""
    inputs = {node.name: [i.lstrip("^").split(":")[0] for i in node.input] for node in nodes}
    found, new = set(), {name}
    while new:
        new = {before for after in new for before in inputs.get(after, ())} - found
        found |= new
    return found


def controls(node):
    return {reference[1:] for reference in node.input if reference.startswith("^")}


def without_tag(node):
    copy = tf.NodeDef()
    copy.CopyFrom(node)
    copy.attr.pop(GRADIENT, None)
    return copy


def outputs_replaced(graph_def, mode):
    """Return, by op or function, the output names that an IdentityN in its place has not."""
    signatures = [function.signature for function in graph_def.library.function]
    found = {s.name: [output.name for output in s.output_arg] for s in signatures}
    found = {name: found[name] for name in holding(graph_def)}
    return dict(found, **dict.fromkeys(FUSED, ["loss", "backprop"])) if mode != "tag" else found


def with_references(node, op_types, outputs):
    """Return a function's node that reads the outputs of IdentityN instead of those replaced."""
    copy = tf.NodeDef()
    copy.CopyFrom(node)
    for position, reference in enumerate(node.input):
        name, *output = reference.split(":")
        if len(output) == 2 and op_types.get(name) in outputs:
            index = outputs[op_types[name]].index(output[0])
            copy.input[position] = f"{name}:output:{index}"
    return copy


def without_derivative(node, added):
    """Return a node that reads the second output of a replaced op, not what gives it a derivative:
    that output, behind a StopGradient, plus 0."""
    copy = tf.NodeDef()
    copy.CopyFrom(node)
    for position, reference in enumerate(node.input):
        sum_node = added.get(reference.split(":")[0])
        if sum_node is not None:
            assert sum_node.op == "Add" and "/logsumexp/" in sum_node.name
            value = added[sum_node.input[0].split(":")[0]]
            assert value.op == "StopGradient" and value.input[0].endswith(":1")
            copy.input[position] = value.input[0]
    return copy


def check_nodes(before, after, mode, inlined, outputs):
    """Compare the nodes of a graph or function with those that a rewrite made of them."""
    assert [node.name for node in after[: len(before)]] == [node.name for node in before]
    op_types = {node.name: node.op for node in before}
    added = {node.name: node for node in after[len(before) :]}
    for old, new in zip(before, after):
        assert new.device == old.device
        is_call = called(old) in inlined
        if is_call or (old.op in FUSED and mode == "logsumexp"):
            assert new.op == "IdentityN"
            assert controls(old) <= nodes_before(after, new.name)
        elif old.op in FUSED or (is_guard(old) and mode == "tag"):
            assert gradient_name(new) == "Tf1xent" + old.op
            assert without_tag(new) == old
        elif is_guard(old):
            read = without_derivative(new, added).input
            assert new.op == "Identity" and list(read) == list(old.input)
        else:
            assert without_derivative(new, added) == with_references(old, op_types, outputs)
    if not inlined & {called(node) for node in before} and mode == "tag":
        assert len(after) == len(before)


def without_graph(meta_graph):
    copy = tf.MetaGraphDef()
    copy.CopyFrom(meta_graph)
    copy.ClearField("graph_def")
    for key in CONTEXTS:
        copy.collection_def.pop(key, None)
    return copy


def tensors_in_contexts(meta_graph):
    """Return the tensors of each v1 branch and loop."""
    found = {}
    for key, context_class in CONTEXTS.items():
        if key in meta_graph.collection_def:
            for content in meta_graph.collection_def[key].bytes_list.value:
                context = context_class.FromString(content)
                found[key, context.context_name] = set(context.values_def.values)
    return found


def check_meta_graphs(before, after, mode):
    """Compare all of a MetaGraphDef but its nodes with what a rewrite made of it."""
    assert without_graph(after) == without_graph(before)
    old, new = tensors_in_contexts(before), tensors_in_contexts(after)
    assert set(old) == set(new)
    assert all(old[key] <= new[key] for key in old)
    has_grown = any(old[key] < new[key] for key in old)
    # Of the corpus, exactly these have the fused op in a context.
    in_contexts = {node.name + ":0" for node in before.graph_def.node if node.op in FUSED}
    inside = any(in_contexts & tensors for tensors in old.values())
    assert has_grown == (inside and mode == "logsumexp")


@parametrize_modes
@parametrize_entries
def test_a_rewrite_keeps_all_else(name, mode):
    before, after = original(name), rewritten(name, mode)
    assert serialized(before) == serialized(proto_of(ENTRIES[name])) != serialized(after)
    assert serialized(rewrite(after, mode)) == serialized(after)
    if isinstance(before, tf.MetaGraphDef):
        check_meta_graphs(before, after, mode)
    old, new = graph_def_of(before), graph_def_of(after)
    assert any(node.op in FUSED for node in every_node(old))
    for node in every_node(new) if mode == "logsumexp" else ():
        assert node.op not in FUSED and not is_guard(node)
        assert not gradient_name(node).startswith("Tf1xent")
    assert new.versions == old.versions
    assert list(new.library.gradient) == list(old.library.gradient)
    inlined, outputs = holding(old), outputs_replaced(old, mode)
    check_nodes(old.node, new.node, mode, inlined, outputs)
    assert len(new.library.function) == len(old.library.function)
    for function, other in zip(old.library.function, new.library.function):
        assert other.signature == function.signature and other.attr == function.attr
        if function.signature.name not in inlined:
            assert other == function
        check_nodes(function.node_def, other.node_def, mode, inlined, outputs)


@parametrize_entries
def test_untag_takes_the_tags_away(name):
    before, tagged = original(name), rewritten(name, "tag")
    after = rewrite(tagged, "untag")
    if name.split("-")[1] not in CALLING:
        assert after == before
    for old, new in zip(every_node(graph_def_of(tagged)), every_node(graph_def_of(after))):
        is_tagged = gradient_name(old).startswith("Tf1xent")
        assert is_tagged or old.op not in FUSED
        assert new == (without_tag(old) if is_tagged else old)
    assert rewrite(before, "untag") == before


def test_meta_files_are_rewritten_as_their_protos_are():
    entry = ENTRIES["tf113-classifier"]
    content = Path(entry.path).read_bytes()
    want = graphs.rewrite_meta_graph(entry.meta_graph(), "tag")
    for path in (entry.path, entry.checkpoint, os.path.dirname(entry.path)):
        assert graphs.rewrite_meta_graph(path, "tag") == want
    assert Path(entry.path).read_bytes() == content


@parametrize_modes
def test_each_graph_of_a_saved_model_is_rewritten(mode, tmp_path):
    source = Path(ENTRIES["tf115-estimator_train"].path)
    graphs.rewrite_saved_model(source, tmp_path / "new", mode)
    old, new = (
        saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        for folder in (source, tmp_path / "new")
    )
    assert len(old.meta_graphs) == len(new.meta_graphs) == 3 and new.saved_model_schema_version == 1
    for before, after in zip(old.meta_graphs, new.meta_graphs):
        assert serialized(after) == serialized(graphs.rewrite_meta_graph(before, mode))


def expected_ops(entry):
    """Return what a report has to say of an entry: (function, op): (type, gradients, guards)."""
    graph_def = entry.load_graph_def()
    bodies = [(None, graph_def.node, ":1")]
    bodies += [(f.signature.name, f.node_def, ":backprop:0") for f in graph_def.library.function]
    found = {}
    for function, nodes, output in bodies:
        for name in {None: entry.op_names, **entry.function_ops}.get(function, ()):
            (op_type,) = [node.op for node in nodes if node.name == name]
            readers = [node for node in nodes if name + output in node.input]
            guards = {node.name for node in readers if is_guard(node)}
            found[function, name] = op_type, {node.name for node in readers}, guards
    return found


@parametrize_entries
def test_a_report_says_what_the_graph_holds(name):
    entry = ENTRIES[name]
    report = graphs.inspect_graph(entry.path)
    tags = None if entry.tags is None else "+".join(sorted(entry.tags))
    ops = [op for op in report.ops if op.graph == tags]
    found = {(op.function, op.name): (op.op_type, set(op.gradients), set(op.guards)) for op in ops}
    assert found == expected_ops(entry) and len(ops) == len(found)
    contexts = {"loop": "while", "branch_in_loop": "while", "cond": "cond"}
    context = contexts.get(name.split("-")[1])
    for op in ops:
        assert op.context == context
        assert op.dtype == "float64" and op.shape in ((None, 3), (None, None))
        assert op.gradient_attribute is None and op.gradient_registered is None
    assert report.unknown_ops == () or entry.refusal() is not None
    needs = [o for o in report.ops if o.verdict in (Verdict.REWRITE, Verdict.UNSUPPORTED)]
    assert report.needs_rewrite == bool(needs)


@pytest.mark.parametrize("name", ["tf115-classifier", "tf115-cond", "tf115-defun", "tf115-frozen"])
def test_reports_of_the_proto_and_of_the_imported_graph_are_those_of_the_file(name):
    entry = ENTRIES[name]
    want = graphs.inspect_graph(entry.path).ops
    assert graphs.inspect_graph(proto_of(entry)).ops == want
    with tf.Graph().as_default() as graph:
        entry.import_graph()
        for found, op in zip(graphs.inspect_graph(graph).ops, want):
            assert found == type(op)(**{**vars(op), "shape": found.shape})


@pytest.mark.parametrize("writer", ["tf113", "tf115"])
def test_an_imported_call_needs_a_rewrite_in_a_live_graph_too(writer):
    with tf.Graph().as_default() as graph:
        ENTRIES[writer + "-tf_function"].import_graph()
        verdicts = {op.verdict for op in graphs.inspect_graph(graph).ops}
    assert Verdict.REWRITE in verdicts


ROWS = np.random.RandomState(0).randn(4, 3)
DIRECTION = np.random.RandomState(1).randn(4, 3)
LABELS = np.eye(3)[[2, 0, 1, 1]] * 0.7 + 0.1


def mean_sparse_loss(logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2, 0, 1, 1], logits=logits)
    )


def mean_dense_loss(logits, labels=LABELS):
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits))


def mean_taught_loss(logits):
    return mean_dense_loss(logits, tf.nn.softmax(logits[::-1]))


def traced(logits):
    """Call a function that TensorFlow traces here; 1.13 has what tf.function grew from."""
    function = getattr(tensorflow, "function", None) or tensorflow.contrib.eager.defun
    return function(mean_sparse_loss)(logits)


def defun(logits):
    """Call a Defun, which only TF 1.x has."""
    from tensorflow.python.framework.function import Defun

    return Defun(tf.float64, func_name="mean_loss")(mean_sparse_loss)(logits)


LIVE = [mean_sparse_loss, mean_dense_loss, mean_taught_loss, traced]
LIVE += [defun] if tensorflow.__version__.startswith("1.") else []


def live_graph(function):
    with tf.Graph().as_default() as graph:
        logits = tf.get_variable("logits", dtype=tf.float64, initializer=tf.constant(ROWS))
        read = tf.identity(logits, name="read")
        tf.identity(function(read), name="loss")
        tf.global_variables_initializer()
    return graph


def product(graph, is_overridden=False):
    """Return the Hessian-vector product of a live graph; None where TensorFlow has none."""
    with graph.as_default(), tf.Session() as session:
        read, loss = (graph.get_tensor_by_name(name) for name in ("read:0", "loss:0"))
        if is_overridden:
            tf1xent.override_gradients()
        try:
            (found,) = tf.gradients(tf.gradients(loss, read), read, DIRECTION)
            session.run("init")
            return None if found is None else session.run(found)
        except (LookupError, TypeError, tf.errors.OpError):
            return None
        finally:
            tf1xent.restore_gradients()


def product_by_differences(graph, step=1e-2):
    """Return the Hessian-vector product by differences of the loss itself, of the fourth order."""
    weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
    found = np.zeros_like(ROWS)
    with tf.Session(graph=graph) as session:
        loss = session.make_callable("loss:0", ["read:0"])
        for index in np.ndindex(*ROWS.shape):
            unit = np.zeros_like(ROWS)
            unit[index] = step
            for i, j in itertools.product(weights, weights):
                value = loss(ROWS + i * unit + j * step * DIRECTION)
                found[index] += weights[i] * weights[j] * value / step**2
    return found


@pytest.mark.parametrize("function", LIVE, ids=lambda function: function.__name__)
def test_verdicts_on_live_graphs_are_true(function):
    graph = live_graph(function)
    (verdict,) = {op.verdict for op in graphs.inspect_graph(graph).ops}
    wanted = product_by_differences(graph)

    def is_right(found):
        return found is not None and np.abs(found - wanted).max() < 1e-7

    want = Verdict.REWRITE
    if is_right(product(live_graph(function), is_overridden=True)):
        want = Verdict.AS_IT_IS if is_right(product(live_graph(function))) else Verdict.OVERRIDE
    assert verdict == want
    for mode in ("tag", "logsumexp"):
        graph_def = graphs.rewrite_graph_def(graph.as_graph_def(), mode)
        with tf.Graph().as_default() as other:
            tf.import_graph_def(graph_def, name="")
        assert is_right(product(other)), mode
