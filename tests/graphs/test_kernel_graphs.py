"""Graphs and files that hold ops of the native library: reported and rewritten, without it."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.oracle import reference
from tests.support.kernel_graphs import (
    DENSE,
    LABELS,
    LOGITS,
    PREFIX,
    RESULTS,
    SCALE,
    SPARSE,
    VECTORS,
    Lowered,
    assert_is_stock,
    in_exact,
    kernel_graph,
    with_function,
)
from tests.support.tolerances import assert_within_contract
from tf1xent import cli, graphs, kernels
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs import Verdict
from tf1xent.graphs.inspecting.verdicts import Site, verdict
from tf1xent.graphs.shapes import Broadcast

pytestmark = pytest.mark.lengthy


def test_nodes_keep_name_place_device_and_controls():
    graph_def = kernel_graph(SPARSE, "float32")
    node = graph_def.node[-1]
    node.device = "/device:CPU:0"
    node.input.append("^scale")
    node.attr["_class"].list.s.append(b"loc:@logits")
    before = {node.name: node.op for node in graph_def.node}
    original = graph_def.SerializeToString()
    changed = graphs.rewrite_graph_def(graph_def)
    assert graph_def.SerializeToString() == original
    after = {node.name: node.op for node in changed.node}
    assert list(after)[: len(before)] == list(before)
    for name, op in before.items():
        assert after[name] == ("IdentityN" if op.startswith(PREFIX) else op)
    added = [node for node in changed.node if node.name not in before]
    assert all(node.name.split("/")[1] == "logsumexp" for node in added)
    product = [node for node in added if node.name.startswith("product/")]
    assert {node.device for node in product} == {"/device:CPU:0"}
    assert all(node.attr["_class"].list.s for node in product)
    assert any("^scale" in node.input for node in product)
    assert graphs.rewrite_graph_def(changed) == changed


def test_other_modes_leave_them():
    graph_def = with_function()
    assert graphs.rewrite_graph_def(graph_def, "untag") == graph_def
    # The call is no call any more: TensorFlow has no gradient of it.
    tagged = graphs.rewrite_graph_def(graph_def, "tag")
    (body,) = graph_def.library.function
    assert list(tagged.library.function) == [body]
    ops = {node.name: node.op for node in tagged.node}
    assert ops["call"] == "IdentityN"
    assert [ops["call/" + node.name] for node in body.node_def] == [n.op for n in body.node_def]


def test_a_function_that_holds_them():
    lowered = Lowered(with_function())
    of_loss = lowered.gradient(lowered.tensor("call:0"), "logits")
    twice = lowered.gradient(of_loss, "logits")
    tensors = [lowered.tensor("call:0"), lowered.tensor("call:1"), of_loss, twice]
    feed = {"logits:0": LOGITS, "labels:0": LABELS, "scale:0": SCALE}
    loss, slope, gradient, row_sums = lowered.session.run(tensors, feed)
    oracle = reference.Reference(LOGITS)
    want = oracle.sparse_gradient(LABELS)
    assert_within_contract(loss, oracle.sparse_loss(LABELS), LOGITS)
    assert_within_contract(gradient, want, LOGITS)
    assert_within_contract(slope, in_exact(want, SCALE), LOGITS)
    np.testing.assert_allclose(row_sums, np.zeros((3, 3)), atol=1e-15)


def meta_graph_def():
    """As a Saver would write it, with the definitions of the ops of the graph."""
    meta_graph = tf.MetaGraphDef()
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float32)
        meta_graph.CopyFrom(tf.train.export_meta_graph(graph=graph))
    meta_graph.graph_def.CopyFrom(kernel_graph(SPARSE, "float32"))
    meta_graph.meta_info_def.stripped_op_list.op.add(name=PREFIX + "SparseLoss")
    del meta_graph.meta_info_def.tags[:]
    meta_graph.meta_info_def.tags.append("serve")
    return meta_graph


def run_named(graph):
    with tf.Session(graph=graph) as session:
        feed = {"logits:0": LOGITS, "labels:0": LABELS, "scale:0": SCALE, "vectors:0": VECTORS}
        return session.run(list(RESULTS), feed)


def test_files_and_commands(tmp_path, capsys):
    wants = None
    path = tmp_path / "model.meta"
    path.write_bytes(meta_graph_def().SerializeToString())
    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    saved_model.meta_graphs.add().CopyFrom(meta_graph_def())
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    wants = Lowered(kernel_graph(SPARSE, "float32"))
    wants = wants.run([wants.tensor(n) for n in RESULTS], LOGITS, LABELS, VECTORS, SCALE)

    in_memory = graphs.rewrite_meta_graph(str(path))
    new = tmp_path / "new.meta"
    assert cli.main(["rewrite", str(path), str(new), "--mode", "logsumexp"]) == 0
    assert tf.MetaGraphDef.FromString(new.read_bytes()) == in_memory
    assert_is_stock(in_memory.graph_def)
    assert "Tf1xent" not in str(in_memory)
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(str(new))
        for got, want in zip(run_named(graph), wants):
            np.testing.assert_array_equal(got, want)

    graphs.rewrite_saved_model(tmp_path / "saved", tmp_path / "new")
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.saved_model.load(session, ["serve"], str(tmp_path / "new"))
        for got, want in zip(run_named(graph), wants):
            np.testing.assert_array_equal(got, want)
    capsys.readouterr()
    assert cli.main(["inspect", str(new)]) == 0
    assert ": 0 cross-entropy ops" in capsys.readouterr().out


# --- What cannot be done ----------------------------------------------------------------------


def changed_node(**attributes):
    """A loss of float32 with other attributes: None takes one away."""
    graph_def = kernel_graph(SPARSE, "float32")
    (node,) = [node for node in graph_def.node if node.name == "xent"]
    for key, value in attributes.items():
        if key in node.attr:
            del node.attr[key]
        if isinstance(value, bytes):
            node.attr[key].s = value
        elif value is not None:
            node.attr[key].type = value.as_datatype_enum
    return graph_def, node


MALFORMED = {
    "no precise dtype": (dict(precise=None), GraphFileError, "`precise` must be float32"),
    "another one": (dict(precise=tf.float64), GraphFileError, "must be float32, got float64"),
    "no dtype": (dict(T=None), GraphFileError, "`T` must be one of float16"),
    "labels of int16": (dict(labels_type=tf.int16), GraphFileError, "int32, int64, got int16"),
    "invalid labels": (dict(invalid_labels=b"zero"), GraphFileError, "raise or nan, got 'zero'"),
    "a gradient": (dict(_gradient_op_type=b"Mine"), RewriteError, "gradient of its own, `Mine`"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_nodes_are_refused(name):
    attributes, error, message = MALFORMED[name]
    graph_def, _ = changed_node(**attributes)
    with pytest.raises(error, match=message) as raised:
        graphs.rewrite_graph_def(graph_def)
    assert "`xent`" in str(raised.value)


def test_a_missing_input_is_refused():
    graph_def, node = changed_node()
    del node.input[1]
    with pytest.raises(GraphFileError, match="`xent`, .*, must have two inputs, got 1"):
        graphs.rewrite_graph_def(graph_def)


# --- The report -------------------------------------------------------------------------------


def test_inspect_tells_what_they_need():
    report = graphs.inspect_graph(kernel_graph(DENSE, "half", [None, 7]))
    assert [op.name for op in report.ops] == ["xent", "gradient", "product", "in_labels"]
    assert [op.op_type for op in report.ops] == [
        PREFIX + op for op in ("DenseLoss", "DenseGradient", "DenseHessianProduct", "LabelGradient")
    ]
    assert {(op.dtype, op.shape) for op in report.ops} == {("float16", (None, 7))}
    assert report.ops[0].gradients == ("gradient", "in_labels")
    built = kernels.status().path is not None
    assert {op.verdict for op in report.ops} == {Verdict.AS_IT_IS if built else Verdict.REWRITE}
    assert report.needs_rewrite is not built
    assert report.unknown_ops == ()
    assert "tf1xent rewrite --mode logsumexp" in str(report)
    for kind in ("dense, kernel", "dense gradient, kernel", "label gradient, kernel"):
        assert kind in str(report)
    (call,) = [op for op in graphs.inspect_graph(with_function()).ops if op.name == "xent"]
    assert call.function == "f"
    assert call.verdict is Verdict.REWRITE
    assert "TensorFlow has no gradient for the call" in call.reason


@pytest.mark.parametrize("built", [True, False])
def test_the_verdict_depends_on_the_library(built):
    node = kernel_graph(SPARSE).node[-1]
    nothing = dict.fromkeys(["is_guarded", "labels_vary", "after_loop", "after_call"], False)
    nothing.update(in_loop=False, obstacle=None, broadcast=Broadcast.NONE, in_opaque_call=False)
    site = Site(node, kernels_are_there=built, **nothing)
    found, reason = verdict(site)
    assert found is (Verdict.AS_IT_IS if built else Verdict.REWRITE)
    assert ("not built for this TensorFlow" in reason) is not built
    assert "native library must be loaded" in reason
