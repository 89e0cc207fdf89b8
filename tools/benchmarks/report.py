"""What the benchmark of the losses says of its figures: tables, a plot, limits that do not hold."""

import itertools
import math
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import pyperf

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # of all processes

from tf1xent._table import markdown  # noqa: E402

TITLES = {
    "loss": "loss",
    "gradient": "loss + gradient",
    "hvp": "loss + Hessian-vector product",
    "product": "Hessian-vector product",
}
NAMES = {
    "read": "one read of the logits",
    "copy": "one copy of the logits",
    "graph": "tf1xent graph",
    "kernel": "tf1xent kernel",
    "rewritten": "tf1xent, rewritten graph",
    "before-graph": "tf1xent graph, before",
    "before-kernel": "tf1xent kernel, before",
    "stock": "TF",
    "plain": "TF, plain formula",
    "torch": "PyTorch",
    "jax": "JAX",
}
LIMIT_OF_ORDER = {"loss": "read", "gradient": "copy", "hvp": "copy", "product": "copy"}
# What our times are also divided by.
BASES = {"read": "the read", "copy": "the copy", "before": "that before"}
BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
MEBIBYTE = 1024.0**2
Shape = Tuple[int, int]
Key = Tuple[Shape, str, str]  # shape, order, side


class Report(NamedTuple):
    """What one dtype and one number of threads gave; an error stands where there is no figure."""

    title: str
    versions: Dict[str, str]
    dtype: str
    threads: int
    is_dense: bool
    shapes: List[Shape]
    orders: List[str]
    sides: List[str]
    times: Dict[Key, Union[pyperf.Benchmark, str]]
    memory: Dict[Key, Union[int, str]]
    disagreements: List[str]

    def median(self, shape: Shape, order: str, side: str) -> Optional[float]:
        """Returns the seconds of a side, or None where it has none."""
        found = self.times.get((shape, order, side))
        return found.median() if isinstance(found, pyperf.Benchmark) else None

    def ratio(self, shape: Shape, order: str, side: str, other: str) -> Optional[float]:
        """Returns the ratio of two sides' medians, or None where either has none."""
        mine, its = self.median(shape, order, side), self.median(shape, order, other)
        return None if mine is None or its is None else mine / its


def shape_text(shape: Sequence[int]) -> str:
    return "{}x{}".format(*shape)


def geometric_mean(values: Iterable[Optional[float]]) -> Optional[float]:
    """Returns the geometric mean, or None where any is None: of a part it would mislead."""
    logarithms = [None if value is None else math.log(value) for value in values]
    if not logarithms or None in logarithms:
        return None
    return math.exp(sum(logarithms) / len(logarithms))  # type: ignore[arg-type]


# --- Tables ---------------------------------------------------------------------------------------


def number(value: Optional[float], form: str = "{:.2f}") -> str:
    return "" if value is None else form.format(value)


def spread(benchmark: pyperf.Benchmark, factor: float = 1e3) -> str:
    """Returns median and quartiles, in milliseconds."""
    quartiles = [factor * benchmark.percentile(q) for q in (50, 25, 75)]
    return "{:.3g} ({:.3g} to {:.3g})".format(*quartiles)


def times_row(report: Report, order: str, side: str) -> List[str]:
    """Returns the times of a side, and their ratios to TensorFlow's op; or what was raised."""
    compared = side not in ("stock", "read", "copy")
    ratios = [report.ratio(s, order, side, "stock") if compared else None for s in report.shapes]
    row = [f"{TITLES[order]}, {NAMES[side]}"]
    for shape, ratio in zip(report.shapes, ratios):
        found = report.times[shape, order, side]
        text = found.split(":")[0] if isinstance(found, str) else spread(found)
        row.append(text + number(ratio, ", **{:.2f}**"))
    return row + [number(geometric_mean(ratios), "**{:.2f}**")]


def times_table(report: Report) -> str:
    """Returns the table of all times, a row for each order and side."""
    header = ["ms, **ratio to TF**", *map(shape_text, report.shapes), "geometric mean"]
    rows = [header]
    for order in report.orders:
        limit = LIMIT_OF_ORDER[order]
        sides = [side for side in report.sides if side not in ("read", "copy") or side == limit]
        rows += [times_row(report, order, side) for side in sides]
        for side, base in itertools.product(("graph", "kernel", "rewritten"), BASES):
            base = "before-" + side if base == "before" else base
            if {side, base} <= set(sides):
                rows.append(ratios_row(report, order, side, base))
    return markdown(rows)


def ratios_row(report: Report, order: str, side: str, base: str) -> List[str]:
    ratios = [report.ratio(shape, order, side, base) for shape in report.shapes]
    title = f"{TITLES[order]}, {NAMES[side]}, times {BASES[base.split('-')[0]]}"
    return [title, *map(number, ratios), number(geometric_mean(ratios))]


def memory_table(report: Report) -> str:
    """Returns the table of peaks above what the process held with its inputs made."""
    shapes = list(dict.fromkeys(shape for shape, _, _ in report.memory))
    sizes = [shape[0] * shape[1] * BYTES[report.dtype] / MEBIBYTE for shape in shapes]
    rows = [["peak memory above the inputs', MiB", *map(shape_text, shapes)]]
    rows.append(["the logits themselves", *(f"{size:.1f}" for size in sizes)])
    for order, side in dict.fromkeys((order, side) for _, order, side in report.memory):
        taken = [report.memory[shape, order, side] for shape in shapes]
        texts = [t.split(":")[0] if isinstance(t, str) else f"{t / MEBIBYTE:.1f}" for t in taken]
        rows.append([f"{TITLES[order]}, {NAMES[side]}", *texts])
    return markdown(rows)


def versions_of(report: Report) -> List[str]:
    return [f"{name} {version}" for name, version in report.versions.items()]


def to_markdown(report: Report) -> str:
    """Returns everything about one dtype and one number of threads."""
    parts = [", ".join([*versions_of(report), report.title]), times_table(report)]
    notes = [f"Results differ at {text}." for text in report.disagreements]
    parts += ["\n".join(notes)] if notes else []
    return "\n\n".join(parts + ([memory_table(report)] if report.memory else []))


# --- Limits ---------------------------------------------------------------------------------------


class Limit(NamedTuple):
    """What the kernels must keep with 2 threads, float32 and sparse labels.

    The kernel's time of `order` is divided by that of `other`: a side of the same order; "fastest
    reference", the faster one of PyTorch and JAX; or "own gradient", the kernel's loss + gradient.
    """

    order: str
    other: str
    most: float
    of: str
    at: str


EVERY_CELL, GEOMETRIC_MEAN = "every cell", "geometric mean"
ALL, LARGE, VOCABULARY = "all shapes", "1 MB of logits or more", "512x50257, TF 2.x"
LIMITS = (
    Limit("gradient", "stock", 0.5, EVERY_CELL, ALL),
    Limit("gradient", "stock", 0.33, GEOMETRIC_MEAN, ALL),
    Limit("loss", "stock", 0.35, EVERY_CELL, LARGE),
    Limit("hvp", "stock", 0.3, GEOMETRIC_MEAN, ALL),
    Limit("hvp", "own gradient", 1.3, EVERY_CELL, ALL),
    Limit("product", "own gradient", 1.3, EVERY_CELL, ALL),  # a closed form needs no loss
    Limit("gradient", "fastest reference", 1.0, EVERY_CELL, LARGE),
    Limit("hvp", "fastest reference", 1.0, EVERY_CELL, LARGE),
    Limit("gradient", "copy", 2.0, EVERY_CELL, VOCABULARY),
    Limit("loss", "read", 1.3, EVERY_CELL, VOCABULARY),
)
VOCABULARY_SHAPE = (512, 50257)
LARGE_BYTES = 10**6


def in_reach(limit: Limit, shape: Shape, report: Report) -> bool:
    """Tells whether a limit is one for this shape."""
    if limit.at == LARGE:
        return shape[0] * shape[1] * BYTES[report.dtype] >= LARGE_BYTES
    is_old = report.versions.get("TensorFlow", "").startswith("1.")
    return limit.at == ALL or (shape == VOCABULARY_SHAPE and not is_old)


def limited_ratio(limit: Limit, shape: Shape, report: Report) -> Optional[float]:
    """Returns the ratio that a limit is for, or None where a side of it was not measured."""
    if limit.other == "fastest reference":
        ratios = [report.ratio(shape, limit.order, "kernel", side) for side in ("torch", "jax")]
        return None if None in ratios else max(ratios)  # type: ignore[type-var]
    if limit.other == "own gradient":
        mine = report.median(shape, limit.order, "kernel")
        own = report.median(shape, "gradient", "kernel")
        return None if mine is None or own is None else mine / own
    return report.ratio(shape, limit.order, "kernel", limit.other)


def check_limit(limit: Limit, report: Report) -> Tuple[str, Optional[bool]]:
    """Returns a line about one limit, and whether it holds: None where it was not measured."""
    other = NAMES.get(limit.other, limit.other)
    title = f"{TITLES[limit.order]}, kernel to {other}, {limit.of}, {limit.at}"
    shapes = [
        s for s in report.shapes if limit.order in report.orders and in_reach(limit, s, report)
    ]
    ratios = {shape: limited_ratio(limit, shape, report) for shape in shapes}
    if not ratios or None in ratios.values():
        return f"not measured: {title}", None
    known = {shape: ratio for shape, ratio in ratios.items() if ratio is not None}
    worst = max(known, key=lambda shape: known[shape])
    found, where = known[worst], f" at {shape_text(worst)}"
    if limit.of == GEOMETRIC_MEAN:
        found, where = geometric_mean(known.values()) or 0.0, ""
    verdict = "holds" if found <= limit.most else "DOES NOT HOLD"
    return f"{verdict}: {title}: {found:.2f}{where}, at most {limit.most}", found <= limit.most


def check_memory(report: Report) -> Tuple[str, Optional[bool]]:
    """Returns a line about the peak of loss + gradient, and whether its limit holds, or None."""
    title = "loss + gradient, peak memory at 512x50257 below TF's by the logits' size"
    kernel, stock = (
        report.memory.get((VOCABULARY_SHAPE, "gradient", side)) for side in ("kernel", "stock")
    )
    if not isinstance(kernel, int) or not isinstance(stock, int):
        return f"not measured: {title}", None
    times = (stock - kernel) / (512 * 50257 * BYTES[report.dtype])
    verdict = "holds" if times >= 1 else "DOES NOT HOLD"
    return f"{verdict}: {title}: by {times:.2f} times, at least 1", times >= 1


def check(reports: Iterable[Report]) -> Tuple[List[str], bool]:
    """Returns lines about all limits, and whether none is missed and any was measured."""
    lines: List[str] = []
    results: List[bool] = []
    for report in reports:
        if (report.threads, report.dtype, report.is_dense) != (2, "float32", False):
            continue
        found = [check_limit(limit, report) for limit in LIMITS] + [check_memory(report)]
        lines += [line for line, _ in found]
        results += [holds for _, holds in found if holds is not None]
        lines += [f"DOES NOT HOLD: all compute the same: {text}" for text in report.disagreements]
        results += [False] * len(report.disagreements)
    if not results:
        lines.append("DOES NOT HOLD: nothing was measured that has a limit")
    return lines, bool(results) and all(results)


# --- Plot -----------------------------------------------------------------------------------------

# Ours in one colour, TensorFlow's in greys, and a marker each, for those who see no colours.
LOOKS = {
    "kernel": ("#0b5fa5", "o"),
    "graph": ("#6fb1e4", "o"),
    "rewritten": ("#6fb1e4", "D"),
    "stock": ("#222222", "s"),
    "plain": ("#999999", "s"),
    "torch": ("#d9541e", "^"),
    "jax": ("#7b4ab5", "v"),
    "read": ("#2e8b57", "_"),
    "copy": ("#2e8b57", "_"),
}


def draw_panel(axes: Any, report: Report, order: str) -> None:
    """Draws one order's times over the shapes, with quartiles."""
    others = {"read", "copy"} - {LIMIT_OF_ORDER[order]}
    sides = [side for side in report.sides if side in LOOKS and side not in others]
    for position, side in enumerate(sides):
        colour, marker = LOOKS[side]
        found = [(x, report.times[s, order, side]) for x, s in enumerate(report.shapes)]
        points = [(x, b) for x, b in found if isinstance(b, pyperf.Benchmark)]
        xs = [x + 0.7 * ((position + 0.5) / len(sides) - 0.5) for x, _ in points]
        low, middle, high = ([1e3 * b.percentile(q) for _, b in points] for q in (25, 50, 75))
        bars = [[m - v for m, v in zip(middle, low)], [v - m for m, v in zip(middle, high)]]
        axes.errorbar(xs, middle, bars, fmt=marker, color=colour, label=NAMES[side])
    axes.set(yscale="log", title=TITLES[order], xticks=range(len(report.shapes)))
    axes.set_xticklabels(map(shape_text, report.shapes), rotation=30, ha="right")
    axes.grid(axis="y", color="#dddddd")


def plot(reports: Sequence[Report], path: str) -> None:
    """Writes the figure: a row for each report, a panel for each order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = len(reports), len(reports[0].orders)
    size = 1.5 + 4.6 * columns, 1.5 + 4.4 * rows
    figure, panels = pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharey="row")
    for report, row in zip(reports, panels):
        for order, axes in zip(report.orders, row):
            draw_panel(axes, report, order)
        row[0].set_ylabel(f"milliseconds, {report.dtype}, {report.threads} thread(s)")
    figure.suptitle("Softmax cross-entropy; {}".format(", ".join(versions_of(reports[0]))))
    figure.tight_layout(rect=(0, 0.9 / size[1], 1, 0.97))
    figure.legend(*panels[0][-1].get_legend_handles_labels(), loc="lower center", ncol=5)
    figure.savefig(path, dpi=110)
