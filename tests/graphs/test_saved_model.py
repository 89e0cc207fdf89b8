"""Rewritten SavedModels: everything else in them is kept, and TensorFlow's own tools take them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.corpus.reading import FILES, entries
from tests.support.processes import output_of
from tf1xent import graphs

IS_TF1 = tensorflow.__version__.startswith("1.")
ESTIMATOR = FILES / "tf113" / "estimator" / "saved_model"
MODES = ("logsumexp", "tag")
# Stock ops in the place of the fused one differ by rounding of float32.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
LOGITS = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], np.float32)
LABELS = np.array([0, 2])

# Runs TensorFlow's saved_model_cli once for each of its command lines, imported once.
SAVED_MODEL_CLI = """
import json, os, sys, traceback
from tensorflow.python.tools import saved_model_cli
for arguments, log in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = ["saved_model_cli"] + arguments
        try:
            code = saved_model_cli.main() or 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("saved_model_cli failed: {}".format(arguments))
"""


def saved_model_cli(folder, commands):
    """Runs several commands of saved_model_cli; returns what each printed."""
    logs = [str(folder / f"{number}.log") for number in range(len(commands))]
    output_of("-c", SAVED_MODEL_CLI, json.dumps(list(zip(commands, logs))))
    return [Path(log).read_text() for log in logs]


def signatures_shown(printed):
    """What `show --all` says but for the op types, which newer TensorFlows list in any order."""
    return [line for line in printed.splitlines() if "contains the following ops" not in line]


def contents(folder):
    """The bytes of every file below a folder, by its path in it."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def meta_graphs(folder):
    """The MetaGraphDefs of a SavedModel by their tags."""
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    assert len(saved_model.meta_graphs) > 0
    return {tuple(m.meta_info_def.tags): m for m in saved_model.meta_graphs}


def without_nodes(meta_graph):
    """All but the nodes and the functions, and what knows of the nodes that were added."""
    copy = type(meta_graph)()
    copy.CopyFrom(meta_graph)
    del copy.graph_def.node[:], copy.graph_def.library.function[:]
    for key in ("cond_context", "while_context"):
        copy.collection_def.pop(key, None)
    copy.meta_info_def.ClearField("stripped_op_list")
    return copy


def build_model(folder, asset):
    """A SavedModel with two graphs, one of two tags; signatures, variables and an asset."""
    builder = tf.saved_model.Builder(str(folder))
    for tags in (["train"], ["serve", "gpu"]):
        with tf.Graph().as_default(), tf.Session() as session:
            features = tf.placeholder(tf.float32, [None, 3], name="features")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            bias = tf.get_variable("bias", initializer=np.array([0.5, 0.0, -0.5], np.float32))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=features + bias, name="xent"
            )
            (gradient,) = tf.gradients(losses, bias)
            name = tf.constant(str(asset), name="vocabulary_name")
            tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, name)
            words = tf.get_variable("words", initializer="none", trainable=False)
            outputs = {"losses": losses, "gradient": gradient, "words": words.read_value()}
            signature = tf.saved_model.build_signature_def(
                {
                    "x": tf.saved_model.build_tensor_info(features),
                    "y": tf.saved_model.build_tensor_info(labels),
                },
                {key: tf.saved_model.build_tensor_info(value) for key, value in outputs.items()},
                "loss",
            )
            session.run(tf.global_variables_initializer())
            options = {
                "signature_def_map": {"loss": signature},
                "assets_collection": tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
                "main_op": tf.assign(words, tf.io.read_file(name)).op,
            }
            if tags == ["train"]:
                builder.add_meta_graph_and_variables(session, tags, **options)
            else:
                builder.add_meta_graph(tags, **options)
    builder.save()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    asset = folder / "vocabulary.txt"
    asset.write_text("one two three")
    build_model(folder / "model", asset)
    asset.unlink()
    return folder / "model"


def run_signature(folder, tags, key, feeds):
    """The outputs of a signature, by name."""
    with tf.Graph().as_default(), tf.Session() as session:
        meta_graph = tf.saved_model.loader.load(session, tags, str(folder))
        signature = meta_graph.signature_def[key]
        feed_dict = {signature.inputs[name].name: value for name, value in feeds.items()}
        fetches = {name: info.name for name, info in signature.outputs.items()}
        return session.run(fetches, feed_dict)


def check_kept(source, target):
    """Files but the graphs' are the same bytes; graphs but their nodes are the same."""
    before, after = contents(source), contents(target)
    for name in set(before) - {"saved_model.pb", "fingerprint.pb"}:
        assert after[name] == before[name], name
    assert set(after) == set(before) - {"fingerprint.pb"}
    before, after = meta_graphs(source), meta_graphs(target)
    assert set(after) == set(before)
    for tags, meta_graph in before.items():
        assert without_nodes(after[tags]) == without_nodes(meta_graph)
        names = {node.name for node in after[tags].graph_def.node}
        assert names >= {node.name for node in meta_graph.graph_def.node}


@pytest.mark.parametrize("mode", MODES)
def test_an_estimators_model_keeps_all_but_its_losses(mode, tmp_path):
    before = contents(ESTIMATOR)
    graphs.rewrite_saved_model(ESTIMATOR, tmp_path / "new", mode)
    assert contents(ESTIMATOR) == before
    check_kept(ESTIMATOR, tmp_path / "new")


@pytest.mark.parametrize("mode", MODES)
def test_a_model_of_this_tensorflow_keeps_all_but_its_losses(mode, model, tmp_path):
    graphs.rewrite_saved_model(str(model), str(tmp_path / "new"), mode)
    check_kept(model, tmp_path / "new")
    assert contents(tmp_path / "new")["assets/vocabulary.txt"] == b"one two three"
    report = graphs.inspect_graph(tmp_path / "new")
    assert [op.graph for op in report.ops] == ["train", "gpu+serve"] * (mode != "logsumexp")
    for tags in (["train"], ["serve", "gpu"]):
        feeds = {"x": LOGITS, "y": LABELS}
        want = run_signature(model, tags, "loss", feeds)
        got = run_signature(tmp_path / "new", tags, "loss", feeds)
        assert got["words"] == want["words"] == b"one two three"
        for name in ("losses", "gradient"):
            assert np.abs(want[name]).max() > 0.1
            np.testing.assert_allclose(got[name], want[name], **TOLERANCE)


def test_a_fingerprint_is_left_out(model, tmp_path):
    copy = tmp_path / "copy"
    for name, content in dict(contents(model), **{"fingerprint.pb": b"\x08\x01"}).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    (copy / "variables" / "fingerprint.pb").write_bytes(b"somebody's own")
    graphs.rewrite_saved_model(copy, tmp_path / "new")
    assert not (tmp_path / "new" / "fingerprint.pb").exists()
    assert (tmp_path / "new" / "variables" / "fingerprint.pb").exists()
    run_signature(tmp_path / "new", ["train"], "loss", {"x": LOGITS, "y": LABELS})


def flowers():
    """The feeds of the Estimator's evaluation, as arrays."""
    (entry,) = [entry for entry in entries() if entry.id == "tf113-estimator_eval"]
    return {name.split(":")[0]: value for name, value in entry.feed_dict().items()}


def expressions(**inputs):
    """For `saved_model_cli run --input_exprs`."""
    return ";".join(f"{name}={np.asarray(value).tolist()!r}" for name, value in inputs.items())


@pytest.mark.lengthy
def test_tensorflows_own_command_shows_and_runs_what_was_rewritten(model, tmp_path):
    fed = flowers()
    feeds = {
        "eval": expressions(flowers=fed["flowers"], label=fed["kinds"]),
        "loss": expressions(x=LOGITS.astype(float), y=LABELS),
    }
    signatures = [("eval", "eval", ESTIMATOR, "logsumexp"), ("loss", "train", model, "tag")]
    commands = []
    for key, tags, source, mode in signatures:
        graphs.rewrite_saved_model(source, tmp_path / key, mode)
        for name, folder in (("old", source), ("new", tmp_path / key)):
            commands.append(["show", "--dir", str(folder), "--all"])
            output = str(tmp_path / f"{name}-{key}")
            commands.append(
                ["run", "--dir", str(folder), "--tag_set", tags, "--signature_def", key]
                + ["--input_exprs", feeds[key], "--outdir", output]
            )
    old_eval, _, new_eval, _, old_loss, _, new_loss, _ = saved_model_cli(tmp_path, commands)
    assert signatures_shown(new_eval) == signatures_shown(old_eval)
    assert signatures_shown(new_loss) == signatures_shown(old_loss)
    assert "signature_def['eval']" in old_eval and "signature_def['loss']" in old_loss
    for key, name in (("eval", "loss"), ("loss", "losses"), ("loss", "gradient")):
        want, got = (np.load(tmp_path / f"{age}-{key}" / f"{name}.npy") for age in ("old", "new"))
        assert np.all(np.isfinite(want)) and np.abs(want).max() > 0.1
        np.testing.assert_allclose(got, want, **TOLERANCE)
        if key == "loss":  # its ops are only tagged
            np.testing.assert_array_equal(got, want)


# SavedModels of objects --------------------------------------------------------------------------


def classifier():
    """An affine model; its loss is a function that is saved with it."""
    module = tf.Module()
    module.weights = tf.Variable([[0.5, -1.0, 0.25], [1.0, 0.5, -0.5]], use_resource=True)

    def loss(features, labels):
        logits = tf.matmul(features, module.weights)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_mean(losses)

    specs = [tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None], tf.int64)]
    module.loss = tf.function(loss, input_signature=specs)
    return module


FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]], np.float32)


def hessian_of_the_mean_loss(weights):
    """By the formula: the mean over rows of x_i x_j (p_k [k = l] - p_k p_l)."""
    logits = FEATURES.astype(np.float64) @ weights
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.einsum("nk,kl->nkl", p, np.eye(3)) - np.einsum("nk,nl->nkl", p, p)
    return np.einsum("ni,nj,nkl->ikjl", FEATURES, FEATURES, rows) / len(FEATURES)


@pytest.fixture(scope="module")
def object_model(tmp_path_factory):
    if IS_TF1:
        pytest.skip("TF 1.x writes SavedModels of objects in eager mode only, for a whole process")
    folder = tmp_path_factory.mktemp("objects") / "model"
    module = classifier()
    tensorflow.saved_model.save(module, str(folder), signatures={"loss": module.loss})
    return folder


def test_a_loaded_object_has_its_hessian(object_model, tmp_path):
    """By nested tapes, and by tf.gradients in a function."""
    assert len(graphs.inspect_graph(object_model).ops) == 1
    graphs.rewrite_saved_model(object_model, tmp_path / "new")
    assert graphs.inspect_graph(tmp_path / "new").ops == ()
    restored = tensorflow.saved_model.load(str(tmp_path / "new"))
    labels = tf.constant([0, 2, 1], tf.int64)
    loss = restored.loss(tf.constant(FEATURES), labels)
    original = tensorflow.saved_model.load(str(object_model))
    want = original.loss(tf.constant(FEATURES), labels)
    np.testing.assert_allclose(loss.numpy(), want.numpy(), **TOLERANCE)
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            loss = restored.loss(tf.constant(FEATURES), labels)
        gradient = inner.gradient(loss, restored.weights)
    want = hessian_of_the_mean_loss(restored.weights.numpy().astype(np.float64))
    got = outer.jacobian(gradient, restored.weights, experimental_use_pfor=False)
    np.testing.assert_allclose(got.numpy(), want, **TOLERANCE)

    @tf.function
    def products(direction):
        (first,) = tf.gradients(restored.loss(tf.constant(FEATURES), labels), restored.weights)
        return tf.gradients(tf.reduce_sum(first * direction), restored.weights)[0]

    direction = np.array([[1.0, -2.0, 0.5], [0.0, 0.75, -1.0]], np.float32)
    want = np.einsum("ikjl,jl->ik", want, direction)
    np.testing.assert_allclose(products(tf.constant(direction)).numpy(), want, **TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_a_model_of_objects_keeps_all_but_its_losses(mode, object_model, tmp_path):
    graphs.rewrite_saved_model(object_model, tmp_path / "new", mode)
    check_kept(object_model, tmp_path / "new")
    feeds = {"features": FEATURES, "labels": np.array([0, 2, 1])}
    (want,) = run_signature(object_model, ["serve"], "loss", feeds).values()
    (got,) = run_signature(tmp_path / "new", ["serve"], "loss", feeds).values()
    np.testing.assert_allclose(got, want, **TOLERANCE)
