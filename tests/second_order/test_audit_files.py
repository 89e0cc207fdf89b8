"""Audits of losses in files: GraphDefs, .meta files, SavedModels; and the command."""

import json

import pytest
import tensorflow.compat.v1 as tf

from tests.corpus.reading import entries
from tests.second_order.networks import variable
from tf1xent import _tf, cli
from tf1xent.errors import GraphFileError
from tf1xent.graphs.inspecting.loss import audit_file
from tf1xent.second_order import Kind, Verdict

# 1.13 has no second derivatives of functional loops either.
AFTER_A_REWRITE = Verdict.NEVER if _tf.control_flow_v2_refusal() else Verdict.REWRITE
ENTRIES = {entry.id: entry for entry in entries()}


def _written(folder, build, as_meta=False):
    """Write the graph of a loss to a file; return its path and the names of loss and variables."""
    with tf.Graph().as_default() as graph:
        loss = build()
        names = [v.op.name for v in tf.trainable_variables()]
        path = str(folder / ("graph.meta" if as_meta else "graph.pb"))
        if as_meta:
            tf.train.export_meta_graph(path)
        else:
            tf.io.write_graph(graph, str(folder), "graph.pb", as_text=False)
    return path, loss.name, names


def _softsign():
    return tf.reduce_sum(tf.nn.softsign(variable("scope/x", 3)) ** 2, name="scope/loss")


def _loop():
    x = variable("x", 3)
    return tf.reduce_sum(tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), [0, x])[1])


def _branch():
    x = variable("x", 3)
    return tf.cond(tf.reduce_sum(x) > -9.0, lambda: tf.reduce_sum(x**3), lambda: tf.norm(x))


@pytest.fixture
def v1_control_flow():
    was_v2 = hasattr(tf, "disable_control_flow_v2") and tf.control_flow_v2_enabled()
    if was_v2:
        tf.disable_control_flow_v2()
    yield
    if was_v2:
        tf.enable_control_flow_v2()


def test_a_loop_of_a_graph_def_cannot_be_differentiated_at_all(tmp_path, v1_control_flow):
    path, loss, names = _written(tmp_path, _loop)
    (report,) = audit_file(path, loss, None, "audit_file")
    (found,) = report.obstacles
    assert found.kind is Kind.LOOP and found.verdict is AFTER_A_REWRITE
    assert "not even once" in found.reason
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(_meta(path).graph_def, name="")
        y, x = (graph.get_tensor_by_name(name) for name in (loss, f"{names[0]}:0"))
        with pytest.raises((AttributeError, AssertionError, TypeError, ValueError)):
            tf.gradients(y, x)


def test_a_branch_of_a_graph_def(tmp_path, v1_control_flow):
    """TensorFlow differentiates it as long as no resource comes to the branch."""
    path, loss, names = _written(tmp_path, _branch)
    (report,) = audit_file(path, loss, names, "audit_file")
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(_meta(path).graph_def, name="")
        x = graph.get_tensor_by_name(f"{names[0]}:0")
        try:
            (gradient,) = tf.gradients(graph.get_tensor_by_name(loss), x)
            (product,) = tf.gradients(gradient, x)
        except TypeError:
            met = {(found.op_type, found.verdict) for found in report.obstacles}
            assert met == {("Switch", AFTER_A_REWRITE)}
            return
        assert report.has_second_derivative
        with tf.Session() as session:
            session.run(graph.get_operation_by_name(f"{names[0]}/Assign"))
            start, found = session.run([x, product])
    assert found == pytest.approx(6.0 * start, rel=1e-5)


def _meta(path):
    with open(path, "rb") as file:
        return tf.MetaGraphDef(graph_def=tf.GraphDef.FromString(file.read()))


def test_variables_are_found_or_asked_for(tmp_path):
    path, loss, names = _written(tmp_path, _softsign)
    (report,) = audit_file(path, loss, None, "audit_file")
    assert report.xs == tuple(f"{name}:0" for name in names)
    frozen = tmp_path / "frozen.pb"
    with tf.Graph().as_default() as graph:
        tf.reduce_sum(tf.square(tf.constant([1.0], name="weights")), name="loss")
        frozen.write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(ValueError, match="--variables NAME"):
        audit_file(str(frozen), "loss", None, "audit_file")
    (report,) = audit_file(str(frozen), "loss", ["weights"], "audit_file")
    assert report.has_second_derivative


def test_names_that_are_not_there_are_answered_with_near_ones(tmp_path):
    path, _, _ = _written(tmp_path, _softsign)
    with pytest.raises(ValueError, match="must have the loss `loss`. Near it: scope/loss"):
        audit_file(path, "loss", None, "audit_file")
    with pytest.raises(ValueError, match="must have the variable `x`. Near it: scope/x"):
        audit_file(path, "scope/loss", ["x"], "audit_file")


def test_what_cannot_be_imported_is_an_error_of_one_line(tmp_path):
    path, loss, _ = _written(tmp_path, _softsign)
    graph_def = _meta(path).graph_def
    graph_def.node.add(name="foreign", op="OpOfAnotherProgram")
    broken = tmp_path / "broken.pb"
    broken.write_bytes(graph_def.SerializeToString())
    with pytest.raises(GraphFileError, match="does not know: OpOfAnotherProgram") as error:
        audit_file(str(broken), loss, None, "audit_file")
    assert "\n" not in str(error.value)


# What the audit says, on every TensorFlow that opens them; test_corpus.py differentiates them.
VERDICTS = {
    "tf113-tagger": {AFTER_A_REWRITE},
    "tf113-loop": {AFTER_A_REWRITE},
    "tf113-defun": {Verdict.REWRITE},
    "tf115-tf_function": {Verdict.REWRITE},
    "tf113-distillation": {Verdict.OVERRIDE},
    "tf113-dense_classifier": set(),
    "tf115-estimator_train": set(),
    "tf113-frozen": set(),
}


@pytest.mark.parametrize("label", VERDICTS)
def test_the_corpus(label):
    entry = ENTRIES[label]
    reports = audit_file(entry.path, entry.loss, entry.parameters, "audit_file")
    for report in reports:
        verdicts = {found.verdict for found in report.obstacles}
        # Where TensorFlow lacks the sparse op's second derivative, that is met too.
        sparse = {found.verdict for found in report.obstacles if found.op_type.startswith("Sparse")}
        assert verdicts - sparse == VERDICTS[label] or verdicts == VERDICTS[label] | sparse


def test_the_command(tmp_path, capsys):
    path, loss, names = _written(tmp_path, _softsign, as_meta=True)
    assert cli.main(["inspect", "--loss", loss, path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Second derivative of {loss}: no, because of 1 op")
    assert max(map(len, lines)) <= 80
    assert any("scope/Softsign, Softsign" in line or "Softsign" in line for line in lines)
    assert cli.main(["inspect", path, "--json", "--loss", loss, "--variables", *names]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["findings"][0]["meets"] == "SoftsignGrad"
    assert content["answer"].startswith("no")


def test_the_command_checks(tmp_path, capsys):
    path, loss, _ = _written(tmp_path, lambda: tf.reduce_sum(variable("x", 3) ** 2), as_meta=True)
    assert cli.main(["inspect", "--check", "--loss", loss, path]) == 0
    assert capsys.readouterr().out.startswith(f"Second derivative of {loss}: yes.")
    assert cli.main(["inspect", "--loss", "none", path]) == 2
    assert "must have the loss `none`" in capsys.readouterr().err
    assert cli.main(["inspect", path, "--variables", "x"]) == 2
    assert "--variables needs --loss" in capsys.readouterr().err


def test_check_fails_where_the_override_is_not_enough(tmp_path, capsys, v1_control_flow):
    path, loss, _ = _written(tmp_path, _loop, as_meta=True)
    assert cli.main(["inspect", "--check", "--loss", loss, path]) == 1
    has_remedy = AFTER_A_REWRITE is Verdict.REWRITE
    assert ("yes after `tf1xent rewrite`" in capsys.readouterr().out) == has_remedy


def test_notes_of_old_shapes_do_not_hinder_an_audit(tmp_path):
    """TF 1.x notes shapes of a gradient's outputs that TF 2.x infers otherwise, and refuses."""
    with tf.Graph().as_default():
        x = tf.get_variable("x", [4, 2, 2, 3])
        scale, offset = tf.get_variable("scale", [3]), tf.get_variable("offset", [3])
        loss = tf.reduce_sum(tf.nn.fused_batch_norm(x, scale, offset)[0] ** 3, name="loss")
        tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        proto = tf.train.export_meta_graph()
    (node,) = [n for n in proto.graph_def.node if n.op.startswith("FusedBatchNormGrad")]
    note = node.attr["_output_shapes"].list
    del note.shape[:]
    for shape in ([4, 2, 2, 3], [3], [3], [16], [16]):  # as 1.15 has it: the last two are others
        note.shape.add().CopyFrom(tf.TensorShape(shape).as_proto())
    path = str(tmp_path / "model.meta")
    with open(path, "wb") as file:
        file.write(proto.SerializeToString())
    (audit,) = audit_file(path, "loss", ["x"], "inspect")
    assert [f.op_type for f in audit.findings] == []
