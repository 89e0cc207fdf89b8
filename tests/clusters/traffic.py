"""What crosses from task to task in a run, tensor by tensor.

Which tensors cross is in the partition graphs that RunMetadata returns, one graph a task, as pairs
of _Send and _Recv; how large they are, in the step stats of the nodes that are sent. The RecvTensor
entries of the step stats say both, but some are missing now and then.
"""

import collections
import re

import numpy as np
import tensorflow.compat.v1 as tf

Edge = collections.namedtuple("Edge", ["tensor", "source", "destination", "shape", "num_bytes"])


class Traffic(collections.namedtuple("Traffic", ["edges", "step_stats"])):
    """What crossed in a run.

    Attributes:
      edges: an Edge for each tensor that went from one task to another, each time that it did.
      step_stats: of the run.
    """

    @property
    def num_bytes(self):
        """Of all that crossed."""
        return sum(edge.num_bytes for edge in self.edges)

    def largest(self, number=5):
        """The largest tensors that crossed, as text."""
        ordered = sorted(self.edges, key=lambda edge: -edge.num_bytes)
        return "\n".join(map(str, ordered[:number]))

    def reported(self):
        """What TensorFlow says that tasks received: {(tensor, source, destination): bytes}."""
        found = collections.Counter()
        for device in self.step_stats.dev_stats:
            for node in device.node_stats:
                label = re.search(r"edge_\d+_(\S+) from (\S+) to (\S+)", node.timeline_label)
                if node.node_name == "RecvTensor" and label:
                    key = (label.group(1), _task(label.group(2)), _task(label.group(3)))
                    for output in node.output:
                        description = output.tensor_description.allocation_description
                        found[key] += description.requested_bytes
        return found


def measured(session, operations, feed_dict=None):
    """Runs operations on a cluster and returns the Traffic.

    Operations, not tensors: what is fetched crosses to the client.
    """
    metadata = tf.RunMetadata()
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True)
    session.run(operations, feed_dict, options=options, run_metadata=metadata)
    shapes = _shapes(metadata.step_stats)
    edges = []
    for graph in metadata.partition_graphs:
        for node in graph.node:
            if node.op not in ("_Send", "_HostSend") or node.attr["client_terminated"].b:
                continue
            ends = [_task(node.attr[name].s.decode()) for name in ("send_device", "recv_device")]
            if ends[0] == ends[1]:
                continue
            (tensor,) = [name for name in node.input if not name.startswith("^")]
            size = tf.as_dtype(node.attr["T"].type).size
            for shape in shapes[_output(tensor)]:
                edges.append(Edge(tensor, *ends, shape, int(np.prod(shape)) * size))
    return Traffic(edges, metadata.step_stats)


def _task(device):
    """Returns "/job:.../task:..." of a device's name."""
    return device.rsplit("/device:", 1)[0]


def _output(tensor):
    name, _, number = tensor.partition(":")
    return name, int(number or 0)


def _shapes(step_stats):
    """Returns the shapes of all that ran, one each time: {(node, output): [shape]}."""
    found = collections.defaultdict(list)
    for device in step_stats.dev_stats:
        if not device.device.startswith("/job:"):
            continue  # 1.15 also lists the same nodes by thread
        for node in device.node_stats:
            for output in node.output:
                dimensions = output.tensor_description.shape.dim
                found[node.node_name, output.slot].append(tuple(d.size for d in dimensions))
    return found
