"""Computes what many tasks cost on paper, from numbers measured with few on this machine.

    python tools/benchmarks scaling                       # from per_task.json
    python tools/benchmarks scaling --gigabits 100 --milliseconds 0.02
    python tools/benchmarks scaling --measure             # measures, and writes per_task.json

Curvature by workers, P parameters in float32, B batches of n rows, W workers:

    bytes   B (8 P + feed + messages)            the vector to a worker and the product back
    rounds  r ceil(B / W)                        one after the other, by each worker
    seconds max(B c P n / W + rounds * latency, B (k P + bytes of a batch / bandwidth))

r are those of a batch, c the seconds of a row and parameter, k those to send, receive and add up
one number: the time of batches so small that they compute next to nothing, with workers on this
machine. What the client does is the same for any W: beyond W* = (seconds to compute a batch) /
(seconds to move it) workers wait for it.

A linear loss with its gradient and one Hessian-vector product in float32, n rows of D features,
C classes on T tasks:

    bytes   (T - 1) n (a + b D)                  of task 0, each way
    rounds  the measured number, for any T
    seconds e n D C / T + rounds * (latency + s) + bytes of the busier way / bandwidth

e are the seconds of a row, feature and class, s those that a round takes on one machine. Task 0's
share grows with T: the sum is smallest at T* = sqrt(e C D * bandwidth / (a + b D)). Left out: what
task 0 does with T numbers of each row, and anything else that uses the network.
"""

import argparse
import contextlib
import json
import math
import statistics
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import curvature_workers
import measuring
import pyperf
import report
import sharded
import tasks

FILE = Path(__file__).with_name("per_task.json")
WORKERS = TASKS = (8, 64, 512)
PARAMETERS = (10**6, 10**8)
DATA_ROWS, BATCH_ROWS = 2**20, (256, 4096)
CLASSES, FEATURES, LOSS_ROWS = 10**7, 128, 1024
BITS = 8
MARKERS = "<!-- scaling -->", "<!-- end of scaling -->"
# Sizes whose bytes give a and b; the last one checks them.
FITTED = (sharded.Problem(8, 4, 30), sharded.Problem(8, 12, 30), sharded.Problem(24, 20, 2000))
ROUND_SAMPLES = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--gigabits", type=float, default=10.0, help="of every link in a second, %(default)s")
    add("--milliseconds", type=float, default=0.1, help="latency of a round, default %(default)s")
    add("--measure", action="store_true", help=f"measure anew, and write {FILE.name}")
    add("--page", metavar="FILE", help=f"also put the tables after {MARKERS[0]} in this file")
    add("--rounds", type=int, default=9, help="of --measure, default %(default)s")


# --- Measured -------------------------------------------------------------------------------------


def measured(rounds: int) -> Dict[str, Any]:
    """Returns the numbers of one task, as `FILE` has them."""
    with measuring.new_process() as process:
        loss = process.submit(loss_numbers, rounds).result()
    by_case = {}
    for name in curvature_workers.CASES:
        with measuring.new_process() as process:
            found = process.submit(curvature_workers.measure, name, [1, 2], rounds)
            by_case[name] = found.result()
    return {
        "TensorFlow": by_case["large"]["version"],
        "workers": worker_numbers(by_case),
        "loss": loss,
    }


def worker_numbers(by_case: Dict[str, Any]) -> Dict[str, float]:
    """Returns c, k and the bytes of the messages and of a row, from runs of both cases."""

    def seconds(name: str, number: int) -> float:
        """Of a batch and parameter."""
        one, case = by_case[name], curvature_workers.CASES[name]
        return statistics.median(one["samples"][number]) / case.batches / one["parameters"]

    def beside(name: str) -> float:
        """Bytes of a batch that are neither the vector, the product nor the feed."""
        one, case = by_case[name], curvature_workers.CASES[name]
        moved = (one["traffic"].up + one["traffic"].down) / case.batches
        return moved - 2 * curvature_workers.FLOAT_BYTES * one["parameters"] - one["feed"]

    case = curvature_workers.CASES["large"]
    connections = by_case["large"]["traffic"].connections / case.batches
    return {
        "seconds of a row and parameter": seconds("large", 0) / case.rows,
        "seconds to move a parameter": min(seconds("small", number) for number in (1, 2)),
        "bytes of messages": max(map(beside, by_case)),
        "bytes of a row": by_case["large"]["feed"] / case.rows,
        # A connection that asks whether the worker is there, and the call itself.
        "rounds of a batch": 1 + connections,
    }


def loss_numbers(rounds: int) -> Dict[str, Any]:
    """Returns e, s, and what `crossing_numbers` has."""
    problem = sharded.Problem(*(sharded.SIZES[name] for name in sharded.Problem._fields))
    large = sharded.measure(problem, [1], rounds)["samples"]["1 task", "hvp"]
    size = problem.batch * problem.features * problem.classes
    with _small_sides([1, 2]) as sides:
        times = {
            number: statistics.median(
                sides[number, FITTED[0]].sample("hvp") for _ in range(ROUND_SAMPLES)
            )
            for number in (1, 2)
        }
    crossing = crossing_numbers()
    return {
        "seconds of a row, feature and class": statistics.median(large) / size,
        "seconds of a round": max(0.0, times[2] - times[1]) / crossing["rounds"],
        **crossing,
    }


def crossing_numbers(numbers: Sequence[int] = (2, 3)) -> Dict[str, Any]:
    """Returns the rounds and, for both ways, a and b of the whole order: of so many tasks."""
    with _small_sides(numbers) as sides:
        crossed = {key: side.crossed("hvp") for key, side in sides.items()}
    return {
        "rounds": max(found.rounds for found in crossed.values()),
        "to a task": fit(crossed, "received"),
        "from a task": fit(crossed, "sent"),
    }


@contextlib.contextmanager
def _small_sides(numbers: Sequence[int]) -> Iterator[Dict[Tuple[int, sharded.Problem], Any]]:
    """Yields the sides of all `FITTED` sizes on clusters of so many tasks."""
    with tasks.started(numbers) as specs, contextlib.ExitStack() as stack:
        sides = {}
        for number, spec in zip(numbers, specs):
            for problem in FITTED:
                sides[number, problem] = sharded.make_side(problem, spec[tasks.JOB])
                for session in sides[number, problem].sessions:
                    stack.callback(session.close)
        yield sides


def fit(crossed: Dict[Tuple[int, sharded.Problem], Any], way: str) -> List[int]:
    """Returns a and b of what a task beside the first receives or sends: n (a + b D) bytes.

    Raises:
      ValueError: a size, a number of tasks or a task does not follow the formula.
    """

    def of_a_row(number: int, problem: sharded.Problem, task: int) -> float:
        return list(getattr(crossed[number, problem], way).values())[task] / problem.batch

    first, second = FITTED[:2]
    slope = (of_a_row(2, second, 1) - of_a_row(2, first, 1)) / (second.features - first.features)
    constant = of_a_row(2, first, 1) - slope * first.features
    rounds = {found.rounds for found in crossed.values()}
    for number, problem in crossed:
        for task in range(1, number):
            expected = constant + slope * problem.features
            if of_a_row(number, problem, task) != expected or len(rounds) > 1:
                raise ValueError(f"{number} tasks, {problem}: {crossed[number, problem]}")
    return [round(constant), round(slope)]


# --- Computed -------------------------------------------------------------------------------------


def worker_row(
    numbers: Dict[str, float], parameters: int, rows: int, bandwidth: float, latency: float
) -> List[str]:
    """Returns a row of the table of workers; bandwidth in bytes a second, latency in seconds."""
    batches = DATA_ROWS // rows
    feed = numbers["bytes of a row"] * rows
    of_a_batch = 2 * curvature_workers.FLOAT_BYTES * parameters + feed
    of_a_batch += numbers["bytes of messages"]
    computing = numbers["seconds of a row and parameter"] * parameters * rows
    moving = numbers["seconds to move a parameter"] * parameters + of_a_batch / bandwidth
    row = [f"{parameters:.0e}".replace("e+0", "e"), str(rows), shown_bytes(batches * of_a_batch)]
    of_one = numbers["rounds of a batch"]
    rounds = [round(of_one * math.ceil(batches / workers)) for workers in WORKERS]
    row.append(", ".join(map(str, rounds)))
    row.append(shown_seconds(batches * computing))
    for workers, number in zip(WORKERS, rounds):
        seconds = max(batches * computing / workers + number * latency, batches * moving)
        row.append(shown_seconds(seconds))
    return [*row, f"{computing / moving:.1f}"]


def loss_row(numbers: Dict[str, Any], number: int, bandwidth: float, latency: float) -> List[str]:
    """Returns a row of the table of the loss."""
    ways = {
        way: (number - 1) * LOSS_ROWS * (constant + slope * FEATURES)
        for way in ("to a task", "from a task")
        for constant, slope in [numbers[way]]
    }
    size = FEATURES * CLASSES / number
    computing = numbers["seconds of a row, feature and class"] * LOSS_ROWS * size
    waiting = numbers["rounds"] * (latency + numbers["seconds of a round"])
    moving = max(ways.values()) / bandwidth
    row = [str(number), shown_bytes(curvature_workers.FLOAT_BYTES * size)]
    row += [shown_bytes(size) for size in ways.values()]
    row += [str(numbers["rounds"]), *map(shown_seconds, (computing, waiting, moving))]
    return [*row, shown_seconds(computing + waiting + moving)]


def best_number(numbers: Dict[str, Any], bandwidth: float) -> float:
    """Returns T*."""
    per_row = max(constant + slope * FEATURES for constant, slope in _ways(numbers))
    work = numbers["seconds of a row, feature and class"] * FEATURES * CLASSES
    return math.sqrt(work * bandwidth / per_row)


def _ways(numbers: Dict[str, Any]) -> List[Sequence[int]]:
    return [numbers["to a task"], numbers["from a task"]]


def shown_bytes(number: float) -> str:
    """Returns bytes in decimal units.

    >>> shown_bytes(1234567.0)
    '1.23 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB" if number < 999.5 else f"{number / 1000:.3g} PB"


def shown_seconds(number: float) -> str:
    """Returns a time in a unit that leaves few digits.

    >>> shown_seconds(0.00123), shown_seconds(150.0), shown_seconds(9000.0)
    ('1.23 ms', '150 s', '2.5 h')
    """
    if number < 1:
        return f"{1000 * number:.3g} ms"
    if number < 1000:
        return f"{number:.2f} s" if number < 10 else f"{number:.0f} s"
    return f"{number / 3600:.1f} h"


def to_markdown(numbers: Dict[str, Any], gigabits: float, milliseconds: float) -> str:
    """Returns the tables that the measured numbers give."""
    bandwidth, latency = gigabits * 1e9 / BITS, milliseconds / 1000
    workers, loss = numbers["workers"], numbers["loss"]
    many = ", ".join(map(str, WORKERS))
    head = ["parameters", "rows a batch", "bytes of a product", f"rounds of a worker, {many}"]
    head += ["one worker computes", *(f"{number} workers" for number in WORKERS), "W*"]
    rows = [head]
    for parameters in PARAMETERS:
        for batch in BATCH_ROWS:
            rows.append(worker_row(workers, parameters, batch, bandwidth, latency))
    head = ["tasks", "weights a task", "task 0 sends", "task 0 receives", "rounds"]
    head += ["computing", "rounds take", "moving", "in all"]
    losses = [loss_row(loss, number, bandwidth, latency) for number in TASKS]
    constants = [
        f"{workers['seconds of a row and parameter'] * 1e9:.3g} ns a row and parameter, "
        f"{workers['seconds to move a parameter'] * 1e9:.3g} ns to move one",
        f"{loss['seconds of a row, feature and class'] * 1e9:.3g} ns a row, feature and class, "
        f"{loss['seconds of a round'] * 1e3:.2g} ms a round",
    ]
    (to_constant, to_slope), (from_constant, from_slope) = _ways(loss)
    per_row = f"to a task {to_constant} + {to_slope} D bytes a row, from it {from_constant} + "
    per_row += f"{from_slope} D"
    title = f"TensorFlow {numbers['TensorFlow']}, {gigabits:g} Gbit/s, {milliseconds:g} ms"
    return "\n\n".join(
        [
            f"{title}; a Hessian product over {DATA_ROWS} rows, {constants[0]}:",
            report.markdown(rows),
            f"{title}; loss, gradient and Hessian product, {LOSS_ROWS} rows x {FEATURES} features "
            f"x {CLASSES:.0e}".replace("e+0", "e")
            + f" classes, {constants[1]}, {per_row}:",
            report.markdown([head, *losses]),
            f"T* = {best_number(loss, bandwidth):.0f} tasks.",
        ]
    )


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, no figures, and the exit code."""
    if options.measure:
        text = json.dumps(measured(options.rounds), indent=2)
        FILE.write_text(text + "\n", encoding="utf-8")
    numbers = json.loads(FILE.read_text(encoding="utf-8"))
    text = to_markdown(numbers, options.gigabits, options.milliseconds)
    if options.page:
        page = Path(options.page).read_text(encoding="utf-8")
        before, _, rest = page.partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        parts = [before + MARKERS[0], text, MARKERS[1] + after]
        Path(options.page).write_text("\n\n".join(parts), encoding="utf-8")
    return text, [], 0
