"""Ops of the native library against the stock ops that replace them; needs the library."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.support import cases
from tests.support.kernel_graphs import (
    DENSE,
    PREFIX,
    SPARSE,
    assert_is_stock,
    kernel_graph,
    names_of,
    scale_of,
)
from tf1xent import graphs, nn

pytestmark = pytest.mark.exhaustive


def run_both(graph_def, names, feed):
    """The tensors of a graph that holds the library's ops, and of the one that does not."""
    changed = graphs.rewrite_graph_def(graph_def)
    assert_is_stock(changed)
    found = []
    for imported in (graph_def, changed):
        with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
            tf.import_graph_def(imported, name="")
            fed = {graph.get_tensor_by_name(name + ":0"): value for name, value in feed.items()}
            fed = {t: np.asarray(value).astype(t.dtype.as_numpy_dtype) for t, value in fed.items()}
            found.append(session.run(names, fed))
    return zip(names, *found)


@pytest.mark.parametrize("dtype", ["float64", "float32", "half", "bfloat16"])
@pytest.mark.parametrize("kind", [SPARSE, DENSE])
def test_what_takes_their_place_is_what_they_were(library, kind, dtype):
    assert library is not None
    logits, labels = cases.rows(10, "float32")
    finite = np.abs(logits) < 1e4  # in half
    rows = np.all(finite | np.isneginf(logits), axis=1)
    logits, labels = logits[rows], labels[rows]
    vectors = np.random.RandomState(2).normal(size=logits.shape)
    if kind == DENSE:
        labels = cases.dense_labels(logits, labels, cases.DENSE_KINDS)
    graph_def = kernel_graph(kind, dtype, [None, 10])
    names = [name + ":0" for name in names_of(kind)] + ["xent:1"]
    feed = {"logits": logits, "labels": labels, "vectors": vectors, "scale": scale_of(logits)}
    tolerance = {"float64": 1e-12, "float32": 1e-4, "half": 2e-3, "bfloat16": 1.6e-2}[dtype]
    smallest = 1e-6 if dtype in ("half", "bfloat16") else 1e-30
    for name, was, became in run_both(graph_def, names, feed):
        assert was.dtype == became.dtype
        was, became = was.astype(np.float64), became.astype(np.float64)
        np.testing.assert_allclose(became, was, rtol=tolerance, atol=smallest, err_msg=name)


def test_graphs_of_our_own_losses(library):
    assert library is not None
    random = np.random.RandomState(5)
    feed = {"logits": random.normal(size=(5, 4)) * 3, "labels": [0, 3, 2, 1, 1]}
    feed["soft"] = random.uniform(size=(5, 4))
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float64, [None, 4], name="logits")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        soft = tf.placeholder(tf.float64, [None, 4], name="soft")
        losses = [
            nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=logits, implementation="kernel"
            ),
            nn.softmax_cross_entropy_with_logits_v2(
                labels=soft, logits=logits, implementation="kernel"
            ),
            nn.weighted_sparse_softmax_cross_entropy_with_logits(
                labels, logits, label_smoothing=0.1, z_loss=0.2, implementation="kernel"
            ),
        ]
        for number, loss in enumerate(losses):
            tf.identity(loss, name=f"order0_{number}")
            for order in (1, 2, 3)[: 3 - number]:
                (loss,) = tf.gradients(loss * (1 + tf.square(loss)), logits)
                tf.identity(loss, name=f"order{order}_{number}")
        (mixed,) = tf.gradients(tf.square(tf.gradients(losses[1], soft)[0]), logits)
        tf.identity(mixed, name="mixed")
    graph_def = graph.as_graph_def()
    names = [node.name + ":0" for node in graph_def.node if node.name.startswith("order")]
    assert len(names) == 9
    assert sum(node.op.startswith(PREFIX) for node in graph_def.node) >= 8
    for name, was, became in run_both(graph_def, [*names, "mixed:0"], feed):
        np.testing.assert_allclose(became, was, rtol=1e-9, atol=1e-12, err_msg=name)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.import_graph_def(graphs.rewrite_graph_def(graph_def), name="")
        point = graph.get_tensor_by_name("logits:0")
        fed = {graph.get_tensor_by_name(name + ":0"): array for name, array in feed.items()}
        for number in range(2):
            value = graph.get_tensor_by_name(f"order1_{number}:0")
            (again,) = tf.gradients(value * (1 + tf.square(value)), point)
            was = graph.get_tensor_by_name(f"order2_{number}:0")
            np.testing.assert_allclose(*session.run([again, was], fed), rtol=1e-9, atol=1e-12)
