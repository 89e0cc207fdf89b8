"""Measures how long losses and their gradients take to be built in a graph, beside TensorFlow's.

    python tools/benchmarks building                    # on the TensorFlow at hand
    python tools/benchmarks building --losses 100 --rounds 5 --orders gradient,hvp

Each sample builds losses of the same logits and labels in a new graph, each with its derivatives:
its gradient, or its gradient and a Hessian-vector product. The sides take turns in one process, in
a new random order each round, and the times are of its processor: other work on the machine does
not count. The ratios are of medians. Ops are those that one loss and its derivatives add.
"""

import argparse
import functools
import gc
import importlib
import random
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import losses
import measuring
import pyperf
import report

SPARSE, DENSE = "sparse_softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2"
LABELS = {"integer": SPARSE, "soft": DENSE}
SHAPES = ((32, 10), (None, 10), (None, 1000))
ORDERS = ("loss", "gradient", "hvp")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--losses", type=int, default=100, help="in a sample, default %(default)s")
    add("--rounds", type=int, default=5, help="default %(default)s")
    orders = losses.names_among(*ORDERS)
    add("--orders", type=orders, default=["gradient", "hvp"], help="default gradient,hvp")


def build(tf: Any, loss_function: Callable[..., Any], order: str, tensors: Sequence[Any]) -> None:
    labels, logits = tensors
    loss = loss_function(labels=labels, logits=logits)
    if order != "loss":
        (gradient,) = tf.gradients(loss, logits)
    if order == "hvp":
        tf.gradients(gradient, logits, grad_ys=logits)


def sample(
    tf: Any, build_one: Callable[..., None], kind: str, shape: Sequence[Any], number: int
) -> Tuple[float, int]:
    """Returns the seconds and the ops of one loss."""
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float32, shape)
        soft = kind == "soft"
        labels = tf.placeholder(tf.float32 if soft else tf.int64, shape if soft else shape[:1])
        gc.collect()
        started = time.process_time()
        for _ in range(number):
            build_one((labels, logits))
        spent = time.process_time() - started
        return spent / number, (len(graph.get_operations()) - 2) // number


def measure(settings: argparse.Namespace) -> Tuple[str, Dict[Any, Any]]:
    """Returns the version and {(kind, shape, order, side): (samples, ops), or None if missing}."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    sides = {"stock": {name: getattr(tf.nn, name) for name in LABELS.values()}}
    sys.path.insert(0, str(report.ROOT))
    ours = importlib.import_module("tf1xent.nn")
    sides["graph"] = {
        name: functools.partial(getattr(ours, name), implementation="graph")
        for name in LABELS.values()
    }
    found: Dict[Any, Any] = {}
    for kind, name in LABELS.items():
        for shape in SHAPES:
            for order in settings.orders:
                builders = {
                    side: functools.partial(build, tf, functions[name], order)
                    for side, functions in sides.items()
                }
                for side, made in _take_turns(tf, builders, kind, shape, settings).items():
                    found[kind, shape, order, side] = made
    return tf.__version__, found


def _take_turns(
    tf: Any,
    builders: Mapping[str, Callable[..., None]],
    kind: str,
    shape: Sequence[Any],
    settings: argparse.Namespace,
) -> Dict[str, Optional[Tuple[List[float], int]]]:
    made: Dict[str, Any] = {}
    for side, build_one in builders.items():
        try:
            made[side] = [], sample(tf, build_one, kind, shape, 2)[1]
        except LookupError:  # stock has no second derivative on 1.x
            made[side] = None
    turns = [side for side in builders if made[side] is not None]
    for number in range(settings.rounds):
        random.Random(number).shuffle(turns)
        for side in turns:
            made[side][0].append(sample(tf, builders[side], kind, shape, settings.losses)[0])
    return made


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    with measuring.new_process() as process:
        version, found = process.submit(measure, options).result()
    rows = [["labels, logits, order", "TensorFlow, ms", "tf1xent, ms", "ratio", "ops"]]
    figures: List[pyperf.Benchmark] = []
    for kind, shape, order in dict.fromkeys(key[:3] for key in found):
        cells, made = [f"{kind}, {list(shape)}, {order}"], {}
        for side in ("stock", "graph"):
            if found[kind, shape, order, side] is None:
                cells.append("not there")
                continue
            samples, _ = found[kind, shape, order, side]
            made[side] = losses.benchmark(f"building, {cells[0]}, {side}", samples)
            cells.append(report.spread(made[side]))
        figures += made.values()
        both = len(made) == 2
        cells.append(f"**{made['graph'].median() / made['stock'].median():.2f}**" if both else "")
        numbers = (found[kind, shape, order, side] for side in ("stock", "graph"))
        cells.append(", ".join(str(one[1]) if one else "-" for one in numbers))
        rows.append(cells)
    title = f"TensorFlow {version}, {options.losses} losses a sample, {options.rounds} rounds, "
    title += "processor time of one loss, median (quartiles)"
    return f"{title}\n\n{report.markdown(rows)}", figures, 0
