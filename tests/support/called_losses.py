"""A small loss: in closed form, as a function that a graph calls, and from an imported graph."""

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function as tf_function
from tensorflow.python.ops import gen_nn_ops

LOGITS = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 0.0]])
LABELS = np.array([2, 0])
DIRECTION = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0]])


def probabilities():
    exponentials = np.exp(LOGITS)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def exact():
    """(sum of the losses, gradient, Hessian times DIRECTION) in closed form."""
    p = probabilities()
    loss = -np.log(p[np.arange(2), LABELS]).sum()
    product = p * (DIRECTION - (p * DIRECTION).sum(axis=1, keepdims=True))
    return loss, p - np.eye(3)[LABELS], product


@tf_function.Defun(tf.float64, tf.int64)
def both_outputs(logits, labels):
    return gen_nn_ops.sparse_softmax_cross_entropy_with_logits(logits, labels)


def inputs():
    return (
        tf.placeholder(tf.float64, [2, 3], name="logits"),
        tf.placeholder(tf.int64, [2], name="labels"),
    )


def computed(meta_graph, build, **more):
    """What `build(result, logits)` of an imported graph computes."""
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.train.import_meta_graph(meta_graph)
        tensors = [graph.get_tensor_by_name(name + ":0") for name in ("result", "logits")]
        feed = {"logits:0": LOGITS, "labels:0": LABELS}
        feed.update({name + ":0": value for name, value in more.items()})
        return session.run(build(*tensors), feed)
