"""Models from files alone: opened, refused, and their spectrum."""

import os
import shutil

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

from tests.corpus.reading import FILES, entries
from tests.curvature.numpy_network import Network
from tf1xent import _tf, graphs
from tf1xent.curvature import HessianOperator
from tf1xent.curvature.models.candidates import find_loss, reached_variables
from tf1xent.curvature.models.feed_files import feed_batches
from tf1xent.curvature.models.loading import load_model
from tf1xent.errors import (
    EmptyTableWarning,
    GraphFileError,
    MissingDerivativeError,
    RewriteError,
)

ENTRIES = {entry.id: entry for entry in entries()}
CLASSIFIER = ENTRIES["tf115-classifier"]
META = FILES / "tf115" / "classifier" / "model.meta"
PREFIX = str(META)[: -len(".meta")]


def oracle(entry):
    """Returns the Hessian of a classifier of the corpus, by NumPy, at its checkpoint's values."""
    reader = tf.train.NewCheckpointReader(entry.checkpoint)
    names = ("hidden/kernel", "hidden/bias", "logits/kernel", "logits/bias")
    weights = np.concatenate([np.ravel(reader.get_tensor(name)) for name in names])
    features, labels = sorted(entry.feed_dict().values(), key=lambda array: -array.ndim)
    return Network([4, 8, 3], features, labels).matrix(weights)


def dense_hessian(model, loss, xs, feeds, sizes):
    operator = HessianOperator(model.session, loss, xs, feeds, batch_weights=sizes)
    return operator.matmat(np.eye(operator.parameters.size))


@pytest.mark.parametrize("name", ["tf115-classifier", "tf113-classifier", "tf115-estimator_train"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_file_of_tensorflow_1_has_the_spectrum_that_numpy_computes(name, batch_size):
    entry = ENTRIES[name]
    with load_model(entry.path) as model:
        loss = find_loss(model.graph, entry.loss, model.variables, "test", name)
        feeds, sizes = feed_batches(model.graph, [loss], entry.feed_dict(), batch_size)
        assert sizes == ([6] if batch_size is None else [4, 2])
        variables, left_out = reached_variables([loss], model.variables, name)
        assert left_out == []
        found = dense_hessian(model, loss, variables, feeds, sizes)
    want = oracle(entry)
    assert np.linalg.norm(want) > 0.1
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(found), np.linalg.eigvalsh(want), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "name",
    [
        *("cond", "loop_v2", "keras"),
        pytest.param("cond_v2", marks=pytest.mark.lengthy),
        pytest.param("distillation", marks=pytest.mark.lengthy),
    ],
)
def test_other_programs_open_and_can_be_differentiated_twice(name):
    entry = ENTRIES[f"tf115-{name}"]
    with tf.Graph().as_default():
        if entry.refusal() is not None or _tf.op_definition("AddV2") is None:
            pytest.skip("this TensorFlow is older than the file")
    try:
        model = load_model(entry.path)
    except GraphFileError:
        pytest.skip("this TensorFlow cannot open the file")
    with model:
        loss = model.graph.get_tensor_by_name(entry.loss)
        try:
            variables, _ = reached_variables([loss], model.variables, name)
        except MissingDerivativeError as error:
            assert "AddV2" in str(error)  # 1.13 does not differentiate what 1.15 wrote
            return
        feeds, sizes = feed_batches(model.graph, [loss], entry.feed_dict(), 4)
        found = dense_hessian(model, loss, variables, feeds, sizes)
    assert np.isfinite(found).all() and np.abs(found).max() > 0.1
    # Keras of 1.15 reduces the loss in float32.
    np.testing.assert_allclose(found, found.T, atol=1e-6 if name == "keras" else 1e-12)


# Opening -----------------------------------------------------------------------------------------


def test_a_meta_file_a_prefix_and_a_folder_are_the_same_model(tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(str(META.parent), str(moved))
    found = []
    for source, checkpoint in (
        (META, None),
        (PREFIX, None),
        (META.parent, None),
        (moved, None),  # its file `checkpoint` names a place that is gone, or this one
        (META, moved),
        (META, moved / "model"),
        (META, str(moved / "model.index")),
    ):
        with load_model(source, checkpoint) as model:
            assert [v.op.name for v in model.variables] == [
                "hidden/kernel",
                "hidden/bias",
                "logits/kernel",
                "logits/bias",
            ]
            found.append(model.session.run("hidden/kernel:0"))
            assert model.source.endswith("model.meta")
    for values in found:
        np.testing.assert_array_equal(values, found[0])


def test_the_override_of_gradients_ends_with_the_model():
    before = _tf.process_override()[0]
    with load_model(META) as model:
        with load_model(META):
            assert _tf.process_override()[0]
        assert _tf.process_override()[0]
        model.close()
        model.close()
        assert _tf.process_override()[0] == before
    with pytest.raises(RuntimeError, match="closed"):
        model.session.run("loss:0", CLASSIFIER.feed_dict())


def test_a_saved_model_opens_with_its_training_graph():
    folder = FILES / "tf115" / "estimator" / "saved_model"
    for source in (folder, folder / "saved_model.pb"):
        with load_model(source) as model:
            assert model.graph.get_operation_by_name("gradients/loss_grad/Shape")
    with load_model(folder, tags=["eval"]) as model:
        assert not [op for op in model.graph.get_operations() if op.name.startswith("gradients")]
    with pytest.raises(ValueError, match="no graph has the tags gpu, only: eval, serve, train"):
        load_model(folder, tags=["gpu"])
    with pytest.raises(ValueError, match="a SavedModel has its own variables"):
        load_model(folder, PREFIX)
    with pytest.raises(ValueError, match="only a SavedModel has tags"):
        load_model(META, tags=["serve"])


def test_v1_loops_are_refused_with_the_remedy_which_works(tmp_path):
    entry = ENTRIES["tf113-loop"]
    with load_model(entry.path) as model:
        loss = model.graph.get_tensor_by_name(entry.loss)
        with pytest.raises(
            MissingDerivativeError,
            match=r"`loss:0` has no second derivative, because of `while/Exit_1` \(Exit\): it ends "
            r"a v1 while loop.*`tf1xent rewrite --loops functional`",
        ):
            reached_variables([loss], model.variables, "test")
    rewritten = str(tmp_path / "model.meta")
    try:
        proto = graphs.rewrite_meta_graph(entry.path, "keep", loops="functional")
    except RewriteError as error:
        assert "Rewrite it with TensorFlow 1.15 or later" in str(error)
        return
    (tmp_path / "model.meta").write_bytes(proto.SerializeToString())
    with load_model(rewritten, entry.checkpoint) as model:
        loss = model.graph.get_tensor_by_name(entry.loss)
        variables, _ = reached_variables([loss], model.variables, "test")
        feeds, sizes = feed_batches(model.graph, [loss], entry.feed_dict())
        found = dense_hessian(model, loss, variables, feeds, sizes)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.abs(found).max() > 0.1


# What cannot be opened ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Writes checkpoints with their .meta files by small programs; returns a function of them."""
    folder = tmp_path_factory.mktemp("saved")

    def save(name, program):
        prefix = str(folder / name)
        if not os.path.exists(prefix + ".meta"):
            with tf.Graph().as_default(), tf.Session() as session:
                saver = program() or tf.train.Saver()
                session.run([tf.global_variables_initializer(), tf.tables_initializer()])
                saver.save(session, prefix)
        return prefix

    return save


def layers(sizes, scope="dense", use_resource=False):
    """A program with a kernel and a bias for each layer."""

    def program():
        x = tf.placeholder(tf.float32, [None, sizes[0]], name="x")
        for number, shape in enumerate(zip(sizes[:-1], sizes[1:])):
            with tf.variable_scope(f"{scope}_{number}", use_resource=use_resource):
                x = tf.tanh(
                    x @ tf.get_variable("kernel", shape) + tf.get_variable("bias", shape[1:])
                )
        tf.reduce_sum(tf.square(x), name="loss")

    return program


@pytest.mark.parametrize("use_resource", [False, True], ids=["reference", "resource"])
def test_a_checkpoint_of_another_graph_is_one_error(saved, use_resource):
    kind = str(use_resource)
    here = saved("here" + kind, layers([3, 4, 2], use_resource=use_resource))
    wider = saved("wider" + kind, layers([3, 5, 2], use_resource=use_resource))
    named = saved("named" + kind, layers([3, 4, 2], scope="other", use_resource=use_resource))
    with pytest.raises(ValueError) as raised:
        load_model(here + ".meta", wider)
    assert str(raised.value) == (
        f"load_model: {here}.meta: {wider} must be a checkpoint of this graph, but it has "
        "dense_0/bias [5] for [4], dense_0/kernel [3, 5] for [3, 4], dense_1/kernel [5, 2] for "
        "[4, 2]. Give one that the same program wrote."
    )
    with pytest.raises(ValueError) as raised:
        load_model(here + ".meta", named)
    assert "has no dense_0/bias, dense_0/kernel, dense_1/bias, dense_1/kernel. Give" in str(
        raised.value
    )
    load_model(here + ".meta", here).close()


def test_a_checkpoint_of_another_dtype_is_refused(saved):
    def program(dtype):
        return lambda: tf.train.Saver([tf.get_variable("x", [2], dtype)])

    here, other = saved("single", program(tf.float32)), saved("double", program(tf.float64))
    with pytest.raises(ValueError, match="but it has x of float64 for float32"):
        load_model(here + ".meta", other)


def test_a_saver_of_some_variables_restores_these(saved):
    """Slots of optimizers, for one, may have stayed out of the checkpoint."""

    def program():
        x = tf.get_variable("x", [2])
        loss = tf.reduce_sum(x**2, name="loss")
        tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
        return tf.train.Saver([x])

    with load_model(saved("some", program)) as model:
        assert [v.op.name for v in model.variables] == ["x"]
        assert np.isfinite(model.session.run("loss:0"))
        with pytest.raises(tf.errors.FailedPreconditionError):
            (slot,) = model.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, "x/Momentum")
            model.session.run(slot)


def test_partitioned_variables_and_other_names_are_found_in_the_checkpoint(saved):
    def program():
        partitioner = tf.fixed_size_partitioner(2)
        kernel = tf.get_variable("kernel", [4, 3], partitioner=partitioner)
        bias = tf.get_variable("bias", [3])
        slot = tf.get_variable("slot", [3], trainable=False)
        loss = tf.add(tf.reduce_sum(tf.square(tf.concat(list(kernel), 0))), bias[0] ** 2)
        tf.identity(loss + tf.reduce_sum(slot) * 0, name="loss")
        return tf.train.Saver({"kernel": kernel, "averaged/bias": bias, "slot": slot})

    prefix = saved("partitioned", program)
    with load_model(prefix) as model:
        assert np.isfinite(model.session.run("loss:0"))
        assert len(model.variables) == 3
    other = saved("whole", layers([4, 3]))
    with pytest.raises(ValueError, match="has no averaged/bias, kernel, slot"):
        load_model(prefix, other)


def test_what_is_not_there_or_is_damaged_is_one_error(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(str(META.parent), str(copy))
    os.remove(str(copy / "model.index"))
    with pytest.raises(FileNotFoundError, match="is no checkpoint: there is no .*model.index"):
        load_model(copy / "model.meta")
    (copy / "model.index").write_bytes(b"not an index at all, and much too short for one")
    with pytest.raises(GraphFileError, match="model is no checkpoint: "):
        load_model(copy / "model.meta")
    (copy / "model.meta").write_bytes(META.read_bytes()[:-7])
    with pytest.raises(GraphFileError, match="must hold a MetaGraphDef, got something else"):
        load_model(copy / "model.meta", PREFIX)
    (copy / "model.meta").write_bytes(b"")
    with pytest.raises(GraphFileError, match="holds no graph"):
        load_model(copy / "model.meta", PREFIX)
    os.remove(str(copy / "model.meta"))
    with pytest.raises(FileNotFoundError, match="model.meta does not exist"):
        load_model(copy / "model")
    with pytest.raises(FileNotFoundError, match="has neither a SavedModel nor a checkpoint"):
        load_model(tmp_path)


def test_a_frozen_graph_has_nothing_to_differentiate_by(tmp_path):
    frozen = FILES / "tf115" / "frozen" / "frozen.pb"
    with pytest.raises(ValueError, match="a frozen one has none"):
        load_model(frozen)
    proto = tf.MetaGraphDef(graph_def=tf.GraphDef.FromString(frozen.read_bytes()))
    (tmp_path / "frozen.meta").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="the graph lists no variables, as frozen graphs do"):
        load_model(tmp_path / "frozen.meta", PREFIX)


def test_ops_that_tensorflow_does_not_know_are_named(tmp_path):
    proto = tf.MetaGraphDef.FromString(META.read_bytes())
    proto.graph_def.node.add(name="mine", op="OpOfAnotherLibrary")
    (tmp_path / "model.meta").write_bytes(proto.SerializeToString())
    with pytest.raises(GraphFileError, match="does not know: OpOfAnotherLibrary"):
        load_model(tmp_path / "model.meta", PREFIX)


@pytest.mark.skipif(not tf.executing_eagerly(), reason="TensorFlow 1.x writes none by default")
def test_a_saved_model_of_tensorflow_2_is_refused(tmp_path):
    module = tensorflow.Module()
    module.weights = tensorflow.Variable([1.0, 2.0])
    signature = tensorflow.TensorSpec([2])
    module.loss = tensorflow.function(
        lambda x: tensorflow.reduce_sum(x * module.weights), input_signature=[signature]
    )
    tensorflow.saved_model.save(module, str(tmp_path), signatures=module.loss)
    with pytest.raises(ValueError, match="TensorFlow 2.x wrote it, with its model in functions"):
        load_model(tmp_path)


@pytest.mark.skipif(
    not hasattr(getattr(tf, "lookup", None), "StaticHashTable"),
    reason="TensorFlow 1.13 has tables in contrib only",
)
def test_a_vocabulary_that_is_gone_is_a_warning(saved, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")

    def program():
        lines = tf.lookup.TextFileIndex
        initializer = tf.lookup.TextFileInitializer(
            str(words), tf.string, lines.WHOLE_LINE, tf.int64, lines.LINE_NUMBER
        )
        table = tf.lookup.StaticHashTable(initializer, -1)
        x = tf.get_variable("x", initializer=[1.0, 2.0])
        tf.identity(tf.gather(x, table.lookup(tf.constant("b"))) ** 2, name="looked_up")
        tf.reduce_sum(x**2, name="loss")

    prefix = saved("words", program)
    with load_model(prefix) as model:
        assert model.session.run(["loss:0", "looked_up:0"]) == [5, 4]
    os.remove(str(words))
    warned = pytest.warns(EmptyTableWarning, match="lookup tables stay empty")
    with load_model(prefix) as model, warned:
        assert model.session.run("loss:0") == 5


def test_notes_of_old_shapes_do_not_hinder_the_import(saved):
    """TF 1.x notes shapes of a gradient's outputs that TF 2.x infers otherwise, and refuses."""

    def program():
        x = tf.get_variable("x", [4, 2, 2, 3])
        scale, offset = tf.get_variable("scale", [3]), tf.get_variable("offset", [3])
        y = tf.nn.fused_batch_norm(x, scale, offset)[0]
        loss = tf.reduce_sum(y**3, name="loss")
        tf.train.GradientDescentOptimizer(0.1).minimize(loss)

    prefix = saved("batch_norm", program)
    proto = tf.MetaGraphDef.FromString(open(prefix + ".meta", "rb").read())
    (node,) = [n for n in proto.graph_def.node if n.op.startswith("FusedBatchNormGrad")]
    shapes = node.attr["_output_shapes"].list.shape
    assert len(shapes) == 5
    for shape in shapes[3:]:  # as 1.15 has it: [0], or the number of channels
        shape.CopyFrom(tf.TensorShape([16]).as_proto())
    with open(prefix + ".meta", "wb") as file:
        file.write(proto.SerializeToString())
    with load_model(prefix) as model:
        assert len(model.variables) == 3


def test_normalization_by_moments_is_no_obstacle(saved):
    """The audit names what TensorFlow leaves out there; the operators let it through."""

    def program():
        x = tf.get_variable("x", initializer=np.random.RandomState(0).normal(size=[2, 4]))
        mean, variance = tf.nn.moments(x, [1], keep_dims=True)
        tf.reduce_sum(tf.sin((x - mean) * tf.rsqrt(variance + 1e-3)), name="loss")

    with load_model(saved("moments", program)) as model:
        loss = model.find_tensor("loss")
        reached, left_out = reached_variables([loss], model.variables, model.source)
        assert (reached, left_out) == (model.variables, [])
