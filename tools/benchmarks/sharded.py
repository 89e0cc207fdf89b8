"""Measures a linear loss whose classes are spread over tasks, beside one process with all of them.

    python tools/benchmarks sharded                       # 100,000 classes in 1, 2 and 4 tasks
    python tools/benchmarks sharded --classes 1000000 --tasks 2

Every task is a process with a processor of its own, as far as there are some; a second round of
tasks shares them, and then more tasks are no faster. The inputs and labels are on task 0, the
weights in equal shards by class, one on each task. What each order computes stays where it is: no
gradient and no product is fetched. The sides take turns in a new random order each round; times
are on the clock. What they compute is compared before it is timed. Bytes and rounds are read from
a traced run, see crossings.py.
"""

import argparse
import contextlib
import math
import random
import sys
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import crossings
import losses
import measuring
import numpy as np
import pyperf
import report
import tasks

ORDERS = {
    "loss": "loss",
    "gradient": "loss + gradient",
    "hvp": "loss + gradient + Hessian-vector product",
}
SIZES = {"batch": 256, "features": 128, "classes": 100000, "rounds": 9}
# What float32 leaves of sums over all classes.
TOLERANCE = 1e-3
ALONE = "one process"


class Problem(NamedTuple):
    """The sizes of a loss in float32."""

    batch: int
    features: int
    classes: int


class Side(NamedTuple):
    """A graph and its sessions.

    Attributes:
      sessions: one on each task; the first computes.
      targets: by order the ops, one on each device, that need all results of the order.
      scalars: by order a number for each device, of all results there.
    """

    sessions: List[Any]
    targets: Dict[str, List[Any]]
    scalars: Dict[str, List[Any]]

    def sample(self, order: str) -> float:
        """Returns the seconds of one run."""
        start = time.perf_counter()
        self.sessions[0].run(self.targets[order])
        return time.perf_counter() - start

    def crossed(self, order: str) -> crossings.Crossings:
        """Returns what crosses between the tasks in one run."""
        return crossings.measure(self.sessions, self.targets[order])

    def fingerprint(self, order: str) -> float:
        return float(sum(self.sessions[0].run(self.scalars[order])))


def add_options(parser: argparse.ArgumentParser) -> None:
    for name, size in SIZES.items():
        parser.add_argument("--" + name, type=int, default=size, help=f"default {size}")
    numbers = "how many tasks a side has, default 1,2,4"
    parser.add_argument("--tasks", type=_numbers, default=[1, 2, 4], help=numbers)


def _numbers(text: str) -> List[int]:
    return [int(part) for part in text.split(",")]


# --- What a side computes -------------------------------------------------------------------------


def make_side(problem: Problem, addresses: Sequence[str]) -> Side:
    """Builds the loss over the tasks at these addresses, or in this process if there are none."""
    import tensorflow_sides
    from tensorflow_sides import tf

    devices = [f"/job:{tasks.JOB}/task:{i}/cpu:0" for i in range(len(addresses))] or ["/cpu:0"]
    one_thread = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # Tasks keep variables by name, of all sessions; a container is a space of names.
    container = "x".join(map(str, problem))
    with tf.Graph().as_default() as graph, tf.container(container):
        operands, vectors, labels, initializers, feed = _variables(problem, devices)
        results = _results(operands, vectors, labels, devices, in_shards=bool(addresses))
        targets: Dict[str, List[Any]] = {order: [] for order in results}
        scalars: Dict[str, List[Any]] = {order: [] for order in results}
        for order, found in results.items():
            for device, tensors in zip(devices, found):
                with tf.device(device):
                    targets[order].append(tensorflow_sides.nothing_after(tensors))
                    scalars[order].append(tf.add_n([tf.reduce_sum(t * t) for t in tensors]))
    names = [f"grpc://{address}" for address in addresses] or [""]
    sessions = [tf.Session(name, graph, one_thread) for name in names]
    sessions[0].run(initializers, feed)
    return Side(sessions, targets, scalars)


def _variables(problem: Problem, devices: Sequence[str]) -> Tuple[Any, ...]:
    """Returns inputs and shards, a vector for each, the labels, what is run once, and its feed."""
    from tensorflow_sides import tf

    draws = np.random.RandomState(0)
    initializers, feed = [], {}

    def variable(array: Any, device: str) -> Any:
        with tf.device(device):
            fed = tf.placeholder(array.dtype, array.shape)
            made = tf.Variable(fed, trainable=False, use_resource=True)
            feed[fed] = array
            initializers.append(made.initializer)
            return tf.identity(made)

    def inputs_and_shards() -> List[Any]:
        inputs = draws.standard_normal([problem.batch, problem.features]).astype(np.float32)
        weights = draws.standard_normal([problem.features, problem.classes]).astype(np.float32)
        weights /= np.float32(math.sqrt(problem.features))
        shards = np.array_split(weights, len(devices), axis=1)
        return list(map(variable, [inputs, *shards], [devices[0], *devices]))

    labels = variable(draws.randint(0, problem.classes, problem.batch), devices[0])
    return inputs_and_shards(), inputs_and_shards(), labels, initializers, feed


def _results(
    operands: List[Any],
    vectors: List[Any],
    labels: Any,
    devices: Sequence[str],
    in_shards: bool,
) -> Dict[str, List[List[Any]]]:
    """Returns the results of each order, a list for each device."""
    from tensorflow_sides import tf

    from tf1xent.losses import linear_softmax_cross_entropy

    inputs, *shards = operands
    with tf.device(devices[0]):
        loss = linear_softmax_cross_entropy(labels, inputs, shards if in_shards else shards[0])
    colocated = {"colocate_gradients_with_ops": True}
    gradients = tf.gradients(loss, operands, **colocated)
    products = tf.gradients(gradients, operands, vectors, **colocated)

    def by_device(of_inputs: Any, of_shards: List[Any]) -> List[List[Any]]:
        return [[of_inputs, of_shards[0]], *([tensor] for tensor in of_shards[1:])]

    first = by_device(gradients[0], gradients[1:])
    second = by_device(products[0], products[1:])
    with_loss = [[loss, *first[0]], *first[1:]]
    return {
        "loss": [[loss]],
        "gradient": with_loss,
        "hvp": [one + other for one, other in zip(with_loss, second)],
    }


# --- What is measured -----------------------------------------------------------------------------


@contextlib.contextmanager
def sides(problem: Problem, numbers: Sequence[int]) -> Iterator[Dict[str, Side]]:
    """Yields one process, and clusters of so many tasks, by title."""
    with tasks.started(numbers) as specs, contextlib.ExitStack() as stack:
        made = {ALONE: make_side(problem, [])}
        for number, spec in zip(numbers, specs):
            title = f"{number} task{'s' if number > 1 else ''}"
            made[title] = make_side(problem, spec[tasks.JOB])
            for session in made[title].sessions:
                stack.callback(session.close)  # before the tasks end: it would wait for them
        yield made


def measure(problem: Problem, numbers: Sequence[int], rounds: int) -> Dict[str, Any]:
    """Returns the version, and by side and order the samples and what crosses."""
    from tensorflow_sides import tf

    samples: Dict[Tuple[str, str], List[float]] = {}
    found: Dict[Tuple[str, str], crossings.Crossings] = {}
    with sides(problem, numbers) as made:
        for order in ORDERS:
            prints = {title: side.fingerprint(order) for title, side in made.items()}
            for title, value in prints.items():
                if not math.isclose(value, prints[ALONE], rel_tol=TOLERANCE):
                    sys.exit(f"benchmarks: {order}: {title} computes {value}, not {prints}")
                if title != ALONE:
                    found[title, order] = made[title].crossed(order)
                made[title].sample(order)  # optimises the graph
        turns = [(title, order) for title in made for order in ORDERS]
        shuffle = random.Random(0).shuffle
        for _ in range(rounds):
            shuffle(turns)
            for title, order in turns:
                samples.setdefault((title, order), []).append(made[title].sample(order))
    return {"version": tf.__version__, "samples": samples, "crossings": found}


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    problem = Problem(options.batch, options.features, options.classes)
    with measuring.new_process() as process:
        found = process.submit(measure, problem, options.tasks, options.rounds).result()
    rows = [["", "seconds", "of one process's", "bytes to task 0", "to each other", "rounds"]]
    figures = {
        (title, order): losses.benchmark(f"sharded, {title}, {order}", samples)
        for (title, order), samples in sorted(found["samples"].items(), key=_place)
    }
    for (title, order), figure in figures.items():
        ratio, crossed = "", ["", "", ""]
        if (title, order) in found["crossings"]:
            ratio = f"**{figure.median() / figures[ALONE, order].median():.2f}**"
            crossed = _shown(found["crossings"][title, order])
        rows.append([f"{ORDERS[order]}, {title}", report.spread(figure, 1), ratio, *crossed])
    text = (
        f"TensorFlow {found['version']}, {problem.batch} rows x {problem.features} features x "
        f"{problem.classes} classes, float32, {options.rounds} rounds, median (quartiles)"
    )
    return f"{text}\n\n{report.markdown(rows)}", list(figures.values()), 0


def _place(item: Any) -> Tuple[int, str]:
    (title, order), _ = item
    return list(ORDERS).index(order), "" if title == ALONE else title


def _shown(found: crossings.Crossings) -> List[str]:
    first, *others = found.received.values()
    sizes = sorted({str(size) for size in others}, key=int)
    return [str(first), " to ".join(sizes[:1] + sizes[1:][-1:]), str(found.rounds)]
