"""What an audit returns, what it costs, and what it refuses."""

import json

import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.second_order.networks import variable
from tf1xent.second_order import Audit, Finding, Kind, Verdict, audit

LONG = "tower_0/" + "decoder/layer/" * 20 + "softsign"


def _finding(name="softsign", verdict=Verdict.NEVER, **changes):
    fields = dict(
        name=name,
        op_type="Softsign",
        path=(),
        source="model.py:12, in loss",
        kind=Kind.NO_SECOND_DERIVATIVE,
        meets="SoftsignGrad",
        verdict=verdict,
        reason="its gradient has no gradient.",
        remedy="Do without it.",
    )
    return Finding(**dict(fields, **changes))


def _audit(*findings, **changes):
    fields = dict(
        source="model.meta",
        graph=None,
        tensorflow="1.15.5",
        ys=("loss:0",),
        xs=("w:0", "v:0"),
        unreached=(),
        is_zero=False,
        findings=findings,
        ops=12,
        asked=3,
    )
    return Audit(**dict(fields, **changes))


def test_a_report_as_it_is_printed():
    cut = _finding("argmax", Verdict.FINE, op_type="ArgMax", reason="constant.", remedy="")
    inner = _finding(path=("call: f", "cond: g"), source=None)
    assert str(_audit(cut, _finding(), inner)).splitlines() == [
        "Second derivative of loss:0: no, because of 2 ops, for which there is no remedy",
        "    here.",
        "model.meta: 12 ops between, 2 variables, TensorFlow 1.15.5",
        "",
        "[1]  argmax, ArgMax",
        "     model.py:12, in loss",
        "[2]  softsign, Softsign",
        "     model.py:12, in loss",
        "[3]  softsign, Softsign",
        "     in call: f > cond: g",
        "",
        "[1] fine: constant.",
        "[2, 3] never: its gradient has no gradient. Do without it.",
    ]


@pytest.mark.parametrize(
    "verdicts, answer",
    [
        ((), "yes."),
        ((Verdict.FINE,), "yes."),
        ((Verdict.OVERRIDE,), "1 op; yes after tf1xent.override_gradients()."),
        ((Verdict.REWRITE, Verdict.OVERRIDE), "2 ops; yes after tf1xent.override_gradients() and "),
        ((Verdict.CONTROL_FLOW_V2,), "tf1xent.patch(control_flow_v2=True)."),
        ((Verdict.NEVER, Verdict.OVERRIDE), "2 ops; for 1 of them there is no remedy here."),
    ],
)
def test_answers(verdicts, answer):
    report = _audit(*(_finding(verdict=verdict) for verdict in verdicts))
    assert answer in report.answer
    obstacles = [v for v in verdicts if v is not Verdict.FINE]
    assert report.has_second_derivative == (not obstacles)
    assert report.needs_more_than_override == bool(set(obstacles) - {Verdict.OVERRIDE})


def test_long_names_and_control_characters():
    report = _audit(_finding(LONG, path=(LONG, LONG), source=LONG + "\x1b[31m"), xs=(LONG,))
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert report.to_text(None).count(LONG) == 4


def test_json_has_every_attribute():
    content = json.loads(_audit(_finding()).to_json())
    assert content["findings"][0]["verdict"] == "never"
    assert content["has_second_derivative"] is False
    assert content["answer"].startswith("no, because of 1 op")


def _deep(layers):
    net = tf.reshape(variable("x", 4), [2, 2])
    for number in range(layers):
        net = tf.nn.softsign(tf.matmul(net, net)) * 0.5
        if number % 2:
            net = tf.tanh(net)
    return tf.reduce_sum(net)


def test_equal_ops_are_asked_for_once():
    with tf.Graph().as_default():
        few = audit(_deep(4), tf.trainable_variables())
    with tf.Graph().as_default():
        many = audit(_deep(200), tf.trainable_variables())
    assert many.asked <= 2 < many.ops
    assert len(many.obstacles) == 200
    assert {found.meets for found in few.obstacles + many.obstacles} == {"SoftsignGrad"}


def test_an_answer_holds_as_long_as_the_registry_does():
    with tf.Graph().as_default():
        loss, xs = _deep(2), tf.trainable_variables()
        before = audit(loss, xs)
        tf1xent.override_gradients()
        try:
            during = audit(loss, xs)
        finally:
            tf1xent.restore_gradients()
        after = audit(loss, xs)
    assert {found.verdict for found in before.obstacles} == {Verdict.OVERRIDE}
    assert during.has_second_derivative and not during.findings
    assert after.findings == before.findings


def test_a_source_line_is_that_of_the_program():
    with tf.Graph().as_default():
        report = audit(_deep(1), tf.trainable_variables())
    assert "test_audit_report.py" in report.findings[0].source
    assert report.findings[0].source.endswith("in _deep")


def test_an_override_of_one_graph_counts_for_it():
    with tf.Graph().as_default() as graph:
        loss, xs = _deep(1), tf.trainable_variables()
        tf1xent.override_gradients(graph)
        assert audit(loss, xs).has_second_derivative


def test_variables_without_a_path_are_named():
    with tf.Graph().as_default():
        x, other = variable("x", 3), variable("other", 3)
        loss = tf.reduce_sum(x**2)
        report = audit(loss, [x, other])
        assert report.has_second_derivative and report.unreached == ("other:0",)
        assert "No path leads from other:0." in str(report)
        report = audit(loss, other)
        assert not report.has_second_derivative and report.needs_more_than_override
        assert report.answer.startswith("no, because no path")


def test_what_is_no_tensor_of_a_graph_is_refused():
    with tf.Graph().as_default():
        x = variable("x", 3)
        loss, whole = tf.reduce_sum(x), tf.argmax(x)
        with pytest.raises(TypeError, match="`xs` must hold tensors or variables, got str"):
            audit(loss, "x")
        with pytest.raises(ValueError, match="`ys` must hold a tensor, got an empty list"):
            audit([], x)
        with pytest.raises(ValueError, match="got ArgMax:0 of int64"):
            audit(whole, x)
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="`xs` must be in the graph of `ys`, got 2 graphs"):
            audit(tf.reduce_sum(variable("x", 3)), x)


def test_a_finalized_graph_is_audited_too():
    with tf.Graph().as_default() as graph:
        x = variable("x", 3)
        loss = tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.nn.softsign(x), lambda: x**3)
        graph.finalize()
        assert {found.meets for found in audit(loss, x).obstacles} == {"SoftsignGrad"}
