"""Graphs that look wrong and are not, or have little in them: read, rewritten, not changed."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.corpus.reading import entries
from tests.support.graph_nodes import MODES, add, small_graph, unknown_op, with_function
from tf1xent import graphs
from tf1xent.errors import GraphFileError, RewriteError


def loss_and_gradient(graph_def, names=("xent:0", "xent:1")):
    logits = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        fetches = tf.import_graph_def(graph_def, return_elements=list(names), name="")
        return session.run(fetches, {"x:0": logits, "y:0": [0, 2]})


def check_same_values(graph_def, names=("xent:0", "xent:1")):
    want = loss_and_gradient(graph_def, names)
    assert all(np.abs(value).max() > 0.1 for value in want)
    for mode in MODES:
        rewritten = graphs.rewrite_graph_def(graph_def, mode)
        assert len({node.name for node in rewritten.node}) == len(rewritten.node)
        for got, value in zip(loss_and_gradient(rewritten, names), want):
            np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-7)


def test_unknown_shapes_and_a_second_output_without_gradient_are_rewritten():
    graph_def = small_graph()
    with tf.Graph().as_default():
        inputs = tf.import_graph_def(graph_def, return_elements=["x:0", "y:0"])
    assert [tensor.shape.ndims for tensor in inputs] == [None, None]
    add(graph_def.node, "reader", "Identity", ["xent:1"], T=tf.float32)
    report = graphs.inspect_graph(graph_def)
    assert [(op.name, op.shape, op.gradients) for op in report.ops] == [
        ("xent", (None, None), ("reader",))
    ]
    check_same_values(graph_def, ("xent:0", "reader:0"))


@pytest.mark.parametrize("step", [1, -1])
def test_a_loss_of_the_gradient_of_a_loss_is_differentiated_in_any_order_of_nodes(step):
    graph_def = small_graph()
    (xent,) = [node for node in graph_def.node if node.name == "xent"]
    second = graph_def.node.add()
    second.CopyFrom(xent)
    second.name, second.input[0] = "second", "xent:1"
    ordered = tf.GraphDef(node=list(graph_def.node)[::step])
    rewritten = graphs.rewrite_graph_def(ordered)
    logits, labels = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], np.float32), [0, 2]
    with tf.Graph().as_default(), tf.Session() as session:
        x, loss = tf.import_graph_def(rewritten, return_elements=["x:0", "second:0"], name="")
        found = session.run(tf.gradients(loss, x)[0], {x: logits, "y:0": labels})

    def softmax(rows):
        exponentials = np.exp(rows)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    p, one_hot = softmax(logits), np.eye(3)[labels]
    cotangent = softmax(p - one_hot) - one_hot
    want = p * (cotangent - (p * cotangent).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_taken_names_are_left_alone():
    graph_def = with_function()
    before = [node.name for node in graph_def.node]
    added = [
        node.name for node in graphs.rewrite_graph_def(graph_def).node if node.name not in before
    ]
    assert len(added) > 20
    scopes = {"/".join(name.split("/")[:length]) for name in added for length in (2, 3)}
    taken = sorted(set(added[::2]) | scopes)
    for name in taken:
        add(graph_def.node, name, "NoOp")
    rewritten = graphs.rewrite_graph_def(graph_def)
    kept = {node.name: node.op for node in rewritten.node}
    assert all(kept[name] == "NoOp" for name in taken)
    check_same_values(graph_def)
    check_same_values(graph_def, ("xent:0", "xent:1"))


def test_ops_unknown_to_this_tensorflow_are_listed_and_kept():
    graph_def = small_graph()
    add(graph_def.node, "strange", "NobodyKnowsThis", ["xent"], colour=b"red")
    report = graphs.inspect_graph(graph_def)
    assert report.unknown_ops == ("NobodyKnowsThis",)
    assert "NobodyKnowsThis" in str(report)
    for mode in MODES:
        rewritten = graphs.rewrite_graph_def(graph_def, mode)
        assert [node for node in rewritten.node if node.name == "strange"] == [graph_def.node[3]]


def test_a_function_that_cannot_be_followed_is_judged_as_such():
    report = graphs.inspect_graph(with_function(unknown_op))
    verdicts = {(op.function, op.name): op for op in report.ops}
    assert set(verdicts) == {(None, "xent"), ("f", "xent")}
    judged = verdicts["f", "xent"]
    assert judged.verdict is graphs.Verdict.UNSUPPORTED
    assert "`strange`" in judged.reason and "`NobodyKnowsThis`" in judged.reason
    assert report.unknown_ops == ("NobodyKnowsThis",)


def test_a_gradient_that_is_not_ours_is_left_by_tag_and_refused_by_logsumexp():
    graph_def = small_graph()
    graph_def.node[2].attr["_gradient_op_type"].s = b"SomebodyElses"
    (op,) = graphs.inspect_graph(graph_def).ops
    assert (op.gradient_attribute, op.gradient_registered) == ("SomebodyElses", False)
    assert op.verdict is graphs.Verdict.UNSUPPORTED
    for mode in ("tag", "untag"):
        assert graphs.rewrite_graph_def(graph_def, mode) == graph_def
    with pytest.raises(RewriteError, match="`xent`.*`SomebodyElses`"):
        graphs.rewrite_graph_def(graph_def)


def test_a_gradient_name_that_is_no_text_is_no_accident():
    graph_def = small_graph()
    graph_def.node[0].attr["_gradient_op_type"].s = b"\xff\xfe"
    assert [op.name for op in graphs.inspect_graph(graph_def).ops] == ["xent"]
    for mode in MODES:
        graphs.rewrite_graph_def(graph_def, mode)
    graph_def.node[2].attr["_gradient_op_type"].s = b"\xff\xfe"
    assert graphs.inspect_graph(graph_def).ops[0].verdict is graphs.Verdict.UNSUPPORTED
    assert graphs.rewrite_graph_def(graph_def, "tag") == graph_def
    with pytest.raises(RewriteError, match="`xent`"):
        graphs.rewrite_graph_def(graph_def)


@pytest.mark.parametrize("name", ["tf113-loop", "tf115-tagger"])
def test_v1_loops_are_no_cycles(name):
    (entry,) = [entry for entry in entries() if entry.id == name]
    graph_def = entry.load_graph_def()
    assert any(node.op == "NextIteration" for node in graph_def.node)
    assert graphs.inspect_graph(graph_def).ops
    for mode in MODES:
        graphs.rewrite_graph_def(graph_def, mode)


def odd_graphs():
    """Graphs with too little in them, which nothing has to understand."""
    add_to = [small_graph() for _ in range(7)]
    add(add_to[0].node, "guard", "PreventGradient", ["xent:1"])
    add(
        add_to[1].node,
        "guard",
        "PreventGradient",
        message=b"\xff softmax_cross_entropy_with_logits",
    )
    add(add_to[2].node, "entry", "Enter", ["x"])
    add(add_to[3].node, "branch", "Switch", ["x"])
    add(add_to[4].node, "back", "NextIteration", ["round"])
    add(add_to[4].node, "round", "Merge", ["back", "back"])
    add(add_to[4].node, "guard", "PreventGradient", ["round"])
    add(add_to[5].node, "shape", "Const")
    add(add_to[5].node, "reshaped", "Reshape", ["x", "shape"])
    for graph_def, reads in zip(add_to[2:6], ("entry", "branch", "round", "reshaped")):
        graph_def.node[2].input[0] = reads
    del add_to[6].node[0].attr["dtype"]
    return add_to


@pytest.mark.parametrize("number", range(7))
def test_graphs_with_little_in_them_are_read_and_not_changed(number):
    graph_def = odd_graphs()[number]
    before = graph_def.SerializeToString(deterministic=True)
    assert [op.name for op in graphs.inspect_graph(graph_def).ops] == ["xent"]
    for mode in MODES:
        graphs.rewrite_graph_def(graph_def, mode)
    assert graph_def.SerializeToString(deterministic=True) == before


NUMBERS = {
    "half_val": [100000, -1],
    "int_val": [2**31 - 1, -5],
    "float_val": [float("inf"), float("nan")],
    "double_val": [float("-inf"), 1.0],
    "int64_val": [2**63 - 1],
    "scomplex_val": [1.0],
    "string_val": [b"x"],
    "bool_val": [True],
    "tensor_content": b"abc",
}
# The constants among these that do say a shape: by dtype, the field that holds its values.
SAID = {
    (tf.int32.as_datatype_enum, "int_val"): (2**31 - 1, None),
    (tf.int64.as_datatype_enum, "int64_val"): (2**63 - 1, 2**63 - 1),
}


@pytest.mark.parametrize("field", NUMBERS)
def test_damaged_constants_leave_the_shape_unknown(field):
    found = {}
    for data_type in [*range(25), 101, 999]:
        graph_def = small_graph()
        value = add(graph_def.node, "shape", "Const").attr["value"].tensor
        value.dtype = data_type
        value.tensor_shape.dim.add(size=2)
        values = NUMBERS[field]
        if isinstance(values, bytes):
            value.tensor_content = values
        else:
            getattr(value, field).extend(values)
        add(graph_def.node, "reshaped", "Reshape", ["x", "shape"])
        graph_def.node[2].input[0] = "reshaped"
        (op,) = graphs.inspect_graph(graph_def).ops
        found[data_type, field] = op.shape
    for key, shape in found.items():
        if key in SAID:
            assert shape == SAID[key]
        elif key[0] in {integer for integer, _ in SAID} and field != "tensor_content":
            # Without values of its dtype a constant is refused, or is of zeros for TensorFlow.
            assert shape in ((None, None), (0, 0))
        else:
            assert shape == (None, None)


def test_long_chains_need_neither_recursion_nor_the_square_of_their_length():
    graph_def = small_graph()
    length = 5000
    for number in range(length):
        before = f"n{number - 1}" if number else "x"
        add(graph_def.node, f"n{number}", "Identity", [before], T=tf.float32)
    graph_def.node[2].input[0] = f"n{length - 1}"
    assert [op.name for op in graphs.inspect_graph(graph_def).ops] == ["xent"]
    for mode in MODES:
        graphs.rewrite_graph_def(graph_def, mode)


def test_branches_inside_thousands_of_others_are_refused():
    graph_def = small_graph()
    for number in range(3000):
        before = f"branch{number - 1}" if number else "x"
        add(graph_def.node, f"decides{number}", "Placeholder", dtype=tf.bool)
        add(graph_def.node, f"branch{number}", "Switch", [before, f"decides{number}"], T=tf.float32)
    graph_def.node[2].input[0] = "branch2999"
    with pytest.raises(GraphFileError, match="`branch2000` is inside more than 2000"):
        graphs.inspect_graph(graph_def)
