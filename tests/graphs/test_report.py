"""Reports for people: 80 columns, whatever the names are; all of these in JSON and by --wide."""

import json

import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.graph_files import FROZEN
from tf1xent import _tf, cli
from tf1xent.graphs import CrossEntropyOp, GradientAttribute, GraphReport, Verdict

LONG = "tower_0/model/" + "decoder/layer/" * 20 + "sparse_softmax_cross_entropy/xent"


def described(name, **changes):
    fields = dict(
        name=name,
        op_type=_tf.SPARSE_OP,
        graph=None,
        function=None,
        dtype="float32",
        shape=(None, 10),
        gradients=(),
        guards=(),
        gradient_attribute=None,
        gradient_registered=None,
        context=None,
        verdict=Verdict.OVERRIDE,
        reason="this TensorFlow refuses its second derivative.",
    )
    return CrossEntropyOp(**dict(fields, **changes))


def report(*ops, source="model.meta", attributes=(), unknown=()):
    return GraphReport(source, "1.15.5", tuple(ops), tuple(attributes), tuple(unknown))


def test_a_report_as_it_is_printed():
    ops = [
        described("loss/xent", gradients=("a", "b"), guards=("c",)),
        described("sampled", op_type=_tf.DENSE_OP, shape=None, verdict=Verdict.AS_IT_IS),
        described("in_loop", graph="serve", function="f", context="while", shape=(5, 3)),
    ]
    assert str(report(*ops)).splitlines() == [
        "model.meta: 3 cross-entropy ops, judged for TensorFlow 1.15.5",
        "",
        "     op         verdict",
        "[1]  loss/xent  override_gradients",
        "     sparse, float32 [?, 10], 2 gradients, 1 guarded",
        "[2]  sampled    as it is",
        "     dense, float32 [...]",
        "[3]  in_loop    override_gradients",
        "     sparse, float32 [5, 3], in graph serve, function f, v1 loop",
        "",
        "[1, 3] override_gradients: this TensorFlow refuses its second derivative.",
        "[2] as it is: this TensorFlow refuses its second derivative.",
    ]


def test_the_older_name_of_unsupported_is_accepted():
    assert Verdict.NOT is Verdict("not") is Verdict.UNSUPPORTED
    assert Verdict.UNSUPPORTED.value == "unsupported"
    assert [verdict.name for verdict in Verdict] == [
        "AS_IT_IS",
        "OVERRIDE",
        "REWRITE",
        "UNSUPPORTED",
    ]
    with pytest.raises(ValueError):
        Verdict("nothing")


def test_long_names_are_shortened_in_the_middle():
    found = report(described(LONG, function=LONG), source=f"/{LONG}.meta", unknown=[LONG])
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("/tower_0/") and "/xent.meta: 1 cross-entropy op, " in lines[0]
    (row,) = [line for line in lines if line.startswith("[1]  tower_0/model/")]
    assert "..." in row and "cross_entropy/xent  override_gradients" in row
    wide = found.to_text(None)
    assert wide.count(LONG) == 4 and "..." not in wide


def test_commands_in_reasons_stay_on_one_line():
    for length in range(60):
        reason = "x" * length + " `tf1xent rewrite --mode logsumexp` makes stock ops of it."
        text = str(report(described("xent", reason=reason)))
        assert "`tf1xent rewrite --mode logsumexp`" in text
        assert max(map(len, text.splitlines())) <= 80


def test_names_do_nothing_to_a_terminal():
    found = report(described("a\x1b[31m\nb\r"), source="c\x07\udcff", unknown=["d\0e"])
    for text in (str(found), found.to_text(None)):
        assert all(line.isprintable() for line in text.splitlines())
        assert r"a\x1b[31m\nb\r" in text and r"c\x07\udcff" in text and r"d\x00e" in text


names = st.text(max_size=300) | st.text("ab/_`", min_size=60, max_size=200)


@pytest.mark.exhaustive
@settings(max_examples=30)
@given(
    st.lists(
        st.builds(
            described,
            names,
            op_type=st.sampled_from([_tf.SPARSE_OP, "Tf1xentKernelLabelGradient", "Unknown" * 30]),
            graph=st.none() | names,
            function=st.none() | names,
            dtype=st.sampled_from(["bfloat16", "?"]),
            shape=st.none() | st.lists(st.none() | st.integers(0, 2**62), max_size=9).map(tuple),
            gradients=st.lists(names, max_size=2).map(tuple),
            gradient_attribute=names,
            gradient_registered=st.booleans(),
            context=st.sampled_from(["while", None]),
            verdict=st.sampled_from(list(Verdict)),
            reason=names,
        ),
        max_size=11,
    ),
    names,
    st.lists(names, max_size=3),
    st.sampled_from([60, 80, 100]),
)
def test_no_line_is_longer_than_asked_for(ops, source, unknown, width):
    attributes = [GradientAttribute("n", "Op", None, None, name, False) for name in unknown]
    found = report(*ops, source=source, attributes=attributes, unknown=unknown)
    assert max(map(len, found.to_text(width).split("\n"))) <= width
    assert found.to_text(80) == str(found)
    assert [op["name"] for op in json.loads(found.to_json())["ops"]] == [op.name for op in ops]


def test_wide_and_json_have_whole_names(tmp_path, capsys):
    graph_def = tf.GraphDef.FromString(FROZEN.read_bytes())
    for node in graph_def.node:
        node.name = LONG if node.name == "xent/xent" else node.name
        node.input[:] = [LONG if name == "xent/xent" else name for name in node.input]
    path = tmp_path / "graph.pb"
    path.write_bytes(graph_def.SerializeToString())
    printed = {}
    for option in ("--json", "--wide", "--check"):
        assert cli.main(["inspect", str(path), option]) == 0
        printed[option] = capsys.readouterr().out
    assert LONG in printed["--json"] and LONG in printed["--wide"]
    assert LONG not in printed["--check"]
    assert max(map(len, printed["--check"].splitlines())) <= 80
