"""Graph protos one level deep: their parts stay bytes until somebody asks for them.

A node is ten times as large in memory as in a file, and most nodes of a graph are only ever looked
at once. To a protocol buffer a field of bytes and one of a message are the same thing; so these
classes read what TensorFlow's write, and hand on unread whatever they do not name.
"""

import contextlib
import warnings
from typing import Any, Iterable, Iterator, List

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError


def _raw_class(class_name: str, **fields: int) -> Any:
    """A message class of repeated fields of bytes, by their numbers."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"tf1xent/{class_name}.proto", package="tf1xent", syntax="proto3"
    )
    described = file.message_type.add(name=class_name)
    field_type = descriptor_pb2.FieldDescriptorProto
    for field, number in fields.items():
        described.field.add(
            name=field,
            number=number,
            type=field_type.TYPE_BYTES,
            label=field_type.LABEL_REPEATED,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName(f"tf1xent.{class_name}")
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


# With the field numbers of the classes of the same name. Repeated, since a message that a file
# holds twice is the two of them, one after the other.
RawGraphDef = _raw_class("RawGraphDef", node=1)
RawMetaGraphDef = _raw_class("RawMetaGraphDef", graph_def=2)
RawSavedModel = _raw_class("RawSavedModel", meta_graphs=2)
RawNodeDef = _raw_class("RawNodeDef", name=1, op=2)

# Nodes that become bytes of a GraphDef together.
_AT_ONCE = 1000


def parsed(proto_class: Any, content: bytes, where: str) -> Any:
    """A message of bytes, or GraphFileError."""
    with _strict():
        return _from_bytes(proto_class, content, where)


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Makes an error of what protobuf 3 only warns of: that it leaves out the rest of a message."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Unexpected end-group tag", RuntimeWarning)
        yield


def _from_bytes(proto_class: Any, content: bytes, where: str) -> Any:
    try:
        return proto_class.FromString(content)
    except (message.DecodeError, RuntimeError, SystemError, UnicodeDecodeError) as error:
        raise GraphFileError(
            f"{where}: cannot be read: its bytes are damaged, or are not of a graph."
        ) from error


def serialized(proto: Any) -> bytes:
    """The bytes of a message, the same for equal ones."""
    return proto.SerializeToString(deterministic=True)


class NodeList:
    """NodeDefs, kept as bytes: ``nodes[i]`` is a copy, and ``nodes[i] = node`` puts one back."""

    def __init__(self, contents: Iterable[bytes], where: str):
        self.contents: List[bytes] = list(contents)
        self._where = where

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, position: int) -> Any:
        where = f"{self._where}: node number {position}"
        return _from_bytes(tf.NodeDef, self.contents[position], where)

    def __setitem__(self, position: int, node: Any) -> None:
        self.contents[position] = serialized(node)

    def __iter__(self) -> Iterator[Any]:
        with _strict():
            for position in range(len(self)):
                yield self[position]

    def append(self, node: Any) -> None:
        """Adds a node at the end."""
        self.contents.append(serialized(node))

    def mentioning(self, text: str) -> Iterator[int]:
        """The positions of the nodes that have a text anywhere in them."""
        encoded = text.encode()
        return (i for i, content in enumerate(self.contents) if encoded in content)


class Graph:
    """A GraphDef: its nodes, and the rest, a GraphDef without nodes."""

    def __init__(self, content: bytes, where: str):
        raw = parsed(RawGraphDef, content, where)
        self.nodes = NodeList(raw.node, where)
        del raw.node[:]
        self.rest = parsed(tf.GraphDef, serialized(raw), where)

    def take_content(self) -> bytes:
        """The bytes of the GraphDef, whose nodes are gone afterwards: large graphs are so once."""
        contents, content = self.nodes.contents, bytearray(serialized(self.rest))
        for start in range(0, len(contents), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            content += serialized(RawGraphDef(node=contents[some]))
            contents[some] = [b""] * len(contents[some])
        contents.clear()
        return bytes(content)


def check_is_readable(graph_def: Any, where: str) -> None:
    """Raises GraphFileError for a graph that only a newer TensorFlow can read."""
    least = graph_def.versions.min_consumer
    if least > _tf.NEWEST_GRAPH:
        raise GraphFileError(
            f"{where}: the graph is of a newer TensorFlow: it needs one that reads GraphDef "
            f"version {least}, and this one, {_tf.version()}, reads up to {_tf.NEWEST_GRAPH}."
        )


class MetaGraph:
    """A MetaGraphDef: the bytes of its graph, and the rest, a MetaGraphDef without a graph."""

    def __init__(self, content: bytes, where: str):
        raw = parsed(RawMetaGraphDef, content, where)
        self.graph_def = b"".join(raw.graph_def)
        del raw.graph_def[:]
        self.rest = parsed(tf.MetaGraphDef, serialized(raw), where)

    def content(self) -> bytes:
        """The bytes of the MetaGraphDef."""
        raw = RawMetaGraphDef()
        raw.ParseFromString(serialized(self.rest))
        raw.graph_def.append(self.graph_def)
        return serialized(raw)
