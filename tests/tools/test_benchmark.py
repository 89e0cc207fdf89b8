"""tools/benchmark.py: its options, tables and limits on made-up figures, and one tiny real run."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests import ROOT

TOOLS = ROOT / "tools"
if not (TOOLS / "benchmark.py").exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)
sys.path.insert(0, str(TOOLS))

import benchmark  # noqa: E402
import benchmark_limits  # noqa: E402
import benchmark_report  # noqa: E402
import benchmark_worker  # noqa: E402
import measuring  # noqa: E402
import references_environment  # noqa: E402

SHAPES = [[128, 1000], [512, 50257]]
LOGITS_BYTES = 512 * 50257 * 4
# Milliseconds with which every limit holds, the same for both shapes.
TIMES = {
    "loss": {"read": 1.0, "kernel": 1.2, "stock": 10.0},
    "gradient": {"copy": 1.0, "kernel": 1.6, "stock": 10.0, "torch": 4.0, "jax": 2.0},
    "hvp": {"copy": 1.0, "kernel": 2.0, "stock": 10.0, "torch": 4.0, "jax": 3.0},
    "product": {"copy": 1.0, "kernel": 1.5, "stock": 10.0, "torch": 4.0, "jax": 3.0},
}


def made_up_report(**changes):
    """Returns a report as of a run; `order_side=milliseconds` changes a time, None removes it."""
    times = {order: dict(sides) for order, sides in TIMES.items()}
    for name, value in changes.items():
        order, side = name.split("_")
        times[order][side] = value
    cells = []
    for order, sides in times.items():
        for shape in SHAPES:
            cell = {"shape": shape, "order": order, "disagreements": [], "sides": {}}
            for side in ("read", "copy", "kernel", "stock", "torch", "jax"):
                value = sides.get(side)
                figures = {"median": value, "lower": value, "upper": value}
                error = {"error": "LookupError: no derivative"}
                cell["sides"][side] = error if value is None else figures
            cells.append(cell)
    memory = {"kernel": 10**6, "stock": 2 * LOGITS_BYTES}
    return {
        "versions": {"TensorFlow": "2.21.0"},
        "dtype": "float32",
        "threads": 2,
        "labels": "sparse",
        "intermediate": False,
        "weighted": False,
        "rounds": 3,
        "sides": ["read", "copy", "kernel", "stock", "torch", "jax"],
        "orders": list(times),
        "cells": cells,
        "memory": [
            {"shape": [512, 50257], "order": "gradient", "side": side, "bytes": size}
            for side, size in memory.items()
        ],
    }


def missed(report):
    lines, holds = benchmark_report.check([report])
    found = [line for line in lines if line.startswith("DOES NOT HOLD")]
    assert holds == (not found)
    return found


# --- Options --------------------------------------------------------------------------------------


def test_defaults():
    options = benchmark.parse_arguments(["--threads", "1"])
    assert options.shapes[0] == (128, 1000) and len(options.shapes) == 6
    assert options.orders == ["loss", "gradient", "hvp"] and options.dtype == ["float32"]
    assert options.frameworks == [] and options.memory == []
    sides = benchmark.chosen_sides(options)
    assert sides == ["read", "copy", "graph", "kernel", "stock", "plain"]


@pytest.mark.parametrize(
    "arguments, sides",
    [
        ("--only ours", ["graph", "kernel"]),
        ("--only stock,torch", ["stock", "torch"]),
        ("--rewritten --only ours,stock", ["rewritten", "stock"]),
    ],
)
def test_only_these_sides(arguments, sides):
    options = benchmark.parse_arguments(arguments.split() + ["--threads", "1"])
    assert benchmark.chosen_sides(options) == sides


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--shapes 128", "--shapes: must be like 128x1000"),
        ("--shapes 0x3", "--shapes: must be like 128x1000"),
        ("--orders value", "--orders: must be among loss,gradient,hvp"),
        ("--only keras", "--only: must be among ours,"),
        ("--dtype int32", "--dtype: must be among"),
        ("--threads 0", "--threads: must be positive"),
        ("--threads 4096", "--threads must be at most"),
        ("--rounds 0", "--rounds must be at least 1"),
        ("--intermediate --frameworks torch", "--intermediate is for TensorFlow's sides"),
    ],
)
def test_refused_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        benchmark.parse_arguments(arguments.split())
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_versions_of_the_references_are_those_of_setup_cfg():
    names = [requirement.split("==")[0] for requirement in references_environment.requirements()]
    assert sorted(names) == ["jax", "optax", "torch"]


# --- Tables ---------------------------------------------------------------------------------------


def test_table():
    lines = benchmark_report.format_report(made_up_report(hvp_stock=None)).splitlines()
    assert lines[0] == (
        "TensorFlow 2.21.0, sparse labels, float32, 2 threads, 3 rounds or more, median (quartiles)"
    )
    assert "| ms, **ratio to TF** | 128x1000 | 512x50257 | geometric mean |" in lines
    cell = "1.6 (1.6 to 1.6), **0.16**"
    assert f"| loss + gradient, tf1xent kernel | {cell} | {cell} | **0.16** |" in lines
    assert "| loss, tf1xent kernel, times the read | 1.20 | 1.20 | 1.20 |" in lines
    # Without TensorFlow's derivative there is no ratio, and none is made up.
    title = "| loss + Hessian-vector product, "
    assert title + "TF | LookupError | LookupError |  |" in lines
    assert title + "tf1xent kernel | 2 (2 to 2) | 2 (2 to 2) |  |" in lines
    assert f"| loss + gradient, TF | {2 * LOGITS_BYTES / 2**20:.1f} |" in lines


def test_a_part_has_no_geometric_mean():
    assert benchmark_report.mean_of_all([0.5, 2.0]) == pytest.approx(1.0)
    assert benchmark_report.mean_of_all([0.5, None]) is None


# --- Limits ---------------------------------------------------------------------------------------


def test_limits_hold():
    lines, holds = benchmark_report.check([made_up_report()])
    assert holds and len(lines) == len(benchmark_report.LIMITS) + 1
    assert all(line.startswith("holds: ") for line in lines)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"gradient_stock": 4.0}, "loss + gradient, kernel to TF, geometric mean"),
        ({"gradient_stock": 3.0}, "loss + gradient, kernel to TF, every cell"),
        ({"loss_stock": 3.0}, "loss, kernel to TF, every cell"),
        ({"hvp_stock": 6.0}, "loss + Hessian-vector product, kernel to TF, geometric mean"),
        ({"gradient_kernel": 1.5}, "loss + Hessian-vector product, kernel to own gradient"),
        ({"product_kernel": 2.5}, "DOES NOT HOLD: Hessian-vector product, kernel to own gradient"),
        ({"gradient_jax": 1.5}, "loss + gradient, kernel to fastest reference"),
        ({"hvp_torch": 1.5}, "loss + Hessian-vector product, kernel to fastest reference"),
        ({"gradient_copy": 0.7}, "loss + gradient, kernel to one copy"),
        ({"loss_read": 0.9}, "loss, kernel to one read"),
    ],
)
def test_a_missed_limit_is_named(change, words):
    assert [line for line in missed(made_up_report(**change)) if words in line]


def test_missed_memory_is_named():
    report = made_up_report()
    report["memory"][0]["bytes"] = LOGITS_BYTES + 1
    (line,) = missed(report)
    assert "peak memory at 512x50257" in line


def test_what_was_not_measured_does_not_hold_by_itself():
    lines, holds = benchmark_report.check([made_up_report(hvp_stock=None)])
    assert holds and len([line for line in lines if line.startswith("not measured")]) == 1
    assert missed(dict(made_up_report(), threads=1)) == [
        "DOES NOT HOLD: nothing was measured that has a limit"
    ]


def test_old_tensorflow_has_no_limit_by_copy_and_read():
    report = dict(made_up_report(loss_read=0.1), versions={"TensorFlow": "1.15.5"})
    assert missed(report) == []


def test_sides_that_disagree_are_named():
    answers = {
        "stock": {"fingerprint": [10.0, 2.0], "way": None},
        "graph": {"fingerprint": [10.0001, 2.0], "way": None},
        "plain": {"fingerprint": [10.0, 2.1], "way": None},
        "torch": {"error": "LookupError"},
        "copy": {"fingerprint": [], "way": "np.copyto"},
    }
    found = benchmark.disagreements(answers, "float32")
    assert found == ["plain computes 2.1 where stock has 2"]
    report = made_up_report()
    report["cells"][0]["disagreements"] = found
    assert "plain computes 2.1" in missed(report)[0]


# --- Measuring ------------------------------------------------------------------------------------


def test_threads_share_the_bytes():
    source, target = np.arange(1001), np.zeros(1001, np.int64)
    pieces = zip(benchmark_limits.split(target, 2), benchmark_limits.split(source, 2))
    assert benchmark_limits.sample_in_threads(np.copyto, list(pieces), 3) > 0
    np.testing.assert_array_equal(target, source)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is Linux' /proc's")
def test_peak_is_above_what_was_held():
    megabytes = 2**20
    held = np.ones(64 * megabytes, np.uint8)
    above = measuring.peak_above_held(lambda: np.ones(32 * megabytes, np.uint8), 3)
    # Other threads of the test session may free some megabytes meanwhile, or take some.
    assert 16 * megabytes < above < 48 * megabytes, held.size


def run_benchmark(arguments, **variables):
    command = [sys.executable, str(TOOLS / "benchmark.py"), "--threads", "1", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=dict(os.environ, **variables),
    )


@pytest.mark.lengthy
def test_tiny_run(tmp_path):
    arguments = "--shapes 6x5 --rounds 1 --seconds 0 --only read,copy,graph,stock,plain".split()
    done = run_benchmark(
        arguments + ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    )
    assert done.returncode == 0, done.stderr
    assert "| loss + gradient, tf1xent graph | " in done.stdout
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    (report,) = json.loads((tmp_path / "a.json").read_text())["reports"]

    inputs = benchmark_worker.make_inputs((6, 5), False, np)
    logits = inputs.logits.astype(np.float64)
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    one_hot = np.eye(5)[inputs.labels]
    loss = -np.log((probabilities * one_hot).sum(axis=1)).sum()
    slope = ((probabilities - one_hot) * inputs.vector).sum()
    centred = inputs.vector - (probabilities * inputs.vector).sum(axis=1, keepdims=True)
    curvature = (probabilities * centred * inputs.vector).sum()
    expected = {"loss": [loss], "gradient": [loss, slope], "hvp": [loss, curvature]}
    assert [cell["order"] for cell in report["cells"]] == list(expected)
    for cell in report["cells"]:
        assert cell["disagreements"] == []
        for side, figures in cell["sides"].items():
            if (side, cell["order"]) == ("stock", "hvp") and "error" in figures:
                assert figures["error"].startswith("LookupError")  # TF 1.x
                continue
            assert figures["median"] > 0
            if side not in ("read", "copy"):
                np.testing.assert_allclose(
                    figures["fingerprint"], expected[cell["order"]], rtol=1e-4, err_msg=side
                )


@pytest.mark.lengthy
def test_a_kernel_that_is_asked_for_and_not_there_is_an_error(tmp_path):
    # An empty cache: whatever is built on this machine, it is not there.
    arguments = "--shapes 6x5 --rounds 1 --seconds 0 --orders loss --only kernel".split()
    done = run_benchmark(arguments, TF1XENT_KERNEL_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert "benchmark.py: --only kernel: " in done.stderr
