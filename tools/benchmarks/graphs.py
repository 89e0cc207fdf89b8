"""Measures how long a large GraphDef takes to be inspected and rewritten, and in how much memory.

    python tools/benchmarks graphs                  # 200,000 nodes
    python tools/benchmarks graphs --nodes 50000 --json result.json

The graph is a classifier's training graph, with its gradients and its cross-entropy op, as this
TensorFlow builds it, over and over under names of its own. Every measurement has a process of its
own. Time is from path to result, for rewriting with the new file written; memory is what the peak
of the process is above what it held when tf1xent and TensorFlow were loaded.
"""

import argparse
import os
import sys
import tempfile
import time
from typing import Any, List, Tuple

import measuring
import pyperf
import report

WHAT = ("inspect", "tag", "logsumexp", "untag")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=200000, help="default %(default)s")


def training_graph() -> Any:
    """Returns the GraphDef of a classifier with the gradients of its loss."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph:
        hidden = tf.placeholder(tf.float32, [None, 64], name="inputs")
        for layer in range(4):
            weights = tf.get_variable(f"weights_{layer}", [64, 64], use_resource=False)
            hidden = tf.nn.relu(tf.matmul(hidden, weights), name=f"hidden_{layer}")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(losses))
        return graph.as_graph_def()


def write_large_graph(path: str, num_nodes: int) -> str:
    """Writes copies of a training graph, `num_nodes` nodes or a few less; returns what it is."""
    import tensorflow.compat.v1 as tf

    part = training_graph()
    graph_def = tf.GraphDef(versions=part.versions)
    for number in range(max(1, num_nodes // len(part.node))):
        prefix = f"copy_{number}/"
        for node in part.node:
            copy = graph_def.node.add()
            copy.CopyFrom(node)
            copy.name = prefix + node.name
            copy.input[:] = [
                "^" + prefix + name[1:] if name[0] == "^" else prefix + name for name in node.input
            ]
            if "_class" in copy.attr:
                classes = copy.attr["_class"].list.s
                classes[:] = [c.replace(b"loc:@", b"loc:@" + prefix.encode()) for c in classes]
    with open(path, "wb") as file:
        file.write(graph_def.SerializeToString())
    losses = sum("Sparse" in node.op for node in graph_def.node)
    nodes = len(graph_def.node)
    return f"TensorFlow {tf.__version__}, a GraphDef of {nodes} nodes, {losses} cross-entropy ops"


def measure(what: str, path: str) -> Tuple[float, int]:
    """Returns the seconds and the bytes that one thing done to a file takes in this process."""
    from tf1xent.graphs import inspect_graph
    from tf1xent.graphs.rewriting import rewrite

    memory = measuring.Memory()
    started = time.perf_counter()
    if what == "inspect":
        inspect_graph(path)
    else:
        target = path + ".rewritten.pb"
        rewrite.rewrite_path(path, target, what, overwrite=True, caller="benchmark")
    return time.perf_counter() - started, memory.above_held()


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, of one run each, and the exit code."""
    if options.nodes < 1:
        sys.exit(f"benchmarks: --nodes must be at least 1, got {options.nodes}")
    rows, figures = [["", "seconds", "memory, MiB", "times the file"]], []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "graph.pb")
        with measuring.new_process() as process:
            title = process.submit(write_large_graph, path, options.nodes).result()
        size = os.path.getsize(path)
        for what in WHAT:
            with measuring.new_process() as process:
                seconds, taken = process.submit(measure, what, path).result()
            times = f"{taken / size:.1f}"
            rows.append([what, f"{seconds:.1f}", f"{taken / report.MEBIBYTE:.0f}", times])
            metadata = {"name": f"graphs, {what}", "bytes": taken}
            run = pyperf.Run([seconds], metadata=metadata, collect_metadata=False)
            figures.append(pyperf.Benchmark([run]))
    title += f", {size / report.MEBIBYTE:.0f} MiB"
    return f"{title}\n\n{report.markdown(rows)}", figures, 0
