"""What one session.run moves between the tasks of a cluster: bytes, messages, and rounds.

Bytes are what TensorFlow records of each tensor that a task receives, in a run with FULL_TRACE.
Rounds are counted in the graphs of the same run, as TensorFlow split them by device: on any path
through them, at most so many tensors cross between tasks one after the other. A round costs the
network's latency once, however many tensors cross in it.
"""

import re
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from tasks import JOB

_RECEIVED = re.compile(r"(\S+) from (\S+) to (\S+)")
_TASK = re.compile(r"/job:[^/]+/replica:\d+/task:\d+")
_BACK_EDGES = ("NextIteration", "RefNextIteration")


class Edge(NamedTuple):
    """A tensor that goes from one task to another, by their names."""

    tensor: str
    source: str
    target: str


class Crossings(NamedTuple):
    """What crosses between tasks.

    Attributes:
      received: the bytes that each task receives, by its name; 0 for one that receives none.
      sent: the bytes that each task sends.
      messages: how many tensors cross; one that only says that something is done has 0 bytes.
      rounds: the most tensors that cross one after the other.
    """

    received: Dict[str, int]
    sent: Dict[str, int]
    messages: int
    rounds: int

    @property
    def total(self) -> int:
        """The bytes of all tensors that cross."""
        return sum(self.received.values())


def measure(sessions: Sequence[Any], fetches: Any, feed: Any = None) -> Crossings:
    """Runs `fetches` in each session, one on each task of a cluster, and returns what crosses.

    What a task receives is taken from the session on it: TensorFlow 1.x records no other's.
    """
    from tensorflow_sides import tf

    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True)
    tasks = [f"/job:{JOB}/replica:0/task:{index}" for index in range(len(sessions))]
    received, sent, messages = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0), 0
    for task, session in zip(tasks, sessions):
        metadata = tf.RunMetadata()
        session.run(fetches, feed, options=options, run_metadata=metadata)
        graphs = metadata.partition_graphs
        sizes = {edge: size for edge, size in _sizes(metadata).items() if edge.target == task}
        edges = {edge for edge in edges_of(graphs) if edge.target == task}
        if edges != set(sizes):
            unlike = edges ^ set(sizes)
            raise RuntimeError(f"the trace and the graphs differ in what crosses: {unlike}")
        for edge, size in sizes.items():
            received[task] += size
            sent[edge.source] += size
        messages += len(edges)
    return Crossings(received, sent, messages, count_rounds(graphs))


def _sizes(metadata: Any) -> Dict[Edge, int]:
    """The bytes of each tensor that was received."""
    found = {}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            if node.node_name == "RecvTensor":
                ((tensor, source, target),) = _RECEIVED.findall(node.timeline_label)
                size = node.output[0].tensor_description.allocation_description.requested_bytes
                found[Edge(tensor, _task_of(source), _task_of(target))] = size
    return found


def edges_of(graphs: Iterable[Any]) -> Iterable[Edge]:
    """What crosses between tasks, by the graphs."""
    nodes = (node for graph in graphs for node in graph.node if node.op == "_Recv")
    edges = (_edge(node) for node in nodes if _is_inside(node))
    return (edge for edge in edges if edge.source != edge.target)


def _edge(node: Any) -> Edge:
    """The edge that a _Send and its _Recv have in common."""
    source, target = (node.attr[name].s.decode() for name in ("send_device", "recv_device"))
    return Edge(node.attr["tensor_name"].s.decode(), _task_of(source), _task_of(target))


def _task_of(device: str) -> str:
    match = _TASK.match(device)
    if match is None:
        raise ValueError(f"the device {device!r} names no task")
    return match.group()


def _is_inside(node: Any) -> bool:
    """Whether a _Send or _Recv is between devices: the others feed and fetch."""
    return not node.attr["client_terminated"].b


def count_rounds(graphs: Iterable[Any]) -> int:
    """The most crossings on a path; a loop runs on one task, so its back edges are left out."""
    inputs: Dict[Any, List[Any]] = {}
    ends: Dict[Any, Dict[str, Any]] = {}
    for number, graph in enumerate(graphs):
        skipped = {node.name for node in graph.node if node.op in _BACK_EDGES}
        for node in graph.node:
            names = [re.sub(r"^\^|:\d+$", "", name) for name in node.input]
            here = number, node.name
            inputs[here] = [(number, name) for name in names if name not in skipped]
            if node.op in ("_Send", "_Recv") and _is_inside(node):
                ends.setdefault((_edge(node), _devices(node)), {})[node.op] = here
    weights = {}
    for (edge, _), pair in ends.items():
        inputs[pair["_Recv"]].append(pair["_Send"])
        weights[pair["_Send"], pair["_Recv"]] = int(edge.source != edge.target)
    return max(_longest(inputs, weights).values(), default=0)


def _devices(node: Any) -> Tuple[bytes, bytes]:
    """Those of a pair: a task may have several."""
    return node.attr["send_device"].s, node.attr["recv_device"].s


def _longest(inputs: Dict[Any, List[Any]], weights: Dict[Any, int]) -> Dict[Any, int]:
    """The heaviest path that ends at each node of a graph without cycles."""
    found: Dict[Any, int] = {}
    for start in inputs:
        stack = [start]
        while stack:
            node = stack[-1]
            waiting = [source for source in inputs[node] if source not in found]
            if waiting:
                stack.extend(waiting)
                continue
            found[node] = max(
                (found[source] + weights.get((source, node), 0) for source in inputs[node]),
                default=0,
            )
            stack.pop()
    return found
