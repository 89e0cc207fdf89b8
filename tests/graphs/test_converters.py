"""Rewritten graphs in other runtimes: TFLite, which comes with TensorFlow, and ONNX by tf2onnx.

tf2onnx and onnxruntime are in the environment `converters` only.
"""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent

LOGITS = np.array(
    [[2.0, -1.0, 0.5], [20.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-3.0, 30.0, 2.0]], np.float32
)
LABELS = {
    "sparse": np.array([0, 0, 2, 0], np.int32),
    "dense": np.array([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]], "f"),
}


def loss_graph(kind):
    """A rewritten GraphDef of logits, labels and loss, for batches of four."""
    labels = LABELS[kind]
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float32, LOGITS.shape, name="logits")
        fed_labels = tf.placeholder(labels.dtype, labels.shape, name="labels")
        functions = {
            "sparse": tf.nn.sparse_softmax_cross_entropy_with_logits,
            "dense": tf.nn.softmax_cross_entropy_with_logits_v2,
        }
        loss = functions[kind](labels=fed_labels, logits=logits)
        tf.identity(loss, name="loss")
    return tf1xent.graphs.rewrite_graph_def(graph.as_graph_def())


def exact_loss(kind):
    """The loss in float64, by differences from the largest logit."""
    logits = LOGITS.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    labels = np.eye(3)[LABELS[kind]] if kind == "sparse" else LABELS[kind].astype(np.float64)
    others = np.sort(np.exp(shifted), axis=1)[:, :-1].sum(axis=1)
    return -(labels * shifted).sum(axis=1) + labels.sum(axis=1) * np.log1p(others)


@pytest.mark.skipif(
    tensorflow.__version__.startswith("1."),
    reason="toco, the converter of TF 1.x, knows no IdentityN",
)
@pytest.mark.parametrize("kind", sorted(LABELS))
def test_tflite(kind):
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.import_graph_def(loss_graph(kind), name="")
        tensors = [graph.get_tensor_by_name(name) for name in ("logits:0", "labels:0", "loss:0")]
        model = tf.lite.TFLiteConverter.from_session(session, tensors[:2], tensors[2:]).convert()
    interpreter = tf.lite.Interpreter(model_content=model)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        is_logits = detail["name"].startswith("logits")
        interpreter.set_tensor(detail["index"], LOGITS if is_logits else LABELS[kind])
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    loss = interpreter.get_tensor(output["index"])
    np.testing.assert_allclose(loss, exact_loss(kind), rtol=2e-6)


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("kind", sorted(LABELS))
def test_onnx(kind, opset):
    tf2onnx = pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _ = tf2onnx.convert.from_graph_def(
        loss_graph(kind),
        input_names=["logits:0", "labels:0"],
        output_names=["loss:0"],
        opset=opset,
    )
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    (loss,) = session.run(["loss:0"], {"logits:0": LOGITS, "labels:0": LABELS[kind]})
    np.testing.assert_allclose(loss, exact_loss(kind), rtol=2e-6)
