"""Compares the speed of tf1xent's cross-entropy with TensorFlow's own fused op.

    python tools/benchmark.py                       # sparse labels, the four standard shapes
    python tools/benchmark.py --dense --threads 1
    python tools/benchmark.py --shapes 128x1000 --orders gradient --json result.json

Both sides are timed in one process, on one machine, in turns (A B, B A, A B, ...), so that
whatever else the machine does meets both of them. The table is Markdown: the median of the
milliseconds of one call, with the quartiles in brackets, for

    loss       the loss of every example
    gradient   the loss and its gradient with respect to the logits
    hvp        the Hessian-vector product, tf.gradients(tf.reduce_sum(gradient * v), logits)

The ratio is tf1xent's median over TensorFlow's: below 1, tf1xent is faster. Where TensorFlow
has no second derivative (before 2.4), the cell says what it raises.
"""

import argparse
import importlib
import itertools
import json
import math
import os
import sys
import time
from typing import Dict, List

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the checkout

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

# Bound before any other import, so that nothing can have replaced them.
STOCK = {
    "sparse": tf.nn.sparse_softmax_cross_entropy_with_logits,
    "dense": tf.nn.softmax_cross_entropy_with_logits_v2,
}
FUNCTION_NAMES = {
    "sparse": "sparse_softmax_cross_entropy_with_logits",
    "dense": "softmax_cross_entropy_with_logits_v2",
}
SHAPES = "128x1000,8192x32,65536x10,512x50257"
ORDERS = ("loss", "gradient", "hvp")
TITLES = {"loss": "loss", "gradient": "loss + gradient", "hvp": "Hessian-vector product"}
SAMPLE_SECONDS = 0.005  # one sample is as many calls as fill this: a timer tick must not count
WARM_UP_CALLS = 3  # the first call optimises the graph, the next ones fill the allocator


def parse_arguments(arguments=None):
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default=SHAPES, help="batch x classes, default %(default)s")
    parser.add_argument("--orders", default=",".join(ORDERS), help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=31, help="at least, default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=2, help="a cell takes at least, default %(default)s"
    )
    parser.add_argument("--threads", type=int, default=2, help="intra and inter op, default 2")
    parser.add_argument("--dense", action="store_true", help="soft labels, [batch, classes]")
    parser.add_argument("--dtype", default="float32", help="of the logits, default %(default)s")
    parser.add_argument("--label-dtype", default="int32", choices=("int32", "int64"))
    parser.add_argument(
        "--weighted",
        action="store_true",
        help="weight the examples, so that the cotangent of the loss is not the constant 1",
    )
    parser.add_argument("--only", choices=("ours", "stock"), help="time one side alone")
    parser.add_argument(
        "--module", default="tf1xent.nn", help="module with our functions, default %(default)s"
    )
    parser.add_argument(
        "--rewritten",
        action="store_true",
        help="ours is TensorFlow's op after tf1xent.graphs.rewrite_graph_def",
    )
    parser.add_argument("--json", metavar="FILE", help="also write every figure to this file")
    options = parser.parse_args(arguments)
    shapes = options.shapes.split(",")
    options.shapes = [tuple(int(size) for size in shape.split("x")) for shape in shapes]
    options.orders = options.orders.split(",")
    unknown = sorted(set(options.orders) - set(ORDERS))
    if unknown:
        parser.error("--orders must be among {}, got {}".format(",".join(ORDERS), unknown))
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    return options


def variable(initial_value):
    # Inputs are variables: constants would be folded, and feeds copied at every call.
    return tf.Variable(initial_value, trainable=False, use_resource=False)


def make_inputs(batch_size, num_classes, options):
    """Returns logits, labels, example weights and the vector of the Hessian-vector product."""
    shape = [batch_size, num_classes]
    dtype = tf.as_dtype(options.dtype)

    def normal(size, seed):
        # Drawn in float32: not every TensorFlow draws every dtype.
        return tf.cast(tf.random_normal(size, seed=seed), dtype)

    logits = variable(3 * normal(shape, 1))
    if options.dense:
        labels = variable(tf.nn.softmax(normal(shape, 2)))
    else:
        label_dtype = tf.as_dtype(options.label_dtype)
        labels = variable(tf.random_uniform([batch_size], 0, num_classes, label_dtype, seed=2))
    weights = variable(tf.abs(normal([batch_size], 3)))
    vector = variable(normal(shape, 4))
    return [tf.identity(value) for value in (logits, labels, weights, vector)]


def make_target(function, order, inputs, weighted):
    """Returns the operation that computes `order` and hands nothing to Python."""
    logits, labels, weights, vector = inputs
    loss = function(labels=labels, logits=logits)
    if weighted:
        loss = loss * weights
    if order == "loss":
        results = [loss]
    else:
        (gradient,) = tf.gradients(loss, logits)
        if order == "gradient":
            results = [loss, gradient]
        else:
            results = tf.gradients(tf.reduce_sum(gradient * vector), logits)
    # IdentityN copies nothing. A tf.group would not do: Grappler turns operations that only a
    # control edge needs into NoOps, and the benchmark would time nothing.
    return tf.identity_n(results)[0].op


def rewritten(stock):
    """Returns a function that builds what a rewrite puts in the place of TensorFlow's op."""

    def build(labels, logits):
        from tf1xent import graphs

        with tf.Graph().as_default() as graph:
            fed = [tf.placeholder(tensor.dtype, tensor.shape) for tensor in (labels, logits)]
            loss = stock(labels=fed[0], logits=fed[1]).name
        stock_ops = graphs.rewrite_graph_def(graph.as_graph_def())
        inputs = {fed[0].name: labels, fed[1].name: logits}
        return tf.import_graph_def(stock_ops, input_map=inputs, return_elements=[loss])[0]

    return build


def time_sample(call, number):
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number * 1e3


def time_in_turns(calls, rounds, seconds):
    """Returns {side: milliseconds a call, one figure a round}, sides taken in turns.

    There are at least `rounds` rounds, and more until `seconds` have passed: cheap calls, which a
    busy machine disturbs most, get the most rounds.
    """
    numbers = {}
    for side, call in calls.items():
        for _ in range(WARM_UP_CALLS):
            call()
        numbers[side] = max(1, int(SAMPLE_SECONDS * 1e3 / time_sample(call, 2)))
    samples: Dict[str, List[float]] = {side: [] for side in calls}
    end = time.perf_counter() + seconds
    for round_number in itertools.count():
        if round_number >= rounds and time.perf_counter() >= end:
            break
        for side in sorted(calls, reverse=bool(round_number % 2)):
            samples[side].append(time_sample(calls[side], numbers[side]))
    return samples


def summarize(samples):
    """Returns {side: {median, lower, upper}} of samples in milliseconds, and the ratio."""
    cell = {}
    for side, times in samples.items():
        lower, median, upper = np.percentile(times, [25, 50, 75])
        cell[side] = {"median": median, "lower": lower, "upper": upper, "samples": times}
    if "ours" in cell and "stock" in cell:
        cell["ratio"] = cell["ours"]["median"] / cell["stock"]["median"]
    return cell


def measure(functions, shape, order, options):
    """Returns one cell: both sides' times for one shape and order, or what TensorFlow raised."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        inputs = make_inputs(shape[0], shape[1], options)
        targets, errors = {}, {}
        for side, function in functions.items():
            try:
                targets[side] = make_target(function, order, inputs, options.weighted)
            except LookupError as error:
                if side != "stock":
                    raise
                errors[side] = f"{type(error).__name__}: {error}"
        initializer = tf.global_variables_initializer()
        config = tf.ConfigProto(
            intra_op_parallelism_threads=options.threads,
            inter_op_parallelism_threads=options.threads,
        )
        with tf.Session(graph=graph, config=config) as session:
            session.run(initializer)
            calls = {side: session.make_callable(target) for side, target in targets.items()}
            cell = summarize(time_in_turns(calls, options.rounds, options.seconds))
    cell.update({side: {"error": error} for side, error in errors.items()})
    return cell


def format_times(times):
    if "error" in times:
        return times["error"].split(":")[0]
    return "{median:.3g} ({lower:.3g} to {upper:.3g})".format(**times)


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def format_table(cells, options, sides):
    """Returns the Markdown table of {(order, shape): cell}."""
    columns = ["{}x{}".format(*shape) for shape in options.shapes]
    lines = [["batch x classes"] + columns + ["geometric mean"], ["---"] * (len(columns) + 2)]
    names = {"ours": "tf1xent", "stock": "TF"}
    for order in options.orders:
        row = [cells[order, shape] for shape in options.shapes]
        for side in sides:
            title = f"{TITLES[order]}, {names[side]}, ms"
            lines.append([title] + [format_times(cell[side]) for cell in row] + [""])
        ratios = [cell["ratio"] for cell in row if "ratio" in cell]
        if ratios:
            mean = f"**{geometric_mean(ratios):.2f}**"
            texts = [f"**{ratio:.2f}**" for ratio in ratios]
            lines.append([f"{TITLES[order]}, **ratio**"] + texts + [mean])
    return "\n".join("| {} |".format(" | ".join(line)) for line in lines)


def main(arguments=None):
    options = parse_arguments(arguments)
    kind = "dense" if options.dense else "sparse"
    functions = {}
    if options.only != "ours":
        functions["stock"] = STOCK[kind]
    if options.only != "stock" and options.rewritten:
        functions["ours"] = rewritten(STOCK[kind])
    elif options.only != "stock":
        module = importlib.import_module(options.module)
        functions["ours"] = getattr(module, FUNCTION_NAMES[kind])
    cells = {}
    for shape, order in itertools.product(options.shapes, options.orders):
        cells[order, shape] = measure(functions, shape, order, options)
        print(f"measured {shape[0]}x{shape[1]}, {TITLES[order]}", file=sys.stderr)
    print(
        f"TensorFlow {tf.__version__}, {kind} labels, {options.dtype}, {options.threads} threads, "
        f"{options.rounds} rounds or more, median (quartiles)\n"
    )
    print(format_table(cells, options, list(functions)))
    if options.json:
        report = {
            "tensorflow": tf.__version__,
            "options": vars(options),
            "cells": [
                dict(cell, order=order, shape=list(shape)) for (order, shape), cell in cells.items()
            ],
        }
        with open(options.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
