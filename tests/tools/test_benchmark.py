"""tools/benchmarks: options, tables and limits on made-up figures, and tiny real runs."""

import argparse
import json
import runpy
import subprocess
import sys

import numpy as np
import pytest

from tests import ROOT
from tests.support import processes

TOOLS = ROOT / "tools" / "benchmarks"
if not TOOLS.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)
sys.path.insert(0, str(TOOLS))

import curvature  # noqa: E402
import losses  # noqa: E402
import measuring  # noqa: E402
import pyperf  # noqa: E402
import report  # noqa: E402
import worker  # noqa: E402

SHAPES = [(128, 1000), (512, 50257)]
LOGITS_BYTES = 512 * 50257 * 4
SIDES = ["read", "copy", "kernel", "stock", "torch", "jax"]
# Milliseconds with which every limit holds, the same for both shapes.
TIMES = {
    "loss": {"read": 1.0, "kernel": 1.2, "stock": 10.0},
    "gradient": {"copy": 1.0, "kernel": 1.6, "stock": 10.0, "torch": 4.0, "jax": 2.0},
    "hvp": {"copy": 1.0, "kernel": 2.0, "stock": 10.0, "torch": 4.0, "jax": 3.0},
    "product": {"copy": 1.0, "kernel": 1.5, "stock": 10.0, "torch": 4.0, "jax": 3.0},
}


def made_up_report(**changes):
    """A report as of a run; `order_side=milliseconds` changes a time, None removes it."""
    times = {order: dict(sides) for order, sides in TIMES.items()}
    for name, value in changes.items():
        order, side = name.split("_")
        times[order][side] = value
    figures = {}
    for order in times:
        for side in SIDES:
            value = times[order].get(side)
            for shape in SHAPES:
                figures[shape, order, side] = "LookupError: no derivative"
                if value is not None:
                    figures[shape, order, side] = losses.benchmark("made up", [value / 1e3])
    memory = {
        ((512, 50257), "gradient", side): size
        for side, size in {"kernel": 10**6, "stock": 2 * LOGITS_BYTES}.items()
    }
    versions = {"TensorFlow": "2.21.0"}
    lists = SHAPES, list(times), SIDES
    return report.Report("title", versions, "float32", 2, False, *lists, figures, memory, [])


def missed(made):
    lines, holds = report.check([made])
    found = [line for line in lines if line.startswith("DOES NOT HOLD")]
    assert holds == (not found)
    return found


# --- Options --------------------------------------------------------------------------------------


def parsed(text):
    parser = argparse.ArgumentParser()
    losses.add_options(parser)
    return parser.parse_args(text.split())


@pytest.mark.parametrize(
    "arguments, sides",
    [
        ("", ["read", "copy", "graph", "kernel", "stock", "plain"]),
        ("--only ours", ["graph", "kernel"]),
        ("--only stock,torch", ["stock", "torch"]),
        ("--rewritten --only ours,stock", ["rewritten", "stock"]),
        ("--only ours --before .", ["graph", "kernel", "before-graph", "before-kernel"]),
    ],
)
def test_sides(arguments, sides):
    assert losses.chosen_sides(parsed(arguments)) == sides


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--shapes 128", "--shapes: invalid shapes value"),
        ("--shapes 0x3", "--shapes: invalid shapes value"),
        ("--orders value", "--orders: must be among loss,gradient,hvp"),
        ("--only keras", "--only: must be among ours,"),
        ("--dtype int32", "--dtype: must be among"),
        ("--threads 0", "--threads: must be from 1 to"),
        ("--threads 4096", "--threads: must be from 1 to"),
    ],
)
def test_refused_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        parsed(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


# --- Tables ---------------------------------------------------------------------------------------


def test_table():
    lines = report.to_markdown(made_up_report(hvp_stock=None)).splitlines()
    assert lines[0] == "TensorFlow 2.21.0, title"
    assert "| ms, **ratio to TF** | 128x1000 | 512x50257 | geometric mean |" in lines
    cell = "1.6 (1.6 to 1.6), **0.16**"
    assert f"| loss + gradient, tf1xent kernel | {cell} | {cell} | **0.16** |" in lines
    assert "| loss, tf1xent kernel, times the read | 1.20 | 1.20 | 1.20 |" in lines
    # Without TensorFlow's derivative there is no ratio, and none is made up.
    title = "| loss + Hessian-vector product, "
    assert title + "TF | LookupError | LookupError |  |" in lines
    assert title + "tf1xent kernel | 2 (2 to 2) | 2 (2 to 2) |  |" in lines
    assert f"| loss + gradient, TF | {2 * LOGITS_BYTES / 2**20:.1f} |" in lines


def test_quartiles_and_geometric_mean():
    assert report.spread(losses.benchmark("made up", [0.001, 0.002, 0.003, 0.005])) == (
        "2.5 (1.75 to 3.5)"
    )
    assert report.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert report.geometric_mean([0.5, None]) is None  # of a part it would mislead


def test_products_are_in_gradients_of_their_framework():
    times = {
        "tensorflow": {"gradient": 2.0, "hessian": 3.0, "fisher": 5.0},
        "torch": {"gradient": 1.0, "hessian": 6.0},
    }
    figures = {
        (framework, product): losses.benchmark("made up", [value / 1e3])
        for framework, values in times.items()
        for product, value in values.items()
    }
    header, *rows = curvature.products_table({"digits-mlp": figures, "mlp": figures})
    assert header[1:] == ["digits-mlp, 8970 parameters", "mlp, 235146 parameters"]
    assert ["gradient, TensorFlow", *2 * ["2 (2 to 2)"]] in rows
    assert ["Hessian-vector product, TensorFlow", *2 * ["3 (3 to 3), **1.50**"]] in rows
    assert ["Hessian-vector product, PyTorch", *2 * ["6 (6 to 6), **6.00**"]] in rows
    assert ["Hessian-vector product, ratio to PyTorch's", *2 * ["**0.50**"]] in rows
    assert [row[0] for row in rows if "Fisher" in row[0]] == ["Fisher product, TensorFlow"]


@pytest.mark.parametrize("num_parameters", [2000, 250000, 1000000])
def test_networks_of_growth_have_about_the_parameters_asked_for(num_parameters):
    width = curvature.hidden_width(num_parameters)
    network = curvature.network_of_growth(width, 1)
    assert 0 <= num_parameters - network.size() < 800 + 2 * width  # what another unit adds


# --- Limits ---------------------------------------------------------------------------------------


def test_limits_hold():
    lines, holds = report.check([made_up_report()])
    assert holds and len(lines) == len(report.LIMITS) + 1
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
    made = made_up_report()
    made.memory[(512, 50257), "gradient", "kernel"] = LOGITS_BYTES + 1
    (line,) = missed(made)
    assert "peak memory at 512x50257" in line


def test_what_was_not_measured_does_not_hold_by_itself():
    lines, holds = report.check([made_up_report(hvp_stock=None)])
    assert holds and len([line for line in lines if line.startswith("not measured")]) == 1
    assert missed(made_up_report()._replace(threads=1)) == [
        "DOES NOT HOLD: nothing was measured that has a limit"
    ]


def test_old_tensorflow_has_no_limit_by_copy_and_read():
    made = made_up_report(loss_read=0.1)
    assert missed(made)
    assert missed(made._replace(versions={"TensorFlow": "1.15.5"})) == []


def test_sides_that_disagree_are_named():
    prints = {"plain": [10.0, 2.1], "stock": [10.0, 2.0], "graph": [10.0001, 2.0], "copy": []}
    found = losses.disagreements(prints, "float32")
    assert found == ["plain computes 2.1 where stock has 2"]
    assert "plain computes 2.1" in missed(made_up_report()._replace(disagreements=found))[0]


# --- Measuring ------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is Linux' /proc's")
def test_peak_is_above_what_was_held():
    megabytes = 2**20
    held = np.ones(64 * megabytes, np.uint8)
    memory = measuring.Memory()
    for _ in range(3):
        np.ones(32 * megabytes, np.uint8)
    # Other threads of the test session may free some megabytes meanwhile, or take some.
    assert 16 * megabytes < memory.above_held() < 48 * megabytes, held.size


def run_benchmarks(*arguments, **variables):
    return subprocess.run(
        [sys.executable, str(TOOLS), *arguments],
        capture_output=True,
        text=True,
        env=processes.environment(**variables),
        timeout=300,
    )


@pytest.mark.exhaustive
def test_tiny_run(tmp_path):
    files = {name: tmp_path / name for name in ("times.json", "times.png", "RESULTS.md")}
    options = "--shapes 6x5 --rounds 1 --seconds 0 --threads 1 --only read,copy,graph,stock,plain"
    done = run_benchmarks(
        "losses",
        *options.split(),
        *("--json", str(files["times.json"]), "--plot", str(files["times.png"])),
        *("--results", str(files["RESULTS.md"])),
    )
    assert done.returncode == 0, done.stderr
    assert "| loss + gradient, tf1xent graph | " in done.stdout
    assert "Results differ" not in done.stdout
    results = files["RESULTS.md"].read_text(encoding="utf-8")
    assert results.startswith(f"# Results\n\n## `python tools/benchmarks losses {options}")
    assert done.stdout.strip() in results
    assert files["times.png"].read_bytes()[:4] == b"\x89PNG"

    inputs = worker.make_inputs((6, 5), False)
    logits = inputs.logits.astype(np.float64)
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    one_hot = np.eye(5)[inputs.labels]
    loss = -np.log((probabilities * one_hot).sum(axis=1)).sum()
    slope = ((probabilities - one_hot) * inputs.vector).sum()
    centred = inputs.vector - (probabilities * inputs.vector).sum(axis=1, keepdims=True)
    curvature = (probabilities * centred * inputs.vector).sum()
    orders = {"loss": [loss], "gradient": [loss, slope], "hvp": [loss, curvature]}
    suite = pyperf.BenchmarkSuite.load(str(files["times.json"]))
    found = {benchmark.get_name(): benchmark for benchmark in suite.get_benchmarks()}
    for order, expected in orders.items():
        for side in ("graph", "stock", "plain"):
            name = f"6x5, {report.TITLES[order]}, {side}, float32, 1 threads"
            if (order, side) == ("hvp", "stock") and name not in found:
                assert "| loss + Hessian-vector product, TF | LookupError |" in done.stdout  # 1.x
                continue
            assert found[name].median() > 0
            got = [float(n) for n in found[name].get_metadata()["fingerprint"].split()]
            np.testing.assert_allclose(got, expected, rtol=1e-4, err_msg=name)


def test_results_are_put_in_the_place_of_those_of_the_same_command(tmp_path):
    put_into = runpy.run_path(str(TOOLS / "__main__.py"))["put_into"]
    path = tmp_path / "RESULTS.md"
    for command, text in ("a", "1"), ("b", "2"), ("a", "3\n\n| 4 |"):
        put_into(path, command, text)
    assert path.read_text(encoding="utf-8") == "# Results\n\n## `a`\n\n3\n\n| 4 |\n\n## `b`\n\n2\n"


@pytest.mark.exhaustive
def test_a_kernel_that_is_asked_for_and_not_there_is_an_error(tmp_path):
    # An empty cache: whatever is built on this machine, it is not there.
    options = "losses --shapes 6x5 --rounds 1 --seconds 0 --threads 1 --orders loss --only kernel"
    done = run_benchmarks(*options.split(), TF1XENT_KERNEL_CACHE=str(tmp_path))
    assert done.returncode == 1
    assert "benchmarks: --only kernel: " in done.stderr


# Options, and what is printed then.
COMMANDS = {
    "building --losses 1 --rounds 1 --orders gradient": "| soft, [None, 10], gradient | ",
    "graphs --nodes 200": "| logsumexp | ",
    "linear --tokens 8 --features 4 --classes 50 --rounds 1 --runs 1 --threads 1": (
        "| linear_softmax_cross_entropy, value + gradient | "
    ),
    "losses --shapes 6x5 --rounds 1 --seconds 0 --threads 1 --orders loss --only stock "
    "--memory 300x1000 --dense --weighted": "| the logits themselves | 1.1 |",
    "curvature --networks digits-mlp --rounds 1 --growth --parameters 2000,9000 --batches 1,2": (
        "20 Lanczos steps on the largest: "
    ),
    "sharded --batch 4 --features 3 --classes 20 --rounds 1 --tasks 2": "| loss, 2 tasks | ",
    "workers --cases small --workers 1 --rounds 1": "| 1 worker | ",
    "scaling --gigabits 1": "| 512 | ",
}


@pytest.fixture(scope="module")
def printed():
    """What all commands print, from one process: that they start new ones `test_tiny_run` shows."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.benchmarks_program", str(TOOLS), *COMMANDS],
        capture_output=True,
        text=True,
        env=processes.environment(),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("options", list(COMMANDS))
def test_the_other_commands_and_options(options, printed):
    code, text = printed[options]
    assert code == 0, text
    assert COMMANDS[options] in text
