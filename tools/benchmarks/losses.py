"""Compares softmax cross-entropy: tf1xent, TensorFlow, PyTorch, JAX, and the machine's limit.

    python tools/benchmarks losses                   # on the TensorFlow at hand
    python tools/benchmarks losses --frameworks      # PyTorch and JAX too, where they are installed
    python tools/benchmarks losses --threads 1,2 --frameworks --memory --plot times.png --check
    python tools/benchmarks losses --only ours,stock --before ../before --json result.json

The sides:

    graph     tf1xent, of TensorFlow's own operations
    kernel    tf1xent, by its native kernels (python -m tf1xent build-kernels)
    before-*  graph and kernel of another checkout, --before
    rewritten TensorFlow's op after tf1xent.graphs.rewrite_graph_def, --rewritten
    stock     TensorFlow's fused op
    plain     tf.reduce_logsumexp(logits) - tf.gather_nd(logits, labels), by plain autodiff
    torch     F.cross_entropy
    jax       optax's cross-entropy under jax.jit
    read      one read of the bytes of the logits, where TensorFlow has them, the limit of a loss
    copy      one copy of them, the limit of a gradient

and the orders, by each of which every side hands back the same results:

    loss      the loss of every example
    gradient  the loss, and its gradient with respect to the logits
    hvp       the loss, and the product of its Hessian with a vector: TensorFlow's by
              tf.gradients(gradient, logits, grad_ys=vector), PyTorch's by double backward or
              torch.func.jvp of torch.func.grad, whichever is faster, JAX's by forward over reverse
    product   that product alone (not among the default orders)

Every framework has one process for a shape, held to as many processors as there are threads. All
sides take turns there, in a new random order each round. A process times its own calls: the way to
it is not counted, but a Session's overhead is. The same inputs go to all sides, and what they
compute is compared before it is timed. The tables are Markdown: the median of the milliseconds of
one call, the quartiles in brackets, and the ratio to TensorFlow's fused op: below 1 is faster.
Where a framework has no such derivative or dtype, the cell says what it raises. `python -m pyperf`
reads the file of --json: `compare_to` compares two, `stats` and `hist` show one.
"""

import argparse
import contextlib
import itertools
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import measuring
import pyperf
import report
import worker

SHAPES = "128x1000,8192x32,65536x10,512x50257,1x1000000,4096x4096"
DTYPES = ("float32", "float64", "float16", "bfloat16")
FRAMEWORKS = {
    "tensorflow": ("read", "copy", "graph", "kernel", "rewritten", "stock", "plain"),
    "before": ("before-graph", "before-kernel"),
    "torch": ("torch",),
    "jax": ("jax",),
}
SIDES = tuple(itertools.chain.from_iterable(FRAMEWORKS.values()))
# Between two processes: OpenMP's threads, which PyTorch has, were seen to spin for 8 ms after
# their last work, on processors that are the next one's.
PAUSE_SECONDS = 0.01
# TensorFlow 2.5 and later keep freed buffers in a pool: memory that making the inputs took would
# count as held, and a peak below it would not show.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "0")
# How far what the sides compute of the same inputs may be apart, of the larger one.
TOLERANCES = {"float32": 1e-3, "float64": 1e-5, "float16": 0.05, "bfloat16": 0.2}


def shapes(text: str) -> List[report.Shape]:
    found = [tuple(int(size) for size in shape.split("x")) for shape in text.split(",")]
    if any(len(shape) != 2 or min(shape) < 1 for shape in found):
        raise ValueError(text)
    return found  # type: ignore[return-value]


def names_among(*known: str) -> Callable[[str], List[str]]:
    def names(text: str) -> List[str]:
        if not set(text.split(",")) <= set(known):
            raise argparse.ArgumentTypeError(f"must be among {','.join(known)}, got {text}")
        return text.split(",")

    return names


def thread_numbers(text: str) -> List[int]:
    numbers = [int(part) for part in text.split(",")]
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if min(numbers) < 1 or max(numbers) > (available or 1):
        raise argparse.ArgumentTypeError(f"must be from 1 to {available}, the processors there are")
    return numbers


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--shapes", type=shapes, default=SHAPES, help="batch x classes, default %(default)s")
    add("--orders", type=names_among(*report.TITLES), default="loss,gradient,hvp")
    add("--dtype", type=names_among(*DTYPES), default="float32", help="one or more")
    add("--dense", action="store_true", help="soft labels, [batch, classes]")
    add("--weighted", action="store_true", help="weight the examples: no cotangent of ones")
    add("--only", type=names_among("ours", *SIDES), help="these sides alone; ours: graph, kernel")
    add("--rewritten", action="store_true", help="measure the rewritten graph in place of ours")
    add("--before", metavar="CHECKOUT", default="", help="also graph and kernel of this checkout")
    references = names_among("torch", "jax")
    add("--frameworks", type=references, nargs="?", const=["torch", "jax"], default=[])
    add("--threads", type=thread_numbers, default=[2], help="one or more numbers, default 2")
    add("--rounds", type=int, default=31, help="at least, default %(default)s")
    add("--seconds", type=float, default=2, help="a cell takes at least, default %(default)s")
    at = [(512, 50257)]
    add("--memory", type=shapes, nargs="?", const=at, default=[], help="peaks too, of these shapes")
    add("--plot", metavar="FILE", help="also draw the times into this PNG file (matplotlib)")
    add("--check", action="store_true", help="exit 1 and say so if tf1xent misses its limits")


def chosen_sides(options: argparse.Namespace) -> List[str]:
    """Returns the sides that the options ask for."""
    ours = ["rewritten"] if options.rewritten else ["graph", "kernel"]
    before = FRAMEWORKS["before"] if options.before else ()
    wanted = {"read", "copy", "stock", "plain", *ours, *before, *options.frameworks}
    if options.only:
        wanted = {*options.only, *before, *(ours if "ours" in options.only else ())}
    return [side for side in SIDES if side in wanted]


class Processes:
    """A process for each framework of some sides, with what it says when it has started."""

    def __init__(self, sides: Sequence[str], settings: Dict[str, Any], before: str) -> None:
        self.stack = contextlib.ExitStack()
        self.executors: Dict[str, Any] = {}
        self.started: Dict[str, Any] = {}
        self.last = ""
        for framework, own in FRAMEWORKS.items():
            if set(own).isdisjoint(sides):
                continue
            checkout = Path(before).resolve() if framework == "before" else report.ROOT
            asked = dict(settings, framework=framework, checkout=str(checkout))
            self.executors[framework] = self.stack.enter_context(measuring.new_process())
            # A session that is left to the end of its process may never end.
            self.stack.callback(self.ask, framework, worker.stop)
            self.started[framework] = self.ask(framework, worker.start, asked)

    def ask(self, framework: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.executors[framework].submit(function, *arguments).result()

    def sample(self, order: str, side: str, number: int) -> float:
        framework = next(name for name, own in FRAMEWORKS.items() if side in own)
        if framework != self.last:
            time.sleep(PAUSE_SECONDS)
        self.last = framework
        return self.ask(framework, worker.sample, order, side, number)


def disagreements(prints: Dict[str, List[float]], dtype: str) -> List[str]:
    """Returns what the sides' fingerprints say against each other, in words."""
    found = []
    reference = next((side for side in ("stock", "graph", *prints) if prints.get(side)), "")
    for side, numbers in prints.items():
        for number, expected in zip(numbers, prints.get(reference, [])):
            if not math.isclose(number, expected, rel_tol=TOLERANCES[dtype]):
                found.append(f"{side} computes {number:.6g} where {reference} has {expected:.6g}")
    return found


def take_turns(
    order: str, numbers: Dict[str, int], processes: Processes, options: argparse.Namespace
) -> Dict[str, List[float]]:
    """Returns {side: seconds of one call, one figure a round}.

    There are at least --rounds rounds, and more until --seconds have passed: cheap calls, which a
    busy machine disturbs most, get the most rounds.
    """
    turns, shuffle = list(numbers), random.Random(0).shuffle
    samples: Dict[str, List[float]] = {side: [] for side in turns}
    end = time.perf_counter() + options.seconds
    for round_number in itertools.count():
        if round_number >= options.rounds and time.perf_counter() >= end:
            break
        shuffle(turns)
        for side in turns:
            samples[side].append(processes.sample(order, side, numbers[side]))
    return samples


def benchmark(name: str, values: Sequence[float], **metadata: Any) -> pyperf.Benchmark:
    """Returns figures as pyperf has them, which computes their statistics and writes them."""
    shown = {"name": name, **{key: value for key, value in metadata.items() if value}}
    return pyperf.Benchmark([pyperf.Run(values, metadata=shown, collect_metadata=False)])


def prepare(
    shape: report.Shape, processes: Processes, options: argparse.Namespace, into: report.Report
) -> Dict[Tuple[str, str], Any]:
    """Returns what `worker.prepare` says of all sides, after leaving out those that are missing."""
    answers: Dict[Tuple[str, str], Any] = {}
    for framework, (versions, missing) in processes.started.items():
        into.versions.update(versions if framework != "before" else {})
        for side in sorted(set(missing) & set(into.sides)):
            if side in (options.only or []):
                sys.exit(f"benchmarks: --only {side}: {missing[side]}")
            print(f"left out: {side}: {missing[side]}", file=sys.stderr)
            into.sides.remove(side)
        own = [side for side in into.sides if side in FRAMEWORKS[framework]]
        if own:
            answers.update(processes.ask(framework, worker.prepare, shape, options.orders, own))
    return answers


def measure_order(
    shape: report.Shape,
    order: str,
    answers: Dict[str, Any],
    processes: Processes,
    options: argparse.Namespace,
    into: report.Report,
) -> None:
    """Adds the figures of all sides to the report."""
    made = {side: answer for side, answer in answers.items() if not isinstance(answer, str)}
    where = f"{report.shape_text(shape)}, {report.TITLES[order]}"
    texts = disagreements({side: prints for side, (_, prints, _) in made.items()}, into.dtype)
    into.disagreements.extend(f"{where}: {text}" for text in texts)
    numbers = {side: number for side, (number, _, _) in made.items()}
    samples = take_turns(order, numbers, processes, options)
    for side, answer in answers.items():
        into.times[shape, order, side] = answer
        if side in samples:
            number, prints, way = answer
            name = f"{where}, {side}, {into.dtype}, {into.threads} threads"
            figures = {"loops": number, "way": way, "fingerprint": " ".join(map(str, prints))}
            into.times[shape, order, side] = benchmark(name, samples[side], **figures)
    print(f"measured {where}", file=sys.stderr)


def measure(dtype: str, threads: int, options: argparse.Namespace) -> report.Report:
    """Returns the report of one dtype and one number of threads."""
    settings = {"dtype": dtype, "threads": threads}
    settings.update(dense=options.dense, weighted=options.weighted)
    title = f"{'soft' if options.dense else 'integer'} labels, {dtype}, {threads} thread(s), "
    title += "weighted, " if options.weighted else ""
    title += f"{options.rounds} rounds or more, median (quartiles)"
    sides = chosen_sides(options)
    lists = list(options.shapes), list(options.orders), sides
    made = report.Report(title, {}, dtype, threads, options.dense, *lists, {}, {}, [])
    for shape in options.shapes:
        processes = Processes(sides, settings, options.before)  # without what shapes before left
        with processes.stack:
            prepared = prepare(shape, processes, options, made)
            for order in options.orders:
                answers = {side: prepared[order, side] for side in sides}
                measure_order(shape, order, answers, processes, options, made)
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
    timed = [side for side in sides if side not in ("read", "copy")]
    for shape, order, side in itertools.product(options.memory, options.orders, timed):
        processes = Processes([side], settings, options.before)
        with processes.stack:
            (framework,) = processes.executors
            taken = processes.ask(framework, worker.memory, shape, order, side)
        made.memory[shape, order, side] = taken
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "0"
    return made


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    if options.memory and sys.platform != "linux":
        sys.exit("benchmarks: --memory needs Linux, whose /proc tells the peak")
    if options.only:
        options.frameworks = [name for name in ("torch", "jax") if name in options.only]
    reports = []
    for dtype, threads in itertools.product(options.dtype, options.threads):
        reports.append(measure(dtype, threads, options))
    text = "\n\n".join(map(report.to_markdown, reports))
    lines, holds = report.check(reports) if options.check else ([], True)
    text += "\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
    if options.plot:
        report.plot(reports, options.plot)
    figures = [f for made in reports for f in made.times.values() if not isinstance(f, str)]
    for made in reports:
        for (shape, order, side), size in made.memory.items():
            if not isinstance(size, str):
                name = f"peak memory, {report.shape_text(shape)}, {order}, {side}, {made.dtype}"
                figures.append(benchmark(name, [size], unit="byte", threads=made.threads))
    return text, figures, 0 if holds else 1
