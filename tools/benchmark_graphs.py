"""Measures how long a large GraphDef takes to be inspected and rewritten, and in how much memory.

    python tools/benchmark_graphs.py                  # 200,000 nodes
    python tools/benchmark_graphs.py --nodes 50000 --json result.json

The graph is a classifier's training graph, with its gradients and its cross-entropy op, as this
TensorFlow builds it, over and over under names of its own. Every measurement has a process of its
own. Time is from path to result, for rewriting with the new file written; memory is what the peak
of the process is above what it held when tf1xent and TensorFlow were loaded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, CHECKOUT)

import tensorflow.compat.v1 as tf  # noqa: E402
from measuring import MEBIBYTE, forget_peak, peak_bytes  # noqa: E402

import tf1xent  # noqa: E402
from tf1xent.graphs import rewriting  # noqa: E402

WHAT = ("inspect", "tag", "logsumexp", "fused")


def parse_arguments(arguments=None):
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=200000, help="default %(default)s")
    parser.add_argument("--chain", action="store_true", help="each copy reads the one before")
    parser.add_argument("--json", metavar="FILE", help="also write every figure to this file")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.nodes < 1:
        parser.error(f"--nodes must be at least 1, got {options.nodes}")
    return options


def training_graph():
    """Returns the GraphDef of a classifier with the gradients of its loss."""
    with tf.Graph().as_default() as graph:
        hidden = tf.placeholder(tf.float32, [None, 64], name="inputs")
        for layer in range(4):
            weights = tf.get_variable(f"weights_{layer}", [64, 64], use_resource=False)
            hidden = tf.nn.relu(tf.matmul(hidden, weights), name=f"hidden_{layer}")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
        )
        tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        return graph.as_graph_def()


def large_graph(num_nodes, chain):
    """Returns copies of a training graph, `num_nodes` nodes or a few less."""
    part = training_graph()
    graph_def = tf.GraphDef()
    graph_def.versions.CopyFrom(part.versions)
    for number in range(max(1, num_nodes // len(part.node))):
        for node in part.node:
            copy = graph_def.node.add()
            copy.CopyFrom(node)
            copy.name = f"copy_{number}/{node.name}"
            for position, reference in enumerate(node.input):
                control, name = ("^", reference[1:]) if reference[0] == "^" else ("", reference)
                copy.input[position] = f"{control}copy_{number}/{name}"
            if "_class" in copy.attr:
                classes = copy.attr["_class"].list.s
                classes[:] = [c.replace(b"loc:@", f"loc:@copy_{number}/".encode()) for c in classes]
            if chain and number and node.name == "inputs":
                copy.op = "Identity"
                copy.input[:] = [f"copy_{number - 1}/hidden_3"]
                del copy.attr["shape"], copy.attr["dtype"]
                copy.attr["T"].type = tf.float32.as_datatype_enum
    return graph_def


def measure(what, path):
    """Returns what one thing done to a file takes in this process."""
    forget_peak()
    held = peak_bytes()
    started = time.perf_counter()
    if what == "inspect":
        found = len(tf1xent.graphs.inspect_graph(path).ops)
    else:
        target = path + ".rewritten.pb"
        rewriting.rewrite_path(path, target, what, overwrite=True, caller="benchmark")
        found = os.path.getsize(target)
    seconds = time.perf_counter() - started
    return {"what": what, "found": found, "seconds": seconds, "bytes": peak_bytes() - held}


def main(arguments=None):
    """Prints a Markdown table, of one run each."""
    options = parse_arguments(arguments)
    if options.child:
        print(json.dumps(measure(*options.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "graph.pb")
        graph_def = large_graph(options.nodes, options.chain)
        num_nodes, num_ops = len(graph_def.node), sum("Sparse" in n.op for n in graph_def.node)
        with open(path, "wb") as file:
            file.write(graph_def.SerializeToString())
        size = os.path.getsize(path)
        command = [sys.executable, os.path.abspath(__file__), "--child"]
        figures = []
        for what in WHAT:
            output = subprocess.run(command + [what, path], stdout=subprocess.PIPE, check=True)
            figures.append(json.loads(output.stdout.decode().splitlines()[-1]))
    print(
        f"TensorFlow {tf.__version__}, a GraphDef of {num_nodes} nodes, {num_ops} cross-entropy "
        f"ops, {size / MEBIBYTE:.0f} MiB\n\n"
        "|  | seconds | memory, MiB | times the file |\n| --- | --- | --- | --- |"
    )
    for figure in figures:
        print(
            "| {} | {:.1f} | {:.0f} | {:.1f} |".format(
                figure["what"],
                figure["seconds"],
                figure["bytes"] / MEBIBYTE,
                figure["bytes"] / size,
            )
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"tensorflow": tf.__version__, "file": size, "figures": figures}, file)


if __name__ == "__main__":
    main()
