"""Measures what it costs to watch a training, beside TensorFlow's own checkers.

    python tools/benchmarks watching                      # on the TensorFlow at hand

Each side trains the same network in a MonitoredSession: without a hook, with LossDoctorHook, with
NanTensorHook, with add_check_numerics_ops, and, where TensorFlow has it, built under
enable_check_numerics. In each round every side has a new session, since two sessions of the same
graph differ by some percent, and some hundred steps, so that snapshots of variables count. They are
taken in short blocks, the sides in turns in a new random order, since machines slow down and speed
up within seconds. Times are of one step: processor time of the process, since other work on the
machine does not count in it, and time on the clock. The ratios are of medians.
"""

import argparse
import contextlib
import random
import sys
import time
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Tuple

import losses
import measuring
import numpy as np
import pyperf
import report


class Size(NamedTuple):
    """A network of three layers, the rows of a step, and how many steps are taken.

    Attributes:
      widths: of the layers.
      rows: of a step.
      warm_up: steps that are not timed: the first ones are slow, and watched closely.
      steps: of a block.
      blocks: of a sample.
    """

    widths: List[int]
    rows: int
    warm_up: int
    steps: int
    blocks: int


SIZES = {
    "0.5 ms": Size([64, 128, 128, 10], 64, 500, 50, 20),
    "50 ms": Size([784, 1024, 1024, 10], 256, 150, 4, 10),
}
SIDES = {
    "none": "no hook",
    "doctor": "LossDoctorHook",
    "nan": "NanTensorHook",
    "check": "add_check_numerics_ops",
    "enabled": "enable_check_numerics",
}
BATCHES = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--sizes", type=losses.names_among(*SIZES), default=list(SIZES), help="default: all")
    add("--sides", type=losses.names_among(*SIDES), default=list(SIDES), help="default: all")
    add("--rounds", type=int, default=15, help="default %(default)s")
    add("--threads", type=int, default=1, help="of a session, default %(default)s")


def measure(size: Size, chosen: List[str], rounds: int, threads: int) -> Tuple[str, Dict[str, Any]]:
    """Returns the version, and by side the samples in processor time and on the clock."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    sides = [side for side in chosen if side != "enabled" or _enable(tf) is not None]
    samples: Dict[str, Any] = {side: ([], []) for side in sides}
    order = random.Random(0)
    for _ in range(rounds):
        with contextlib.ExitStack() as stack:
            steps, totals = {}, {side: np.zeros(2) for side in sides}
            for side in sides:
                session, steps[side] = _training(tf, size, side, threads)
                stack.enter_context(session)
                for _ in range(size.warm_up):
                    steps[side]()
            for _ in range(size.blocks):
                order.shuffle(sides)
                for side in sides:
                    steps[side]()  # what the other sides have taken from the caches
                    totals[side] += _time(steps[side], size.steps)
        for side in sides:
            for kind, total in enumerate(totals[side] / size.blocks):
                samples[side][kind].append(total)
    return tf.__version__, samples


def _time(step: Callable[[], Any], number: int) -> np.ndarray:
    """Returns the processor time of a step, and the time on the clock."""
    spent, clock = time.process_time(), time.perf_counter()
    for _ in range(number):
        step()
    return np.array([time.process_time() - spent, time.perf_counter() - clock]) / number


def _enable(tf: Any) -> Any:
    return getattr(tf.debugging, "enable_check_numerics", None)


def _training(
    tf: Any, size: Size, side: str, threads: int
) -> Tuple[ContextManager[Any], Callable[[], Any]]:
    """Returns a new session of a side, and what makes a step of it."""
    with tf.Graph().as_default():
        # A saver refuses the other variables of a graph built under enable_check_numerics.
        scaffold = tf.train.Scaffold(saver=tf.train.Saver([tf.train.get_or_create_global_step()]))
        if side == "enabled":
            _enable(tf)()
        try:
            pictures, labels, loss, train = _network(tf, size)
        finally:
            if side == "enabled":
                tf.debugging.disable_check_numerics()
        fetches = [train, loss]
        if side == "check":
            fetches.append(tf.add_check_numerics_ops())
        options = tf.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
        creator = tf.train.ChiefSessionCreator(scaffold, config=options)
        session = tf.train.MonitoredSession(creator, hooks=_hooks(tf, side, loss, train))
    draws = np.random.RandomState(0)
    batches = [
        {
            pictures: draws.standard_normal([size.rows, size.widths[0]]).astype(np.float32),
            labels: draws.randint(0, size.widths[-1], size.rows),
        }
        for _ in range(BATCHES)
    ]
    number = iter(range(sys.maxsize))
    return session, lambda: session.run(fetches, batches[next(number) % BATCHES])


def _hooks(tf: Any, side: str, loss: Any, train: Any) -> List[Any]:
    if side == "nan":
        return [tf.train.NanTensorHook(loss)]
    if side == "doctor":
        from tf1xent.diagnostics import LossDoctorHook

        return [LossDoctorHook(loss, train, on_problem="raise")]
    return []


def _network(tf: Any, size: Size) -> Tuple[Any, Any, Any, Any]:
    """Returns the placeholders, the loss and the op of a step."""
    tf.set_random_seed(1)
    pictures = tf.placeholder(tf.float32, [None, size.widths[0]])
    labels = tf.placeholder(tf.int64, [None])
    hidden = pictures
    for layer, (width, units) in enumerate(zip(size.widths, size.widths[1:])):
        # Reference variables break enable_check_numerics.
        with tf.variable_scope(f"layer{layer}", use_resource=True):
            weights = tf.get_variable("weights", [width, units])
            biases = tf.get_variable("biases", [units], initializer=tf.zeros_initializer())
        hidden = tf.matmul(hidden if layer == 0 else tf.nn.relu(hidden), weights) + biases
    found = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
    loss = tf.reduce_mean(found)
    step = tf.train.get_global_step()
    return pictures, labels, loss, tf.train.AdamOptimizer(1e-4).minimize(loss, step)


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    rows = [["ms a step: processor, **ratio**; clock, **ratio**"]]
    rows[0] += [f"step of {name}" for name in options.sizes]
    # All others are compared with the first.
    sides = list(dict.fromkeys(["none", *options.sides]))
    cells: Dict[str, List[str]] = {side: [] for side in sides}
    figures, version = [], ""
    for name in options.sizes:
        with measuring.new_process() as process:
            how = SIZES[name], sides, options.rounds, options.threads
            found = process.submit(measure, *how).result()
        version, samples = found
        for side in sides:
            cell = []
            for kind in range(2) if side in samples else ():
                mine, none = (
                    losses.benchmark(f"watching, {name}, {s}, {kind}", samples[s][kind])
                    for s in (side, "none")
                )
                figures.append(mine)
                ratio = f", **{mine.median() / none.median():.3f}**" if side != "none" else ""
                cell.append(report.spread(mine) + ratio)
            cells[side].append("; ".join(cell) or "not there")
    rows += [[SIDES[side], *cells[side]] for side in sides]
    title = f"TensorFlow {version}, {options.threads} thread, {options.rounds} rounds, float32, "
    return f"{title}median (quartiles)\n\n{report.markdown(rows)}", figures, 0
