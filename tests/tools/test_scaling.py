"""tools/benchmarks scaling, sharded and workers: what is computed on paper, and what crosses."""

import contextlib
import json
import socket
import sys

import pytest

from tests import ROOT

TOOLS = ROOT / "tools" / "benchmarks"
if not TOOLS.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)
sys.path.insert(0, str(TOOLS))

import crossings  # noqa: E402
import curvature_workers  # noqa: E402
import relay  # noqa: E402
import scaling  # noqa: E402
import sharded  # noqa: E402

GUIDE = ROOT / "tools" / "docs" / "beyond_one_machine.md"
# A row and parameter computes in 1 ns; a parameter is moved in 2 ns and in 8 bytes.
WORKERS = {
    "seconds of a row and parameter": 1e-9,
    "seconds to move a parameter": 2e-9,
    "bytes of messages": 1000.0,
    "bytes of a row": 100.0,
    "rounds of a batch": 1,
}
LOSS = {
    "seconds of a row, feature and class": 1e-9,
    "seconds of a round": 1e-3,
    "rounds": 6,
    "to a task": [20, 8],
    "from a task": [30, 4],
}


# --- On paper -------------------------------------------------------------------------------------


def test_workers_share_the_computing_until_the_client_is_the_slowest():
    # 4096 rows a batch: 256 batches of 4.096 s each, 8 GB/s.
    row = scaling.worker_row(WORKERS, 10**6, 4096, 8e9, 0.5)
    moving = 2e-3 + (8e6 + 409600 + 1000) / 8e9
    assert row[:4] == ["1e6", "4096", "2.15 GB", "32, 4, 1"]
    assert row[4] == scaling.shown_seconds(256 * 4.096)
    assert row[5:7] == ["147 s", "18 s"]  # of 8: 131 s and 32 rounds; of 64: 16.4 s and 4
    assert row[8] == f"{4.096 / moving:.1f}"
    slow = scaling.worker_row(WORKERS, 10**6, 4096, 8e6, 0.5)
    assert slow[5] == slow[6] == slow[7] == scaling.shown_seconds(256 * (2e-3 + 8410600 / 8e6))


def test_numbers_of_workers_are_of_a_batch_a_row_and_a_parameter():
    def run(case, seconds, up, down, connections=2):
        batches = curvature_workers.CASES[case].batches
        traffic = curvature_workers.Traffic(connections, up * batches, down * batches, 0)
        samples = {number: [batches * 1000 * value] for number, value in enumerate(seconds)}
        return {"parameters": 1000, "samples": samples, "traffic": traffic, "feed": 512}

    large = run("large", [1024e-9, 2.0, 2.0], up=4000 + 512 + 30, down=4000 + 40, connections=4)
    small = run("small", [1.0, 5e-9, 4e-9], up=4000 + 512 + 50, down=4000 + 60)
    assert scaling.worker_numbers({"large": large, "small": small}) == {
        "seconds of a row and parameter": pytest.approx(1e-9),
        "seconds to move a parameter": pytest.approx(4e-9),
        "bytes of messages": pytest.approx(110),
        "bytes of a row": 0.5,
        "rounds of a batch": 1 + 4 / 8,
    }


def test_what_task_0_moves_grows_with_the_tasks_and_the_rest_shrinks():
    row = scaling.loss_row(LOSS, 8, 1e9, 1e-3)
    to_others, from_others = 7 * 1024 * (20 + 8 * 128), 7 * 1024 * (30 + 4 * 128)
    assert row[:5] == ["8", "640 MB", *map(scaling.shown_bytes, (to_others, from_others)), "6"]
    computing, waiting, moving = 1024 * 128 * 1e7 / 8 * 1e-9, 6 * 2e-3, to_others / 1e9
    assert row[5:] == list(
        map(scaling.shown_seconds, (computing, waiting, moving, computing + waiting + moving))
    )


def test_the_best_number_of_tasks_is_the_best():
    best = scaling.best_number(LOSS, 1e9)

    def seconds(number):
        moving = (number - 1) * 1024 * (20 + 8 * 128) / 1e9
        return 1024 * 128 * 1e7 / number * 1e-9 + moving

    assert seconds(best) < min(seconds(0.99 * best), seconds(1.01 * best))


def made_up_crossings(per_row, rounds=6):
    """What crosses for 2 and 3 tasks: {task: bytes}; `per_row` of (features, task)."""
    found = {}
    for number in (2, 3):
        for problem in scaling.FITTED:
            sizes = {t: problem.batch * per_row(problem.features, t) for t in range(number)}
            found[number, problem] = crossings.Crossings(sizes, sizes, 0, rounds)
    return found


def test_fit_finds_the_formula():
    assert scaling.fit(made_up_crossings(lambda features, _: 20 + 8 * features), "sent") == [20, 8]


@pytest.mark.parametrize(
    "per_row", [lambda features, _: features**2, lambda features, task: features * task]
)
def test_fit_refuses_what_does_not_follow_it(per_row):
    with pytest.raises(ValueError, match="tasks, Problem"):
        scaling.fit(made_up_crossings(per_row), "received")


def test_fit_refuses_bytes_that_depend_on_the_classes():
    found = made_up_crossings(lambda features, _: 20 + 8 * features)
    for (number, problem), crossed in list(found.items()):
        sizes = {task: size + problem.classes for task, size in crossed.sent.items()}
        found[number, problem] = crossed._replace(sent=sizes)
    with pytest.raises(ValueError, match="tasks, Problem"):
        scaling.fit(found, "sent")


def test_the_guide_has_what_the_measured_numbers_give():
    numbers = json.loads(scaling.FILE.read_text(encoding="utf-8"))
    assert scaling.to_markdown(numbers, 10.0, 0.1) in GUIDE.read_text(encoding="utf-8")


# --- Crossings ------------------------------------------------------------------------------------


def graphs_of_tasks(*tasks):
    """GraphDefs, one for each task, of (name, op, inputs, from task, to task, tensor)."""
    import tensorflow.compat.v1 as tf

    made = []
    for number, nodes in enumerate(tasks):
        graph = tf.GraphDef()
        for name, op, inputs, *edge in nodes:
            node = graph.node.add(name=name, op=op, device=device(number))
            node.input.extend(inputs)
            node.attr["client_terminated"].b = not edge
            if edge:
                source, target, tensor = edge
                node.attr["send_device"].s = device(source).encode()
                node.attr["recv_device"].s = device(target).encode()
                node.attr["tensor_name"].s = tensor.encode()
        made.append(graph)
    return made


def device(task):
    return f"/job:worker/replica:0/task:{task}/device:CPU:0"


def test_rounds_are_those_one_after_the_other():
    first = [
        ("x", "Const", []),
        ("s1", "_Send", ["x"], 0, 1, "x"),
        ("s2", "_Send", ["x:1"], 0, 1, "y"),  # in the same round
        ("r3", "_Recv", [], 1, 0, "z"),
        ("fetched", "_Send", ["r3"]),
    ]
    second = [
        ("r1", "_Recv", [], 0, 1, "x"),
        ("r2", "_Recv", ["^r1"], 0, 1, "y"),
        ("merge", "Merge", ["r1", "next"]),
        ("next", "NextIteration", ["merge"]),
        ("s3", "_Send", ["merge", "r2"], 1, 0, "z"),
    ]
    assert crossings.count_rounds(graphs_of_tasks(first, second)) == 2
    edges = {
        (edge.tensor, edge.source[-1], edge.target[-1])
        for edge in crossings.edges_of(graphs_of_tasks(first, second))
    }
    assert edges == {("x", "0", "1"), ("y", "0", "1"), ("z", "1", "0")}


def test_a_relay_counts_what_passes():
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        relayed = stack.enter_context(relay.relayed(f"127.0.0.1:{server.getsockname()[1]}"))
        host, _, port = relayed.address.rpartition(":")
        client = stack.enter_context(socket.create_connection((host, int(port))))
        client.sendall(b"12345")
        client.shutdown(socket.SHUT_WR)
        accepted = stack.enter_context(server.accept()[0])
        assert accepted.makefile("rb").read() == b"12345"
        accepted.sendall(b"123")
        accepted.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"123"
        assert (relayed.connections, relayed.up, relayed.down) == (1, 5, 3)


# --- Real processes -------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_the_bytes_of_a_sharded_loss_are_those_of_the_file():
    numbers = json.loads(scaling.FILE.read_text(encoding="utf-8"))["loss"]
    found = scaling.crossing_numbers([2])  # three are tests/clusters/test_sharded_traffic.py's
    assert {key: numbers[key] for key in found} == found


def test_sharded_sizes_are_those_of_its_problem():
    assert set(sharded.Problem._fields) < set(sharded.SIZES)
