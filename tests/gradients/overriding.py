"""What the tests of the override share: rows of logits and labels, and ways to derive and run."""

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

import tf1xent
from tests.support.loss_graph import SPARSE
from tests.support.processes import output_of

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"
GUARD_OP = "PreventGradient"
REGISTRY = ops._gradient_registry._registry

LOGITS = np.array(
    [
        [0.5, -1.25, 2.0, 0.125],
        [9.0, 0.0, 1.0, -2.0],
        [0.0, 8.0, 0.5, -1.0],
        [1.5, 1.5, 1.5, 1.5],
    ]
)
LABELS = np.array([2, 0, 3, 1])
SOFT_LABELS = np.array(
    [
        [0.125, 0.25, 0.25, 0.375],
        [0.875, 0.0, 0.125, 0.0],
        [0.5, 0.75, 0.0, 0.25],  # sums to 1.5
        [0.0, 0.0, 0.0, 0.0],
    ]
)
ONE_SUM = slice(0, 2)
RANDOM = np.random.RandomState(17)
U, V, W = RANDOM.normal(size=(3,) + LOGITS.shape)
SCOPES = ("process", "graph")


def override(graph, scope):
    tf1xent.override_gradients(graph if scope == "graph" else None)


def restore(graph, scope):
    tf1xent.restore_gradients(graph if scope == "graph" else None)


def labels_of(name):
    return LABELS if name == SPARSE else SOFT_LABELS


def weights_of(name):
    return None if name == SPARSE else SOFT_LABELS


def assert_close(got, want, tolerance=1e-12):
    want = np.asarray(want).astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def run(tensors, **session_arguments):
    with tf.Session(**session_arguments) as session:
        return session.run(tensors)


def product(loss, point, vector):
    """d/dpoint <dloss/dpoint, vector>"""
    (gradient,) = tf.gradients(loss, point)
    return tf.gradients(tf.reduce_sum(gradient * vector), point)[0]


def sparse_loss(logits, **arguments):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=logits, **arguments)


def module_results(module, *arguments):
    """What `python -m tests.routes.MODULE ARGUMENTS` prints."""
    return output_of("-m", "tests.routes." + module, *arguments)
