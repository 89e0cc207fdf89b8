"""Graph files: found, read and written. What they hold is untrusted data, and only ever parsed."""

import contextlib
import os
import shutil
import uuid
from typing import Any, Iterator, Tuple

from google.protobuf import message, text_format

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError
from tf1xent.graphs import raw

# More than this no protocol buffer holds.
_MOST_BYTES = 2**31 - 1
_TEXT_ENDINGS = (".pbtxt", ".pb.txt", ".textproto", ".prototxt", ".txt")
# A file of another kind that parses as nodes gives itself away in the first few.
_PLAUSIBLE_NODES = 9
SAVED_MODEL_NAMES = ("saved_model.pb", "saved_model.pbtxt")
# It names the bytes of a saved_model.pb, and would be wrong for any other.
FINGERPRINT_NAME = "fingerprint.pb"


def find(path: Any, caller: str) -> str:
    """The file that `path` stands for: itself, a SavedModel's, or the .meta of a checkpoint."""
    path = checked_path(path, caller)
    if os.path.isdir(path):
        for name in SAVED_MODEL_NAMES:
            if os.path.isfile(os.path.join(path, name)):
                return os.path.join(path, name)
        try:
            checkpoint = tf.train.latest_checkpoint(path)
        except (ValueError, tf.errors.OpError) as error:
            state = os.path.join(path, "checkpoint")
            raise GraphFileError(f"{caller}: {state} cannot be read: {error}") from error
        if checkpoint is not None and os.path.isfile(checkpoint + ".meta"):
            return checkpoint + ".meta"
        raise GraphFileError(
            f"{caller}: {path} is a folder with neither a SavedModel nor a checkpoint with a .meta."
        )
    if not os.path.exists(path) and os.path.isfile(path + ".meta"):
        return path + ".meta"
    return path


def checked_path(path: Any, caller: str) -> str:
    """A path as text; TypeError or ValueError for what is none."""
    path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"{caller}: a path must be str, got {path!r}.")
    if not path or "\0" in path:
        raise ValueError(f"{caller}: a path must name a file or folder, got {path!r}.")
    return path


def read(path: str, caller: str) -> Tuple[Any, bytes]:
    """(proto class, binary content) of the GraphDef, MetaGraphDef or SavedModel in a file."""
    size = os.path.getsize(path)
    if size == 0 or size > _MOST_BYTES:
        what = "is empty" if size == 0 else "is larger than the 2 GiB that a graph file can have"
        raise GraphFileError(f"{caller}: {path} {what}.")
    with open(path, "rb") as file:
        content = file.read()
    faults = []
    for proto_class in _classes(path):
        try:
            binary = _from_text(content, proto_class) if path.endswith(_TEXT_ENDINGS) else content
            if _is_plausible(proto_class, binary, path):
                return proto_class, binary
            faults.append("it holds no graph")
        except ValueError as error:
            faults.append(str(error))
    names = " or ".join(proto_class.__name__ for proto_class in _classes(path))
    raise GraphFileError(f"{caller}: {path} must hold a {names}, got something else: {faults[0]}.")


def _classes(path: str) -> Tuple[Any, ...]:
    name = os.path.basename(path)
    if name in SAVED_MODEL_NAMES:
        return (_tf.SavedModel,)
    if name.endswith(".meta"):
        return (tf.MetaGraphDef,)
    return tf.GraphDef, tf.MetaGraphDef, _tf.SavedModel


def _from_text(content: bytes, proto_class: Any) -> bytes:
    """The binary form of a text proto; ValueError says what is wrong."""
    try:
        return raw.serialized(text_format.Parse(content.decode("utf-8"), proto_class()))
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(str(error).strip().rstrip(".")) from error
    except (RecursionError, RuntimeError) as error:
        raise ValueError("it is nested too deeply") from error


def _is_plausible(proto_class: Any, content: bytes, where: str) -> bool:
    """Whether bytes are of a class: those of the three parse as each other, but hold no nodes."""
    if proto_class is tf.GraphDef:
        nodes = raw.parsed(raw.RawGraphDef, content, where).node
        first = list(raw.NodeList(nodes[:_PLAUSIBLE_NODES], where))
        return bool(first) and all(_is_name(node.name) and _is_name(node.op) for node in first)
    if proto_class is tf.MetaGraphDef:
        return _is_plausible(tf.GraphDef, raw.MetaGraph(content, where).graph_def, where)
    meta_graphs = raw.parsed(raw.RawSavedModel, content, where).meta_graphs
    return any(_is_plausible(tf.MetaGraphDef, part, where) for part in meta_graphs)


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable() and " " not in text


def encoded(proto_class: Any, content: bytes, path: str) -> bytes:
    """The binary content of a proto as a file of that name holds it."""
    if not path.endswith(_TEXT_ENDINGS):
        return content
    proto = raw.parsed(proto_class, content, path)
    size = proto.ByteSize()
    proto.DiscardUnknownFields()
    if proto.ByteSize() != size:
        raise GraphFileError(
            f"{path}: the graph has fields that this TensorFlow does not know, which a text file "
            "cannot keep. Write a binary one."
        )
    try:
        return text_format.MessageToString(proto).encode("utf-8")
    except (message.Error, RecursionError) as error:
        raise GraphFileError(f"{path}: the graph is nested too deeply for text.") from error


def write(content: bytes, path: str) -> None:
    """Writes a file, whole or not at all."""
    with _beside(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)


def write_saved_model(source: str, target: str, name: str, content: bytes) -> None:
    """Writes a SavedModel's folder, whole or not at all: `source` with another file of graphs."""

    def left_out(folder, names):
        return [n for n in names if folder == source and n in (name, FINGERPRINT_NAME)]

    with _beside(target) as temporary:
        shutil.copytree(source, temporary, ignore=left_out)
        with open(os.path.join(temporary, name), "xb") as file:
            file.write(content)
        with _beside(target) as old:
            replaces = os.path.exists(target)
            if replaces:
                os.rename(target, old)
            try:
                os.rename(temporary, target)
            except BaseException:  # an interrupt too: what was there must not be lost
                if replaces:
                    os.rename(old, target)
                raise


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    """A new name in the folder of `path`; what is left under it at the end goes."""
    path = os.path.abspath(path)
    temporary = f"{path}.{uuid.uuid4().hex}.partial"
    try:
        yield temporary
    finally:
        if os.path.isdir(temporary):
            shutil.rmtree(temporary)
        elif os.path.exists(temporary):
            os.remove(temporary)


def checked_target(target: Any, source: str, overwrite: bool, caller: str) -> str:
    """Where to write, links followed; refuses to write over what is not to be lost.

    FileExistsError where `target` is there and may not be overwritten.
    """
    target = os.path.realpath(checked_path(target, caller))
    if os.path.lexists(target):
        if not overwrite:
            raise FileExistsError(f"{caller}: {target} is there already.")
        if os.path.isdir(target) != os.path.isdir(source):
            raise ValueError(f"{caller}: {target} and {source} must both be folders or both files.")
    if os.path.isdir(source):
        _check_folders(target, os.path.realpath(source), caller)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{caller}: {folder}, in which to write, is not there.")
    return target


def _check_folders(target: str, source: str, caller: str) -> None:
    for inner, outer in (target, source), (source, target):
        if inner != outer and inner.startswith(os.path.join(outer, "")):
            raise ValueError(f"{caller}: {inner} must not be inside {outer}.")
    there = os.listdir(target) if os.path.isdir(target) else []
    if there and not set(SAVED_MODEL_NAMES).intersection(there):
        raise ValueError(
            f"{caller}: {target} holds something else than a SavedModel, which would be lost."
        )
