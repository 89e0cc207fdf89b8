"""Loads a meta graph that carries our gradient names, in a process that only imports tf1xent.

python -m tests.routes.saved_graph META_GRAPH RESULTS.npz
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

import tf1xent  # noqa: F401
from tests.routes import table


def main(meta_graph, path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        logits, loss, recorded = tf.get_collection("tensors")
        (gradient,) = tf.gradients(loss, logits)
        results = {}
        for name, tensor in (("recorded", recorded), ("new", gradient)):
            product = tf.gradients(tf.reduce_sum(tensor * table.VECTORS[0]), logits)[0]
            results[name] = session.run(product)
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
