"""Programs that export: an Estimator's SavedModel, a Keras model's session, a frozen graph."""

import os
import shutil
import tempfile

import tensorflow.compat.v1 as tf

from tests.corpus.data import NUM_CLASSES, iris
from tests.corpus.models import classifier_loss, dense_logits
from tests.corpus.recording import (
    described,
    minimized,
    read_of,
    save_checkpoint,
    train,
    write_manifest,
)


def frozen(folder):
    """A loss graph with its variables made constants, as a binary and as a text file."""
    loss, feeds, logits, losses = classifier_loss()
    step, gradients = minimized(loss)
    with tf.Session() as session:
        train(session, step, feeds)
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, session.graph_def, [logits.op.name, loss.op.name]
        )
    gradients = [(parameter, None) for parameter, _ in gradients]
    entries = {}
    for name, file, as_text in (("frozen", "frozen.pb", 0), ("frozen_text", "frozen.pbtxt", 1)):
        tf.train.write_graph(graph_def, folder, file, as_text=bool(as_text))
        place = {"kind": "graph_def", "file": file, "checkpoint": None, "tags": None}
        entries[name] = described(loss.graph, loss, gradients, feeds, [logits, losses], **place)
    write_manifest(folder, entries)


def keras(folder):
    """A compiled Sequential model; the graph of its session, saved by a Saver."""
    backend, layers = tf.keras.backend, tf.keras.layers
    backend.set_floatx("float64")
    model = tf.keras.Sequential(
        [
            layers.Dense(8, activation="tanh", input_shape=(4,)),
            layers.Dense(NUM_CLASSES, name="logits"),
        ]
    )

    def entropy(labels, logits):
        return backend.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    class SGD(tf.keras.optimizers.SGD):
        def get_gradients(self, loss, params):
            gradients = super().get_gradients(loss, params)
            self.recorded = list(zip(params, gradients))
            return gradients

    optimizer = SGD(0.1, momentum=0.9)
    model.compile(optimizer, entropy)
    features, labels = iris()
    model.fit(features, labels, batch_size=6, epochs=3, verbose=0, shuffle=False)
    loss = model.total_loss
    values = {
        model.inputs[0].op.name: features,
        "logits_target": labels[:, None],
        "logits_sample_weights": [1.0] * 6,  # 1.15 makes none
    }
    placeholders = [op for op in loss.graph.get_operations() if op.name in values]
    feeds = [(op.outputs[0], values[op.name]) for op in placeholders]
    gradients = [(read_of(variable, loss), gradient) for variable, gradient in optimizer.recorded]
    session = backend.get_session()
    place = save_checkpoint(folder, session)
    entry = described(session.graph, loss, gradients, feeds, [model.outputs[0]], **place)
    write_manifest(folder, {"keras": entry})
    backend.set_floatx("float32")


def estimator_model(entries):
    """Return a model function that notes, in `entries`, the graphs it is exported with."""

    def model_fn(features, labels, mode):
        logits = dense_logits(features["flowers"])
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=tf.nn.softmax(logits))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits, name="xent"
        )
        loss = tf.reduce_mean(losses, name="loss")
        if mode == tf.estimator.ModeKeys.EVAL:
            gradients = [(read_of(variable, loss), None) for variable in tf.trainable_variables()]
            step = None
        else:
            step, gradients = minimized(loss)
        if features["flowers"].op.type == "Placeholder":  # it is being exported
            feeds = list(zip([features["flowers"], labels], iris()))
            place = {"kind": "saved_model", "file": "saved_model", "checkpoint": None}
            entry = described(loss.graph, loss, gradients, feeds, [logits, losses], **place)
            entries["estimator_" + mode] = dict(entry, tags=[mode])
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=step)

    return model_fn


def estimator(folder):
    """A custom Estimator, exported with its graphs for training, evaluation and serving."""

    def rows():
        flowers, kinds = iris()
        return {"flowers": tf.constant(flowers)}, tf.constant(kinds)

    flowers = {"flowers": tf.placeholder(tf.float64, [None, 4], name="flowers")}
    kinds = tf.placeholder(tf.int64, [None], name="kinds")
    receiver = tf.estimator.experimental.build_raw_supervised_input_receiver_fn(flowers, kinds)
    modes = tf.estimator.ModeKeys
    receivers = {
        modes.TRAIN: receiver,
        modes.EVAL: receiver,
        modes.PREDICT: tf.estimator.export.build_raw_serving_input_receiver_fn(flowers),
    }
    entries = {}
    with tempfile.TemporaryDirectory() as working:
        config = tf.estimator.RunConfig(tf_random_seed=7)
        trained = tf.estimator.Estimator(
            estimator_model(entries), os.path.join(working, "model"), config
        )
        trained.train(rows, steps=5)
        exported = trained.experimental_export_all_saved_models(working, receivers)
        shutil.copytree(os.fsdecode(exported), os.path.join(folder, "saved_model"))
    write_manifest(folder, entries)
