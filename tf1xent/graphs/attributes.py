"""Attributes of NodeDefs, set by Python values."""

from typing import List, Union

from tf1xent._tf import tf
from tf1xent._typing import NodeDef, Proto


class DataType(int):
    """The number of a DataType, so that an attribute is not taken for an integer."""


# What an attribute of a node can be set to; a Proto is an AttrValue or a TensorProto.
Attribute = Union[DataType, List[DataType], bool, int, Proto]

_TENSOR = type(tf.AttrValue().tensor)


def set_attribute(node: NodeDef, key: str, value: Attribute) -> None:
    """Sets an attribute of a node, in the field for the value's Python type."""
    target = node.attr[key]
    if isinstance(value, list):
        target.list.SetInParent()
        target.list.type.extend(value)
    elif isinstance(value, DataType):
        target.type = value
    elif isinstance(value, bool):
        target.b = value
    elif isinstance(value, int):
        target.i = value
    elif isinstance(value, _TENSOR):
        target.tensor.CopyFrom(value)
    else:
        target.CopyFrom(value)
