"""Derivatives under eager tapes, tf.function, XLA and forward mode; on TF 1.x a process of its own.

    python -m tests.seam.tape_program RESULT.npz

Writes each derivative under the name of the route by which it was computed; what they ought to be
is in `tests/seam/test_tapes.py`. Where TensorFlow has no such route, the name is missing.
"""

import functools
import inspect
import sys

import numpy as np
import tensorflow as tf

from tf1xent import nn

GENERATOR = np.random.RandomState(0)
LOGITS = GENERATOR.randn(3, 5) * 3
LABELS = np.array([1, 0, 4])
DENSE_LABELS = GENERATOR.rand(3, 5)  # rows do not sum to 1
VECTOR = GENERATOR.randn(3, 5)
WEIGHTS = GENERATOR.rand(3)
BAD_LABELS = np.array([1, 5, -1])
# Rows that a program picks: their cotangent is an IndexedSlices. Row i counts PICKED[i] times.
ROWS = np.array([2, 0, 2])
PICKED = np.array([1.0, 0.0, 2.0])


def sparse(logits, labels=LABELS):
    return nn.sparse_softmax_cross_entropy_with_logits(labels=tf.constant(labels), logits=logits)


def dense(logits, labels=DENSE_LABELS):
    labels = tf.convert_to_tensor(labels)
    return nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


def weighted(losses):
    return lambda logits: tf.reduce_sum(losses(logits) * WEIGHTS)


def picked(losses):
    return lambda logits: tf.gather(losses(logits), ROWS)


def sum_along(gradient):
    return tf.reduce_sum(gradient * VECTOR)


def sum_along_picked(gradient):
    return tf.reduce_sum(tf.gather(gradient, ROWS) * VECTOR[ROWS])


def three_orders(loss, logits, sum_along=sum_along):
    """Gradient, Hessian-vector product and third derivative, by nested tapes."""
    with tf.GradientTape() as third:
        third.watch(logits)
        with tf.GradientTape() as second:
            second.watch(logits)
            with tf.GradientTape() as first:
                first.watch(logits)
                value = loss(logits)
            gradient = first.gradient(value, logits)
            along = sum_along(gradient)
        product = second.gradient(along, logits)
        along = sum_along(product)
    return gradient, product, third.gradient(along, logits)


def mixed_product(logits):
    """d <v, d loss / d logits> / d labels of the dense loss."""
    labels = tf.constant(DENSE_LABELS)
    with tf.GradientTape() as second:
        second.watch(labels)
        with tf.GradientTape() as first:
            first.watch(logits)
            loss = tf.reduce_sum(dense(logits, labels) * WEIGHTS)
        along = tf.reduce_sum(first.gradient(loss, logits) * VECTOR)
    return second.gradient(along, labels)


def hessian_by_jacobian(loss, logits):
    with tf.GradientTape() as second:
        second.watch(logits)
        with tf.GradientTape() as first:
            first.watch(logits)
            value = loss(logits)
        gradient = first.gradient(value, logits)
    return second.batch_jacobian(gradient, logits)


def forward_over_reverse(loss, logits):
    with tf.autodiff.ForwardAccumulator(logits, tf.constant(VECTOR)) as accumulator:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(logits)
        gradient = tape.gradient(value, logits)
    return accumulator.jvp(gradient)


def forward_over_forward(loss, logits):
    with tf.autodiff.ForwardAccumulator(logits, tf.constant(VECTOR)) as outer:
        with tf.autodiff.ForwardAccumulator(logits, tf.constant(VECTOR)) as inner:
            value = loss(logits)
        derivative = inner.jvp(value)
    return derivative, outer.jvp(derivative)


def gradient_of(losses, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses(logits)
    return value, tape.gradient(value, logits)


def compiled(function):
    """`function` in a tf.function that XLA compiles, or None where TensorFlow has no such thing."""
    parameters = inspect.signature(tf.function).parameters
    for option in ("jit_compile", "experimental_compile"):
        if option in parameters:
            return tf.function(function, **{option: True})
    return None


def main(path):
    if hasattr(tf, "enable_eager_execution"):  # 1.x
        tf.enable_eager_execution()
    results = {}
    logits = tf.constant(LOGITS)
    functions = {"sparse": weighted(sparse), "dense": weighted(dense)}
    has_v2 = hasattr(tf, "autodiff")  # TF 2.2 and later
    for name, loss in functions.items():
        results[name + " eager"] = three_orders(loss, logits)
        if not hasattr(tf, "function"):
            continue
        nested = tf.function(lambda x, loss=loss: three_orders(loss, x))
        results[name + " tapes in a function"] = nested(logits)
        results[name + " function under tapes"] = three_orders(tf.function(loss), logits)
        if not has_v2:
            continue
        results[name + " forward over reverse"] = forward_over_reverse(loss, logits)
        results[name + " forward over reverse, function"] = forward_over_reverse(
            tf.function(loss), logits
        )
        results[name + " forward over forward"] = forward_over_forward(loss, logits)
        results[name + " hessian by batch_jacobian"] = hessian_by_jacobian(loss, logits)
    for name, losses in {"sparse": sparse, "dense": dense}.items():
        gathered = functools.partial(three_orders, picked(losses), sum_along=sum_along_picked)
        results[name + " eager, rows picked"] = gathered(logits)
        if hasattr(tf, "function"):
            results[name + " tapes in a function, rows picked"] = tf.function(gathered)(logits)
    results["mixed eager"] = mixed_product(logits)
    if hasattr(tf, "function"):
        results["mixed in a function"] = tf.function(mixed_product)(logits)
    if has_v2:
        results["sparse vectorized_map"] = tf.vectorized_map(sparse, tf.stack([logits, logits]))
    write(path, results)


def main_xla(path):
    """The same routes, compiled by XLA; TF 2.2 and later."""
    results = {}
    logits = tf.constant(LOGITS)
    for name, loss in {"sparse": weighted(sparse), "dense": weighted(dense)}.items():
        nested = compiled(lambda x, loss=loss: three_orders(loss, x))
        results[name + " tapes in XLA"] = nested(logits)
        results[name + " XLA under tapes"] = three_orders(compiled(loss), logits)
    bad = compiled(lambda x: sparse(x, BAD_LABELS))
    results["XLA invalid labels"] = gradient_of(bad, logits)
    write(path, results)


def write(path, results):
    flat = {}
    for name, value in results.items():
        values = value if isinstance(value, (tuple, list)) else [value]
        for i, part in enumerate(values):
            flat[f"{name}/{i}"] = np.asarray(part)
    np.savez(path, **flat)


if __name__ == "__main__":
    main(sys.argv[1])
