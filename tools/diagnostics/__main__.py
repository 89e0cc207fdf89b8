"""Plants faults in trainings on digits, and counts how often their cause is named.

    python tools/diagnostics --seeds 20 --clean 100 --runs runs.jsonl
    python tools/diagnostics --report runs-1.15.5.jsonl runs-2.21.0.jsonl --results FOLDER
    python tools/diagnostics --faults

Each run trains an MLP, a CNN or an RNN tagger; its seed chooses the fault, the step at which it
comes, the driver (a bare session, MonitoredSession, and on TensorFlow 1.x Estimator and Keras), the
optimizer, the kind of variables, the loss and all sizes. The true cause is known by construction.
TensorFlow's own tools are shown the same runs. Every run becomes a line of the file of runs; runs
that stand there already are not made again, so the command can be stopped and started at any time.
"""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import List, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # of all processes

from diagnostics import report, worker  # noqa: E402
from diagnostics.names import CAUSES, CLEAN, MODELS, Key  # noqa: E402

# A process is replaced after so many runs: TensorFlow keeps something of every graph.
_RUNS_OF_A_PROCESS = 60
_LONGEST_RUN = 600.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python tools/diagnostics", None, __doc__, formatter_class=form
    )
    add = parser.add_argument
    add("--seeds", type=int, default=20, metavar="N", help="of each cause and model (20)")
    add("--clean", type=int, default=100, metavar="N", help="healthy trainings (100)")
    add("--only", metavar="CAUSE,...", help="these causes only; `none` means healthy trainings")
    add("--models", metavar="MODEL,...", default=",".join(MODELS), help="MLP, CNN, tagger (all)")
    add("--from", type=int, default=0, dest="first", metavar="N", help="the first seed (0)")
    add("--jobs", type=int, default=1, metavar="N", help="processes at a time (1)")
    add("--runs", metavar="FILE", help="the file of runs")
    add("--no-side-by-side", action="store_true", help="leave TensorFlow's own tools out")
    add("--faults", action="store_true", help="print the table of faults, and make no run")
    add("--report", nargs="+", metavar="FILE", help="report on files of runs, and make no run")
    add("--results", metavar="FOLDER", help="write RESULTS.md and results.json of --report there")
    options = parser.parse_args(arguments)
    if options.only and not set(options.only.split(",")) <= {*CAUSES, CLEAN}:
        parser.error(f"--only: must be among {', '.join([*CAUSES, CLEAN])}")
    if not set(options.models.split(",")) <= set(MODELS):
        parser.error(f"--models: must be among {', '.join(MODELS)}")
    return options


def keys_of(options: argparse.Namespace) -> List[Key]:
    """Returns the runs that are asked for: a part of everything stands at the front."""
    only = options.only.split(",") if options.only else [*CAUSES, CLEAN]
    models = options.models.split(",")
    healthy = [(CLEAN, models[i % len(models)], options.first + i) for i in range(options.clean)]
    share = -(-options.clean // max(options.seeds, 1))
    keys: List[Key] = []
    for i in range(options.seeds):
        seed = options.first + i
        keys += [(c, model, seed) for c in CAUSES if c in only for model in models]
        keys += healthy[i * share : (i + 1) * share] if CLEAN in only else []
    return keys if options.seeds or CLEAN not in only else healthy


def _run(options: argparse.Namespace) -> int:
    """Makes the runs that are not there yet; returns how many could not be made."""
    path = Path(options.runs) if options.runs else None
    done = {} if path is None or not path.exists() else report.read([path])
    keys = [key for key in keys_of(options) if key not in {key[1:] for key in done}]
    tasks = [(*key, not options.no_side_by_side) for key in keys]
    context = multiprocessing.get_context("spawn")
    right = made = failed = 0
    with context.Pool(options.jobs, maxtasksperchild=_RUNS_OF_A_PROCESS) as pool:
        lines = pool.imap_unordered(worker.make, tasks)
        for _ in tasks:
            line, error = lines.next(_LONGEST_RUN)
            if error:
                failed += 1
                print(error, file=sys.stderr, flush=True)
            if line is None:
                continue
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    # A run that was cut off may have left a part of a line.
                    file.write("\n" + line + "\n")
            run = json.loads(line)
            made, right = made + 1, right + report.is_right(run)
            print(f"{right}/{made} {report.line_of(run)}", flush=True)
    return failed


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.faults:
        print(report.table_of_faults())
        return 0
    if not options.report:
        return 1 if _run(options) else 0
    found = report.read([Path(name) for name in options.report])
    counts = json.dumps(report.summarise(list(found.values())), indent=1, sort_keys=True)
    # The tables are those of the file, in its order.
    text = report.to_markdown(json.loads(counts))
    print(text)
    if options.results:
        folder = Path(options.results)
        (folder / "results.json").write_text(counts + "\n", encoding="utf-8")
        (folder / "RESULTS.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
