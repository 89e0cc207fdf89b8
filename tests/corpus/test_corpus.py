"""The corpus of graphs written by TensorFlow 1.x: made again by its programs, opened, and run."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests import ROOT
from tests.corpus.reading import FILES, entries, entries_in
from tests.corpus.recording import MANIFEST, fused_ops

pytestmark = [pytest.mark.lengthy, pytest.mark.both_ends]

WRITERS = {"1.13.2": "tf113", "1.15.5": "tf115"}
ENTRIES = entries()
PROGRAMS = {
    # What each is there for: op types of its graph, with those of its functions.
    "branch_in_loop": {"SparseSoftmaxCrossEntropyWithLogits", "Enter", "StackPopV2", "Merge"},
    "classifier": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "ApplyMomentum"},
    "cond": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "Switch", "Merge"},
    "cond_v2": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient"},
    "defun": {"SoftmaxCrossEntropyWithLogits", "mean_loss", "row_losses"},
    "defun_with_gradient": {"SparseSoftmaxCrossEntropyWithLogits", "row_losses"},
    "dense_classifier": {"SoftmaxCrossEntropyWithLogits", "ApplyMomentum"},
    "distillation": {"SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"},
    "estimator_eval": {"SparseSoftmaxCrossEntropyWithLogits", "RestoreV2"},
    "estimator_train": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "ApplyMomentum"},
    "frozen": {"SparseSoftmaxCrossEntropyWithLogits"},
    "frozen_text": {"SparseSoftmaxCrossEntropyWithLogits"},
    "keras": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "ReadVariableOp"},
    "loop": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "Enter", "StackPopV2"},
    "loop_v2": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "While"},
    "tagger": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "Enter", "StackPopV2"},
    "tagger_v2": {"SparseSoftmaxCrossEntropyWithLogits", "PreventGradient", "While"},
    "tf_function": {"SparseSoftmaxCrossEntropyWithLogits", "StatefulPartitionedCall"},
}
# Keras of 1.15 sums losses in float32; the mean of the losses themselves is the same in float64.
LOSSES = {
    "tf115-keras": "loss/logits_loss/SparseSoftmaxCrossEntropyWithLogits/"
    "SparseSoftmaxCrossEntropyWithLogits:0"
}


def directional_derivative(run, point, direction, step=1e-3):
    """Differentiate `run` by central differences of the fourth order."""
    near, far = (
        run(point + length * direction) - run(point - length * direction)
        for length in (step, 2 * step)
    )
    return (8 * near - far) / (12 * step)


def check_gradients(entry, session, feed_dict):
    """Compare the recorded gradients with differences of the loss, in three directions each."""
    recorded = {name: found for name, found in entry.gradients.items() if found is not None}
    points, gradients = session.run([list(recorded), list(recorded.values())], feed_dict)
    loss = LOSSES.get(entry.id, entry.loss)
    generator = np.random.RandomState(0)
    for name, point, gradient in zip(recorded, points, gradients):
        assert point.dtype == np.float64 and np.abs(gradient).max() > 1e-4

        def run(value, name=name):
            return np.mean(session.run(loss, dict(feed_dict, **{name: value})))

        for _ in range(3):
            direction = generator.randn(*point.shape)
            want = directional_derivative(run, point, direction)
            got = np.sum(gradient * direction)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-10, err_msg=name)


def run_everything(entry):
    with entry.open_in_session() as (_, session, feed_dict):
        for name, value in zip(entry.fetches, session.run(entry.fetches, feed_dict)):
            assert np.all(np.isfinite(value)), name
        check_gradients(entry, session, feed_dict)


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
def test_an_entry_runs_where_tensorflow_can_open_it(entry):
    refusal = entry.refusal()
    if refusal is None:
        run_everything(entry)
    else:
        with pytest.raises(refusal.error, match=refusal.message):
            run_everything(entry)


@pytest.mark.parametrize("name", ["tf115-classifier", "tf113-keras"])
def test_a_graph_def_opens_in_the_place_of_a_meta_graph(name):
    (entry,) = [entry for entry in ENTRIES if entry.id == name]
    with entry.open_in_session() as (_, session, feed_dict):
        want = session.run(entry.fetches, feed_dict)
    with entry.open_in_session(entry.load_graph_def()) as (graph, session, feed_dict):
        assert graph.collections == []  # a MetaGraphDef has them
        for got, value in zip(session.run(entry.fetches, feed_dict), want):
            np.testing.assert_array_equal(got, value)


def test_the_variables_of_an_imported_graph_are_restored_when_asked():
    (entry,) = [entry for entry in ENTRIES if entry.id == "tf115-estimator_train"]
    with entry.open_in_session() as (_, session, feed_dict):
        want = session.run(entry.fetches, feed_dict)
    with tf.Graph().as_default(), tf.Session() as session:
        restore = entry.import_graph()
        with pytest.raises(tf.errors.FailedPreconditionError):
            session.run(entry.loss, feed_dict)
        restore(session)
        for got, value in zip(session.run(entry.fetches, feed_dict), want):
            np.testing.assert_array_equal(got, value)


def ops(graph_def):
    """Return (function or "", node, op type) of all nodes, without the numbers of functions."""
    nodes = [("", node) for node in graph_def.node]
    for function in graph_def.library.function:
        nodes += [(function.signature.name, node) for node in function.node_def]
    return sorted(tuple(map(numberless, (where, n.name, n.op))) for where, n in nodes)


def numberless(name):
    """Return a name without the numbers that a process gives its functions one after another."""
    pattern = r"((?:cond_true|cond_false|while_cond|while_body)|__[a-z]+_mean_loss)_\d+"
    return re.sub(pattern, r"\1", name)


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
def test_an_entry_holds_what_it_is_for(entry):
    graph_def = entry.load_graph_def()
    program = entry.id.split("-")[1]
    assert PROGRAMS[program] <= {op for _, _, op in ops(graph_def)}
    op_names, function_ops = fused_ops(graph_def)
    assert (op_names, function_ops) == (entry.op_names, entry.function_ops)
    assert entry.op_names or entry.function_ops
    assert entry.parameters and set(entry.parameters) == set(entry.gradients)


def test_every_writer_ran_every_program():
    want = {f"{writer}-{program}" for writer in WRITERS.values() for program in PROGRAMS}
    assert {entry.id for entry in ENTRIES} == want


def test_the_programs_still_make_the_same_graphs(tmp_path):
    version = tensorflow.__version__
    if version not in WRITERS:
        pytest.skip(f"the corpus is written by {' and '.join(WRITERS)}; this is {version}")
    folder = tmp_path / WRITERS[version]
    command = [sys.executable, "-m", "tests.corpus.make", str(folder)]
    run = subprocess.run(
        command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    assert run.returncode == 0, run.stdout.decode("utf-8", "replace")[-4000:]
    made = {entry.id: entry for entry in entries_in(folder)}
    kept = {entry.id: entry for entry in ENTRIES if entry.written_by == version}
    assert set(made) == set(kept)
    for name, entry in kept.items():
        assert ops(made[name].load_graph_def()) == ops(entry.load_graph_def()), name
        for attribute in ("kind", "tags", "loss", "parameters", "gradients", "fetches"):
            assert getattr(made[name], attribute) == getattr(entry, attribute), name
        for placeholder, value in entry.feed_dict().items():
            np.testing.assert_array_equal(made[name].feed_dict()[placeholder], value)


def test_the_files_are_small_and_name_no_machine():
    files = [path for path in FILES.rglob("*") if path.is_file()]
    assert sum(os.path.getsize(str(path)) for path in files) < 2e6
    place = re.compile(rb"(?<![\w./])/(?:root|home|Users|work|tmp|usr|var)/\w")
    assert [path for path in files if place.search(path.read_bytes())] == []
    assert {path.name for path in files if path.suffix == ".json"} == {MANIFEST}
