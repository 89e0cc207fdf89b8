"""Reads of resource variables inside loops that do not write them move in front of the loops.

The gradient of a While op by a resource has been wrong in some versions of TensorFlow, and takes
more: each turn reads the variable again.
"""

from typing import List, Optional

from tf1xent.graphs.loops.net import ENTERS, RESOURCE, Net, Type, become, copied, set_attribute
from tf1xent.graphs.wiring import split_reference

READ = "ReadVariableOp"


def hoist_reads(net: Net) -> None:
    """Reads every resource variable outside the loops that only read it."""
    readers = net.readers()
    for name in net.of_types([READ]):
        enters = _enters_before(net, name)
        if not enters or not all(_is_only_read(net, readers, enter) for enter in enters):
            continue
        read = net.nodes[name]
        outermost = net.nodes[enters[0]]
        dtype = Type(read.attr["dtype"].type)
        value = net.add(f"{name}/functional", READ, list(outermost.input), dtype=dtype)
        net.nodes[value].device = read.device
        if "_output_shapes" in read.attr:
            net.nodes[value].attr["_output_shapes"].CopyFrom(read.attr["_output_shapes"])
        for enter in enters:
            node = copied(net.nodes[enter])
            node.name = net.names.unique(f"{enter}/value")
            node.input[0] = value
            node.attr.pop("_output_shapes", None)
            set_attribute(node, "T", dtype)
            net.nodes[node.name] = node
            value = node.name
        become(read, "Identity", [value], T=dtype)


def _enters_before(net: Net, read: str) -> List[str]:
    """Returns the constant Enters through which alone a node reads, the outermost first."""
    found: List[str] = []
    name: Optional[str] = split_reference(net.data(read)[0])[0]
    while name is not None and net.op(name) in (*ENTERS, "Identity"):
        node = net.nodes[name]
        if node.op in ENTERS:
            if not node.attr["is_constant"].b or node.attr["T"].type != RESOURCE:
                return []
            found.insert(0, name)
        name = split_reference(net.data(name)[0])[0]
    return found if name not in net.nodes else []


def _is_only_read(net: Net, readers: object, enter: str) -> bool:
    """Whether everything that gets the resource from an Enter reads it."""
    pending, found = [enter], {enter}
    while pending:
        for reader, place, _ in readers[pending.pop()]:  # type: ignore[index]
            if place or net.op(reader) not in (READ, "Identity", *ENTERS):
                return False
            if net.op(reader) != READ and reader not in found:
                found.add(reader)
                pending.append(reader)
    return True
