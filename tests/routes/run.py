"""Runs all routes of one behaviour, patched before and after the programs were imported.

    python -m tests.routes.run graph|eager RESULTS.npz "order/program.name" ...

Runs the routes that are named. Writes arrays under "order/program.name/quantity", or a text: what
TensorFlow lacks, or an error's traceback. `table.quantities` says how far each route goes.
"""

import importlib
import sys
import traceback

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.routes import table
from tests.support.option_cases import unoptimised


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


def run_in_graph(route, function, quantities):
    """Results of a function of logits and labels, or of a program with a variable of its own."""
    labels, confident_labels = dense_or_sparse_labels(route)
    # Whose function is called does not depend on what a session makes of the graph.
    with tf.Graph().as_default(), tf.Session(config=unoptimised()) as session:
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
        fetches = {"loss": loss}
        derivatives = chained_products(loss, variable, num_orders(quantities))
        fetches.update(zip(table.DERIVATIVES, derivatives))
        if "hessian" in quantities:
            fetches["hessian"] = tf.hessians(loss, variable)[0]
        value = tf.placeholder(tf.float32, variable.shape)
        assign = tf.assign(variable, value)
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        for weights in tf.get_collection("identity"):
            session.run(tf.assign(weights, np.eye(*weights.shape.as_list())))
        session.run(assign, {value: table.LOGITS})
        results = session.run(fetches, feed)
        session.run(assign, {value: table.CONFIDENT_LOGITS})
        fetches = {name: fetches[name] for name in table.CONFIDENT_QUANTITIES}
        return results, session.run(fetches, confident_feed)


def run_with_tapes(route, function, quantities):
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

    def all_quantities(logits, labels):
        names = ("loss", *table.DERIVATIVES)
        results = dict(zip(names, orders_up_to(num_orders(quantities), logits, labels)))
        if "hessian" in quantities:
            with tensorflow.GradientTape() as tape:
                tape.watch(logits)
                gradient = orders_up_to(1, logits, labels)[-1]
            results["hessian"] = tape.jacobian(gradient, logits)
        return results

    traced = tensorflow.function(all_quantities)
    labels, confident_labels = (tf.constant(array) for array in dense_or_sparse_labels(route))
    ordinary = traced(tf.constant(table.LOGITS), labels)
    confident = traced(tf.constant(table.CONFIDENT_LOGITS), confident_labels)
    eager = orders_up_to(num_orders(quantities), tf.constant(table.LOGITS), labels)
    for one, name in zip(eager, ("loss", *table.DERIVATIVES)):
        np.testing.assert_allclose(one, ordinary[name], rtol=1e-4, atol=1e-6)
    return ordinary, {name: confident[name] for name in table.CONFIDENT_QUANTITIES}


def num_orders(quantities):
    """How many of the derivatives are among the quantities."""
    return len(set(table.DERIVATIVES) & set(quantities))


def run_order(order, routes, run):
    """The results of all routes in one of the orders."""
    programs = {"tests.routes." + route.program for route in routes}
    for program in programs:
        sys.modules.pop(program, None)
    if order == "patched first":
        tf1xent.patch()
    for program in sorted(programs):
        importlib.import_module(program)
    if order == "imported first":
        tf1xent.patch()
    results = {}
    for route in routes:
        key = table.key(order, route)
        lacking = lacks(route.needs)
        if lacking:
            results[key + "/lacks"] = lacking
            continue
        function = getattr(sys.modules["tests.routes." + route.program], route.name)
        try:
            both = run(route, function, table.quantities(route, order))
        except NotImplementedError as error:
            results[key + "/lacks"] = str(error)
            continue
        except Exception:  # one route's failure is that route's alone, and is told by its test
            results[key + "/error"] = traceback.format_exc()
            continue
        for logits, arrays in zip(("ordinary", "confident"), both):
            for quantity, array in arrays.items():
                results[f"{key}/{logits} {quantity}"] = array
    tf1xent.unpatch()
    return results


def main(behaviour, path, *keys):
    results = {}
    if behaviour == "graph":
        if hasattr(tf, "disable_v2_behavior"):
            tf.disable_v2_behavior()
        run = run_in_graph
    else:
        run = run_with_tapes
    # Patched first comes first: then TensorFlow has loaded none of its parts for the programs yet.
    for order in table.ORDERS:
        routes = [r for r in table.ROUTES[behaviour] if table.key(order, r) in keys]
        results.update(run_order(order, routes, run))
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
