"""What tools/benchmark.py says of its figures: tables, a plot, and which limits do not hold.

A report is what one dtype and one number of threads gave:

    {"versions", "dtype", "threads", "labels", "intermediate", "weighted", "rounds", "sides",
     "orders",
     "cells": [{"shape", "order", "disagreements", "sides": {side: {"median", "lower", "upper",
                "samples", "way"} or {"error"}}}],
     "memory": [{"shape", "order", "side", "bytes"}]}
"""

import collections
import sys
from typing import Any, Dict, List

import measuring

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
    "stock": "TF",
    "plain": "TF, plain formula",
    "torch": "PyTorch",
    "jax": "JAX",
}
OURS = ("graph", "kernel", "rewritten")
LIMIT_OF_ORDER = {"loss": "read", "gradient": "copy", "hvp": "copy", "product": "copy"}
BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


# --- Ratios ---------------------------------------------------------------------------------------


def median(cell, side):
    """Returns the milliseconds of a side, or None where it has none."""
    return cell["sides"].get(side, {}).get("median")


def ratio(cell, side, other):
    """Returns the ratio of two sides' medians, or None where either has none."""
    mine, its = median(cell, side), median(cell, other)
    return None if mine is None or its is None else mine / its


def cells_of(report, order):
    return [cell for cell in report["cells"] if cell["order"] == order]


def mean_of_all(values):
    """Returns the geometric mean, or None where any is None: of a part it would mislead."""
    values = list(values)
    if not values or None in values:
        return None
    return measuring.geometric_mean(values)


# --- Tables ---------------------------------------------------------------------------------------


def shape_text(shape):
    return "{}x{}".format(*shape)


def bold(number):
    return "" if number is None else f"**{number:.2f}**"


def format_cell(cell, side):
    """Returns the times, and the ratio to TensorFlow's fused op; or what was raised."""
    times = cell["sides"][side]
    if "error" in times:
        return times["error"].split(":")[0]
    text = measuring.format_times(times)
    compared = ratio(cell, side, "stock")
    if compared is None or side in ("stock", "read", "copy"):
        return text
    return f"{text}, {bold(compared)}"


def times_table(report):
    """Returns the table of all times, a row for each order and side."""
    orders = report["orders"]
    shapes = [shape_text(cell["shape"]) for cell in cells_of(report, orders[0])]
    lines = [["ms, **ratio to TF**"] + shapes + ["geometric mean"]]
    for order in orders:
        row = cells_of(report, order)
        limit = LIMIT_OF_ORDER[order]
        for side in report["sides"]:
            if side in ("read", "copy") and side != limit:
                continue
            compared = side not in ("stock", "read", "copy")
            means = [mean_of_all(ratio(cell, side, "stock") for cell in row)] if compared else []
            texts = [format_cell(cell, side) for cell in row]
            title = f"{TITLES[order]}, {NAMES[side]}"
            lines.append([title] + texts + ["".join(bold(mean) for mean in means)])
        for side in report["sides"] if limit in report["sides"] else []:
            if side in OURS:
                ratios = [ratio(cell, side, limit) for cell in row]
                title = f"{TITLES[order]}, {NAMES[side]}, times the {limit}"
                texts = ["" if value is None else f"{value:.2f}" for value in ratios]
                mean = mean_of_all(ratios)
                lines.append([title] + texts + ["" if mean is None else f"{mean:.2f}"])
    return measuring.markdown_table(lines)


def memory_table(report):
    """Returns the table of peaks above what the process held with its inputs made."""
    shapes = []
    for taken in report["memory"]:
        if taken["shape"] not in shapes:
            shapes.append(taken["shape"])
    rows: Dict[Any, Dict[Any, str]] = collections.OrderedDict()
    for taken in report["memory"]:
        size = taken["bytes"]
        # An error in the place of a number: TensorFlow has no such derivative.
        text = size.split(":")[0] if isinstance(size, str) else f"{size / measuring.MEBIBYTE:.1f}"
        rows.setdefault((taken["order"], taken["side"]), {})[tuple(taken["shape"])] = text
    logits = [shape[0] * shape[1] * BYTES[report["dtype"]] / measuring.MEBIBYTE for shape in shapes]
    lines = [["peak memory above the inputs', MiB"] + [shape_text(shape) for shape in shapes]]
    lines.append(["the logits themselves"] + [f"{size:.1f}" for size in logits])
    for (order, side), texts in rows.items():
        title = f"{TITLES[order]}, {NAMES[side]}"
        lines.append([title] + [texts.get(tuple(shape), "") for shape in shapes])
    return measuring.markdown_table(lines)


def describe(report):
    """Returns the line above a table: what was measured, and how."""
    versions = ["{} {}".format(*item) for item in report["versions"].items()]
    parts = versions + [f"{report['labels']} labels", report["dtype"]]
    parts += ["weighted"] if report["weighted"] else []
    parts += ["logits an operation's result"] if report["intermediate"] else []
    threads = report["threads"]
    parts.append("1 thread" if threads == 1 else f"{threads} threads")
    return ", ".join(parts + [f"{report['rounds']} rounds or more, median (quartiles)"])


def notes(report):
    """Returns lines about what a table cannot show: ways that were taken, results that differ."""
    lines = []
    ways: Dict[str, List[str]] = {}
    for cell in report["cells"]:
        for side, times in cell["sides"].items():
            if times.get("way"):
                order = "" if side in ("read", "copy") else TITLES[cell["order"]] + ", "
                found = ways.setdefault(order + NAMES[side], [])
                if times["way"] not in found:
                    found.append(times["way"])
        lines += [
            "Results differ at {}, {}: {}.".format(
                shape_text(cell["shape"]), TITLES[cell["order"]], text
            )
            for text in cell["disagreements"]
        ]
    taken = ["{}: {}".format(what, " or ".join(names)) for what, names in ways.items()]
    return lines + (["Ways taken: {}.".format("; ".join(taken))] if taken else [])


def format_report(report):
    """Returns everything about one dtype and one number of threads, in Markdown."""
    parts = [describe(report), times_table(report)]
    parts += ["\n".join(notes(report))] if notes(report) else []
    parts += [memory_table(report)] if report["memory"] else []
    return "\n\n".join(parts)


# --- Limits ---------------------------------------------------------------------------------------

# What the native kernels must keep, with 2 threads, float32 and sparse labels. The kernel's time of
# an order is divided by that of `other`: a side of the same order; "fastest reference", the faster
# one of PyTorch and JAX; or "own gradient", the kernel's own loss + gradient of the same shape.
Limit = collections.namedtuple("Limit", "order other most of at")
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
LARGE_BYTES = 10**6
VOCABULARY_SHAPE = [512, 50257]


def in_reach(limit, cell, report):
    """Tells whether a limit is one for this cell."""
    if limit.at == LARGE:
        return cell["shape"][0] * cell["shape"][1] * BYTES[report["dtype"]] >= LARGE_BYTES
    if limit.at == VOCABULARY:
        new = not report["versions"].get("TensorFlow", "").startswith("1.")
        return new and cell["shape"] == VOCABULARY_SHAPE
    return True


def limited_ratio(limit, cell, report):
    """Returns the ratio that a limit is for, or None where a side of it was not measured."""
    if limit.other == "fastest reference":
        ratios = [ratio(cell, "kernel", reference) for reference in ("torch", "jax")]
        return None if None in ratios else max(ratios)
    if limit.other == "own gradient":
        gradients = cells_of(report, "gradient")
        own = [median(other, "kernel") for other in gradients if other["shape"] == cell["shape"]]
        mine = median(cell, "kernel")
        return None if mine is None or own in ([], [None]) else mine / own[0]
    return ratio(cell, "kernel", limit.other)


def check_limit(limit, report):
    """Returns a line about one limit, and whether it holds: None where it was not measured."""
    other = NAMES.get(limit.other, limit.other)
    title = f"{TITLES[limit.order]}, kernel to {other}, {limit.of}, {limit.at}"
    cells = [c for c in cells_of(report, limit.order) if in_reach(limit, c, report)]
    ratios = [limited_ratio(limit, cell, report) for cell in cells]
    if not ratios or None in ratios:
        return f"not measured: {title}", None
    if limit.of == GEOMETRIC_MEAN:
        found, where = measuring.geometric_mean(ratios), ""
    else:
        found, cell = max(zip(ratios, cells), key=lambda pair: pair[0])
        where = f" at {shape_text(cell['shape'])}"
    holds = found <= limit.most
    verdict = "holds" if holds else "DOES NOT HOLD"
    return f"{verdict}: {title}: {found:.2f}{where}, at most {limit.most}", holds


def check_memory(report):
    """Returns a line about the peak of loss + gradient, and whether its limit holds, or None."""
    title = "loss + gradient, peak memory at 512x50257 below TF's by the logits' size"
    peaks = {
        taken["side"]: taken["bytes"]
        for taken in report["memory"]
        if taken["shape"] == VOCABULARY_SHAPE and taken["order"] == "gradient"
    }
    if not {"kernel", "stock"} <= set(peaks):
        return f"not measured: {title}", None
    logits = VOCABULARY_SHAPE[0] * VOCABULARY_SHAPE[1] * BYTES[report["dtype"]]
    below = peaks["stock"] - peaks["kernel"]
    verdict = "holds" if below >= logits else "DOES NOT HOLD"
    text = f"{verdict}: {title}: by {below / logits:.2f} times, at least 1"
    return text, below >= logits


def check(reports):
    """Returns lines about all limits, and whether none is missed and any was measured."""
    lines, results = [], []
    for report in reports:
        if (report["threads"], report["dtype"], report["labels"]) != (2, "float32", "sparse"):
            continue
        found = [check_limit(limit, report) for limit in LIMITS] + [check_memory(report)]
        lines += [line for line, _ in found]
        results += [holds for _, holds in found if holds is not None]
        wrong = [note for cell in report["cells"] for note in cell["disagreements"]]
        lines += [f"DOES NOT HOLD: all compute the same: {note}" for note in wrong]
        results += [False] * len(wrong)
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
}


def require_matplotlib():
    """Exits if there is no matplotlib: at the start, not after an hour of measurements."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        sys.exit(f"benchmark.py: --plot needs matplotlib ({error}): pip install matplotlib")


def draw_panel(axes, report, order):
    """Draws one order's times over the shapes: dots with quartiles, the limit as a line."""
    row = cells_of(report, order)
    sides = [side for side in report["sides"] if side in LOOKS]
    for position, side in enumerate(sides):
        offset = 0.7 * ((position + 0.5) / len(sides) - 0.5)
        points = [(x + offset, cell["sides"][side]) for x, cell in enumerate(row)]
        points = [(x, times) for x, times in points if "median" in times]
        if not points:
            continue
        medians = [times["median"] for _, times in points]
        spread = [
            [times["median"] - times["lower"] for _, times in points],
            [times["upper"] - times["median"] for _, times in points],
        ]
        colour, marker = LOOKS[side]
        xs = [x for x, _ in points]
        axes.errorbar(
            xs, medians, spread, fmt=marker, color=colour, markersize=6, label=NAMES[side]
        )
    limit = LIMIT_OF_ORDER[order]
    for x, cell in enumerate(row):
        if median(cell, limit) is not None:
            label = NAMES[limit] if x == 0 else None
            axes.hlines(median(cell, limit), x - 0.42, x + 0.42, "#2e8b57", "--", label=label)
    axes.set_yscale("log")
    axes.set_xticks(range(len(row)))
    axes.set_xticklabels([shape_text(cell["shape"]) for cell in row], rotation=30, ha="right")
    for boundary in range(1, len(row)):
        axes.axvline(boundary - 0.5, color="#dddddd", linewidth=0.8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(TITLES[order])


def plot(reports, path):
    """Writes the figure: a row for each report, a panel for each order."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    orders = reports[0]["orders"]
    size = (1.5 + 4.6 * len(orders), 0.8 + 4.4 * len(reports))
    figure, panels = pyplot.subplots(
        len(reports), len(orders), figsize=size, squeeze=False, sharey="row"
    )
    for report, row in zip(reports, panels):
        for order, axes in zip(orders, row):
            draw_panel(axes, report, order)
        threads = "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"
        row[0].set_ylabel(f"milliseconds, {report['dtype']}, {threads}")
    labels: Dict[str, Any] = {}
    for axes in panels[0]:
        handles, names = axes.get_legend_handles_labels()
        labels.update(zip(names, handles))
    height = size[1]
    figure.legend(list(labels.values()), list(labels), loc="lower center", ncol=5, frameon=False)
    versions = ", ".join("{} {}".format(*item) for item in reports[0]["versions"].items())
    figure.suptitle(f"Softmax cross-entropy, {reports[0]['labels']} labels; {versions}")
    figure.tight_layout(rect=(0, 0.65 / height, 1, 1 - 0.1 / height))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
