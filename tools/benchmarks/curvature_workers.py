"""Measures a Hessian-vector product over batches by worker processes, beside the session alone.

    python tools/benchmarks workers                       # none, 1 and 2 workers
    python tools/benchmarks workers --workers 1 --cases small

A worker is `tf1xent worker` with one thread on this machine, and the session that computes alone
has one thread too. The network is of dense layers, relu, float32. Batches of many rows are bound by
computing; of few rows, by what is sent with every batch: the vector, and back the product. The
sides take turns in a new random order each round; times are of one product, on the clock. What they
compute is compared before it is timed. Bytes are counted on their way through a relay, in a product
that is not timed.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import curvature
import curvature_sides
import losses
import measuring
import numpy as np
import pyperf
import relay
import report


class Case(NamedTuple):
    """About so many parameters, the rows of a batch, and the batches of a pass."""

    parameters: int
    rows: int
    batches: int


FLOAT_BYTES = 4
CASES = {"large": Case(500000, 1024, 8), "small": Case(500000, 4, 32)}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cases", type=losses.names_among(*CASES), default=list(CASES), help="default: all")
    add("--workers", type=_numbers, default=[1, 2], help="how many a side has, default 1,2")
    add("--rounds", type=int, default=9, help="default %(default)s")


def _numbers(text: str) -> List[int]:
    return [int(part) for part in text.split(",")]


@contextlib.contextmanager
def started(number: int) -> Iterator[List[str]]:
    """Starts workers; yields their addresses, and ends them."""
    command = [sys.executable, "-m", "tf1xent", "worker", "--port", "0", "--threads", "1"]
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(number):
            process: Any = subprocess.Popen(
                command, cwd=str(report.ROOT), stdout=subprocess.PIPE, universal_newlines=True
            )
            stack.callback(process.communicate)
            stack.callback(process.terminate)
            processes.append(process)
        lines = [process.stdout.readline().strip() for process in processes]
        if not all(line.startswith("grpc://") for line in lines):
            sys.exit(f"benchmarks: a worker did not start, it printed {lines}")
        yield [line[len("grpc://") :] for line in lines]


class Problem:
    """A network with its data, in a graph of its own and a session of one thread."""

    def __init__(self, case: Case) -> None:
        import tensorflow_sides
        from tensorflow_sides import tf

        import tf1xent

        width = curvature.hidden_width(case.parameters)
        shapes = [[784, width], [width, width], [width, 10]]
        network = curvature_sides.Network(case.rows * case.batches, [784], shapes)
        inputs = curvature_sides.make_inputs(network)
        with tf.Graph().as_default():
            pictures = tf.placeholder(tf.float32, [None, 784])
            labels = tf.placeholder(tf.int64, [None])
            self.weights = [tf.Variable(array) for array in inputs.weights]
            logits = curvature_sides.tensorflow_logits(network, pictures, self.weights)
            self.loss = tf1xent.losses.sparse_softmax_cross_entropy(labels, logits)
            self.session = tensorflow_sides.new_session(argparse.Namespace(threads=1))
            self.session.run([weight.initializer for weight in self.weights])
        batches = [np.split(array, case.batches) for array in inputs[:2]]
        self.feeds = [{pictures: p, labels: classes} for p, classes in zip(*batches)]
        self.vector = np.random.RandomState(0).standard_normal(network.size())

    def operator(self, addresses: Sequence[str]) -> Any:
        """Returns an operator over these workers, or over none."""
        from tf1xent import curvature as library

        with self.session.graph.as_default():
            return library.HessianOperator(
                self.session,
                self.loss,
                self.weights,
                self.feeds,
                workers=[f"grpc://{address}" for address in addresses] or None,
                progress=False,
            )


class Traffic(NamedTuple):
    """What a product moves between the client and its workers; bytes beside what is sent once."""

    connections: int
    up: int
    down: int
    first_up: int


def measure(name: str, numbers: Sequence[int], rounds: int) -> Dict[str, Any]:
    """Returns the samples of each side, the traffic of a product, and the sizes."""
    from tensorflow_sides import tf

    case = CASES[name]
    problem = Problem(case)
    samples: Dict[int, List[float]] = {}
    with started(max(numbers, default=0)) as addresses:
        operators = {number: problem.operator(addresses[:number]) for number in [0, *numbers]}
        # The first product optimises the graph, and sends the parameters to the workers.
        products = {number: made.matvec(problem.vector) for number, made in operators.items()}
        _check(name, products)
        with relay.relayed(addresses[0]) as relayed:
            traffic = _traffic(problem, problem.operator([relayed.address]), relayed)
        turns, shuffle = list(operators), random.Random(0).shuffle
        for _ in range(rounds):
            shuffle(turns)
            for number in turns:
                begin = time.perf_counter()
                operators[number].matvec(problem.vector)
                samples.setdefault(number, []).append(time.perf_counter() - begin)
        operators.clear()  # closes the sessions on the workers, before these end
    print(f"measured {name}", file=sys.stderr)
    return {
        "version": tf.__version__,
        "parameters": len(problem.vector),
        "samples": samples,
        "traffic": traffic,
        "feed": sum(array.nbytes for array in problem.feeds[0].values()),
    }


def _check(name: str, products: Dict[int, Any]) -> None:
    """Ends the program unless all computed the same, and all numbers of workers the same bits."""
    alone, *by_workers = products.values()
    scale = np.abs(alone).max()
    if not all(np.allclose(found, alone, rtol=1e-3, atol=1e-5 * scale) for found in by_workers):
        sys.exit(f"benchmarks: {name}: workers compute another product than the session")
    if not all(np.array_equal(found, by_workers[0]) for found in by_workers):
        sys.exit(f"benchmarks: {name}: the product depends on the number of workers")


def _traffic(problem: Problem, operator: Any, relayed: relay.Relay) -> Traffic:
    operator.matvec(problem.vector)
    first = relayed.connections, relayed.up, relayed.down
    operator.matvec(problem.vector)
    second = relayed.connections, relayed.up, relayed.down
    connections, up, down = (after - before for before, after in zip(first, second))
    return Traffic(connections, up, down, first[1])


# --- What it says ---------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    found = {}
    for name in options.cases:
        with measuring.new_process() as process:
            found[name] = process.submit(measure, name, options.workers, options.rounds).result()
    figures = {
        (name, number): losses.benchmark(f"workers, {name}, {number}", samples)
        for name, one in found.items()
        for number, samples in one["samples"].items()
    }
    version = next(iter(found.values()))["version"]
    title = f"TensorFlow {version}, float32, {options.rounds} rounds, median (quartiles)"
    text = f"{title}\n\n{report.markdown(_times(options, found, figures))}"
    text += f"\n\n{report.markdown(_moved(found))}"
    return text, list(figures.values()), 0


def _times(options: argparse.Namespace, found: Dict[str, Any], figures: Any) -> List[List[str]]:
    rows = [["s a product, **of the session's**, **of one worker's**"]]
    for name, one in found.items():
        case = CASES[name]
        sizes = f"{case.batches} batches of {case.rows} rows, {one['parameters']} parameters"
        rows[0].append(sizes)
    for number in [0, *options.workers]:
        row = [f"{number} worker{'s' if number > 1 else ''}" if number else "the session alone"]
        for name in found:
            cell = report.spread(figures[name, number], 1)
            for base in [b for b in (0, 1) if b < number and (name, b) in figures]:
                ratio = figures[name, number].median() / figures[name, base].median()
                cell += f", **{ratio:.2f}**"
            row.append(cell)
        rows.append(row)
    return rows


def _moved(found: Dict[str, Any]) -> List[List[str]]:
    rows = [["of a batch", *found]]
    titles = (
        "bytes to the worker",
        "the vector and the feed alone",
        "bytes back",
        "the product alone",
    )
    for number, title in enumerate(titles):
        row = [title]
        for name, one in found.items():
            traffic, batches = one["traffic"], CASES[name].batches
            vector = one["parameters"] * FLOAT_BYTES
            values = traffic.up / batches, vector + one["feed"], traffic.down / batches, vector
            row.append(f"{values[number]:.0f}")
        rows.append(row)
    connections = [
        f"{one['traffic'].connections / CASES[n].batches:.0f}" for n, one in found.items()
    ]
    return [*rows, ["connections that only ask whether the worker listens", *connections]]
