"""A dump: what it holds, that its script runs the step, and that training never notices."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.reports.findings import FOUND
from tests.support import processes
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import Step, no_history
from tf1xent.diagnostics.reports.dumping import write_dump
from tf1xent.diagnostics.reports.reading import read_dump
from tf1xent.errors import DumpWarning

FILES = {
    "checkpoint",
    "diagnosis.json",
    "diagnosis.txt",
    "feeds.npz",
    "model.data-00000-of-00001",
    "model.index",
    "model.meta",
    "run_step.py",
}
X = np.array([[1, 2], [3, -1], [0, 0]], np.float32)
# The third row comes out as log(0).
WEIGHTS = np.array([[2], [1]], np.float32)


def network(use_resource):
    """The placeholders and the loss of a small graph with variables of many kinds."""
    x = tf.placeholder(tf.float32, [None, 2], name="data/x")
    names = tf.placeholder(tf.string, [None], name="names")
    half = tf.placeholder(tf.bfloat16, [None], name="half")
    with tf.variable_scope("top", use_resource=use_resource):
        weights = tf.get_variable("w", initializer=WEIGHTS)
        parts = tf.get_variable(
            "parts",
            [4, 1],
            partitioner=tf.fixed_size_partitioner(2),
            initializer=tf.ones_initializer(),
        )
        fine = tf.get_variable("fine", initializer=[1.0])
    local = tf.get_local_variable("seen", initializer=np.float32(3), use_resource=use_resource)
    logs = tf.log(x @ weights + tf.reduce_sum(parts) - 4)
    loss = tf.reduce_mean(logs) + tf.reduce_sum(fine) + local
    loss += tf.cast(tf.reduce_sum(tf.strings.length(names)), tf.float32)
    return [x, names, half], loss + tf.cast(tf.reduce_sum(half), tf.float32)


class Run:
    """A program and one of its steps."""

    def __init__(self, use_resource=False, optimizer=True):
        with tf.Graph().as_default() as graph:
            keys, loss = network(use_resource)
            if optimizer:
                step = tf.train.get_or_create_global_step()
                tf.train.AdamOptimizer(0.1).minimize(loss, step)
            values = [X, np.array(["a", "b\u00e9"], object), np.array([1, 2, 4], np.float32)]
            values[2] = values[2].astype(tf.bfloat16.as_numpy_dtype)
            self.feeds = {key.name: value for key, value in zip(keys, values)}
            self.program = Program(graph, loss)
            keys = tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES
            variables = [v for key in keys for v in graph.get_collection(key)]
            with tf.Session() as session:
                session.run([v.initializer for v in variables])
                self.loss = session.run(loss, self.feeds)
                self.values = session.run({v.op.name: v for v in variables})
        graph.finalize()
        self.step = Step(150, self.feeds, self.values, self.loss)


@pytest.fixture(scope="module")
def run():
    return Run()


@pytest.fixture(scope="module")
def dumps(run, tmp_path_factory):
    """By what they are of, the paths of dumps."""
    folder = tmp_path_factory.mktemp("dumps")
    history = no_history()._replace(
        steps=np.arange(3), update_ratios={"top/w": np.array([0.5, np.inf])}, unchanged={"a/b": 4}
    )
    others = Run(use_resource=True), Run(optimizer=False)
    return {
        "references": write_dump(FOUND, run.program, run.step, folder / "new", history),
        "resources": write_dump(FOUND, others[0].program, others[0].step, folder),
        "no optimizer": write_dump(FOUND, others[1].program, others[1].step, folder),
    }


def test_it_holds_the_step_whole(dumps, run):
    folder = dumps["references"]
    assert set(os.listdir(folder)) == FILES | {"history.npz"}
    found = read_dump(folder, "test")
    assert (found.loss, found.number, found.error) == (run.program.loss.name, 150, None)
    assert found.value == float("-inf")
    assert found.updates == [update.op.name for update in run.program.updates]
    np.testing.assert_array_equal(found.feeds["data/x:0"], X)
    assert found.feeds["names:0"].tolist() == [b"a", "b\u00e9".encode()]
    assert found.feeds["half:0"].tolist() == [1, 2, 4]
    reader = tf.train.NewCheckpointReader(found.prefix)
    assert set(reader.get_variable_to_shape_map()) == set(run.values)
    for name, value in run.values.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)


def test_the_graph_has_nothing_that_binds_it_to_a_version_or_a_machine(tmp_path):
    """Newer TensorFlows note on ops what earlier ones refuse to read, also in functions."""
    with tf.Graph().as_default() as graph, tf.device("/cpu:0"):
        start = np.eye(2, dtype=np.float32)
        weights = tf.get_variable("weights", initializer=start, use_resource=True)
        loss = tf.reduce_sum(tf.matmul(weights, weights, name="product"))
        tf.train.AdamOptimizer(0.1).minimize(loss)
        program = Program(graph, loss)
    values = {name: np.zeros(2, np.float32) for name in program.variables}
    folder = write_dump(FOUND, program, Step(1, {}, values), tmp_path)
    proto = tf.MetaGraphDef()
    with open(os.path.join(folder, "model.meta"), "rb") as file:
        proto.ParseFromString(file.read())
    nodes = list(proto.graph_def.node)
    assert {"VarHandleOp", "MatMul", "AssignVariableOp"} <= {node.op for node in nodes}
    for node in nodes:
        known = {attribute for attribute in node.attr if not attribute.startswith("_")}
        assert not known & {"debug_name", "grad_a", "grad_b"} and node.device == ""
        assert node.op != "AssignVariableOp" or known == {"dtype"}


def test_the_history_comes_back(dumps):
    history = read_dump(dumps["references"], "test").history
    np.testing.assert_array_equal(history.steps, [0, 1, 2])
    np.testing.assert_array_equal(history.update_ratios["top/w"], [0.5, np.inf])
    assert history.unchanged == {"a/b": 4}
    assert history.losses.shape == (0,)
    assert read_dump(dumps["resources"], "test").history.unchanged == {}


def test_the_diagnosis_is_there_as_text_and_json(dumps):
    folder = dumps["resources"]
    with open(os.path.join(folder, "diagnosis.txt"), encoding="utf-8") as file:
        assert file.read() == str(FOUND) + "\n"
    with open(os.path.join(folder, "diagnosis.json"), encoding="utf-8") as file:
        found = json.load(file)
    assert {name: found[name] for name in FOUND.to_dict()} == FOUND.to_dict()
    assert (found["value"], found["not_kept"]) == ("-inf", [])


# Runs scripts as a user does, but all in one process.
RUNNER = """
import runpy, sys
import tensorflow.compat.v1 as tf
for path in sys.argv[1:]:
    print("of", path)
    with tf.Graph().as_default():
        runpy.run_path(path)
assert "tf1xent" not in sys.modules
"""


def test_the_scripts_run_the_step_without_tf1xent(dumps, tmp_path):
    paths = [os.path.join(folder, "run_step.py") for folder in dumps.values()]
    ran = subprocess.run(
        [sys.executable, "-c", RUNNER, *paths],
        env=processes.environment(),
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    for path in paths:
        lines = ran.stdout.split(f"of {path}\n")[1].splitlines()[:5]
        assert lines[0] == "loss -inf"
        assert sorted(lines[1:]) == [
            "gradient of top/fine: 0 of 1 entries are not finite",
            "gradient of top/parts/part_0: 2 of 2 entries are not finite",
            "gradient of top/parts/part_1: 2 of 2 entries are not finite",
            "gradient of top/w: 2 of 2 entries are not finite",
        ]


def test_dumps_of_one_step_get_folders_of_their_own(run, tmp_path):
    paths = [write_dump(FOUND, run.program, run.step, tmp_path) for _ in range(3)]
    assert [os.path.basename(path) for path in paths] == ["step-150", "step-150-2", "step-150-3"]
    unnumbered = write_dump(FOUND, run.program, run.step._replace(number=None), tmp_path)
    assert os.path.basename(unnumbered) == "diagnosis"
    assert len(os.listdir(str(tmp_path))) == 4


# What cannot be kept -----------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_one_warning(run, tmp_path):
    (tmp_path / "file").write_text("as it was")
    with pytest.warns(DumpWarning, match="the step is not kept, and training goes on") as warned:
        assert write_dump(FOUND, run.program, run.step, tmp_path / "file") is None
    assert len(warned) == 1
    assert (tmp_path / "file").read_text() == "as it was"


@contextlib.contextmanager
def largest_file(size):
    """As on a disk that is full, a file cannot grow beyond a size."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1100, 5000], ids=["nothing", "feeds", "checkpoint"])
def test_a_full_disk_is_one_warning_and_leaves_nothing(run, tmp_path, size):
    with pytest.warns(DumpWarning, match="the step is not kept") as warned, largest_file(size):
        assert write_dump(FOUND, run.program, run.step, tmp_path) is None
    assert len(warned) == 1
    assert os.listdir(str(tmp_path)) == []


def test_what_ends_the_program_leaves_nothing(run, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        write_dump(FOUND, run.program, run.step, tmp_path)
    assert os.listdir(str(tmp_path)) == []


def test_what_no_file_holds_is_said(tmp_path):
    with tf.Graph().as_default() as graph:
        labels = tf.py_func(lambda: np.float32(1), [], tf.float32, name="draw")
        data = tf.data.Dataset.from_tensors(np.float32(2)).repeat()
        value = tf.data.make_one_shot_iterator(data).get_next()
        names = tf.placeholder(tf.string, [], name="names")
        used = tf.cast(tf.strings.length(names), tf.float32)
        weight = tf.get_variable("w", initializer=1.0)
        program = Program(graph, weight * labels * value * used)
    step = Step(1, {"names:0": np.array(b"ends\0", object)}, {"w": np.float32(1)})
    with pytest.warns(DumpWarning) as warned:
        folder = write_dump(FOUND, program, step, tmp_path)
    said = " ".join(str(warning.message) for warning in warned)
    for part in (
        "`draw:0` call Python functions of the program, which no file holds",
        "The values of `IteratorGetNext:0` were not kept: feed them.",
        "The value of `names:0` was not kept: its strings end with 0 bytes.",
    ):
        assert part in said
        with open(os.path.join(folder, "run_step.py"), encoding="utf-8") as file:
            assert part in " ".join(file.read().split())
        with open(os.path.join(folder, "diagnosis.txt"), encoding="utf-8") as file:
            assert part in file.read()
    given = step._replace(
        feeds={"names:0": np.array(b"", object), "draw:0": np.float32(1), value.name: np.float32(2)}
    )
    folder = write_dump(FOUND, program, given, tmp_path)
    with open(os.path.join(folder, "diagnosis.json"), encoding="utf-8") as file:
        assert json.load(file)["not_kept"] == []


def test_a_folder_that_is_none_of_ours_or_is_damaged_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="test: .* has no diagnosis.json. Give a graph and a ch"):
        read_dump(tmp_path, "test")
    folder = write_dump(FOUND, run.program, run.step, tmp_path)
    with open(os.path.join(folder, "diagnosis.json"), "w", encoding="utf-8") as file:
        file.write("{}")
    with pytest.raises(ValueError, match="is damaged: KeyError"):
        read_dump(folder, "test")
