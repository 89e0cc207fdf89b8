"""Compares memory and time of a large vocabulary's loss with matmul + TensorFlow's fused op.

    python tools/benchmarks linear                # 4096 tokens, 512 features, 50257 classes
    python tools/benchmarks linear --chunk-size 1024 --threads 1
    python tools/benchmarks linear --tokens 1024 --hvp --json result.json

What is computed is the mean loss and its gradient with respect to inputs, weights and biases;
with --hvp, on our side, also the product of the Hessian in all three with a vector. Every
measurement has a process of its own, and the variants take turns. Two figures of memory are shown:
the peak of the process while it computes, and how far that is above what the process held when
TensorFlow was loaded and the operands were made. The latter is what the ratio is of.
"""

import argparse
import statistics
import sys
import time
from typing import Any, Dict, List, Tuple

import measuring
import pyperf
import report

TITLES = {
    "stock": "matmul + TensorFlow's fused op, value + gradient",
    "ours": "linear_softmax_cross_entropy, value + gradient",
    "hvp": "linear_softmax_cross_entropy, Hessian-vector product",
}
SIZES = {"tokens": 4096, "features": 512, "classes": 50257, "threads": 2, "rounds": 3, "runs": 3}


def add_options(parser: argparse.ArgumentParser) -> None:
    for name, size in SIZES.items():
        parser.add_argument("--" + name, type=int, default=size, help=f"default {size}")
    parser.add_argument("--chunk-size", type=int, help="classes a chunk, default the function's")
    parser.add_argument("--transpose", action="store_true", help="weights [classes, features]")
    parser.add_argument("--hvp", action="store_true", help="also our Hessian-vector product")
    parser.add_argument("--only", choices=sorted(TITLES), help="measure one variant alone")


def make_target(variant: str, options: argparse.Namespace) -> Any:
    """Returns the operation that computes everything and hands nothing to Python."""
    import tensorflow_sides
    from tensorflow_sides import tf

    from tf1xent.losses import linear_softmax_cross_entropy

    sizes = options.features, options.classes
    values = (
        tf.random_uniform([options.tokens], 0, options.classes, tf.int32, seed=1),
        tf.random_normal([options.tokens, options.features], seed=2),
        tf.random_normal(sizes[::-1] if options.transpose else sizes, 0, sizes[0] ** -0.5, seed=3),
        tf.random_normal([options.classes], seed=4),
    )
    # Variables: constants would be folded, and feeds copied at every call.
    variables = [tf.Variable(value, trainable=False, use_resource=False) for value in values]
    labels, *operands = map(tf.identity, variables)
    if variant == "stock":
        inputs, weights, biases = operands
        logits = tf.matmul(inputs, weights, transpose_b=options.transpose) + biases
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = tf.reduce_mean(losses)
    else:
        chunks = {} if options.chunk_size is None else {"chunk_size": options.chunk_size}
        loss = linear_softmax_cross_entropy(
            labels, *operands, transpose_weights=options.transpose, **chunks
        )
    results = tf.gradients(loss, operands)
    if variant == "hvp":
        # Of the operands themselves: a vector that takes no further memory.
        products = [tf.reduce_sum(g * tf.stop_gradient(v)) for g, v in zip(results, operands)]
        results = tf.gradients(tf.add_n(products), operands)
    return tensorflow_sides.nothing_after([loss, *results])


def measure(variant: str, options: argparse.Namespace) -> Dict[str, Any]:
    """Returns the memory that one variant takes in this process, and its times in seconds."""
    import tensorflow_sides
    from tensorflow_sides import tf

    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        started = time.perf_counter()
        target = make_target(variant, options)
        built = time.perf_counter() - started
        with tensorflow_sides.new_session(options) as session:
            session.run([v.initializer for v in graph.get_collection("variables")])
            call = session.make_callable(target)
            memory = measuring.Memory()
            seconds = []
            for _ in range(1 + options.runs):
                started = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - started)
    figures = {"peak": memory.peak(), "above": memory.above_held(), "tensorflow": tf.__version__}
    # The first run optimises the graph.
    return {**figures, "start": built + seconds[0], "seconds": seconds[1:]}


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    for name in SIZES:
        if getattr(options, name) < 1:
            sys.exit(f"benchmarks: --{name} must be at least 1, got {getattr(options, name)}")
    variants = ["stock", "ours"] + (["hvp"] if options.hvp else [])
    variants = [options.only] if options.only else variants
    found: Dict[str, List[Dict[str, Any]]] = {variant: [] for variant in variants}
    for round_number in range(options.rounds):
        for variant in variants if round_number % 2 == 0 else variants[::-1]:
            with measuring.new_process() as process:
                found[variant].append(process.submit(measure, variant, options).result())
            print(f"measured {TITLES[variant]}", file=sys.stderr)
    rows = [["", "peak of the process, MiB", "above what it held, MiB", "ratio", "seconds"]]
    rows[0] += ["ratio", "build and first run, s"]
    times, above = {}, {}
    for variant, measured in found.items():
        named: Dict[str, Any] = {"metadata": {"name": f"linear, {variant}"}}
        runs = [pyperf.Run(m["seconds"], collect_metadata=False, **named) for m in measured]
        times[variant] = pyperf.Benchmark(runs)
        peak, above[variant], start = (
            statistics.median(one[what] for one in measured) for what in ("peak", "above", "start")
        )
        memory_ratio = time_ratio = ""
        if variant == "ours" and "stock" in above:
            memory_ratio = f"**{above['ours'] / above['stock']:.2f}**"
            time_ratio = f"**{times['ours'].median() / times['stock'].median():.2f}**"
        memory = [f"{size / report.MEBIBYTE:.0f}" for size in (peak, above[variant])]
        spread = report.spread(times[variant], 1)
        rows.append([TITLES[variant], *memory, memory_ratio, spread, time_ratio, f"{start:.1f}"])
    title = (
        f"TensorFlow {found[variants[0]][0]['tensorflow']}, {options.tokens} tokens x "
        f"{options.features} features x {options.classes} classes, float32, {options.threads} "
        f"threads, {options.rounds} processes each, median (quartiles)"
    )
    return f"{title}\n\n{report.markdown(rows)}", list(times.values()), 0
