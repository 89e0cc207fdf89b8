"""What runs in a process of the benchmark of linear losses: one variant, its memory and its times.

It imports the library late, from the checkout that it is asked to measure.
"""

import argparse
import sys
import time
from typing import Any, Dict

import measuring


def make_target(variant: str, options: argparse.Namespace) -> Any:
    """Returns the operation that computes everything and hands nothing to Python."""
    import tensorflow_sides
    from tensorflow_sides import tf

    from tf1xent.losses import linear_softmax_cross_entropy

    sizes = options.features, options.classes
    values = (
        tf.random_uniform([options.tokens], 0, options.classes, tf.int32, seed=1),
        tf.random_normal([options.tokens, options.features], seed=2),
        tf.random_normal(sizes[::-1] if options.transpose else sizes, 0, sizes[0] ** -0.5, seed=3),
        tf.random_normal([options.classes], seed=4),
    )
    # Variables: constants would be folded, and feeds copied at every call.
    variables = [tf.Variable(value, trainable=False, use_resource=False) for value in values]
    labels, *operands = map(tf.identity, variables)
    if variant == "stock":
        inputs, weights, biases = operands
        logits = tf.matmul(inputs, weights, transpose_b=options.transpose) + biases
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = tf.reduce_mean(losses)
    else:
        chosen = {"chunk_size": options.chunk_size, "implementation": options.implementation}
        given = {name: value for name, value in chosen.items() if value is not None}
        loss = linear_softmax_cross_entropy(
            labels, *operands, transpose_weights=options.transpose, **given
        )
    results = [loss] if variant.endswith("value") else [loss, *tf.gradients(loss, operands)]
    if variant.endswith("hvp"):
        # Of the operands themselves: a vector that takes no further memory.
        products = [tf.reduce_sum(g * tf.stop_gradient(v)) for g, v in zip(results[1:], operands)]
        results[1:] = tf.gradients(tf.add_n(products), operands)
    return tensorflow_sides.nothing_after(results)


def measure(variant: str, options: argparse.Namespace, checkout: str) -> Dict[str, Any]:
    """Returns the memory that one variant takes in this process, and its times in seconds."""
    sys.path.insert(0, checkout)
    import tensorflow_sides
    from tensorflow_sides import tf

    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        started = time.perf_counter()
        target = make_target(variant, options)
        built = time.perf_counter() - started
        with tensorflow_sides.new_session(options) as session:
            session.run([v.initializer for v in graph.get_collection("variables")])
            call = session.make_callable(target)
            memory = measuring.Memory()
            seconds, processor = [], []
            for _ in range(1 + options.runs):
                started, used = time.perf_counter(), time.process_time()
                call()
                seconds.append(time.perf_counter() - started)
                processor.append(time.process_time() - used)
    return {
        "tensorflow": tf.__version__,
        "peak": memory.peak(),
        "above": memory.above_held(),
        "start": built + seconds[0],  # the first run optimises the graph
        "seconds": seconds[1:],
        "processor": processor[1:],
    }
