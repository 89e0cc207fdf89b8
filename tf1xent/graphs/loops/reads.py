"""Reads of resource variables inside loops that do not write them move in front of the loops.

The gradient of a While op by a resource is not right in every version of TensorFlow, and takes
more: each turn reads the variable again.
"""

from typing import Dict, List, Tuple

from tf1xent.graphs.attributes import DataType, set_attribute
from tf1xent.graphs.loops.net import (
    ENTERS,
    RESOURCE,
    Net,
    become,
    copied,
)
from tf1xent.graphs.wiring import split_reference

_READ, _GATHER = "ReadVariableOp", "ResourceGather"


def hoist_reads(net: Net) -> None:
    """Reads every resource variable outside the loops that only read it."""
    readers = net.readers()
    found: List[Tuple[str, List[str]]] = []
    for name in net.of_types([_READ, _GATHER]):
        enters = _enters_before(net, name)
        if enters and _is_only_read(net, readers, enters[0]):
            found.append((name, enters))
    values: Dict[Tuple[str, ...], str] = {}
    for name, enters in found:
        read = net.nodes[name]
        dtype = DataType(read.attr["dtype"].type)
        if tuple(enters) not in values:
            values[tuple(enters)] = _read_before(net, name, enters, dtype)
        value = values[tuple(enters)]
        if read.op == _READ:
            become(read, "Identity", [value], T=dtype)
        else:
            indices = DataType(read.attr["Tindices"].type)
            become(read, "Gather", [value, net.data(name)[1]], Tparams=dtype, Tindices=indices)


def _enters_before(net: Net, read: str) -> List[str]:
    """Returns the constant Enters through which alone a node reads, the outermost first."""
    node = net.nodes[read]
    if "batch_dims" in node.attr and node.attr["batch_dims"].i:
        return []
    found: List[str] = []
    name = split_reference(net.data(read)[0])[0]
    while net.op(name) in (*ENTERS, "Identity"):
        node = net.nodes[name]
        if node.op in ENTERS:
            if not node.attr["is_constant"].b or node.attr["T"].type != RESOURCE:
                return []
            found.insert(0, name)
        name = split_reference(net.data(name)[0])[0]
    return found if name not in net.nodes else []


def _is_only_read(net: Net, readers: Dict[str, List[Tuple[str, int, int]]], enter: str) -> bool:
    """Whether everything that gets the resource from an Enter reads it."""
    pending, found = [enter], {enter}
    while pending:
        for reader, place, _ in readers[pending.pop()]:
            if place or net.op(reader) not in (_READ, _GATHER, "Identity", *ENTERS):
                return False
            if net.op(reader) not in (_READ, _GATHER) and reader not in found:
                found.add(reader)
                pending.append(reader)
    return True


def _read_before(net: Net, name: str, enters: List[str], dtype: DataType) -> str:
    """Reads the variable outside and hands its value in; returns the innermost Enter's name."""
    value = net.add(f"{name}/functional", _READ, list(net.nodes[enters[0]].input), dtype=dtype)
    net.nodes[value].device = net.nodes[name].device
    for enter in enters:
        node = copied(net.nodes[enter])
        node.name = net.names.unique(f"{enter}/value")
        node.input[0] = value
        node.attr.pop("_output_shapes", None)
        set_attribute(node, "T", dtype)
        net.nodes[node.name] = node
        value = node.name
    return value
