"""Files with v1 loops, rewritten with `loops="functional"`: the corpus, what is kept, refusals."""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.corpus.reading import entries
from tests.support.graph_files import META, contents
from tests.support.v1_loops import UNOPTIMIZED, can_be_functional, needs_while, v1_control_flow
from tf1xent import cli, graphs
from tf1xent.errors import RewriteError

CORPUS = {
    entry.id: entry
    for entry in entries()
    if entry.id.split("-")[1] in ("tagger", "loop", "branch_in_loop", "cond")
    and entry.refusal() is None
}
TAGGER = CORPUS["tf113-tagger"]
V1_LOOPS = {"Enter", "Exit", "NextIteration"}
STEP = 1e-3


# --- The corpus -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def before(name):
    """Values of a graph as it is, and differences of its recorded gradients."""
    entry = CORPUS[name]
    with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
        entry.import_graph()(session)
        feed_dict = entry.feed_dict()
        values = session.run(fetches(entry), feed_dict)
        point = session.run(entry.parameters, feed_dict)
        recorded = [entry.gradients[name] for name in entry.parameters]

        def at(length):
            moved = [x + length * d for x, d in zip(point, directions(point))]
            return session.run(recorded, {**feed_dict, **dict(zip(entry.parameters, moved))})

        points = [at(length) for length in (STEP, -STEP, 2 * STEP, -2 * STEP)]
        products = [(8 * (a - b) - (c - d)) / (12 * STEP) for a, b, c, d in zip(*points)]
        return values, directions(point), products


def directions(point):
    generator = np.random.RandomState(0)
    return [generator.randn(*x.shape) for x in point]


def fetches(entry):
    """Everything worth reading, the recorded gradients too."""
    return [*entry.fetches, *(name for name in entry.gradients.values() if name is not None)]


CASES = [(name, "tag") for name in CORPUS]
CASES.append(pytest.param("tf113-loop", "logsumexp", marks=pytest.mark.lengthy))


@needs_while
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_the_corpus(name, mode):
    """Right Hessian-vector products of the new gradient; all other fetches as before."""
    entry = CORPUS[name]
    values, direction, products = before(name)
    rewritten = graphs.rewrite_meta_graph(entry.path, mode, loops="functional")
    assert not [key for key in rewritten.collection_def if key.endswith("_context")]
    with tf.Graph().as_default() as graph, tf.Session(config=UNOPTIMIZED) as session:
        restore = entry.import_graph(rewritten)
        parameters = [graph.get_tensor_by_name(name) for name in entry.parameters]
        gradients = tf.gradients(graph.get_tensor_by_name(entry.loss), parameters)
        found = tf.gradients(gradients, parameters, direction)
        restore(session)
        after, got = session.run([fetches(entry), found], entry.feed_dict())
    for want, value in zip(values, after):
        if mode == "tag":
            np.testing.assert_array_equal(value, want)
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-15)
    for want, product in zip(products, got):
        np.testing.assert_allclose(product, want, rtol=0, atol=1e-8 * np.abs(want).max())


@needs_while
def test_tf_hessians_of_the_tagger():
    """Its own loop must not be a v1 loop around the tagger's, which TF 1.15 cannot run."""
    name = "rnn/basic_rnn_cell/bias/read:0"
    rewritten = graphs.rewrite_meta_graph(TAGGER.path, "logsumexp", loops="functional")
    with tf.Graph().as_default() as graph, tf.Session() as session:
        restore = TAGGER.import_graph(rewritten)
        loss, bias = (graph.get_tensor_by_name(n) for n in (TAGGER.loss, name))
        with tf1xent.patched(control_flow_v2=True):
            (hessian,) = tf.hessians(loss, bias)
        restore(session)
        feed_dict = TAGGER.feed_dict()
        found, point = session.run([hessian, bias], feed_dict)
        recorded = TAGGER.gradients[name]

        def at(length):
            moved = point + length * np.eye(len(point))[0]
            return session.run(recorded, {**feed_dict, name: moved})

        points = [at(length) for length in (STEP, -STEP, 2 * STEP, -2 * STEP)]
    a, b, c, d = points
    np.testing.assert_allclose(found[:, 0], (8 * (a - b) - (c - d)) / (12 * STEP), atol=1e-8)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12)


@needs_while
def test_a_kept_loop_stays_as_it_is():
    kept = graphs.rewrite_meta_graph(TAGGER.path, "tag", loops="keep")
    assert kept == graphs.rewrite_meta_graph(TAGGER.path, "tag")
    assert "while_context" in kept.collection_def


# --- Collections and signatures -------------------------------------------------------------------


def small_meta_graph(change=None):
    """A loop and a branch, in the branch `inside`, and what `change(graph)` adds."""
    with v1_control_flow(), tf.Graph().as_default() as graph:
        x = tf.placeholder_with_default([1.0, 2.0], [2], name="x")
        y = tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, tf.sin(y)), (0, x))[1]
        z = tf.cond(y[0] > 0, lambda: tf.square(y, name="inside"), lambda: y)
        tf.reduce_sum(z, name="loss")
        if change is not None:
            change(graph)
        return tf.train.export_meta_graph()


def run_all(meta_graph, *names):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        return session.run(names)


@needs_while
def test_contexts_of_what_is_functional_go():
    meta_graph = small_meta_graph()
    assert {"while_context", "cond_context"} <= set(meta_graph.collection_def)
    rewritten = graphs.rewrite_meta_graph(meta_graph, "keep", loops="functional")
    assert not {"while_context", "cond_context"} & set(rewritten.collection_def)
    assert run_all(rewritten, "loss:0") == run_all(meta_graph, "loss:0")


@needs_while
def test_a_tensor_in_a_branch_that_a_collection_names_stays():
    def change(graph):
        graph.add_to_collection("losses", graph.get_tensor_by_name("cond/inside:0"))

    rewritten = graphs.rewrite_meta_graph(small_meta_graph(change), "keep", loops="functional")
    before = run_all(small_meta_graph(change), "loss:0", "cond/inside:0")
    for got, want in zip(run_all(rewritten, "loss:0", "cond/inside:0"), before):
        np.testing.assert_array_equal(got, want)
    assert any(node.op == "StatelessIf" for node in rewritten.graph_def.node)


@needs_while
def test_a_gradient_that_stays_keeps_its_contexts():
    """Random numbers must not be drawn twice: the branch and its recorded gradient stay."""

    def change(graph):
        loss = graph.get_tensor_by_name("loss:0")
        x = graph.get_tensor_by_name("x:0")
        noisy = tf.cond(loss > 0, lambda: loss * tf.random.uniform([], seed=1), lambda: loss)
        tf.gradients(tf.square(noisy), x, name="noise")

    meta_graph = small_meta_graph(change)
    rewritten = graphs.rewrite_meta_graph(meta_graph, "keep", loops="functional")
    assert len(rewritten.collection_def["cond_context"].bytes_list.value) < len(
        meta_graph.collection_def["cond_context"].bytes_list.value
    )
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(rewritten)
        noise = [op for op in graph.get_operations() if op.type == "RandomUniform"]
    assert len(noise) == 1 and noise[0]._get_control_flow_context() is not None


@needs_while
def test_a_saved_model(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    with v1_control_flow(), tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [2], name="x")
        y = tf.map_fn(tf.sin, x)
        tf.saved_model.simple_save(session, str(old), {"x": x}, {"y": y})
    graphs.rewrite_saved_model(old, new, "keep", loops="functional")
    with tf.Graph().as_default() as graph, tf.Session() as session:
        meta_graph = tf.saved_model.loader.load(session, ["serve"], str(new))
        (signature,) = [s for s in meta_graph.signature_def.values() if "y" in s.outputs]
        y = graph.get_tensor_by_name(signature.outputs["y"].name)
        x = graph.get_tensor_by_name("x:0")
        (second,) = tf.gradients(tf.gradients(y, x)[0], x)
        got = session.run([y, second], {x: [0.5, 1.0]})
    np.testing.assert_allclose(got, [np.sin([0.5, 1.0]), -np.sin([0.5, 1.0])], rtol=1e-12)


# --- Arguments and the command --------------------------------------------------------------------


@needs_while
def test_the_command(tmp_path):
    target = tmp_path / "functional.meta"
    command = ["rewrite", TAGGER.path, str(target), "--mode", "tag", "--loops", "functional"]
    assert cli.main(command) == 0
    want = graphs.rewrite_meta_graph(TAGGER.path, "tag", loops="functional")
    assert tf.MetaGraphDef.FromString(target.read_bytes()) == want
    alone = tmp_path / "alone.meta"
    assert cli.main(["rewrite", TAGGER.path, str(alone), "--loops", "functional"]) == 0
    want = graphs.rewrite_meta_graph(TAGGER.path, "keep", loops="functional")
    assert tf.MetaGraphDef.FromString(alone.read_bytes()) == want


@pytest.mark.parametrize("loops", ["", "functions", None, True, 3])
def test_wrong_loops(loops, tmp_path):
    calls = [
        lambda: graphs.rewrite_graph_def(tf.GraphDef(), "tag", loops=loops),
        lambda: graphs.rewrite_meta_graph(tmp_path / "none", "tag", loops=loops),
        lambda: graphs.rewrite_saved_model(tmp_path / "none", tmp_path / "new", loops=loops),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="`loops` must be one of keep, functional, got"):
            call()


@pytest.mark.skipif(can_be_functional(), reason="StatelessWhile has a gradient here")
def test_a_tensorflow_without_gradients_of_while_ops_refuses(tmp_path, capsys):
    with pytest.raises(RewriteError, match="Rewrite it with TensorFlow 1.15 or later"):
        graphs.rewrite_meta_graph(TAGGER.path, "tag", loops="functional")
    command = ["rewrite", TAGGER.path, str(tmp_path / "new.meta"), "--loops", "functional"]
    assert cli.main(command) == 2 and contents(tmp_path) == {}
    assert "TensorFlow 1.15" in capsys.readouterr().err


def test_a_graph_without_loops_stays_as_it_is():
    before = graphs.rewrite_meta_graph(META, "keep")
    assert graphs.rewrite_meta_graph(META, "keep", loops="functional") == before
