"""Detectors of NaN and infinity look at every op's output: none in a rewritten graph may give any
for finite input that is valid."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support.kernel_graphs import kernel_graph
from tests.support.patched_losses import dense, placeholders, sparse
from tf1xent import graphs

LOGITS = np.array([[300.0, 0.0, -200.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-1e30, 1e30, 5.0]])
LABELS = np.array([0, 1, 2, 1])
SOFT = np.array([[0.25, 0.25, 0.5], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
FEED = {"logits:0": LOGITS, "labels:0": LABELS, "soft:0": SOFT, "vector:0": np.ones((4, 3))}


def stock(loss, dtype):
    with tf.Graph().as_default():
        logits, labels, soft, _ = placeholders(tf.as_dtype(dtype))
        tf.identity(loss(logits, labels, soft), name="value")
        meta_graph = tf.train.export_meta_graph()
    return graphs.rewrite_meta_graph(meta_graph).graph_def


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        pytest.param("float64", marks=pytest.mark.exhaustive),
        pytest.param("half", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("loss", [sparse, dense], ids=lambda loss: loss.__name__)
def test_losses_and_derivatives(loss, dtype):
    graph_def = stock(loss, dtype)
    check_constants(graph_def)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        names = ("value:0", "logits:0", "soft:0")
        value, logits, soft = (graph.get_tensor_by_name(name) for name in names)
        operands = [logits, soft] if loss is dense else [logits]
        first = tf.gradients(value, operands)
        second = tf.gradients(first, operands)
        logits = np.clip(LOGITS, -3e4, 3e4) if dtype == "half" else LOGITS
        check = tf.add_check_numerics_ops()
        session.run([*first, *second, check], dict(FEED, **{"logits:0": logits}))


def check_constants(graph_def):
    for node in graph_def.node:
        if node.op == "Const" and "logsumexp" in node.name:
            assert np.all(np.isfinite(tf.make_ndarray(node.attr["value"].tensor))), node.name


@pytest.mark.parametrize("kind", ["Sparse", "Dense"])
def test_kernel_ops(kind):
    graph_def = graphs.rewrite_graph_def(kernel_graph(kind, "float32"))
    check_constants(graph_def)
    feed = {"logits:0": LOGITS, "labels:0": LABELS if kind == "Sparse" else SOFT}
    feed.update({"vectors:0": np.ones((4, 3)), "scale:0": np.ones(4)})
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        session.run(tf.add_check_numerics_ops(), feed)
