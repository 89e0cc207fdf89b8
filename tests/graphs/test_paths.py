"""Which file a path stands for, what it holds by its bytes, and what is written for it."""

import os
import re
import shutil

import pytest
import tensorflow.compat.v1 as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from tests.support.graph_files import CLASSIFIER, FROZEN, META, SAVED_MODEL, contents, rewrite
from tf1xent import cli, graphs
from tf1xent.errors import GraphFileError

CLASSES = {
    "graph_def": (tf.GraphDef, FROZEN),
    "meta_graph": (tf.MetaGraphDef, META),
    "saved_model": (saved_model_pb2.SavedModel, SAVED_MODEL / "saved_model.pb"),
}


def proto(kind):
    proto_class, path = CLASSES[kind]
    return proto_class.FromString(path.read_bytes())


def binary(kind):
    return CLASSES[kind][1].read_bytes()


def text(kind):
    return text_format.MessageToString(proto(kind)).encode()


def check_refused(capsys, source, target, *, message, folder):
    """Exit code 2, a line that matches, once the command's name; nothing below `folder` changes."""
    before = contents(folder)
    assert rewrite(source, target, "--force") == 2
    output, errors = capsys.readouterr()
    assert output == "" and len(errors.splitlines()) == 1, errors
    assert re.search(message, errors), errors
    assert errors.count("tf1xent rewrite:") == 1
    assert contents(folder) == before


# Text and binary ---------------------------------------------------------------------------------

NAMES = [
    ("graph_def", "graph.pb"),
    ("graph_def", "graph.PBTXT"),
    ("graph_def", "graph.Pb.Txt"),
    ("graph_def", "graph"),
    ("meta_graph", "model.meta"),
    ("meta_graph", "model.META"),
    ("meta_graph", "graph.pb"),
    ("saved_model", "exported.pb"),
    ("saved_model", "saved_model.pbtxt"),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", [text, binary])
@pytest.mark.parametrize("kind, name", NAMES, ids=["-".join(names) for names in NAMES])
def test_text_and_binary_are_told_by_their_bytes_and_come_out_as_they_were(
    kind, name, form, tmp_path, capsys
):
    source, target = tmp_path / "old" / name, tmp_path / "new" / name
    source.parent.mkdir()
    target.parent.mkdir()
    source.write_bytes(form(kind))
    want = graphs.inspect_graph(CLASSES[kind][1])
    assert graphs.inspect_graph(source).ops == want.ops
    is_folder = name == "saved_model.pbtxt"
    assert rewrite(source, target, *(["--force"] if is_folder else [])) == 0
    assert os.listdir(str(target.parent)) == [name]
    content = target.read_bytes()
    got = CLASSES[kind][0]()
    if form is text:
        text_format.Parse(content.decode(), got)
    else:
        got.ParseFromString(content)
    assert got != proto(kind)
    assert graphs.inspect_graph(target).ops == ()


def test_an_ending_of_text_asks_for_text_and_another_one_for_bytes(tmp_path):
    (tmp_path / "old.pbtxt").write_bytes(text("graph_def"))
    assert rewrite(tmp_path / "old.pbtxt", tmp_path / "new.pb") == 0
    tf.GraphDef.FromString((tmp_path / "new.pb").read_bytes())
    assert rewrite(FROZEN, tmp_path / "new.PBTXT") == 0
    text_format.Parse((tmp_path / "new.PBTXT").read_text(), tf.GraphDef())


def test_text_as_write_graph_writes_it_by_default(tmp_path):
    tf.train.write_graph(proto("graph_def"), str(tmp_path), "graph.pb")
    assert len(graphs.inspect_graph(tmp_path / "graph.pb").ops) == 1
    assert rewrite(tmp_path / "graph.pb", tmp_path / "new.pb") == 0
    text_format.Parse((tmp_path / "new.pb").read_text(), tf.GraphDef())


def test_rewrite_meta_graph_reads_text(tmp_path):
    (tmp_path / "model.meta").write_bytes(text("meta_graph"))
    got = graphs.rewrite_meta_graph(tmp_path / "model.meta", "tag")
    assert got == graphs.rewrite_meta_graph(META, "tag")


def test_text_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "graph.pbtxt").write_bytes(b"\xef\xbb\xbf" + text("graph_def"))
    assert len(graphs.inspect_graph(tmp_path / "graph.pbtxt").ops) == 1


@pytest.mark.parametrize("name", ["graph.pb", "graph.pbtxt"])
def test_a_fault_in_text_is_told_by_its_line(name, tmp_path):
    for kind in ("graph_def", "meta_graph"):
        lines = text(kind).split(b"\n")
        lines[20:20] = [b"colour: 3"]
        (tmp_path / name).write_bytes(b"\n".join(lines))
        with pytest.raises(GraphFileError, match=r"line 21, column 1: .*colour"):
            graphs.inspect_graph(tmp_path / name)


# Folders -----------------------------------------------------------------------------------------


def checkpoint_folder(folder, *names):
    """A folder of .meta files alone."""
    folder.mkdir()
    for name in names:
        shutil.copy(str(META), str(folder / name))
    return folder


def checkpoint(folder, path):
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n')


def test_the_only_meta_of_a_folder_is_taken(tmp_path):
    folder = checkpoint_folder(tmp_path / "model", "model.ckpt-7.meta")
    assert graphs.inspect_graph(folder).source == str(folder / "model.ckpt-7.meta")
    for path in ("/somebody/else/gone", "gone", ""):
        checkpoint(folder, path)
        assert graphs.inspect_graph(folder).source == str(folder / "model.ckpt-7.meta")
    (folder / "checkpoint").write_bytes(b"\xff damaged")
    assert graphs.inspect_graph(folder).source == str(folder / "model.ckpt-7.meta")
    got = graphs.rewrite_meta_graph(folder)
    assert got == graphs.rewrite_meta_graph(META)


def test_several_metas_are_listed(tmp_path):
    folder = checkpoint_folder(tmp_path / "model", "m-900.meta", "m-1000.meta", "m-20.meta")
    (folder / "²").write_text("")
    with pytest.raises(GraphFileError, match="several .*: m-20.meta, m-900.meta, m-1000.meta. "):
        graphs.inspect_graph(folder)
    checkpoint(folder, "/somebody/else/gone")
    with pytest.raises(GraphFileError, match="m-20.meta, m-900.meta, m-1000.meta"):
        graphs.inspect_graph(folder)


@pytest.mark.parametrize(
    "path", ["m-900", "/somebody/else/m-900", r"C:\\\\models\\\\m-900", "else/m-900"]
)
def test_a_checkpoint_file_of_another_machine_names_the_newest(path, tmp_path):
    folder = checkpoint_folder(tmp_path / "model", "m-900.meta", "m-1000.meta")
    checkpoint(folder, path)
    assert graphs.inspect_graph(folder).source == str(folder / "m-900.meta")


def test_what_is_in_a_folder_goes_before_where_it_came_from(tmp_path):
    there = checkpoint_folder(tmp_path / "there", "m-1.meta", "m-2.meta")
    checkpoint(there, there / "m-1")
    here = tmp_path / "here"
    shutil.copytree(str(there), str(here))
    assert graphs.inspect_graph(here).source == str(here / "m-1.meta")
    (here / "m-1.meta").unlink()
    assert graphs.inspect_graph(here).source == str(there / "m-1.meta")


def test_a_folder_without_any_says_what_it_holds(tmp_path):
    with pytest.raises(GraphFileError, match="It is empty"):
        graphs.inspect_graph(tmp_path)
    (tmp_path / "notes").write_text("")
    with pytest.raises(GraphFileError, match="It holds notes"):
        graphs.inspect_graph(tmp_path)
    shutil.copytree(str(SAVED_MODEL), str(tmp_path / "1700000000"))
    shutil.copy(str(FROZEN), str(tmp_path / "graph.pb"))
    with pytest.raises(GraphFileError, match="a graph in it: 1700000000, graph.pb"):
        graphs.inspect_graph(tmp_path)


# SavedModels -------------------------------------------------------------------------------------


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("source", ["saved_model.pb", ".", os.path.join(".", "saved_model.pb")])
@pytest.mark.parametrize("target", ["new", os.path.join("new", "saved_model.pb")])
def test_a_saved_model_in_the_current_folder(source, target, tmp_path, monkeypatch):
    model = tmp_path / "model"
    shutil.copytree(str(SAVED_MODEL), str(model))
    monkeypatch.chdir(str(model))
    assert len(graphs.inspect_graph(source).ops) == 2
    assert rewrite(source, os.path.join(os.pardir, target)) == 0
    assert tree(tmp_path / "new") == tree(SAVED_MODEL)
    assert graphs.inspect_graph(tmp_path / "new").ops == ()
    # In its place, the folder stays the same one.
    (model / "fingerprint.pb").write_bytes(b"\x08\x01")
    inode, variables = model.stat().st_ino, (model / "variables").stat().st_ino
    assert rewrite(source, source, "--force") == 0
    assert (model.stat().st_ino, (model / "variables").stat().st_ino) == (inode, variables)
    assert tree(model) == tree(SAVED_MODEL)
    assert graphs.inspect_graph(".").ops == ()


def test_the_proto_of_a_saved_model_is_a_file_like_another(tmp_path, capfd):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "exported.pb").write_bytes(binary("saved_model"))
    (folder / "large").write_bytes(b"not to be copied")
    assert len(graphs.inspect_graph(folder / "exported.pb").ops) == 2
    target = tmp_path / "new.pb"
    assert rewrite(folder / "exported.pb", target) == 0
    assert target.is_file()
    want = saved_model_pb2.SavedModel.FromString(target.read_bytes())
    assert len(want.meta_graphs) == 3 and graphs.inspect_graph(target).ops == ()
    assert capfd.readouterr() == ("", "")
    # So is one of the usual name, where a file is asked for.
    assert rewrite(SAVED_MODEL / "saved_model.pb", tmp_path / "alone.pb") == 0
    assert (tmp_path / "alone.pb").read_bytes() == target.read_bytes()
    check_refused(
        capfd, folder / "exported.pb", tmp_path / "new", message="Give .*new.pb", folder=tmp_path
    )
    with pytest.raises(GraphFileError, match="must be the folder of a SavedModel, got .*exported"):
        graphs.rewrite_saved_model(folder / "exported.pb", tmp_path / "new")
    assert sorted(os.listdir(str(tmp_path))) == ["alone.pb", "folder", "new.pb"]


# Outputs of another kind -------------------------------------------------------------------------


def test_what_is_written_is_what_its_name_says(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    refused = [
        (FROZEN, "new.meta", "must hold a MetaGraphDef, got a GraphDef"),
        (FROZEN, "new.META", "must hold a MetaGraphDef"),
        (FROZEN, "saved_model.pb", "must hold a SavedModel"),
        (META, "saved_model.pbtxt", "must hold a SavedModel"),
        (META, "new.pb", "must end with .meta"),
        (CLASSIFIER, "new", "Give .*new.meta"),
        (CLASSIFIER / "model", "new", "Give .*new.meta"),
        (CLASSIFIER, "folder", "must name a file.*Give .*folder/model.meta"),
        (FROZEN, "folder", "must name a file.*Give .*folder/frozen.pb"),
        (SAVED_MODEL / "saved_model.pb", "new.meta", "must hold a MetaGraphDef"),
    ]
    for source, name, message in refused:
        check_refused(capsys, source, tmp_path / name, message=message, folder=tmp_path)
    for source in (FROZEN, META, CLASSIFIER):
        target = str(tmp_path / "new.meta") + os.sep
        check_refused(capsys, source, target, message="must name a file", folder=tmp_path)
    assert tree(tmp_path) == ["folder"]


def test_a_graph_def_named_meta_is_refused_with_what_it_is(tmp_path):
    (tmp_path / "model.meta").write_bytes(binary("graph_def"))
    with pytest.raises(GraphFileError, match="must hold a MetaGraphDef, got a GraphDef"):
        graphs.inspect_graph(tmp_path / "model.meta")


# Files of other programs -------------------------------------------------------------------------

TABLE = CLASSIFIER / "model.index"
FOREIGN = {
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(2000), "HDF5.*Keras"),
    "model.keras": (b"PK\x03\x04" + bytes(2000), "zip archive"),
    "graph.pb.gz": (b"\x1f\x8b\x08" + bytes(50), "gzip"),
    "graph.tar": (b"a" * 257 + b"ustar\x0000" + bytes(300), "tar archive"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite"),
    "graph.pb": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"),
    "graph.pbtxt": (b"<html lang='en'>", "HTML page"),
    "frozen.pb": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "wide.pbtxt": ("node {}".encode("utf-16"), "UTF-16.*UTF-8"),
    "model.json": (b'{"class_name": "Model"}', "JSON"),
    "checkpoint": (b'model_checkpoint_path: "model"\n', "list of a folder's checkpoints"),
    "old.ckpt": (TABLE.read_bytes(), "variables of a checkpoint"),
    "model.index": (TABLE.read_bytes(), "variables of a checkpoint.*model.meta"),
    "model.data-00000-of-00001": (bytes(5000), "variables of a checkpoint.*model.meta"),
    "events.out.tfevents.1": (b"\x18\0\0\0\0\0\0\0\xa3\x7f", "TensorBoard"),
    "fingerprint.pb": (b"\x08\x01", "the folder of the SavedModel"),
    "prose.pb": (b"this is no graph\n", "must hold a GraphDef .*its text is not a graph"),
    "random.pb": (bytes(range(255, -1, -1)) * 4, "must hold a GraphDef .*got something else"),
}


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_files_of_other_programs_are_named(name, tmp_path, capfd):
    content, message = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert cli.main(["inspect", str(path)]) == 2
    output, errors = capfd.readouterr()  # what C++ prints too
    assert output == "" and len(errors.splitlines()) == 1, errors
    assert errors.startswith(f"tf1xent inspect: {path} ")
    assert re.search(message, errors), errors
    assert not re.search("inspect_graph|[Pp]roto|tensor |RawGraph|parsing|Parse", errors)
    check_refused(capfd, path, tmp_path / "new.pb", message=message, folder=tmp_path)


def test_graphs_are_not_taken_for_files_of_other_programs(tmp_path):
    """A binary graph begins with the length of its first node, which can be any character."""
    path = tmp_path / "graph.pb"
    for name in ("TFL3", "PK", "<html>", *("n" * length for length in range(1, 140))):
        graph_def = tf.GraphDef()
        graph_def.node.add(name=name, op="NoOp")
        path.write_bytes(graph_def.SerializeToString())
        assert graphs.inspect_graph(path).ops == ()


def test_the_graph_of_a_checkpoint_is_named_where_it_is(tmp_path):
    for part in ("model.index", "model.data-00000-of-00001"):
        with pytest.raises(GraphFileError, match=re.escape(f"Give {META}.")):
            graphs.inspect_graph(CLASSIFIER / part)
    model = tmp_path / "model"
    shutil.copytree(str(SAVED_MODEL), str(model))
    with pytest.raises(GraphFileError, match=re.escape(f"Give {model}, the folder")):
        graphs.inspect_graph(model / "variables" / "variables.index")


def test_large_variables_are_refused_unread(tmp_path):
    path = tmp_path / "model.data-00000-of-00001"
    with open(str(path), "wb") as file:
        file.truncate(2**31)
    with pytest.raises(GraphFileError, match="variables of a checkpoint"):
        graphs.inspect_graph(path)
