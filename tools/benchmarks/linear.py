"""Compares memory and time of a large vocabulary's loss with matmul + TensorFlow's fused op.

    python tools/benchmarks linear                # 4096 tokens, 512 features, 50257 classes
    python tools/benchmarks linear --chunk-size 1024 --threads 1
    python tools/benchmarks linear --tokens 1024 --hvp --json result.json
    python tools/benchmarks linear --value --hvp --before ../before
    python tools/benchmarks linear --implementation kernel --transpose

What is computed is the mean loss and its gradient with respect to inputs, weights and biases;
with --value, on our side, also the loss alone, and with --hvp the product of the Hessian in all
three with a vector. Every measurement has a process of its own, and the variants take turns. Two
figures of memory are shown: the peak of the process while it computes, and how far that is above
what the process held when TensorFlow was loaded and the operands were made. The latter is what the
ratio is of. Ratios are to the plain composition's value and gradient; of what another checkout
computes, --before, to the same of this one. Processor time is that of all threads: on a busy
machine it says more than the clock.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import linear_sides
import measuring
import pyperf
import report

TITLES = {
    "stock": "matmul + TensorFlow's fused op, value + gradient",
    "value": "linear_softmax_cross_entropy, value",
    "ours": "linear_softmax_cross_entropy, value + gradient",
    "hvp": "linear_softmax_cross_entropy, Hessian-vector product",
}
BEFORE = "before-"
SIZES = {"tokens": 4096, "features": 512, "classes": 50257, "threads": 2, "rounds": 3, "runs": 3}


def add_options(parser: argparse.ArgumentParser) -> None:
    for name, size in SIZES.items():
        parser.add_argument("--" + name, type=int, default=size, help=f"default {size}")
    parser.add_argument("--chunk-size", type=int, help="classes a chunk, default the function's")
    implementations = ["graph", "kernel"]
    parser.add_argument("--implementation", choices=implementations, help="of ours, default graph")
    parser.add_argument("--transpose", action="store_true", help="weights [classes, features]")
    parser.add_argument("--value", action="store_true", help="also our value alone")
    parser.add_argument("--hvp", action="store_true", help="also our Hessian-vector product")
    parser.add_argument("--before", metavar="CHECKOUT", help="also ours of this checkout")
    parser.add_argument("--only", choices=sorted(TITLES), help="measure one variant alone")


def chosen_variants(options: argparse.Namespace) -> List[str]:
    """Returns the variants that the options ask for."""
    wanted = {"stock", "ours"} | {name for name in ("value", "hvp") if getattr(options, name)}
    wanted = {options.only} if options.only else wanted
    variants = [variant for variant in TITLES if variant in wanted]
    return variants + [BEFORE + v for v in variants if options.before and v != "stock"]


def measured_in_turns(
    variants: List[str], options: argparse.Namespace
) -> Dict[str, List[Dict[str, Any]]]:
    """Returns what `linear_sides.measure` says of each variant, once a round."""
    found: Dict[str, List[Dict[str, Any]]] = {variant: [] for variant in variants}
    for round_number in range(options.rounds):
        for variant in variants if round_number % 2 == 0 else variants[::-1]:
            is_before = variant.startswith(BEFORE)
            checkout = Path(options.before).resolve() if is_before else report.ROOT
            asked = variant[len(BEFORE) :] if is_before else variant
            with measuring.new_process() as process:
                chosen = argparse.Namespace(**vars(options))
                if is_before:  # it may not know the argument
                    chosen.implementation = None
                task = process.submit(linear_sides.measure, asked, chosen, str(checkout))
                found[variant].append(task.result())
            print(f"measured {variant}", file=sys.stderr)
    return found


def run(options: argparse.Namespace) -> Tuple[str, List[pyperf.Benchmark], int]:
    """Returns the Markdown, the figures, and the exit code."""
    for name in SIZES:
        if getattr(options, name) < 1:
            sys.exit(f"benchmarks: --{name} must be at least 1, got {getattr(options, name)}")
    variants = chosen_variants(options)
    found = measured_in_turns(variants, options)
    rows = [["", "peak of the process, MiB", "above what it held, MiB", "ratio", "seconds"]]
    rows[0] += ["ratio", "processor seconds", "ratio", "build and first run, s"]
    times: Dict[str, Tuple[pyperf.Benchmark, pyperf.Benchmark]] = {}
    above: Dict[str, float] = {}
    for variant, measured in found.items():
        times[variant] = (
            times_of(variant, measured, "seconds"),
            times_of(variant, measured, "processor"),
        )
        peak, above[variant], start = (
            statistics.median(one[what] for one in measured) for what in ("peak", "above", "start")
        )
        is_before = variant.startswith(BEFORE)
        base = variant[len(BEFORE) :] if is_before else "stock"
        ratios = ["", "", ""]
        if base in above and base != variant:
            pairs = [(above[variant], above[base])]
            pairs += [(a.median(), b.median()) for a, b in zip(times[variant], times[base])]
            ratios = [f"**{a / b:.2f}**" for a, b in pairs]
        title = TITLES[base] + ", before" if is_before else TITLES[variant]
        row = [title, f"{peak / report.MEBIBYTE:.0f}", f"{above[variant] / report.MEBIBYTE:.0f}"]
        row.append(ratios[0])
        for figures, ratio in zip(times[variant], ratios[1:]):
            row += [report.spread(figures, 1), ratio]
        rows.append([*row, f"{start:.1f}"])
    title = (
        f"TensorFlow {found[variants[0]][0]['tensorflow']}, {options.tokens} tokens x "
        f"{options.features} features x {options.classes} classes, float32, {options.threads} "
        f"threads, {options.rounds} processes each, median (quartiles)"
    )
    figures = [both[0] for both in times.values()]
    return f"{title}\n\n{report.markdown(rows)}", figures, 0


def times_of(variant: str, measured: List[Dict[str, Any]], clock: str) -> pyperf.Benchmark:
    """Returns the seconds by one of the clocks, as pyperf has them."""
    named: Dict[str, Any] = {"metadata": {"name": f"linear, {variant}"}}
    return pyperf.Benchmark(
        [pyperf.Run(m[clock], collect_metadata=False, **named) for m in measured]
    )
