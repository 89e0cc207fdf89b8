"""Graph protos parsed one level deep: nodes and graphs stay serialized until they are read.

A parsed NodeDef takes ten times its serialized size, and most nodes are read only once. On the wire
bytes and submessages look alike, so the message classes here declare submessages as bytes. Fields
that they do not declare are preserved.
"""

import contextlib
import warnings
from typing import Iterable, Iterator, List

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import GraphDef, NodeDef, Proto, ProtoClass
from tf1xent.errors import GraphFileError


def _raw_class(class_name: str, **fields: int) -> ProtoClass:
    """Makes a message class whose fields, given by number, are repeated bytes."""
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


# The field numbers are those of TensorFlow's classes. Repeated, because protobuf merges duplicates
# of a singular message.
RawGraphDef = _raw_class("RawGraphDef", node=1)
RawMetaGraphDef = _raw_class("RawMetaGraphDef", graph_def=2)
RawSavedModel = _raw_class("RawSavedModel", meta_graphs=2)
RawNodeDef = _raw_class("RawNodeDef", name=1, op=2)

# Nodes serialized into a GraphDef at a time, which bounds the memory for copies.
_AT_ONCE = 1000


def parsed(proto_class: ProtoClass, content: bytes, where: str) -> Proto:
    """Parses a message; GraphFileError for damaged bytes. `where` names the graph in errors."""
    with _strict():
        return _from_bytes(proto_class, content, where)


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Raises where protobuf 3 only warns that it stops parsing in the middle of a message."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Unexpected end-group tag", RuntimeWarning)
        yield


def _from_bytes(proto_class: ProtoClass, content: bytes, where: str) -> Proto:
    try:
        return proto_class.FromString(content)
    except (message.DecodeError, RuntimeError, SystemError, UnicodeDecodeError) as error:
        raise GraphFileError(
            f"{where}: cannot be read: its bytes are damaged, or are not a graph."
        ) from error


def serialized(proto: Proto) -> bytes:
    """Serializes a message; equal messages give equal bytes."""
    return proto.SerializeToString(deterministic=True)


class NodeList:
    """A list of serialized NodeDefs: ``nodes[i]`` parses one, ``nodes[i] = node`` stores it."""

    def __init__(self, contents: Iterable[bytes], where: str) -> None:
        self.contents: List[bytes] = list(contents)
        self._where = where

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, position: int) -> NodeDef:
        where = f"{self._where}: node number {position}"
        return _from_bytes(tf.NodeDef, self.contents[position], where)

    def __setitem__(self, position: int, node: NodeDef) -> None:
        self.contents[position] = serialized(node)

    def __iter__(self) -> Iterator[NodeDef]:
        with _strict():
            for position in range(len(self)):
                yield self[position]

    def append(self, node: NodeDef) -> None:
        """Adds a node at the end."""
        self.contents.append(serialized(node))

    def mentioning(self, text: str) -> Iterator[int]:
        """Returns the positions of the nodes whose bytes contain a text."""
        encoded = text.encode()
        return (i for i, content in enumerate(self.contents) if encoded in content)


class Graph:
    """A GraphDef: `nodes`, and `rest`, a GraphDef without nodes."""

    def __init__(self, content: bytes, where: str) -> None:
        raw = parsed(RawGraphDef, content, where)
        self.nodes = NodeList(raw.node, where)
        del raw.node[:]
        self.rest = parsed(tf.GraphDef, serialized(raw), where)

    def take_content(self) -> bytes:
        """Serializes the GraphDef and frees the nodes, so that memory holds a large graph once."""
        contents, content = self.nodes.contents, bytearray(serialized(self.rest))
        for start in range(0, len(contents), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            content += serialized(RawGraphDef(node=contents[some]))
            contents[some] = [b""] * len(contents[some])
        contents.clear()
        return bytes(content)


def check_is_readable(graph_def: GraphDef, where: str) -> None:
    """Raises GraphFileError for a graph that needs a newer TensorFlow."""
    least = graph_def.versions.min_consumer
    if least > _tf.NEWEST_GRAPH:
        raise GraphFileError(
            f"{where}: the graph needs a newer TensorFlow, which reads GraphDef version {least}; "
            f"this one, {_tf.version()}, reads versions up to {_tf.NEWEST_GRAPH}."
        )


class MetaGraph:
    """A MetaGraphDef: `graph_def`, serialized, and `rest`, a MetaGraphDef without a graph."""

    def __init__(self, content: bytes, where: str) -> None:
        raw = parsed(RawMetaGraphDef, content, where)
        self.graph_def = b"".join(raw.graph_def)
        del raw.graph_def[:]
        self.rest = parsed(tf.MetaGraphDef, serialized(raw), where)

    def content(self) -> bytes:
        """Serializes the MetaGraphDef."""
        raw = RawMetaGraphDef()
        raw.ParseFromString(serialized(self.rest))
        raw.graph_def.append(self.graph_def)
        return serialized(raw)
