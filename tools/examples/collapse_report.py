"""Table and picture of the runs that collapse.py made."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

Run = Dict[str, Any]
# What the table and the picture are about: a setting and an optimizer.
Part = Tuple[str, str]
BEGIN, END = "<!-- Written by collapse.py -->", "<!-- End of what collapse.py wrote -->"
# For those who see no colours, lines of their own.
LOOKS = {
    "TF float32": ("#222222", "-"),
    "TF float64": ("#999999", "--"),
    "StableMax": ("#d9541e", ":"),
    "tf1xent": ("#0b5fa5", "-"),
}
# Of the table: a curve's last value, of the error its largest; its title; how it is shown; whether
# it spans many powers.
COLUMNS = (
    ("train cross-entropy", "training cross-entropy", "{:.1e}", True),
    ("gradient norm", "gradient norm", "{:.1e}", True),
    ("error", "largest gradient error", "{:.1e}", True),
    ("zero at label", "label entries that are 0, %", "{:.0f}", False),
    ("zero rows", "rows that are 0, %", "{:.0f}", False),
    ("train accuracy", "training accuracy, %", "{:.1f}", False),
    ("test accuracy", "test accuracy, %", "{:.1f}", False),
    ("test cross-entropy", "test cross-entropy", "{:.3g}", False),
)
PANELS = (
    ("train cross-entropy", "training cross-entropy", "log"),
    ("gradient norm", "gradient norm", "log"),
    ("zero at label", "label entries that are 0", "linear"),
    ("test accuracy", "test accuracy", "linear"),
)


class Results(NamedTuple):
    """All runs, by setting, optimizer, loss and seed; milliseconds, by setting, loss."""

    runs: Dict[Tuple[str, str, str, int], Run]
    costs: Dict[str, Dict[str, float]]

    def of(self, part: Part, loss: str, name: str) -> np.ndarray:
        """Returns a curve of all seeds, [seeds, measurements]."""
        return np.array([self.runs[(*part, loss, seed)][name] for seed in self.seeds(part)])

    def seeds(self, part: Part) -> List[int]:
        """Returns the seeds with which all losses were run."""
        run = [{key[3] for key in self.runs if key[:3] == (*part, loss)} for loss in LOOKS]
        return sorted(set.intersection(*run))

    def steps(self, part: Part) -> List[int]:
        """Returns the steps after which was measured."""
        return next(run["steps"] for key, run in self.runs.items() if key[:2] == part)

    @property
    def parts(self) -> List[Part]:
        """All settings with their optimizers, in the order in which they were run."""
        return [part for part in dict.fromkeys(key[:2] for key in self.runs) if self.seeds(part)]


def read(path: Path) -> Results:
    """Returns what stands in a file of runs; a line that was cut off counts as absent."""
    found = Results({}, {})
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "cost" in entry:
            found.costs[entry["cost"]] = entry["milliseconds"]
        else:
            key = tuple(entry[name] for name in ("setting", "optimizer", "loss", "seed"))
            found.runs[key] = entry  # type: ignore[index]
    return found


def line_of(run: Run) -> str:
    """Returns a line about a run's end."""
    shown = [
        *("train cross-entropy", "test cross-entropy", "train accuracy", "test accuracy"),
        *("error", "zero at label", "zero rows", "largest logit"),
    ]
    numbers = (f"{name} {run[name][-1]:.3g}" for name in shown)
    return "{setting}, {optimizer}, {loss}, seed {seed}: ".format(**run) + ", ".join(numbers)


def _cell(values: np.ndarray, form: str, powers: bool) -> str:
    """The mean and the spread over seeds; of what spans many powers, the median and the range."""
    if powers and not values.any():
        return "0"
    if values.min() == values.max():
        return form.format(values[0])
    if not powers:
        return f"{form} ± {form}".format(values.mean(), values.std(ddof=1))
    return f"{form} ({form} to {form})".format(np.median(values), values.min(), values.max())


def tables(results: Results) -> str:
    """Returns the tables in Markdown."""
    lines: List[str] = []
    titles = " | ".join(title for _, title, _, _ in COLUMNS)
    for part in results.parts:
        lines += [
            "",
            "### {}, {}: after {} steps".format(*part, results.steps(part)[-1]),
            "",
            f"| seeds: {len(results.seeds(part))} | {titles} |",
            "|" + " --- |" * (1 + len(COLUMNS)),
        ]
        for loss in LOOKS:
            cells = []
            for name, title, form, powers in COLUMNS:
                curves = results.of(part, loss, name)
                values = curves.max(axis=1) if name == "error" else curves[:, -1]
                if name == "error" and loss == "StableMax":
                    cells.append("another function")
                else:
                    cells.append(_cell(values * (100 if "%" in title else 1), form, powers))
            lines.append("| {} | {} |".format(loss, " | ".join(cells)))
    lines += ["", "### Processor time of a step, in milliseconds", ""]
    lines.append("| | {} |".format(" | ".join(LOOKS)))
    lines.append("|" + " --- |" * (1 + len(LOOKS)))
    for name, costs in results.costs.items():
        cells = [f"{costs[loss]:.2f}" for loss in LOOKS]
        lines.append("| {} | {} |".format(name, " | ".join(cells)))
    versions = sorted({run["tensorflow"] for run in results.runs.values()})
    return "\n".join([*lines, "", "TensorFlow {}, one thread.".format(", ".join(versions)), ""])


def plot(results: Results, path: Path) -> None:
    """Writes the picture: a row a setting and optimizer; medians, shaded from least to most."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = results.parts
    size = 3.2 * len(PANELS), 2.3 * len(parts)
    figure, grid = pyplot.subplots(len(parts), len(PANELS), figsize=size, squeeze=False)
    for part, row in zip(parts, grid):
        for axes, (name, _, scale) in zip(row, PANELS):
            for loss, (colour, style) in LOOKS.items():
                values = results.of(part, loss, name)
                values = np.maximum(values, 1e-20) if scale == "log" else values
                steps = results.steps(part)
                axes.plot(
                    steps,
                    np.median(values, axis=0),
                    style,
                    color=colour,
                    label=loss,
                    zorder=3 if style == "--" else 2,
                )
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set(xscale="log", yscale=scale)
            axes.grid(color="#dddddd")
        row[0].set_ylabel("{}\n{}".format(*part))
    for top, bottom, (_, title, _) in zip(grid[0], grid[-1], PANELS):
        top.set_title(title, fontsize=9)
        bottom.set_xlabel("step")
    figure.tight_layout(rect=(0, 0.6 / size[1], 1, 1))
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="lower center", ncol=len(LOOKS))
    figure.savefig(str(path), dpi=60)


def write(runs: Path, page: Optional[Path]) -> None:
    """Prints the tables; with a page, puts them between its marks, and picture and runs beside."""
    results = read(runs)
    text = tables(results)
    print(text)
    if page is None:
        return
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(before + BEGIN + "\n" + text + "\n" + END + after, encoding="utf-8")
    plot(results, page.with_name("collapse.png"))
    kept = page.with_name("collapse.jsonl")
    if kept.resolve() != runs.resolve():
        lines = [line for line in runs.read_text(encoding="utf-8").splitlines() if line]
        kept.write_text("\n".join(lines) + "\n", encoding="utf-8")
