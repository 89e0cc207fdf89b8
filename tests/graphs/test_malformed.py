"""Malformed graphs and functions: a clear error that names the node, nothing written."""

import collections
import tracemalloc

import pytest
import tensorflow.compat.v1 as tf

from tests.support.graph_files import check_damaged_is_refused
from tests.support.graph_nodes import (
    MODES,
    SPARSE,
    add,
    add_function,
    calling,
    small_graph,
    unknown_op,
    with_function,
)
from tf1xent import graphs
from tf1xent.errors import GraphFileError, RewriteError

# What is wrong; the error; what must be in its message; where it is found.
Case = collections.namedtuple("Case", "change error message where")
EVERYWHERE = ("inspect", *MODES)
INLINING = ("inspect", "logsumexp", "tag")
REWRITING = ("logsumexp", "tag")


def changed(change):
    """`small_graph` after `change`."""

    def build():
        graph_def = small_graph()
        change(graph_def)
        return graph_def

    return build


def body(change):
    return lambda: with_function(change)


def read_by_xent(*inputs):
    def change(graph_def):
        graph_def.node[2].input[:] = inputs

    return changed(change)


def typed(**attributes):
    def change(graph_def):
        for key, data_type in attributes.items():
            graph_def.node[2].attr[key].type = data_type

    return changed(change)


def unnamed(graph_def):
    for number in range(9):
        add(graph_def.node, f"filler{number}", "NoOp")
    graph_def.node.add(op="NoOp")


def without_op(graph_def):
    unnamed(graph_def)
    graph_def.node[12].CopyFrom(tf.NodeDef(name="what"))


def named_twice(graph_def):
    add(graph_def.node, "x", "NoOp")


def cycle(graph_def):
    add(graph_def.node, "one", "Identity", ["two"], T=tf.float32)
    add(graph_def.node, "two", "Identity", ["one"], T=tf.float32)


def control_cycle(graph_def):
    graph_def.node[0].input[:] = ["^xent"]


def newer(graph_def):
    graph_def.versions.min_consumer = 2**31 - 1


def without_type(graph_def):
    del graph_def.node[2].attr["T"]


def two_functions():
    graph_def = with_function()
    graph_def.library.function.add().CopyFrom(graph_def.library.function[0])
    return graph_def


def called_with(*inputs):
    def build():
        graph_def = with_function()
        graph_def.node[3].input[:] = inputs
        return graph_def

    return build


def returning(reference):
    def change(function):
        function.ret["r"] = reference

    return body(change)


def lost_result(function):
    del function.ret["r"]


def own_argument(**attributes):
    def change(function):
        add(function.node_def, "stranger", "_Arg", T=tf.float32, **attributes)

    return body(change)


def counted_result(function):
    """A number of results by an attribute that is nowhere."""
    function.signature.output_arg[0].number_attr = "N"


def calls_counted_result():
    graph_def = with_function(counted_result)
    outer = add_function(graph_def, "outer", ["f"])
    add(outer.node_def, "reader", "Identity", ["call0:r:0"], T=tf.float32)
    return graph_def


def list_argument(function):
    function.signature.input_arg[0].number_attr = "N"


def dangling_control_result(function):
    function.control_ret["effect"] = "nowhere"


MALFORMED = {
    "no name": Case(changed(unnamed), GraphFileError, "number 12", EVERYWHERE),
    "no op": Case(changed(without_op), GraphFileError, "`what`", EVERYWHERE),
    "named twice": Case(changed(named_twice), GraphFileError, "`x`", EVERYWHERE),
    "missing input": Case(
        read_by_xent("x", "nowhere"), GraphFileError, "`xent` reads `nowhere`", EVERYWHERE
    ),
    "missing control input": Case(
        read_by_xent("x", "y", "^nowhere"), GraphFileError, "`xent` reads `.?nowhere`", EVERYWHERE
    ),
    "no index": Case(read_by_xent("x:²", "y"), GraphFileError, "`xent` reads `x:²`", EVERYWHERE),
    "no output so far": Case(
        read_by_xent("x:" + "9" * 5000, "y"), GraphFileError, "`xent`", EVERYWHERE
    ),
    "self-reference": Case(read_by_xent("x", "xent:1"), GraphFileError, "`xent`", EVERYWHERE),
    "cycle": Case(changed(cycle), GraphFileError, "`(one|two)`", EVERYWHERE),
    "cycle of control": Case(changed(control_cycle), GraphFileError, "`(x|xent)`", EVERYWHERE),
    "newer TensorFlow": Case(changed(newer), GraphFileError, "2147483647", EVERYWHERE),
    "one input": Case(read_by_xent("x"), GraphFileError, "`xent`", ("logsumexp",)),
    "three inputs": Case(read_by_xent("x", "y", "y"), GraphFileError, "`xent`", ("logsumexp",)),
    "one is control": Case(read_by_xent("x", "^y"), GraphFileError, "`xent`", ("logsumexp",)),
    "no type": Case(changed(without_type), GraphFileError, "`xent`", ("logsumexp",)),
    "unknown type": Case(typed(T=999), GraphFileError, "`xent`", ("logsumexp",)),
    "strings": Case(typed(T=7), GraphFileError, "`xent`", ("logsumexp",)),
    "integers": Case(typed(T=3), GraphFileError, "`xent`", ("logsumexp",)),
    "unknown labels": Case(typed(Tlabels=999), GraphFileError, "`xent`", ("logsumexp",)),
    "labels of strings": Case(typed(Tlabels=7), GraphFileError, "`xent`", ("logsumexp",)),
    "functions named alike": Case(two_functions, GraphFileError, "`f`", EVERYWHERE),
    "calls itself": Case(calling(f=["f"]), RewriteError, "`f` calls itself", REWRITING),
    "call each other": Case(
        calling(f=["g"], g=["f"]), RewriteError, "`(f|g)` calls itself", REWRITING
    ),
    "called with too few": Case(called_with("x"), GraphFileError, "`call`.*`f`", REWRITING),
    "called with none": Case(called_with(), GraphFileError, "`call`.*`f`", REWRITING),
    "missing input in a function": Case(
        body(lambda f: add(f.node_def, "z", "NoOp", ["^gone"])),
        GraphFileError,
        "`f`.*gone",
        INLINING,
    ),
    "missing output in a function": Case(
        returning("xent:nothing:0"), GraphFileError, "`f`.*xent:nothing:0", INLINING
    ),
    "no index in a function": Case(returning("xent:loss:²"), GraphFileError, "`f`", INLINING),
    "a control result": Case(returning("^xent"), GraphFileError, "`f`", INLINING),
    "a missing control result": Case(returning("^gone"), GraphFileError, "`f`", INLINING),
    "no result": Case(body(lost_result), GraphFileError, "`f`.*`r`", INLINING),
    "named twice in a function": Case(
        body(lambda f: add(f.node_def, "xent", "NoOp")), GraphFileError, "`f`.*`xent`", INLINING
    ),
    "an argument of its own": Case(own_argument(), GraphFileError, "`f`.*`stranger`", INLINING),
    "an argument beyond": Case(own_argument(index=7), GraphFileError, "`stranger`", INLINING),
    "results nobody counted": Case(calls_counted_result, ValueError, "`outer`.*`call0`", INLINING),
    "unknown op in a function": Case(
        body(unknown_op), RewriteError, "`strange`.*`NobodyKnowsThis`", REWRITING
    ),
    "a list of tensors": Case(body(list_argument), RewriteError, "`f`.*`a`", REWRITING),
}
if "control_ret" in tf.GraphDef().library.function.add().DESCRIPTOR.fields_by_name:
    MALFORMED["control result not there"] = Case(
        body(dangling_control_result), GraphFileError, "`f`.*nowhere", INLINING
    )


def run(what, graph_def):
    if what == "inspect":
        return graphs.inspect_graph(graph_def)
    return graphs.rewrite_graph_def(graph_def, what)


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_a_malformed_graph_is_refused(name, tmp_path, capsys):
    case = MALFORMED[name]
    graph_def = case.change()
    before = graph_def.SerializeToString(deterministic=True)
    for what in EVERYWHERE:
        if what not in case.where:
            run(what, graph_def)
            continue
        with pytest.raises(case.error, match=case.message) as refusal:
            run(what, graph_def)
        assert isinstance(refusal.value, (GraphFileError, RewriteError))
    assert graph_def.SerializeToString(deterministic=True) == before
    path = tmp_path / "graph.pb"
    path.write_bytes(before)
    for mode in MODES:
        if mode in case.where:
            check_damaged_is_refused(path, mode, capsys, case.message)
    if "inspect" in case.where:
        with pytest.raises(case.error, match=case.message) as refusal:
            graphs.inspect_graph(path)
        assert str(path) in str(refusal.value)


def test_a_malformed_meta_graph_and_saved_model_name_their_file(tmp_path, capsys):
    meta_graph = tf.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(MALFORMED["cycle"].change())
    path = tmp_path / "model.meta"
    path.write_bytes(meta_graph.SerializeToString())
    with pytest.raises(GraphFileError, match="model.meta.*`(one|two)`"):
        graphs.rewrite_meta_graph(str(tmp_path / "model"))
    with pytest.raises(GraphFileError, match="`(one|two)`"):
        graphs.rewrite_meta_graph(meta_graph)
    check_damaged_is_refused(path, "tag", capsys, "`(one|two)`")


def test_a_broken_collection_is_refused_and_named():
    meta_graph = tf.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(small_graph())
    meta_graph.collection_def["cond_context"].bytes_list.value.append(b"\xff\xff")
    with pytest.raises(GraphFileError, match="`cond_context`"):
        graphs.rewrite_meta_graph(meta_graph)


def doubling(levels):
    names = [f"f{level:02}" for level in range(levels, -1, -1)]
    return calling(**{name: [after] * 2 for name, after in zip(names, names[1:])}, f00=[])()


def test_calls_of_calls_are_refused_before_they_fill_the_memory():
    graph_def = small_graph()
    add(graph_def.node, "call", "f40", ["x", "y"])
    graph_def.library.CopyFrom(doubling(40).library)
    assert graph_def.ByteSize() < 20_000
    tracemalloc.start()
    try:
        for mode in ("tag", "logsumexp"):
            with pytest.raises(RewriteError, match="`f.*nodes, more than|more than .* nodes"):
                graphs.rewrite_graph_def(graph_def, mode)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert len(graphs.inspect_graph(graph_def).ops) == 42


def test_few_calls_of_calls_are_inlined():
    graph_def = small_graph()
    add(graph_def.node, "call", "f04", ["x", "y"])
    graph_def.library.CopyFrom(doubling(4).library)
    rewritten = graphs.rewrite_graph_def(graph_def, "tag")
    assert sum(node.op == SPARSE for node in rewritten.node) == 1 + 31
