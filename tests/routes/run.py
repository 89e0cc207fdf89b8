"""Runs all routes of one behaviour, patched before or after the programs were imported.

    python -m tests.routes.run graph|eager "patched first"|"imported first" RESULTS.npz

Writes arrays under "program.name/quantity", or a text: what TensorFlow lacks, or an error's
traceback.
"""

import importlib
import sys
import traceback

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.routes import table


def lacks(dotted_name):
    """The first part of a dotted name below `tensorflow` that does not exist, or None."""
    found = tensorflow
    parts = dotted_name.split(".") if dotted_name else []
    for i, part in enumerate(parts):
        try:
            found = getattr(found, part)
        except (AttributeError, ImportError):
            return "tf." + ".".join(parts[: i + 1])
    return None


def chained_products(loss, point, num_orders):
    """Gradient, and the gradients of its products with a vector, and then another, in turn."""
    results = []
    for order in range(num_orders):
        if order > 0:
            loss = tf.reduce_sum(results[-1] * table.VECTORS[order - 1])
        results.append(tf.gradients(loss, point)[0])
    return results


def dense_or_sparse_labels(route):
    """The labels for derivatives, and those for the value of a confident prediction."""
    if route.labels == "sparse":
        return table.LABELS, table.LABELS
    return table.SOFT_LABELS, table.ONE_HOT


def run_in_graph(route, function, num_orders):
    """Results of a function of logits and labels, or of a program with a variable of its own."""
    labels, confident_labels = dense_or_sparse_labels(route)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        if route.program == "models":
            loss, variable, feed = function(labels)
            confident_feed = feed
        else:
            variable = tf.get_variable("logits", initializer=table.LOGITS)
            logits = tf.matmul(np.eye(len(labels), dtype=np.float32), variable)
            labels_in = tf.placeholder(labels.dtype, labels.shape)
            loss = function(logits, labels_in)
            feed, confident_feed = {labels_in: labels}, {labels_in: confident_labels}
        loss = tf.reduce_sum(loss)
        derivatives = chained_products(loss, variable, num_orders)
        fetches = [loss, tf.hessians(loss, variable)[0]] + derivatives
        value = tf.placeholder(tf.float32, variable.shape)
        assign = tf.assign(variable, value)
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        for weights in tf.get_collection("identity"):
            session.run(tf.assign(weights, np.eye(*weights.shape.as_list())))
        session.run(assign, {value: table.LOGITS})
        results = session.run(fetches, feed)
        session.run(assign, {value: table.CONFIDENT_LOGITS})
        return results, session.run(fetches, confident_feed)


def run_with_tapes(route, function, num_orders):
    """Results of a function of logits and labels under nested tapes, eager and in tf.function."""

    def orders_up_to(order, logits, labels):
        if order == 0:
            return [tf.reduce_sum(function(logits, labels))]
        with tensorflow.GradientTape() as tape:
            tape.watch(logits)
            results = orders_up_to(order - 1, logits, labels)
            last = results[-1]
            if order > 1:
                last = tf.reduce_sum(last * table.VECTORS[order - 2])
        return results + [tape.gradient(last, logits)]

    def with_hessian(logits, labels):
        with tensorflow.GradientTape() as tape:
            tape.watch(logits)
            gradient = orders_up_to(1, logits, labels)[-1]
        results = orders_up_to(num_orders, logits, labels)
        return results[:1] + [tape.jacobian(gradient, logits)] + results[1:]

    traced = tensorflow.function(with_hessian)
    labels, confident_labels = (tf.constant(array) for array in dense_or_sparse_labels(route))
    ordinary = traced(tf.constant(table.LOGITS), labels)
    confident = traced(tf.constant(table.CONFIDENT_LOGITS), confident_labels)
    eager = orders_up_to(num_orders, tf.constant(table.LOGITS), labels)
    for one, other in zip(eager, ordinary[:1] + ordinary[2:]):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    return ordinary, confident


QUANTITIES = ("loss", "hessian", "order 1", "order 2", "order 3", "order 4")


def main(behaviour, order, path):
    if behaviour == "graph" and hasattr(tf, "disable_v2_behavior"):
        tf.disable_v2_behavior()
    routes = {
        "graph": table.GRAPH_ROUTES + table.MODEL_ROUTES,
        "eager": table.EAGER_ROUTES,
    }[behaviour]
    if order == "patched first":
        tf1xent.patch()
    programs = {}
    for program in sorted({route.program for route in routes}):
        programs[program] = importlib.import_module("tests.routes." + program)
    if order == "imported first":
        tf1xent.patch()
    run = run_in_graph if behaviour == "graph" else run_with_tapes
    num_orders = 4 if order == "imported first" else 3  # the fourth takes most of the time
    results = {}
    for route in routes:
        key = f"{route.program}.{route.name}"
        lacking = lacks(route.needs)
        if lacking:
            results[key + "/lacks"] = lacking
            continue
        try:
            both = run(route, getattr(programs[route.program], route.name), num_orders)
        except NotImplementedError as error:
            results[key + "/lacks"] = str(error)
            continue
        except Exception:  # one route's failure is that route's alone, and is told by its test
            results[key + "/error"] = traceback.format_exc()
            continue
        for logits, arrays in zip(("ordinary", "confident"), both):
            for quantity, array in zip(QUANTITIES, arrays):
                results[f"{key}/{logits} {quantity}"] = array
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
