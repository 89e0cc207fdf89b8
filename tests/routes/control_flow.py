"""A TF1 program with losses inside tf.cond and tf.while_loop, in one of the two control flows.

    python -m tests.routes.control_flow v1|v2 process|graph|patch RESULTS.npz

TensorFlow's functions are patched before the graph is built, or the gradients of its own ops are
overridden when the graph is there. Writes gradients and Hessian-vector products; since TensorFlow
refuses second order through a v1 while loop, one product is computed inside of a loop's body.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

import tf1xent
from tests.routes import table


def sparse(logits):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=table.LABELS, logits=logits)
    return tf.reduce_sum(losses)


def dense(logits):
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=table.SOFT_LABELS, logits=logits)
    return tf.reduce_sum(losses)


def in_cond(function, logits):
    return tf.cond(
        tf.placeholder_with_default(True, []),
        lambda: function(logits),
        lambda: tf.reduce_sum(logits),
    )


def in_while(function, logits):
    _, total = tf.while_loop(
        lambda step, _: step < 2,
        lambda step, total: (step + 1, total + function(logits)),
        (tf.constant(0), tf.constant(0.0)),
    )
    return total


def product(gradient, logits):
    return tf.gradients(tf.reduce_sum(gradient * table.VECTORS[0]), logits)[0]


def product_in_while_body(function, logits):
    """Loss, gradient and product in one body: no order goes through the loop itself."""

    def body(step, total):
        (gradient,) = tf.gradients(function(logits), logits)
        return step + 1, total + product(gradient, logits)

    start = (tf.constant(0), tf.zeros_like(logits))
    return tf.while_loop(lambda step, _: step < 2, body, start)[1]


def main(control_flow, scope, path):
    if hasattr(tf, "disable_v2_behavior"):
        tf.disable_v2_behavior()
    if control_flow == "v2":
        tf.enable_control_flow_v2()
    if scope == "patch":
        tf1xent.patch()
    results = {}
    for function in (sparse, dense):
        with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
            logits = tf.placeholder_with_default(table.LOGITS, table.LOGITS.shape)
            losses = {"cond": in_cond(function, logits), "while": in_while(function, logits)}
            tensors = {}
            # Not when patched: TF 1.15 cannot differentiate the second gradient through one v2
            # while loop that has a gather or a where in it, be it ours or anybody's.
            if scope != "patch":
                for name, loss in losses.items():
                    tensors[name + " before"] = tf.gradients(loss, logits)[0]
            tf1xent.override_gradients(graph if scope == "graph" else None)
            for name, loss in losses.items():
                (gradient,) = tf.gradients(loss, logits)
                tensors[name + " gradient"] = gradient
                if name == "cond" or control_flow == "v2":
                    tensors[name + " product"] = product(gradient, logits)
            if scope != "graph":
                tensors["body product"] = product_in_while_body(function, logits)
            for name, array in session.run(tensors).items():
                results[f"{function.__name__} {name}"] = array
            tf1xent.restore_gradients(graph if scope == "graph" else None)
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
