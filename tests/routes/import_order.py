"""Imports modules in an order, then uses a saved graph that carries our gradient names.

    python -m tests.routes.import_order MODULE,MODULE... META_GRAPH RESULTS.npz

Nothing else of tf1xent is used. Writes the gradient names that are registered as soon as the last
of the modules is imported, and second derivatives of the graph's losses.
"""

import importlib
import sys


def main(modules, meta_graph, path):
    for module in modules.split(","):
        importlib.import_module(module)
    # What follows imports no module of tf1xent.
    import numpy as np
    import tensorflow.compat.v1 as tf
    from tensorflow.python.framework import ops

    registered = [name for name in ops._gradient_registry._registry if name.startswith("Tf1xent")]
    results = {"registered": registered}
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(meta_graph)
        logits, vectors = tf.get_collection("inputs")
        for number, loss in enumerate(tf.get_collection("losses")):
            (gradient,) = tf.gradients(loss, logits)
            (product,) = tf.gradients(tf.reduce_sum(gradient * vectors), logits)
            results[f"product {number}"] = session.run(product)
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
