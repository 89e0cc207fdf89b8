"""`tf1xent diagnose`: what it finds in the files of a training, and what it refuses."""

import json
import os
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.diagnostics.reports.findings import FOUND
from tests.support.graph_files import contents
from tf1xent import cli
from tf1xent.cli import diagnose
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import Step
from tf1xent.diagnostics.reports.dumping import write_dump
from tf1xent.diagnostics.reports.reading import read_dump

IMAGES = np.eye(6, 4, dtype=np.float32)
LABELS = np.arange(6, dtype=np.int32) % 3


def saved(folder, optimizer=True, scale=0.1):
    """Saves a classifier with a hand-written loss; returns the prefix of its checkpoint."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        y = tf.placeholder(tf.int32, [None], name="y")
        start = (scale * np.arange(12).reshape([4, 3])).astype(np.float32)
        weights = tf.get_variable("weights", initializer=start)
        probabilities = tf.nn.softmax(x @ weights, name="probabilities")
        picked = tf.reduce_sum(tf.one_hot(y, 3) * probabilities, axis=1)
        loss = tf.reduce_mean(-tf.log(picked, name="logs"), name="loss")
        if optimizer:
            step = tf.train.get_or_create_global_step()
            tf.train.GradientDescentOptimizer(0.1).minimize(loss, step, name="train")
        session.run(tf.global_variables_initializer())
        prefix = os.path.join(str(folder), "model")
        tf.train.Saver().save(session, prefix)
    return prefix


def feeds(folder, images=IMAGES, labels=LABELS):
    """Writes a batch; returns its path."""
    path = os.path.join(str(folder), "feeds.npz")
    np.savez(path, x=images, y=labels)
    return path


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def confident(tmp_path_factory):
    """Files of a model whose probabilities round to 0."""
    return saved(tmp_path_factory.mktemp("confident"), scale=1e3)


def run(capsys, *arguments):
    """Runs the command; returns its exit code, output and errors."""
    code = cli.main(["diagnose", *map(str, arguments)])
    output, errors = capsys.readouterr()
    return code, output, errors


# What it finds -----------------------------------------------------------------------------------


def test_a_healthy_step_exits_with_0(capsys, prefix, tmp_path):
    arguments = ["--meta", prefix + ".meta", "--loss", "loss", "--feeds", feeds(tmp_path)]
    code, output, errors = run(capsys, *arguments)
    assert (code, errors) == (0, "")
    assert output.splitlines()[0] == "no loss, gradient or parameter is seen to be wrong"
    code, output, _ = run(capsys, *arguments, "--train-op", "train", "--json")
    assert (code, json.loads(output)["findings"]) == (0, [])


def test_a_cause_is_named_and_that_a_file_has_no_source_lines(capsys, prefix, tmp_path):
    images = IMAGES.copy()
    images[4, 1] = np.nan
    arguments = ["--meta", prefix, "--loss", "loss:0", "--feeds", feeds(tmp_path, images)]
    code, output, errors = run(capsys, *arguments)
    assert (code, errors) == (1, "")
    assert output.splitlines()[0] == "the loss is nan: inputs not finite (row 4)"
    assert "which holds no source lines" in " ".join(output.split())


def test_json_is_what_the_text_says_and_where_it_is_from(capsys, confident, tmp_path):
    path = feeds(tmp_path)
    arguments = ["--meta", confident, "--loss", "loss", "--feeds", path]
    code, output, errors = run(capsys, *arguments, "--dump", tmp_path / "kept", "--json")
    assert (code, errors) == (1, "")
    found = json.loads(output)
    assert (found["cause"], found["problem"]) == ("log of 0", "the loss is inf")
    assert found["findings"][0]["tensor"] == "logs:0" and found["findings"][0]["line"] is None
    assert (found["graph"], found["checkpoint"]) == (confident + ".meta", confident)
    assert (found["loss"], found["feeds"]) == ("loss:0", path)
    kept = read_dump(found["kept"], "test")
    assert kept.loss == "loss:0" and os.path.dirname(found["kept"]) == str(tmp_path / "kept")
    np.testing.assert_array_equal(kept.feeds["x:0"], IMAGES)


def test_a_graph_without_an_optimizer_gets_gradients(capsys, tmp_path):
    prefix = saved(tmp_path, optimizer=False)
    arguments = ["--meta", prefix, "--loss", "loss", "--feeds", feeds(tmp_path)]
    code, output, errors = run(capsys, *arguments, "--dump", tmp_path / "kept", "--json")
    assert (code, errors) == (0, ""), output
    kept = json.loads(output)["kept"]
    with open(os.path.join(kept, "run_step.py"), encoding="utf-8") as file:
        assert "        'weights': 'gradients/" in file.read()
    code, output, errors = run(capsys, kept)
    assert (code, errors) == (0, "")


def test_a_checkpoint_from_after_the_bad_step_has_its_parameters_blamed(capsys, tmp_path):
    prefix = saved(tmp_path, scale=np.nan)
    arguments = ["--meta", prefix, "--loss", "loss", "--feeds", feeds(tmp_path)]
    code, output, errors = run(capsys, *arguments)
    assert (code, errors) == (1, "")
    assert output.startswith("the loss is nan: parameters not finite")


def test_a_folder_that_a_hook_kept_needs_no_options(capsys, tmp_path):
    """What the program saw counts, and its local variables too."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None], name="x")
        seen = tf.get_local_variable("seen", initializer=np.float32(5))
        weight = tf.get_variable("weight", initializer=np.float32(1))
        loss = tf.reduce_mean(tf.log(x * weight + seen, name="logs"))
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        other = tf.train.GradientDescentOptimizer(0.1).minimize(weight**2)
        program = Program(graph, loss, train)
    values = {"weight": np.float32(1), "seen": np.float32(-2)}
    step = Step(40, {"x:0": np.array([3, 2, 4], np.float32)}, values, -np.inf)
    known = FOUND.findings[0]._replace(tensor="logs:0")
    folder = write_dump(FOUND._replace(step=40, findings=[known]), program, step, tmp_path)
    assert other.name not in read_dump(folder, "test").updates
    code, output, errors = run(capsys, folder)
    assert (code, errors) == (1, "")
    where = "train.py:41, in model; row 1"
    assert output.splitlines()[0] == f"the loss is -inf at step 40: log of 0 ({where})"
    assert "source lines" not in output


def test_a_kept_step_of_a_pipeline_and_a_loop_is_found_again(capsys, tmp_path):
    """What the pipeline gave stands in the feeds; the loop is one of TensorFlow 1.x."""
    batch = np.array([[0.5, 4.0], [-3.0, 2.0]], np.float32)
    with tf.Graph().as_default() as graph:
        data = tf.data.Dataset.from_tensors(np.zeros([2, 2], np.float32)).repeat()
        x = tf.data.make_one_shot_iterator(data).get_next()
        weights = tf.get_variable("weights", initializer=np.eye(2, dtype=np.float32))

        def body(number, h):
            return number + 1, tf.log(h @ weights, name="logs")

        h = tf.while_loop(lambda number, h: number < 2, body, [0, x])[1]
        loss = tf.reduce_mean(h, name="loss")
        train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
        graph.finalize()
        program = Program(graph, loss, train)
    values = {name: np.zeros([2, 2], np.float32) for name in program.variables}
    step = Step(3, {x.name: batch}, {**values, "weights": np.eye(2, dtype=np.float32)})
    folder = write_dump(FOUND._replace(step=3), program, step, tmp_path)
    code, output, errors = run(capsys, folder, "--json")
    assert (code, errors) == (1, "")
    found = json.loads(output)
    assert found["problem"] == "the loss is nan"
    assert (found["cause"], found["findings"][0]["row"]) == ("log of 0", 1)
    assert "logs" in found["findings"][0]["tensor"]


# What it refuses ---------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys, tmp_path, prefix):
    """Checks exit code 2, one line on stderr, and that no file is changed or left."""

    def check(message, *arguments, **changed):
        options = {"meta": prefix, "loss": "loss", "feeds": feeds(tmp_path), **changed}
        given = [part for n, v in options.items() if v is not None for part in (f"--{n}", v)]
        before = contents(tmp_path)
        code, output, errors = run(capsys, *arguments, *given)
        assert (code, output) == (2, ""), errors
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith("tf1xent diagnose: ") and errors.count("tf1xent diagnose") == 1
        assert re.search(message, errors), errors
        assert contents(tmp_path) == before

    return check


def test_candidates_are_listed_where_the_loss_is_missing_or_wrong(refused):
    likely = r"Candidates, likeliest first: loss:0 \[\] \(the graph's gradients start here"
    refused(f"the loss must be named. {likely}", loss=None)
    refused(f"the graph has no `lost`. {likely}", loss="lost")


def test_what_is_not_there_or_does_not_fit_is_one_line(refused, tmp_path):
    refused("none.meta does not exist", meta=tmp_path / "none.meta")
    refused("none is no checkpoint", checkpoint=tmp_path / "none")
    refused("none.npz: No such file", feeds=tmp_path / "none.npz")
    refused(r"placeholders that are not fed: x \[\?, 4\] float32, y", feeds=None)
    refused("the graph has no op `nowhere`", **{"train-op": "nowhere"})
    nothing = {"meta": None, "loss": None, "feeds": None}
    refused("has no diagnosis.json. Give a graph", tmp_path, **nothing)


def test_labels_of_another_dtype_are_refused_by_name(refused, tmp_path):
    np.savez(str(tmp_path / "float.npz"), x=IMAGES, y=LABELS + 0.5)
    refused("`y` must have values that fit int32, got float64", feeds=tmp_path / "float.npz")


def test_options_that_do_not_go_together_are_refused_first(refused, monkeypatch):
    refused("needs either FOLDER, a step that a hook kept, or --meta", meta=None)
    refused("needs either FOLDER", "folder")
    refused("--loss needs --meta: FOLDER has its own", "folder", meta=None)
    monkeypatch.setattr(diagnose, "REQUIREMENTS", ("scipy", "no_such_module"))
    refused(r"needs no_such_module. Run: pip install tf1xent\[curvature\]$")
