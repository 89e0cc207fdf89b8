"""Measures products with curvature matrices, in gradients, and how their cost grows.

    python tools/benchmarks curvature                     # on the TensorFlow at hand
    python tools/benchmarks curvature --torch             # beside PyTorch in this Python
    python tools/benchmarks curvature --torch PYTHON      # beside PyTorch in another Python
    python tools/benchmarks curvature --growth            # by batches and by parameters

The networks are small classifiers, relu, float32. A product is also given in gradients: in units of
the same framework's gradient of the same loss. PyTorch's are torch.func.jvp of torch.func.grad for
the Hessian, and jvp, the closed form and vjp for the Gauss-Newton matrix. Every framework has a
process, and all products take turns in a new random order each round. Times are processor time of
one thread, since other work on the machine does not count in it. What the frameworks compute is
compared before it is timed.

--growth measures the products of a HessianOperator over batches of 16 rows, and on the largest one
the 20 products of Lanczos' method: their time, and the peak of memory above what the process held
after one product.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import curvature_sides
import losses
import measuring
import numpy as np
import pyperf
import report

PRODUCTS = {
    "gradient": "gradient",
    "hessian": "Hessian-vector product",
    "ggn": "Gauss-Newton product",
    "fisher": "Fisher product",
    "empirical": "empirical Fisher product",
}
FRAMEWORKS = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
# What float32 leaves of a scalar that every framework computes of the same weights.
TOLERANCE = 1e-3
ROWS_OF_GROWTH = 16
LANCZOS_STEPS = 20


def numbers(text: str) -> List[int]:
    return [int(part) for part in text.split(",")]


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    networks = losses.names_among(*curvature_sides.NETWORKS)
    add("--networks", type=networks, default=list(curvature_sides.NETWORKS), help="default: all")
    add("--torch", metavar="PYTHON", nargs="?", const=sys.executable, help="beside PyTorch there")
    add("--rounds", type=int, default=15, help="default %(default)s")
    add("--growth", action="store_true", help="also measure how the cost grows")
    add("--parameters", type=numbers, default=[250000, 500000, 1000000], help="of --growth")
    add("--batches", type=numbers, default=[25, 50, 100], help="of --growth")


class Side:
    """A framework in a process of its own, which answers lines of JSON."""

    def __init__(self, framework: str, python: str) -> None:
        self.framework = framework
        command = [python, str(Path(curvature_sides.__file__)), framework]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, universal_newlines=True, **pipes)  # type: ignore

    def ask(self, *request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"benchmarks: the process of {FRAMEWORKS[self.framework]} ended")
        return json.loads(answer)


# --- Products -------------------------------------------------------------------------------------


def measure_network(network: str, sides: List[Side], rounds: int) -> Tuple[List[str], Any]:
    """Returns the versions, and {(framework, product): figures}."""
    versions, calls = [], {}
    dots: Dict[str, float] = {}
    for side in sides:
        version, prepared = side.ask("prepare", network)
        versions.append(f"{FRAMEWORKS[side.framework]} {version}")
        for product, (number, dot) in prepared.items():
            calls[side, product] = number
            if not math.isclose(dot, dots.setdefault(product, dot), rel_tol=TOLERANCE):
                sys.exit(f"benchmarks: {network}: {product} is {dot} and {dots[product]}")
    samples: Dict[Any, List[float]] = {key: [] for key in calls}
    turns, shuffle = list(calls), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(turns)
        for side, product in turns:
            seconds = side.ask("sample", product, calls[side, product])
            samples[side, product].append(seconds)
    print(f"measured {network}", file=sys.stderr)
    return versions, {
        (side.framework, product): losses.benchmark(
            f"curvature, {network}, {product}, {side.framework}", values
        )
        for (side, product), values in samples.items()
    }


def products_table(found: Dict[str, Any]) -> List[List[str]]:
    """Returns the rows: a framework and a product each, then the ratios between frameworks."""
    rows = [["ms, **gradients**"]]
    for network in found:
        size = curvature_sides.NETWORKS[network].size()
        rows[0].append(f"{network}, {size} parameters")
    keys = list(next(iter(found.values())))
    for framework, product in keys:
        row = [f"{PRODUCTS[product]}, {FRAMEWORKS[framework]}"]
        for figures in found.values():
            mine, gradient = figures[framework, product], figures[framework, "gradient"]
            ratio = f", **{mine.median() / gradient.median():.2f}**"
            row.append(report.spread(mine) + (ratio if product != "gradient" else ""))
        rows.append(row)
    for product in [product for framework, product in keys if framework == "torch"]:
        row = [f"{PRODUCTS[product]}, ratio to PyTorch's"]
        for figures in found.values():
            mine, other = (figures[framework, product].median() for framework in FRAMEWORKS)
            row.append(f"**{mine / other:.2f}**")
        rows.append(row)
    return rows


# --- Growth ---------------------------------------------------------------------------------------


def hidden_width(num_parameters: int) -> int:
    """Returns the width of two hidden layers, on 784 inputs, with about so many parameters."""
    return max(1, int((math.sqrt(796**2 + 4 * num_parameters) - 796) / 2))


def network_of_growth(width: int, num_batches: int) -> curvature_sides.Network:
    shapes = [[784, width], [width, width], [width, 10]]
    return curvature_sides.Network(ROWS_OF_GROWTH * num_batches, [784], shapes)


def make_operator(num_parameters: int, num_batches: int) -> Any:
    """Returns a HessianOperator in a new graph and session."""
    import tensorflow_sides
    from tensorflow_sides import tf

    from tf1xent import curvature, nn

    network = network_of_growth(hidden_width(num_parameters), num_batches)
    inputs = curvature_sides.make_inputs(network)
    with tf.Graph().as_default():
        pictures, labels = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.int64, [None])
        weights = [tf.Variable(array) for array in inputs.weights]
        logits = curvature_sides.tensorflow_logits(network, pictures, weights)
        loss = nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        session = tensorflow_sides.new_session(argparse.Namespace(threads=1))
        session.run([weight.initializer for weight in weights])
        batches = [np.split(array, num_batches) for array in inputs[:2]]
        feeds = [{pictures: p, labels: classes} for p, classes in zip(*batches)]
        return curvature.HessianOperator(session, tf.reduce_mean(loss), weights, feeds)


def measure_growth(cases: List[Tuple[int, int]], rounds: int) -> Dict[str, Any]:
    """Returns the seconds of products, by case, and time and memory of Lanczos on the largest."""
    from tf1xent import curvature

    operators = [make_operator(*case) for case in cases]
    vectors = [np.random.RandomState(0).standard_normal(o.shape[0]) for o in operators]
    samples: List[List[float]] = [[] for _ in cases]
    for _ in range(rounds + 1):
        for operator, vector, values in zip(operators, vectors, samples):
            started = time.process_time()
            operator.matvec(vector)
            values.append(time.process_time() - started)
    memory, started = measuring.Memory(), time.process_time()
    curvature.spectral_density(operators[-1], num_steps=LANCZOS_STEPS)
    seconds, above = time.process_time() - started, memory.above_held()
    return {
        "sizes": [operator.shape[0] for operator in operators],
        "samples": [values[1:] for values in samples],  # the first run optimises the graph
        "lanczos": (seconds, above / (8 * operators[-1].shape[0])),
    }


def growth_tables(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark]]:
    """Returns the tables, and the figures."""
    most, largest = max(options.batches), max(options.parameters)
    cases = [(size, most) for size in sorted(options.parameters)[:-1]]
    cases += [(largest, batches) for batches in sorted(options.batches)]
    with measuring.new_process() as process:
        found = process.submit(measure_growth, cases, max(1, options.rounds // 3)).result()
    rows = [["parameters", "batches", "s a product", "of the largest", "if linear"]]
    figures = []
    medians = [statistics.median(values) for values in found["samples"]]
    for size, (_, batches), values in zip(found["sizes"], cases, found["samples"]):
        figures.append(losses.benchmark(f"curvature, growth, {size} x {batches}", values))
        share = statistics.median(values) / medians[-1]
        linear = size * batches / (found["sizes"][-1] * most)
        spread = report.spread(figures[-1], 1)
        rows.append([str(size), str(batches), spread, f"**{share:.2f}**", f"{linear:.2f}"])
    seconds, vectors = found["lanczos"]
    text = f"{LANCZOS_STEPS} Lanczos steps on the largest: {seconds:.0f} s, peak {vectors:.1f} "
    text += "float64 vectors of the parameters' size"
    return f"{report.markdown(rows)}\n\n{text}", figures


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    sides = [Side("tensorflow", sys.executable)]
    sides += [Side("torch", options.torch)] if options.torch else []
    found = {}
    for network in options.networks:
        versions, found[network] = measure_network(network, sides, options.rounds)
    for side in sides:
        side.process.communicate()
    title = f"{', '.join(versions)}, float32, processor time of one thread, {options.rounds} rounds"
    text = f"{title}, median (quartiles)\n\n{report.markdown(products_table(found))}"
    figures = [figure for one in found.values() for figure in one.values()]
    if options.growth:
        table, more = growth_tables(options)
        return f"{text}\n\n{table}", figures + more, 0
    return text, figures, 0
