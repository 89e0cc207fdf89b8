"""Sides that are graphs in files: .meta with a checkpoint, .pb, .pbtxt, and a SavedModel."""

import pytest
import tensorflow.compat.v1 as tf

from tf1xent.verification.comparing import batches_of, compared, setting_of
from tf1xent.verification.loading import load_program
from tf1xent.verification.measuring import measure

FORMATS = ("meta", "pb", "pbtxt", "saved_model")


def save(folder, kind, by_hand, sign=1.0):
    """Saves a graph with a trained temperature of 2 in one of the formats; returns its path."""
    with tf.Graph().as_default(), tf.Session() as session:
        features = tf.placeholder(tf.float64, [None, 5], name="features")
        onehot = tf.placeholder(tf.float64, [None, 5], name="y")
        if kind in ("pb", "pbtxt"):  # without variables, as a frozen graph
            temperature = tf.constant(2.0, tf.float64)
        else:
            temperature = tf.get_variable("temperature", initializer=tf.constant(2.0, tf.float64))
        logits = tf.divide(features, temperature, name="logits")
        if by_hand:
            p = tf.nn.softmax(logits)
            losses = -tf.reduce_sum(onehot * tf.log(p + 1e-7), axis=1)
        else:
            losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=onehot, logits=logits)
        tf.multiply(tf.reduce_mean(losses), sign, name="loss")
        if kind == "saved_model":
            session.run(tf.global_variables_initializer())
            path = str(folder / "saved")
            signature = tf.saved_model.predict_signature_def({"x": features}, {"p": logits})
            builder = tf.saved_model.Builder(path)
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving": signature})
            builder.save()
            return path
        if kind == "meta":
            session.run(tf.global_variables_initializer())
            return tf.train.Saver().save(session, str(folder / "model")) + ".meta"
        graph = session.graph.as_graph_def()
        return tf.train.write_graph(graph, str(folder), f"graph.{kind}", as_text=kind == "pbtxt")


def report_on(before, after, inputs):
    """Compares two files in this process, but for logits of -inf, where TensorFlow's op is NaN."""
    setting = setting_of(dtypes=["float64"], labels="one-hot", inputs=inputs, without=["-inf"])
    measurements = [
        measure(load_program(path, "loss", setting, side), batches_of(setting), None)
        for path, side in ((before, "before"), (after, "after"))
    ]
    return compared(*measurements, setting)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_loss_by_hand_and_the_fused_op_behind_the_logits(kind, tmp_path):
    before = save(tmp_path / "before", kind, by_hand=True)
    after = save(tmp_path / "after", kind, by_hand=False)
    report = report_on(before, after, ["logits=logits"])
    assert (report.equal, report.before_is_wrong) == (True, True), report.to_text()
    assert report.formula == "mean over the rows, softmax cross-entropy with one-hot labels"


@pytest.mark.parametrize("kind", FORMATS)
def test_variables_have_their_values_and_a_sign_is_found(kind, tmp_path):
    before = save(tmp_path / "before", kind, by_hand=False)
    assert report_on(before, before, ["features=logits"]).equal
    after = save(tmp_path / "after", kind, by_hand=False, sign=-1.0)
    report = report_on(before, after, ["features=logits"])
    assert not report.equal
    # With features for logits it is no known formula: the temperature of the checkpoint is in it.
    assert report.formula is None


def test_what_is_not_there_is_said(tmp_path):
    path = save(tmp_path, "pb", by_hand=False)
    setting = setting_of(dtypes=["float64"], labels="one-hot")
    with pytest.raises(ValueError, match="Say --input features=KIND"):
        load_program(path, "loss", setting, "before")
    with pytest.raises(ValueError, match="the graph has no tensor 'lost'. Its placeholders: "):
        load_program(path, "lost", setting, "before")
    with pytest.raises(ValueError, match="Say --loss NAME; likely ones: "):
        load_program(path, None, setting, "before")
    classes = setting_of(dtypes=["float64"], labels="one-hot", num_classes=3)
    classes = classes._replace(inputs=setting_of(inputs=["logits=logits"]).inputs)
    with pytest.raises(ValueError, match="Say --num-classes 5"):
        load_program(path, "loss", classes, "before")
