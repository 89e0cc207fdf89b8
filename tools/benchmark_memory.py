"""Compares memory and time of a large vocabulary's loss with matmul + TensorFlow's fused op.

    python tools/benchmark_memory.py                # 4096 tokens, 512 features, 50257 classes
    python tools/benchmark_memory.py --chunk-size 1024 --threads 1
    python tools/benchmark_memory.py --tokens 1024 --hvp --json result.json

What is computed is the mean loss and its gradient with respect to inputs, weights and biases;
with --hvp, on our side, also the product of the Hessian in all three with a vector. Every
measurement has a process of its own, since the peak of a process cannot be taken back; the
variants take turns for as many rounds as are asked for. Two figures of memory are shown: the peak
of the process while it computes, and how far that is above what the process held when TensorFlow
was loaded and inputs, weights, biases and labels were made. The latter is what the ratio is of.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any, Dict, List

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, CHECKOUT)

import measuring  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

TITLES = {
    "stock": "matmul + TensorFlow's fused op, value + gradient",
    "ours": "linear_softmax_cross_entropy, value + gradient",
    "hvp": "linear_softmax_cross_entropy, Hessian-vector product",
}


def parse_arguments(arguments=None):
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=4096, help="default %(default)s")
    parser.add_argument("--features", type=int, default=512, help="default %(default)s")
    parser.add_argument("--classes", type=int, default=50257, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="intra and inter op, default 2")
    parser.add_argument("--chunk-size", type=int, help="classes a chunk, default the function's")
    parser.add_argument("--transpose", action="store_true", help="weights [classes, features]")
    parser.add_argument("--rounds", type=int, default=3, help="processes each, default %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="timed runs each, default %(default)s")
    parser.add_argument("--hvp", action="store_true", help="also our Hessian-vector product")
    parser.add_argument("--only", choices=sorted(TITLES), help="measure one variant alone")
    parser.add_argument("--json", metavar="FILE", help="also write every figure to this file")
    parser.add_argument("--child", choices=sorted(TITLES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in ("tokens", "features", "classes", "threads", "rounds", "runs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


# --- The child: one variant -----------------------------------------------------------------------


def variable(initial_value):
    # Inputs are variables: constants would be folded, and feeds copied at every call.
    return tf.Variable(initial_value, trainable=False, use_resource=False)


def make_inputs(options):
    """Returns labels, inputs, weights and biases."""
    tokens, features, classes = options.tokens, options.features, options.classes
    weights_shape = [classes, features] if options.transpose else [features, classes]
    values = (
        tf.random_uniform([tokens], 0, classes, tf.int32, seed=1),
        tf.random_normal([tokens, features], seed=2),
        tf.random_normal(weights_shape, stddev=features**-0.5, seed=3),
        tf.random_normal([classes], seed=4),
    )
    return [tf.identity(variable(value)) for value in values]


def mean_loss(variant, options, labels, inputs, weights, biases):
    """Returns the mean loss by the variant's function."""
    if variant == "stock":
        logits = tf.matmul(inputs, weights, transpose_b=options.transpose) + biases
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_mean(losses)
    from tf1xent import losses as our_losses

    chunks = {} if options.chunk_size is None else {"chunk_size": options.chunk_size}
    return our_losses.linear_softmax_cross_entropy(
        labels, inputs, weights, biases, transpose_weights=options.transpose, **chunks
    )


def make_target(variant, options):
    """Returns the operation that computes everything and hands nothing to Python."""
    labels, *operands = make_inputs(options)
    loss = mean_loss(variant, options, labels, *operands)
    results = tf.gradients(loss, operands)
    if variant == "hvp":
        # Of the operands themselves: a vector that takes no further memory.
        products = [tf.reduce_sum(g * tf.stop_gradient(v)) for g, v in zip(results, operands)]
        results = tf.gradients(tf.add_n(products), operands)
    # IdentityN copies nothing. A tf.group would not do: Grappler turns operations that only a
    # control edge needs into NoOps, and the benchmark would time nothing.
    return tf.identity_n([loss] + results)[0].op


def measure(variant, options):
    """Returns the memory that one variant takes in this process, and its times in seconds."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        started = time.perf_counter()
        target = make_target(variant, options)
        build_seconds = time.perf_counter() - started
        config = tf.ConfigProto(
            intra_op_parallelism_threads=options.threads,
            inter_op_parallelism_threads=options.threads,
        )
        with tf.Session(graph=graph, config=config) as session:
            session.run([v.initializer for v in tf.global_variables()])
            call = session.make_callable(target)
            measuring.give_back_freed_memory()
            held = measuring.resident_bytes()
            measuring.forget_peak()
            seconds = []
            for _ in range(1 + options.runs):
                started = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - started)
    return {
        "variant": variant,
        "held": held,
        "peak": measuring.peak_bytes(),
        "build_seconds": build_seconds,
        "first_seconds": seconds[0],  # with the graph's optimisation
        "seconds": seconds[1:],
    }


# --- The parent -----------------------------------------------------------------------------------


def measure_in_process(variant, arguments):
    """Returns what a process of its own measures."""
    command = [sys.executable, os.path.abspath(__file__), "--child", variant] + arguments
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(output.decode().splitlines()[-1])


def summarize(measurements):
    """Returns medians over the processes of one variant; times over all their runs."""
    seconds = np.concatenate([measurement["seconds"] for measurement in measurements])

    def middle(values):
        return float(np.median(list(values)))

    return {
        **measuring.summarize(seconds),
        "peak": middle(m["peak"] for m in measurements),
        "above": middle(m["peak"] - m["held"] for m in measurements),
        "start": middle(m["build_seconds"] + m["first_seconds"] for m in measurements),
    }


def format_table(summaries):
    """Returns the Markdown table of {variant: summary}."""
    header = [
        "",
        "peak of the process, MiB",
        "above what it held, MiB",
        "ratio",
        "seconds",
        "ratio",
    ]
    lines = [header + ["build and first run, s"]]
    stock = summaries.get("stock")
    for variant, summary in summaries.items():
        compared = stock is not None and variant == "ours"
        lines.append(
            [
                TITLES[variant],
                "{:.0f}".format(summary["peak"] / measuring.MEBIBYTE),
                "{:.0f}".format(summary["above"] / measuring.MEBIBYTE),
                "**{:.2f}**".format(summary["above"] / stock["above"]) if compared else "",
                measuring.format_times(summary),
                "**{:.2f}**".format(summary["median"] / stock["median"]) if compared else "",
                "{:.1f}".format(summary["start"]),
            ]
        )
    return measuring.markdown_table(lines)


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parse_arguments(arguments)
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    variants = ["stock", "ours"] + (["hvp"] if options.hvp else [])
    if options.only:
        variants = [options.only]
    measurements: Dict[str, List[Any]] = {variant: [] for variant in variants}
    for round_number in range(options.rounds):
        for variant in variants if round_number % 2 == 0 else variants[::-1]:
            measurements[variant].append(measure_in_process(variant, arguments))
            print(f"measured {TITLES[variant]}", file=sys.stderr)
    print(
        f"TensorFlow {tf.__version__}, {options.tokens} tokens x {options.features} features x "
        f"{options.classes} classes, float32, {options.threads} threads, {options.rounds} "
        "processes each, median (quartiles)\n"
    )
    print(format_table({variant: summarize(m) for variant, m in measurements.items()}))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"tensorflow": tf.__version__, "measurements": measurements}, file, indent=1)


if __name__ == "__main__":
    main()
