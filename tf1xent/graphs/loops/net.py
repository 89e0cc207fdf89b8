"""Nodes by name, of a graph or of a part of one, that can be added, changed and taken out.

References to names that are not in it come from outside: from the rest of a graph, or they are a
function's arguments.
"""

from typing import Callable, Dict, Iterable, List, Sequence, Set, Tuple, Union

from tf1xent._tf import tf
from tf1xent._typing import NodeDef
from tf1xent.errors import RewriteError
from tf1xent.graphs.attributes import Attribute, DataType, set_attribute
from tf1xent.graphs.wiring import CONTROL, Names, join_reference, split_reference

BACK_EDGES = ("NextIteration", "RefNextIteration")
ENTERS, EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
SWITCHES, MERGES = ("Switch", "RefSwitch"), ("Merge", "RefMerge")
# What is left of no loop and no branch once it is functional.
V1_OPS = frozenset((*ENTERS, *EXITS, *SWITCHES, *MERGES, *BACK_EDGES, "LoopCond"))
# By these a gradient that is recorded in the graph keeps the values of a loop's turns.
STACKS = frozenset(("StackV2", "StackPushV2", "StackPopV2", "Stack", "StackPush", "StackPop"))
INT32, INT64, BOOL, VARIANT, RESOURCE = (
    dtype.as_datatype_enum for dtype in (tf.int32, tf.int64, tf.bool, tf.variant, tf.resource)
)


class NotUnderstoodError(RewriteError):
    """A loop or branch has a shape that is not understood."""


class Net:
    """Some nodes by name; `names` makes names that no node of the whole graph has."""

    def __init__(self, nodes: Iterable[NodeDef], names: Names) -> None:
        self.nodes: Dict[str, NodeDef] = {node.name: node for node in nodes}
        self.names = names

    def op(self, name: str) -> str:
        """Returns the op type of a node; "" for one from outside."""
        return self.nodes[name].op if name in self.nodes else ""

    def inputs(self, name: str) -> List[Tuple[str, int]]:
        """Returns (node, output index or CONTROL) of each input of a node."""
        return [split_reference(reference) for reference in self.nodes[name].input]

    def data(self, name: str) -> List[str]:
        """Returns the references of a node's data inputs."""
        return [join_reference(*source) for source in self.inputs(name) if source[1] != CONTROL]

    def controls(self, name: str) -> List[str]:
        """Returns the names of the nodes that a node waits for."""
        return [source for source, index in self.inputs(name) if index == CONTROL]

    def of_types(self, op_types: Iterable[str]) -> List[str]:
        """Returns the names of the nodes of some op types."""
        wanted = frozenset(op_types)
        return [name for name, node in self.nodes.items() if node.op in wanted]

    def add(self, hint: str, op: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Adds a node; returns its name."""
        node = tf.NodeDef(name=self.names.unique(hint), op=op, input=inputs)
        for key, value in attributes.items():
            set_attribute(node, key, value)
        self.nodes[node.name] = node
        return str(node.name)

    def constant(
        self, hint: str, value: Union[int, List[int]], dtype: int, controls: Iterable[str] = ()
    ) -> str:
        """Adds a constant that waits for some nodes; returns its name."""
        tensor = tf.make_tensor_proto(value, tf.as_dtype(dtype))
        inputs = [f"^{name}" for name in dict.fromkeys(controls)]
        return self.add(hint, "Const", inputs, dtype=DataType(dtype), value=tensor)

    def readers(self) -> Dict[str, List[Tuple[str, int, int]]]:
        """Returns the readers of each node: (reader, place among its inputs, output index)."""
        found: Dict[str, List[Tuple[str, int, int]]] = {name: [] for name in self.nodes}
        for name in self.nodes:
            for place, (source, index) in enumerate(self.inputs(name)):
                if source in found:
                    found[source].append((name, place, index))
        return found

    def order(self) -> List[str]:
        """Returns the names in topological order; the back edges of loops do not count."""
        before = {name: self._before(name) for name in self.nodes}
        order: List[str] = []
        finished: Set[str] = set()
        opened: Set[str] = set()
        for start in before:
            stack = [(start, iter(before[start]))] if start not in finished else []
            opened.add(start)
            while stack:
                name, sources = stack[-1]
                following = next((s for s in sources if s not in finished), None)
                if following is None:
                    stack.pop()
                    if name not in finished:
                        finished.add(name)
                        order.append(name)
                elif following in opened:
                    raise NotUnderstoodError(f"node `{following}` would depend on itself")
                else:
                    opened.add(following)
                    stack.append((following, iter(before[following])))
        return order

    def _before(self, name: str) -> List[str]:
        sources = [source for source, _ in self.inputs(name) if source in self.nodes]
        if self.op(name) in MERGES:
            return [source for source in sources if self.op(source) not in BACK_EDGES]
        return sources

    def upstream(self, starts: Iterable[str], passes: Callable[[str], bool]) -> Set[str]:
        """Returns `starts` and all nodes before them for which `passes` holds, on every way."""
        found = set(starts)
        pending = list(found)
        while pending:
            for source, _ in self.inputs(pending.pop()):
                if source in self.nodes and source not in found and passes(source):
                    found.add(source)
                    pending.append(source)
        return found

    def downstream(self, starts: Iterable[str]) -> Set[str]:
        """Returns `starts` and all nodes that depend on them, through back edges too."""
        found = set(starts)
        if found:
            readers = self.readers()
            pending = list(found)
            while pending:
                for reader, _, _ in readers[pending.pop()]:
                    if reader not in found:
                        found.add(reader)
                        pending.append(reader)
        return found


def canonical(reference: str) -> str:
    """Returns a reference without ``:0``."""
    return join_reference(*split_reference(reference))


def copied(node: NodeDef) -> NodeDef:
    """Returns a copy of a node."""
    copy = tf.NodeDef()
    copy.CopyFrom(node)
    return copy


def become(node: NodeDef, op: str, inputs: Sequence[str], **attributes: Attribute) -> None:
    """Turns a node into one of another op; name, device and attributes of its place stay."""
    for key in list(node.attr):
        if not key.startswith("_"):
            del node.attr[key]
    node.op = op
    node.input[:] = inputs
    for key, value in attributes.items():
        set_attribute(node, key, value)


def frame_paths(net: Net) -> Dict[str, Tuple[str, ...]]:
    """Returns, by node, the names of the v1 loops that it runs in, the outermost first."""
    paths: Dict[str, Tuple[str, ...]] = {}
    for name in net.order():
        sources = [paths[source] for source, _ in net.inputs(name) if source in paths]
        around = max(sources, key=len, default=())
        op = net.op(name)
        if op in ENTERS:
            frame = net.nodes[name].attr["frame_name"].s.decode("utf-8", "replace")
            around = (*around, frame)
        elif op in EXITS:
            around = around[:-1]
        paths[name] = around
    return paths
