"""Files and protos with no graph in them, or a malformed one: a clear error, nothing written."""

import collections
import os
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from google.protobuf import text_format

from tests.corpus.reading import FILES, entries
from tf1xent import cli, graphs
from tf1xent.errors import GraphFileError, RewriteError

MODES = ("logsumexp", "tag", "untag")
SPARSE, DENSE = "SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"
CLASSIFIER = FILES / "tf115" / "classifier" / "model.meta"
FROZEN = FILES / "tf115" / "frozen" / "frozen.pb"
FROZEN_TEXT = FILES / "tf115" / "frozen" / "frozen.pbtxt"
SAVED_MODEL = FILES / "tf115" / "estimator" / "saved_model"


def contents(folder):
    """Every file below a folder, by its path."""
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def add(nodes, name, op, inputs=(), **attributes):
    """Adds a NodeDef; its attributes are bytes, integers, DTypes and protos."""
    node = nodes.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, tf.DType):
            node.attr[key].type = value.as_datatype_enum
        elif isinstance(value, bytes):
            node.attr[key].s = value
        elif isinstance(value, int):
            node.attr[key].i = value
        else:
            node.attr[key].CopyFrom(value)
    return node


def fused_node(nodes, name="xent", inputs=("x", "y"), **attributes):
    types = dict({"T": tf.float32, "Tlabels": tf.int64}, **attributes)
    return add(nodes, name, SPARSE, inputs, **types)


def small_graph():
    """x and y, placeholders of unknown shapes; xent of both."""
    graph_def = tf.GraphDef()
    add(graph_def.node, "x", "Placeholder", dtype=tf.float32)
    add(graph_def.node, "y", "Placeholder", dtype=tf.int64)
    fused_node(graph_def.node)
    return graph_def


def add_function(graph_def, name, calls=(), result="xent:loss:0"):
    """A function of (a, b) that holds a cross-entropy op and calls others with the same."""
    function = graph_def.library.function.add()
    function.signature.name = name
    function.signature.input_arg.add(name="a", type=tf.float32.as_datatype_enum)
    function.signature.input_arg.add(name="b", type=tf.int64.as_datatype_enum)
    function.signature.output_arg.add(name="r", type=tf.float32.as_datatype_enum)
    function.ret["r"] = result
    fused_node(function.node_def, inputs=("a", "b"))
    for number, callee in enumerate(calls):
        add(function.node_def, f"call{number}", callee, ["a", "b"])
    return function


def with_function(change=None, **options):
    """A graph whose node `call` calls the function `f`, after `change(f)`."""
    graph_def = small_graph()
    add(graph_def.node, "call", "f", ["x", "y"])
    function = add_function(graph_def, "f", **options)
    if change is not None:
        change(function)
    return graph_def


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


def calling(**calls):
    """A graph with functions that call these."""

    def build():
        graph_def = small_graph()
        add(graph_def.node, "call", sorted(calls)[0], ["x", "y"])
        for name, callees in calls.items():
            add_function(graph_def, name, callees)
        return graph_def

    return build


def called_with(*inputs):
    def build():
        graph_def = with_function()
        graph_def.node[3].input[:] = inputs
        return graph_def

    return build


def unknown_op(function):
    add(function.node_def, "strange", "NobodyKnowsThis", ["a"])
    add(function.node_def, "reader", "Identity", ["strange:output:0"], T=tf.float32)


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


def check_refused(source, mode, capsys, message=""):
    """On the command line: one line that names the file, and every file as it was."""
    source = Path(source)
    target = source.parent / ("target" + source.suffix)
    target.write_bytes(b"as it was")
    before = contents(source.parent)
    code = cli.main(["rewrite", str(source), str(target), "--mode", mode, "--force"])
    output, errors = capsys.readouterr()
    assert (code, output) == (2, "")
    assert len(errors.splitlines()) == 1 and str(source) in errors, errors
    assert re.search(message, errors), errors
    assert contents(source.parent) == before
    assert not list(source.parent.glob("*.partial"))


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
            check_refused(path, mode, capsys, case.message)
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
    check_refused(path, "tag", capsys, "`(one|two)`")


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


# Files -------------------------------------------------------------------------------------------

GARBAGE = {
    "empty": b"",
    "zeros": b"\0" * 200,
    "random": np.random.RandomState(0).bytes(2000),
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0",
    "zip": b"PK\x03\x04\x14\0\0\0\x08\0" + b"\x01" * 30,
    "prose": b"this is no graph\n",
    "spaces": b"   \n",
    "UTF-16": FROZEN_TEXT.read_text(encoding="utf-8").encode("utf-16"),
    "unknown field": b'node { name: "a" op: "NoOp" colour: 3 }\n',
    "unclosed": b'node { name: "a" op: "NoOp" ',
    "a value that is none": b'node { name: "a" op: NoOp! }\n',
    "deeply nested": b'node { name: "a" op: "b" attr { key: "k" value { '
    + b'func { attr { key: "k" value { ' * 3000,
}


@pytest.mark.parametrize("file", ["graph.pb", "model.meta", "graph.pbtxt", "saved_model.pb"])
@pytest.mark.parametrize("name", sorted(GARBAGE))
def test_what_is_no_graph_is_refused(name, file, tmp_path, capsys):
    path = tmp_path / "folder" / file
    path.parent.mkdir()
    path.write_bytes(GARBAGE[name])
    with pytest.raises(GraphFileError) as refusal:
        graphs.inspect_graph(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    if file == "saved_model.pb":
        with pytest.raises(GraphFileError, match=file):
            graphs.rewrite_saved_model(path.parent, tmp_path / "target")
        assert sorted(os.listdir(tmp_path)) == ["folder"]
    else:
        check_refused(path, "logsumexp", capsys)


@pytest.mark.parametrize(
    "source", [FROZEN, CLASSIFIER, SAVED_MODEL / "saved_model.pb"], ids=lambda p: p.name
)
def test_truncated_files_are_refused(source, tmp_path):
    data = source.read_bytes()
    path = tmp_path / source.name
    for length in [1, 2, 100, len(data) // 3, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(GraphFileError, match=re.escape(str(path))):
            graphs.inspect_graph(path)


def test_a_file_that_protobuf_would_read_in_part_is_refused(tmp_path):
    """Old versions of protobuf stop at the mark of a group's end, and only warn."""
    graph_def = tf.GraphDef.FromString(FROZEN.read_bytes())
    first = tf.GraphDef(node=graph_def.node[:1]).SerializeToString()
    rest = tf.GraphDef(node=graph_def.node[1:]).SerializeToString()
    path = tmp_path / "graph.pb"
    path.write_bytes(first + rest)
    assert len(graphs.inspect_graph(path).ops) == 1
    path.write_bytes(first + b"\x0c" + rest)
    with pytest.raises(GraphFileError, match=re.escape(str(path))):
        graphs.inspect_graph(path)


@pytest.mark.parametrize("name", ["graph.pb", "model.meta", "graph.pbtxt", "saved_model.pb"])
def test_a_file_of_more_than_2_gib_is_refused_unread(name, tmp_path):
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(2**31)
    tracemalloc.start()
    try:
        with pytest.raises(GraphFileError, match=f"{re.escape(str(path))}.* 2 GiB"):
            graphs.inspect_graph(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [10, 30, 60, 90, 150, 1000])
def test_nested_text_is_rewritten_or_refused(depth, tmp_path):
    """Parsing text and writing bytes have their own limits: no other error leaves between them."""
    path = tmp_path / "graph.pbtxt"
    inner, outer = 'func { attr { key: "k" value { ' * depth, "} } } " * depth
    node = f'node {{ name: "a" op: "b" attr {{ key: "k" value {{ {inner} i: 1 {outer} }} }} }}'
    path.write_text(node)
    for file in ("target.pb", "target.pbtxt"):
        target = tmp_path / file
        arguments = ["rewrite", str(path), str(target), "--mode", "untag"]
        is_written = cli.main(arguments) == 0
        assert target.exists() == is_written
    if depth <= 10:
        assert (tmp_path / "target.pbtxt").exists()
    if depth == 1000:
        assert sorted(os.listdir(tmp_path)) == ["graph.pbtxt"]


def test_a_graph_def_is_no_meta_graph(tmp_path):
    path = tmp_path / "model.meta"
    path.write_bytes(FROZEN.read_bytes())
    for refused in (path, FROZEN, SAVED_MODEL):
        with pytest.raises(GraphFileError, match="MetaGraphDef") as refusal:
            graphs.rewrite_meta_graph(refused)
        assert str(refused) in str(refusal.value)
    for refused in (FROZEN, CLASSIFIER, CLASSIFIER.parent):
        with pytest.raises(GraphFileError, match="SavedModel") as refusal:
            graphs.rewrite_saved_model(refused, tmp_path / "target")
        assert str(refused) in str(refusal.value)
    assert sorted(os.listdir(tmp_path)) == ["model.meta"]


def test_a_folder_with_nothing_of_ours_is_refused(tmp_path):
    with pytest.raises(GraphFileError, match=re.escape(str(tmp_path))):
        graphs.inspect_graph(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b'model_checkpoint_path: "\xff\xfe"\n', b"\0\xff", b"prose", b'mode: "gone"\n']
)
def test_a_checkpoint_folder_with_a_damaged_list_is_refused(content, tmp_path):
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(GraphFileError, match=re.escape(str(tmp_path))):
        graphs.inspect_graph(tmp_path)


@pytest.mark.parametrize("name", ["none.pb", "none.meta", "none", "none/none.pb"])
def test_what_is_not_there_is_an_os_error(name, tmp_path, capsys):
    path = os.path.join(str(tmp_path), name)
    target = str(tmp_path / "target")
    calls = [
        lambda: graphs.inspect_graph(path),
        lambda: graphs.rewrite_meta_graph(path),
        lambda: graphs.rewrite_saved_model(path, target),
    ]
    for call in calls:
        with pytest.raises(OSError) as refusal:
            call()
        assert name in str(refusal.value)
    assert cli.main(["rewrite", path, target, "--mode", "tag"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_a_path_that_names_nothing_is_a_value_error(tmp_path):
    target = tmp_path / "target"
    for path in ("", "a\0b"):
        for call in (
            lambda path=path: graphs.inspect_graph(path),
            lambda path=path: graphs.rewrite_meta_graph(path),
            lambda path=path: graphs.rewrite_saved_model(path, target),
            lambda path=path: graphs.rewrite_saved_model(SAVED_MODEL, path),
        ):
            with pytest.raises(ValueError, match="path"):
                call()
    assert os.listdir(str(tmp_path)) == []


# Arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 3, b"graph.pb", [], object()], ids=repr)
def test_what_is_no_graph_and_no_path_is_a_type_error(value, tmp_path):
    target = tmp_path / "target"
    calls = [
        lambda: graphs.inspect_graph(value),
        lambda: graphs.rewrite_graph_def(value),
        lambda: graphs.rewrite_meta_graph(value),
        lambda: graphs.rewrite_saved_model(value, target),
        lambda: graphs.rewrite_saved_model(SAVED_MODEL, value),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert not target.exists()


def test_the_wrong_proto_is_a_type_error():
    with tf.Graph().as_default() as graph:
        pass
    meta_graph = tf.MetaGraphDef()
    for wrong in (graph, meta_graph, str(FROZEN)):
        with pytest.raises(TypeError, match="GraphDef"):
            graphs.rewrite_graph_def(wrong)
    for wrong in (graph, small_graph()):
        with pytest.raises(TypeError, match="MetaGraphDef"):
            graphs.rewrite_meta_graph(wrong)


# What looks wrong and is not ---------------------------------------------------------------------


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
    add(graph_def.node, "reader", "Identity", ["xent:1"], T=tf.float32)
    report = graphs.inspect_graph(graph_def)
    assert [(op.name, op.shape, op.gradients) for op in report.ops] == [
        ("xent", (None, None), ("reader",))
    ]
    check_same_values(graph_def, ("xent:0", "reader:0"))


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
    for what in EVERYWHERE:
        run(what, graph_def)
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


def test_damaged_constants_leave_the_shape_unknown():
    for data_type in [*range(25), 101, 999]:
        for field, values in NUMBERS.items():
            graph_def = small_graph()
            value = add(graph_def.node, "shape", "Const").attr["value"].tensor
            value.dtype = data_type
            value.tensor_shape.dim.add(size=2)
            if isinstance(values, bytes):
                value.tensor_content = values
            else:
                getattr(value, field).extend(values)
            add(graph_def.node, "reshaped", "Reshape", ["x", "shape"])
            graph_def.node[2].input[0] = "reshaped"
            (op,) = graphs.inspect_graph(graph_def).ops
            assert op.shape is None or len(op.shape) == 2


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


def test_text_with_other_line_ends_is_read(tmp_path):
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(FROZEN_TEXT.read_bytes().replace(b"\n", b"\r\n"))
    assert len(graphs.inspect_graph(path).ops) == 1
    assert text_format.Parse(path.read_text(), tf.GraphDef()).node


def test_unknown_fields_of_a_saved_model_are_kept(tmp_path):
    shutil.copytree(SAVED_MODEL, tmp_path / "model")
    unknown = b"\xfa\x3e\x03new"  # field 1007, of a TensorFlow to come
    with open(tmp_path / "model" / "saved_model.pb", "ab") as file:
        file.write(unknown)
    graphs.rewrite_saved_model(tmp_path / "model", tmp_path / "target")
    assert unknown in (tmp_path / "target" / "saved_model.pb").read_bytes()


def test_branches_inside_thousands_of_others_are_refused():
    graph_def = small_graph()
    for number in range(3000):
        before = f"branch{number - 1}" if number else "x"
        add(graph_def.node, f"decides{number}", "Placeholder", dtype=tf.bool)
        add(graph_def.node, f"branch{number}", "Switch", [before, f"decides{number}"], T=tf.float32)
    graph_def.node[2].input[0] = "branch2999"
    with pytest.raises(GraphFileError, match="`branch2000` is inside more than 2000"):
        graphs.inspect_graph(graph_def)
