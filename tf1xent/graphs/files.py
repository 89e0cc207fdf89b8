"""Finds, recognises and reads graph files, and checks where new ones may be written.

Their content is untrusted data: it is parsed, never executed.
"""

import os
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

from google.protobuf import message, text_format

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Path, ProtoClass
from tf1xent.errors import GraphFileError
from tf1xent.graphs import foreign, raw

# The largest protocol buffer.
_MOST_BYTES = 2**31 - 1
_TEXT_ENDINGS = (".pbtxt", ".pb.txt", ".textproto", ".prototxt", ".txt")
_META_ENDING = ".meta"
# Other files can parse as nodes; the names of the first few tell them apart.
_PLAUSIBLE_NODES = 9
SAVED_MODEL_NAMES = ("saved_model.pb", "saved_model.pbtxt")
# In every binary graph and in no text. Tabs and line ends are not among them.
_CONTROL_CHARACTERS = re.compile(rb"[\0-\x08\x0e-\x1f]")
_MOST_NAMES = 8


class GraphFile(NamedTuple):
    """The content of a graph file.

    Attributes:
      proto_class: GraphDef, MetaGraphDef or SavedModel.
      content: the serialized proto.
      is_text: whether the file is text.
    """

    proto_class: ProtoClass
    content: bytes
    is_text: bool


def find(path: Path, caller: str) -> str:
    """Returns a path's graph file: the file itself, a SavedModel's, or a checkpoint's .meta."""
    path = checked_path(path, caller)
    if os.path.isdir(path):
        return _found_in(path, caller)
    if not os.path.exists(path) and os.path.isfile(path + _META_ENDING):
        return path + _META_ENDING
    return path


def checked_path(path: Path, caller: str) -> str:
    """Returns a path as str; TypeError or ValueError for an invalid one."""
    path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"{caller}: a path must be str, got {path!r}.")
    if not path or "\0" in path:
        raise ValueError(f"{caller}: a path must name a file or folder, got {path!r}.")
    return path


def _found_in(folder: str, caller: str) -> str:
    """Returns a folder's graph file: its SavedModel's, its newest checkpoint's .meta, or the only
    .meta in it."""
    for name in SAVED_MODEL_NAMES:
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    for prefix in _newest_checkpoint(folder):
        if os.path.isfile(prefix + _META_ENDING):
            return prefix + _META_ENDING
    there = sorted(os.listdir(folder), key=_by_numbers)
    metas = [name for name in there if name.lower().endswith(_META_ENDING)]
    if len(metas) == 1:
        return os.path.join(folder, metas[0])
    if metas:
        raise GraphFileError(
            f"{caller}: {folder} has several .meta files, and its `checkpoint` file, if any, names "
            f"none of them: {_listed(metas)}. Give one of them."
        )
    graphs = [name for name in there if _may_be_graph(folder, name)]
    what = f"It holds {_listed(there)}." if there else "It is empty."
    if graphs:
        what = f"Give a graph in it: {_listed(graphs)}."
    raise GraphFileError(
        f"{caller}: {folder} is a folder without a SavedModel or the .meta of a checkpoint. {what}"
    )


def _newest_checkpoint(folder: str) -> List[str]:
    """Returns the path prefixes that the newest checkpoint of a folder may have, best first.

    Its `checkpoint` file names it, perhaps by a path that was valid on another machine.
    """
    try:
        with open(os.path.join(folder, "checkpoint"), "rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8")
        named = text_format.Parse(text, _tf.CheckpointState()).model_checkpoint_path
    except (FileNotFoundError, IsADirectoryError):
        return []
    except (text_format.ParseError, UnicodeDecodeError):
        return []  # a damaged file is treated as a missing one
    if not named:
        return []
    # The path may come from another operating system, so both separators count.
    here = os.path.join(folder, re.split(r"[\\/]", named)[-1])
    as_named = os.path.join(folder, named)
    return [here, as_named] if os.path.isabs(named) else [as_named, here]


def _by_numbers(name: str) -> List[Union[str, int]]:
    """A sort key that puts model.ckpt-900 before model.ckpt-1000."""
    parts: List[Union[str, int]] = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts


def _listed(names: List[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[-_MOST_NAMES:]) + (f" and {more} more" if more > 0 else "")


def _may_be_graph(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    if os.path.isdir(path):
        return any(os.path.isfile(os.path.join(path, part)) for part in SAVED_MODEL_NAMES)
    return name.lower().endswith((".pb", ".pbtxt"))


def read(path: str, caller: str) -> GraphFile:
    """Reads a GraphDef, MetaGraphDef or SavedModel, binary or text; the bytes tell which."""
    size = os.path.getsize(path)
    if not os.path.isfile(path):  # reading a pipe could block forever
        raise GraphFileError(f"{caller}: {path} must be a file or folder, got neither.")
    with open(path, "rb") as file:
        head = file.read(foreign.HEAD_BYTES)
        file.seek(max(0, size - foreign.TAIL_BYTES))
        other = foreign.description(path, head, file.read(foreign.TAIL_BYTES))
        if other is not None and size:
            raise GraphFileError(f"{caller}: {path} {other}")
        if size == 0 or size > _MOST_BYTES:
            what = "is empty" if size == 0 else "is larger than 2 GiB, the most that a graph can be"
            raise GraphFileError(f"{caller}: {path} {what}.")
        file.seek(0)
        content = file.read()
    classes = _classes(path)
    found, fault = _parsed(content, classes, path)
    if found is not None:
        return found
    names = " or ".join(proto_class.__name__ for proto_class in classes)
    others = [c for c in (tf.GraphDef, tf.MetaGraphDef, _tf.SavedModel) if c not in classes]
    other_kind, _ = _parsed(content, others, path)
    if other_kind is not None:
        got = f"a {other_kind.proto_class.__name__}. Rename the file"
    else:
        got = f"something else: {fault}" if fault else "something else, or a truncated file"
    raise GraphFileError(f"{caller}: {path} must hold a {names}, got {got}.")


def _classes(path: str) -> Tuple[ProtoClass, ...]:
    """Returns the message classes that a file of that name may hold."""
    name = os.path.basename(path)
    if name in SAVED_MODEL_NAMES:
        return (_tf.SavedModel,)
    if name.lower().endswith(_META_ENDING):
        return (tf.MetaGraphDef,)
    return tf.GraphDef, tf.MetaGraphDef, _tf.SavedModel


def _parsed(
    content: bytes, classes: Sequence[ProtoClass], path: str
) -> Tuple[Optional[GraphFile], str]:
    """Tries to read content as one of some classes.

    Returns (GraphFile, ""), or (None, what is wrong with the text, "" for binary content).
    """
    is_text = _CONTROL_CHARACTERS.search(content) is None
    furthest = (0, 0, "")
    for proto_class in classes:
        try:
            binary = _from_text(content, proto_class) if is_text else content
            if _is_plausible(proto_class, binary, path):
                return GraphFile(proto_class, binary, is_text), ""
        except text_format.ParseError as error:
            # The class whose parser gets furthest is the most likely one.
            place = (error.GetLine() or 0, error.GetColumn() or 0)
            furthest = max(furthest, (*place, _text_fault(error)))
        except ValueError as error:
            furthest = max(furthest, (0, 0, str(error) if is_text else ""))
    return None, furthest[2]


def _text_fault(error: text_format.ParseError) -> str:
    """Says where and why a text that starts as a graph stops being one."""
    line, column = error.GetLine(), error.GetColumn()
    if not line or (line, column) == (1, 1):
        return "its text is not a graph"
    reason = str(error).partition(" : ")[2].strip().rstrip(".")
    return f"line {line}, column {column}: {reason}"


def _from_text(content: bytes, proto_class: ProtoClass) -> bytes:
    """Serializes a text proto; ParseError or ValueError for invalid text."""
    try:
        # utf-8-sig also accepts the byte order mark that some editors write.
        return raw.serialized(text_format.Parse(content.decode("utf-8-sig"), proto_class()))
    except UnicodeDecodeError as error:
        raise ValueError(f"its text is not UTF-8: byte {error.start}") from error
    except (RecursionError, RuntimeError) as error:
        raise ValueError("it is nested too deeply") from error


def _is_plausible(proto_class: ProtoClass, content: bytes, where: str) -> bool:
    """Tells whether bytes are of a class.

    Bytes of each of the three classes parse as the others, but then have no nodes with names.
    """
    if proto_class is tf.GraphDef:
        nodes = raw.parsed(raw.RawGraphDef, content, where).node[:_PLAUSIBLE_NODES]
        # Names are read as bytes: protobuf prints warnings about invalid text.
        first = [raw.parsed(raw.RawNodeDef, node, where) for node in nodes]
        return bool(first) and all(_is_name(node.name) and _is_name(node.op) for node in first)
    if proto_class is tf.MetaGraphDef:
        parts = raw.parsed(raw.RawMetaGraphDef, content, where).graph_def
        return _is_plausible(tf.GraphDef, b"".join(parts), where)
    meta_graphs = raw.parsed(raw.RawSavedModel, content, where).meta_graphs
    return any(_is_plausible(tf.MetaGraphDef, part, where) for part in meta_graphs)


def _is_name(values: Sequence[bytes]) -> bool:
    """Tells whether a field has exactly one value, and that value can name a node or an op."""
    text = values[0].decode("utf-8", "replace") if len(values) == 1 else ""
    return bool(text) and text.isprintable() and not set(" \ufffd").intersection(text)


def is_written_as_text(file: GraphFile, source: str, target: str) -> bool:
    """Tells whether to write text: if the source is text, unless the endings tell otherwise."""
    named_text = _is_text_name(target)
    return file.is_text if named_text == _is_text_name(source) else named_text


def _is_text_name(path: str) -> bool:
    return path.lower().endswith(_TEXT_ENDINGS)


def as_text(proto_class: ProtoClass, content: bytes, path: str) -> bytes:
    """Returns the text form of a serialized proto, for the file `path`."""
    proto = raw.parsed(proto_class, content, path)
    size = proto.ByteSize()
    proto.DiscardUnknownFields()
    if proto.ByteSize() != size:
        raise GraphFileError(
            f"{path}: the graph has fields that this TensorFlow does not know; a text file cannot "
            "keep them. Write a binary file."
        )
    try:
        return text_format.MessageToString(proto).encode("utf-8")
    except (message.Error, RecursionError) as error:
        raise GraphFileError(f"{path}: the graph is nested too deeply for text.") from error


def is_folder(source: Path, path: str, target: str) -> bool:
    """Tells whether to rewrite a SavedModel's whole folder, or only its graph file `path`."""
    if os.path.basename(path) not in SAVED_MODEL_NAMES:
        return False
    if os.path.isdir(source) or os.path.isdir(target):
        return True
    name = os.path.basename(target).lower()
    is_file_name = name.endswith((".pb", _META_ENDING, *_TEXT_ENDINGS))
    return name in SAVED_MODEL_NAMES or not (is_file_name or os.path.isfile(target))


def checked_folder(target: Path, path: str, overwrite: bool, caller: str) -> str:
    """Returns where to write the folder of the SavedModel whose graph file is `path`.

    Links are followed.
    """
    target = checked_path(target, caller)
    name = os.path.basename(target)
    if name in SAVED_MODEL_NAMES and not os.path.isdir(target):
        if name != os.path.basename(path):
            raise ValueError(f"{caller}: {target} must have the same name as {path}.")
        target = os.path.dirname(target) or os.curdir
    source = os.path.dirname(path) or os.curdir
    target = _checked_place(target, source, overwrite, caller)
    _check_folders(target, os.path.realpath(source), caller)
    return target


def checked_file(
    target: Path, path: str, proto_class: ProtoClass, overwrite: bool, caller: str
) -> str:
    """Returns where to write what was read from the file `path`; links are followed.

    ValueError if a reader would expect another class in a file named `target`.
    """
    target = checked_path(target, caller)
    kind = proto_class.__name__
    if os.path.isdir(target) or target.endswith((os.sep, os.altsep or os.sep)):
        raise ValueError(
            f"{caller}: {target} must name a file, because {path} is one, got a folder. "
            f"Give {os.path.join(target, os.path.basename(path))}."
        )
    if proto_class not in _classes(target):
        names = " or ".join(found.__name__ for found in _classes(target))
        raise ValueError(f"{caller}: a file named {target} must hold a {names}, got a {kind}.")
    is_meta = path.lower().endswith(_META_ENDING)
    endings = (_META_ENDING,) if is_meta else (".pb",)
    is_bare = proto_class is _tf.SavedModel or is_meta
    if is_bare and not target.lower().endswith((*endings, *_TEXT_ENDINGS)):
        raise ValueError(
            f"{caller}: {target} must end with {endings[0]} or .pbtxt, because it becomes a file "
            f"with the {kind} of {path}. Give {target}{endings[0]}."
        )
    return _checked_place(target, path, overwrite, caller)


def _checked_place(target: str, source: str, overwrite: bool, caller: str) -> str:
    """Returns the real path of `target`; refuses to overwrite what must not be lost.

    FileExistsError if the path exists, even as a broken link, and `overwrite` is False.
    """
    given, target = target, os.path.realpath(target)
    if os.path.lexists(given) and not overwrite:
        raise FileExistsError(f"{caller}: {given} exists already.")
    if os.path.lexists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise ValueError(f"{caller}: {given} exists and is neither a file nor a folder.")
    if os.path.lexists(target) and os.path.isdir(target) != os.path.isdir(source):
        raise ValueError(f"{caller}: {given} and {source} must both be folders or both files.")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{caller}: {folder}, the folder to write in, does not exist.")
    return target


def _check_folders(target: str, source: str, caller: str) -> None:
    for inner, outer in ((target, source), (source, target)):
        if inner != outer and inner.startswith(os.path.join(outer, "")):
            raise ValueError(f"{caller}: {inner} must not be inside {outer}.")
    there = os.listdir(target) if os.path.isdir(target) else []
    if there and not set(SAVED_MODEL_NAMES).intersection(there):
        raise ValueError(f"{caller}: {target} holds files but no SavedModel; they would be lost.")
