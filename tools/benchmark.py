"""Compares softmax cross-entropy: tf1xent, TensorFlow, PyTorch, JAX, and the machine's limit.

    python tools/benchmark.py                        # on the TensorFlow at hand
    python tools/benchmark.py --frameworks           # PyTorch and JAX too
    python tools/benchmark.py --threads 1,2 --frameworks --memory --plot speed.png --check
    python tools/benchmark.py --shapes 128x1000 --orders gradient --dense --json result.json

The sides:

    graph     tf1xent, of TensorFlow's own operations
    kernel    tf1xent, by its native kernels (python -m tf1xent build-kernels)
    stock     TensorFlow's fused op
    plain     tf.reduce_logsumexp(logits) - tf.gather_nd(logits, labels), by plain autodiff
    torch     F.cross_entropy, in an environment made here, or --references-python
    jax       optax's cross-entropy under jax.jit, there too
    read      one read of the bytes of the logits, where TensorFlow has them, the limit of a loss
    copy      one copy of them, the limit of a gradient

and the orders, by each of which every side hands back the same results:

    loss      the loss of every example
    gradient  the loss, and its gradient with respect to the logits
    hvp       the loss, and the product of its Hessian with a vector: TensorFlow's by
              tf.gradients(gradient, logits, grad_ys=vector), PyTorch's by double backward or
              torch.func.jvp of torch.func.grad, whichever is faster, JAX's by forward over reverse
    product   that product alone (not among the default orders)

Every framework has one process for a shape, which is held to as many processors as there are
threads, is kept alive, and is asked for one sample at a time: all sides take turns, in a new random
order each round, so that whatever else the machine does meets all of them. A process times its own
calls, so the way to it is not counted, but a Session's overhead is. The same inputs go to all
sides, and what they compute is compared before it is timed. The tables are Markdown: the median of
the milliseconds of one call, the quartiles in brackets, and the ratio to TensorFlow's fused op:
below 1 is faster. Where a framework has no such derivative or dtype, the cell says what it raises.
"""

import argparse
import itertools
import json
import math
import os
import random
import sys
import time
from typing import Any, Dict, List

import benchmark_limits
import benchmark_report
import measuring
import references_environment
from benchmark_processes import Worker

SHAPES = "128x1000,8192x32,65536x10,512x50257,1x1000000,4096x4096"
ORDERS = ("loss", "gradient", "hvp", "product")
DTYPES = ("float32", "float64", "float16", "bfloat16")
FRAMEWORKS = {
    "tensorflow": (*benchmark_limits.SIDES, "graph", "kernel", "rewritten", "stock", "plain"),
    "torch": ("torch",),
    "jax": ("jax",),
}
SIDES = tuple(itertools.chain.from_iterable(FRAMEWORKS.values()))
REFERENCES = ("torch", "jax")
# Between two processes: OpenMP's threads, which PyTorch has, were seen to spin for 8 ms after
# their last work, on processors that are the next one's.
PAUSE_SECONDS = 0.01
# TensorFlow 2.5 and later keep freed buffers in a pool, where memory that making the inputs took
# would count as held, and a peak below it would not show.
MEMORY_VARIABLES = {"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}
# How far what the sides compute of the same inputs may be apart, of the larger one.
TOLERANCES = {"float32": 1e-3, "float64": 1e-5, "float16": 0.05, "bfloat16": 0.2}


def shapes_from(text):
    try:
        shapes = [tuple(int(size) for size in shape.split("x")) for shape in text.split(",")]
    except ValueError:
        shapes = [()]
    if any(len(shape) != 2 or min(shape) < 1 for shape in shapes):
        raise argparse.ArgumentTypeError(f"must be like 128x1000,8192x32, got {text}")
    return shapes


def names_among(*known):
    """Returns what reads names with commas between them, each among the known ones."""

    def read(text):
        unknown = sorted(set(text.split(",")) - set(known))
        if unknown:
            names = ",".join(known)
            raise argparse.ArgumentTypeError(f"must be among {names}, got {','.join(unknown)}")
        return text.split(",")

    return read


def positive_numbers(text):
    if not all(part.isdigit() and int(part) > 0 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"must be positive numbers like 1,2, got {text}")
    return [int(part) for part in text.split(",")]


def add_what_is_computed(add):
    """Adds the options that say what all sides compute."""
    add("--shapes", type=shapes_from, default=SHAPES, help="batch x classes, default %(default)s")
    add("--orders", type=names_among(*ORDERS), default="loss,gradient,hvp")
    add("--dtype", type=names_among("half", *DTYPES), default="float32", help="one or more")
    add("--dense", action="store_true", help="soft labels, [batch, classes]")
    add("--label-dtype", default="int32", choices=("int32", "int64"))
    add(
        "--weighted",
        action="store_true",
        help="weight the examples, so that the cotangent of the loss is not the constant 1",
    )
    add(
        "--intermediate",
        action="store_true",
        help="the logits are the result of an operation, timed for all, and not a variable: "
        "TensorFlow may write into their buffer",
    )


def add_which_sides(add):
    """Adds the options that say which sides there are."""
    add(
        "--only",
        type=names_among("ours", *SIDES),
        help="these sides alone, ours: graph and kernel; a kernel that is named must be there",
    )
    add("--module", default="tf1xent.nn", help="module with our functions, default %(default)s")
    add(
        "--rewritten",
        action="store_true",
        help="ours is TensorFlow's op after tf1xent.graphs.rewrite_graph_def",
    )
    add(
        "--frameworks",
        type=names_among(*REFERENCES),
        nargs="?",
        const=list(REFERENCES),
        default=[],
        help="also torch and jax, or those named",
    )
    add("--references-python", metavar="PATH", help="a Python that has PyTorch, JAX and optax")


def add_how_it_is_measured(add):
    """Adds the options that say how long to measure, and what to make of it."""
    add("--threads", type=positive_numbers, default="2", help="one or more numbers, default 2")
    add("--rounds", type=int, default=31, help="at least, default %(default)s")
    add("--seconds", type=float, default=2, help="a cell takes at least, default %(default)s")
    add(
        "--memory",
        type=shapes_from,
        nargs="?",
        const=[(512, 50257)],
        default=[],
        metavar="SHAPES",
        help="also peak memory, each in a process of its own, of 512x50257 or these (Linux)",
    )
    add("--json", metavar="FILE", help="also write every figure to this file")
    add("--plot", metavar="FILE", help="also draw the times into this PNG file (matplotlib)")
    add("--check", action="store_true", help="exit 1 and say so if tf1xent misses its limits")


def parse_arguments(arguments=None):
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_what_is_computed(parser.add_argument)
    add_which_sides(parser.add_argument)
    add_how_it_is_measured(parser.add_argument)
    options = parser.parse_args(arguments)
    options.dtype = ["float16" if dtype == "half" else dtype for dtype in options.dtype]
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    if options.only:
        options.frameworks = [name for name in REFERENCES if name in options.only]
    if options.intermediate and options.frameworks:
        parser.error("--intermediate is for TensorFlow's sides, without --frameworks")
    if options.frameworks and not hasattr(os, "sched_setaffinity"):
        parser.error("--frameworks needs an operating system that can hold JAX to some processors")
    if options.memory and sys.platform != "linux":
        parser.error("--memory needs Linux, whose /proc tells the peak")
    available = len(measuring.available_processors())
    if max(options.threads) > available:
        parser.error(f"--threads must be at most {available}, the processors that are there")
    return options


def chosen_sides(options):
    """Returns the sides that the options ask for."""
    ours = ["rewritten"] if options.rewritten else ["graph", "kernel"]
    if options.only:
        wanted = set(options.only).union(ours if "ours" in options.only else [])
    else:
        wanted = {"read", "copy", "stock", "plain", *ours, *options.frameworks}
    return [side for side in SIDES if side in wanted]


def start_workers(sides, dtype, threads, options, variables=None):
    """Returns {framework: Worker} of those that have any of the sides."""
    workers = {}
    for framework, framework_sides in FRAMEWORKS.items():
        if set(sides).isdisjoint(framework_sides):
            continue
        settings = {"framework": framework, "dtype": dtype, "threads": threads}
        for name in ("dense", "weighted", "label_dtype", "intermediate", "module"):
            settings[name] = getattr(options, name)
        python = options.references_python if framework in REFERENCES else sys.executable
        workers[framework] = Worker(python, settings, variables)
    return workers


def leave_out_missing(sides, workers, options):
    """Returns the sides without those that the workers do not have, after saying why."""
    for worker in workers.values():
        for side, reason in worker.missing.items():
            if side in (options.only or []):
                sys.exit(f"benchmark.py: --only {side}: {reason}")
            if side in sides:
                print(f"left out: {side}: {reason}", file=sys.stderr)
                sides = [other for other in sides if other != side]
    return sides


def worker_of(side, workers):
    return next(worker for name, worker in workers.items() if side in FRAMEWORKS[name])


def prepare(shape, sides, workers, options):
    """Returns {order: {side: answer}} after every worker has made its inputs and computations."""
    answers: Dict[str, Dict[str, Any]] = {order: {} for order in options.orders}
    for name, worker in workers.items():
        own = [side for side in sides if side in FRAMEWORKS[name]]
        if not own:
            continue
        answer = worker.ask("prepare", shape=shape, orders=options.orders, sides=own)
        for order in options.orders:
            answers[order].update(answer[order])
    return answers


def disagreements(answers, dtype):
    """Returns what the sides' fingerprints say against each other, in words."""
    found: List[str] = []
    prints = {side: answer["fingerprint"] for side, answer in answers.items() if "way" in answer}
    prints = {side: numbers for side, numbers in prints.items() if numbers}
    if not prints:
        return found
    reference = next(side for side in ("stock", "graph", *prints) if side in prints)
    for side, numbers in prints.items():
        for number, expected in zip(numbers, prints[reference]):
            if not math.isclose(number, expected, rel_tol=TOLERANCES[dtype]):
                found.append(f"{side} computes {number:.6g} where {reference} has {expected:.6g}")
    return found


def take_turns(order, answers, workers, options):
    """Returns {side: milliseconds of one call, one figure a round}.

    There are at least --rounds rounds, and more until --seconds have passed: cheap calls, which a
    busy machine disturbs most, get the most rounds.
    """
    turns = [side for side, answer in answers.items() if "error" not in answer]
    samples: Dict[str, List[float]] = {side: [] for side in turns}
    shuffle = random.Random(0).shuffle
    asked = None
    end = time.perf_counter() + options.seconds
    for round_number in itertools.count():
        if round_number >= options.rounds and time.perf_counter() >= end:
            return samples
        shuffle(turns)
        for side in turns:
            before, worker = asked, worker_of(side, workers)
            if worker is not before:
                time.sleep(PAUSE_SECONDS)
            asked, number = worker, answers[side]["number"]
            samples[side].append(worker.ask("sample", order=order, side=side, number=number))


def measure(shape, sides, workers, dtype, options):
    """Yields a cell for each order: {"shape", "order", "disagreements", "sides": {side: ...}}."""
    prepared = prepare(shape, sides, workers, options)
    for order, answers in prepared.items():
        samples = take_turns(order, answers, workers, options)
        results = {}
        for side in sides:
            results[side] = answers[side]
            if side in samples:
                results[side] = dict(answers[side], **measuring.summarize(samples[side]))
                results[side]["samples"] = samples[side]
        yield {
            "shape": list(shape),
            "order": order,
            "disagreements": disagreements(answers, dtype),
            "sides": results,
        }


def measure_memory(sides, dtype, threads, options):
    """Yields {"shape", "order", "side", "bytes"}, each of a new process."""
    sides = [side for side in sides if side not in benchmark_limits.SIDES]
    for shape, order, side in itertools.product(options.memory, options.orders, sides):
        workers = start_workers([side], dtype, threads, options, MEMORY_VARIABLES)
        with worker_of(side, workers) as worker:
            taken = worker.ask("memory", shape=shape, order=order, side=side)
        yield {"shape": list(shape), "order": order, "side": side, "bytes": taken}


def measure_configuration(dtype, threads, options):
    """Returns the report of one dtype and one number of threads."""
    sides = chosen_sides(options)
    versions: Dict[str, str] = {}
    cells = []
    for shape in options.shapes:
        # In new processes, whose memory is not what the shapes before have left.
        workers = start_workers(sides, dtype, threads, options)
        try:
            sides = leave_out_missing(sides, workers, options)
            for worker in workers.values():
                versions.update(worker.versions)
            for cell in measure(shape, sides, workers, dtype, options):
                cells.append(cell)
                title = benchmark_report.TITLES[cell["order"]]
                print("measured {}x{}, {}".format(*shape, title), file=sys.stderr)
        finally:
            for worker in workers.values():
                worker.stop()
    return {
        "versions": versions,
        "dtype": dtype,
        "threads": threads,
        "labels": "dense" if options.dense else "sparse",
        "intermediate": options.intermediate,
        "weighted": options.weighted,
        "rounds": options.rounds,
        "sides": sides,
        "orders": options.orders,
        "cells": cells,
        "memory": list(measure_memory(sides, dtype, threads, options)),
    }


def main(arguments=None):
    """Prints the tables, and returns the exit code."""
    options = parse_arguments(arguments)
    if options.plot:
        benchmark_report.require_matplotlib()
    if options.frameworks and not options.references_python:
        print("looking for the environment of PyTorch and JAX, or making it", file=sys.stderr)
        options.references_python = references_environment.make()
    reports = []
    for dtype, threads in itertools.product(options.dtype, options.threads):
        reports.append(measure_configuration(dtype, threads, options))
        print(benchmark_report.format_report(reports[-1]) + "\n", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"options": vars(options), "reports": reports}, file, indent=1)
    if options.plot:
        benchmark_report.plot(reports, options.plot)
    if not options.check:
        return 0
    lines, holds = benchmark_report.check(reports)
    print("\n".join(lines))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
