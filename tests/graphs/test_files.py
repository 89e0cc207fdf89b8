"""Files and paths that hold no graph, or a damaged one: a clear error, nothing written."""

import os
import re
import shutil
import tracemalloc

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from google.protobuf import text_format

from tests.support.graph_files import (
    FOLDER,
    FROZEN,
    META,
    SAVED_MODEL,
    check_damaged_is_refused,
)
from tests.support.graph_nodes import small_graph
from tf1xent import cli, graphs
from tf1xent.errors import GraphFileError

FROZEN_TEXT = FOLDER / "frozen" / "frozen.pbtxt"

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
        check_damaged_is_refused(path, "logsumexp", capsys)


@pytest.mark.parametrize(
    "source", [FROZEN, META, SAVED_MODEL / "saved_model.pb"], ids=lambda p: p.name
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
    for refused in (FROZEN, META, META.parent):
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


@pytest.mark.parametrize(
    "value", [None, 3, b"graph.pb", [], object()], ids=lambda value: type(value).__name__
)
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
