"""TensorFlow's sides of tools/benchmark.py, all in one process and in one session.

graph      tf1xent's function, implementation="graph"
kernel     tf1xent's function, implementation="kernel"
rewritten  TensorFlow's op after tf1xent.graphs.rewrite_graph_def
stock      TensorFlow's fused op
plain      tf.reduce_logsumexp and tf.gather_nd, differentiated by TensorFlow
read, copy the machine's limits, on the memory of the logits
"""

import contextlib
import functools
import importlib
import inspect
import itertools
import os
import sys
from typing import Any, Dict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the checkout

import benchmark_limits  # noqa: E402
import benchmark_worker  # noqa: E402
import measuring  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

# Bound before any other import, so that nothing can have replaced them.
STOCK = {
    "sparse": tf.nn.sparse_softmax_cross_entropy_with_logits,
    "dense": tf.nn.softmax_cross_entropy_with_logits_v2,
}
FUNCTION_NAMES = {
    "sparse": "sparse_softmax_cross_entropy_with_logits",
    "dense": "softmax_cross_entropy_with_logits_v2",
}
OURS = ("graph", "kernel", "rewritten")
KERNEL_OPS = "Tf1xentKernel"  # how the types of our own operations start
# What TensorFlow raises for a derivative, or for a kernel of a dtype, that it does not have.
MISSING = (
    LookupError,
    TypeError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)


def kind(settings):
    return "dense" if settings.dense else "sparse"


def our_function(settings):
    return getattr(importlib.import_module(settings.module), FUNCTION_NAMES[kind(settings)])


def describe(settings):
    """Returns TensorFlow's version, and why the kernels cannot be measured if they cannot."""
    missing = {}
    if "implementation" not in inspect.signature(our_function(settings)).parameters:
        missing["kernel"] = f"the function of {settings.module} takes no `implementation`"
    else:
        from tf1xent import errors, kernels

        try:
            kernels.library()
        except errors.KernelsError as error:
            missing["kernel"] = str(error)
    versions = {"NumPy": np.__version__, "TensorFlow": tf.__version__}
    return {"versions": versions, "missing": missing}


def plain_sparse(labels, logits):
    rows = tf.range(tf.size(labels, out_type=labels.dtype))
    of_labels = tf.gather_nd(logits, tf.stack([rows, labels], axis=1))
    return tf.reduce_logsumexp(logits, axis=-1) - of_labels


def plain_dense(labels, logits):
    normalizer = tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    return tf.reduce_sum(labels * (normalizer - logits), axis=-1)


def rewritten(stock):
    """Returns a function that builds what a rewrite puts in the place of TensorFlow's op."""

    def build(labels, logits):
        from tf1xent import graphs

        with tf.Graph().as_default() as graph:
            fed = [tf.placeholder(tensor.dtype, tensor.shape) for tensor in (labels, logits)]
            loss = stock(labels=fed[0], logits=fed[1]).name
        stock_ops = graphs.rewrite_graph_def(graph.as_graph_def())
        inputs = {fed[0].name: labels, fed[1].name: logits}
        return tf.import_graph_def(stock_ops, input_map=inputs, return_elements=[loss])[0]

    return build


def loss_function(side, settings):
    """Returns the function of a side: (labels, logits) -> losses."""
    stock = STOCK[kind(settings)]
    if side == "stock":
        return stock
    if side == "plain":
        return plain_dense if settings.dense else plain_sparse
    if side == "rewritten":
        return rewritten(stock)
    ours = our_function(settings)
    # A module of an older version, for a comparison, has the graph version alone.
    if "implementation" in inspect.signature(ours).parameters:
        return functools.partial(ours, implementation=side)
    return ours


def make_inputs(inputs, settings):
    """Returns logits, labels, weights and vector as tensors, and what to run once and to feed."""
    dtype = tf.as_dtype(settings.dtype)
    label_dtype = dtype if settings.dense else tf.as_dtype(settings.label_dtype)
    initializers, feeds = [], {}

    def variable(value, dtype):
        # Inputs are variables: constants would be folded, and feeds copied at every call.
        # Fed in NumPy's own dtypes, of which bfloat16 is none.
        value = np.asarray(value)
        fed = tf.placeholder(value.dtype, value.shape)
        made = tf.Variable(tf.cast(fed, dtype), trainable=False, use_resource=False)
        initializers.append(made.initializer)
        feeds[fed] = value
        return tf.identity(made)

    logits = variable(inputs.logits, dtype)
    labels = variable(inputs.labels, label_dtype)
    weights = variable(inputs.weights, dtype)
    vector = variable(inputs.vector, dtype)
    # Times a one that the graph's optimiser cannot know to be one.
    one = variable(np.ones([], np.float32), dtype)
    if settings.intermediate:
        logits = logits * one
    return (logits, labels, weights, vector), initializers, feeds


def build(function, order, tensors, weighted):
    """Returns the tensors that an order hands back."""
    logits, labels, weights, vector = tensors
    loss = function(labels=labels, logits=logits)
    if weighted:
        loss = loss * weights
    if order == "loss":
        return [loss]
    (gradient,) = tf.gradients(loss, logits)
    if order == "gradient":
        return [loss, gradient]
    (product,) = tf.gradients(gradient, logits, grad_ys=vector)
    return [product] if order == "product" else [loss, product]


def check_implementation(side, results, operations):
    """Raises unless a side computes by what its name says."""
    has_kernels = any(operation.type.startswith(KERNEL_OPS) for operation in operations)
    if has_kernels != (side == "kernel"):
        raise RuntimeError(f"{side} computes {results} by {'' if has_kernels else 'no '}kernels")


def computation(session, results, target):
    call = session.make_callable(target)
    return benchmark_worker.Computation(
        functools.partial(measuring.time_sample, call), lambda: session.run(results), None
    )


def new_session(problem):
    # Every session says how many threads: the first one of a process makes the pools of all.
    config = tf.ConfigProto(
        intra_op_parallelism_threads=problem.threads,
        inter_op_parallelism_threads=problem.threads,
    )
    return tf.Session(config=config)


def missing(side, order, problem):
    """Returns what TensorFlow raises for what it lacks, a derivative or a dtype, or None.

    Asked on inputs and in a session of their own: a session refuses all of a graph that has an
    operation without a kernel.
    """
    if side in OURS:
        return None
    with tf.Graph().as_default(), new_session(problem) as session:
        small = benchmark_worker.make_inputs((2, 3), problem.dense, np)
        tensors, initializers, feeds = make_inputs(small, problem)
        try:
            results = build(loss_function(side, problem), order, tensors, problem.weighted)
            session.run(initializers, feeds)
            session.run(results)
        except MISSING as error:
            return f"{type(error).__name__}: {error}"
    return None


def make_target(side, order, tensors, problem):
    """Returns the tensors that an order hands back, and an operation that hands back nothing."""
    graph = tf.get_default_graph()
    before = len(graph.get_operations())
    results = build(loss_function(side, problem), order, tensors, problem.weighted)
    check_implementation(side, results, graph.get_operations()[before:])
    # IdentityN copies nothing. A tf.group would not do: Grappler turns operations that only a
    # control edge needs into NoOps, and the benchmark would time nothing.
    return results, tf.identity_n(results)[0].op


def lent_array(session, tensor):
    """Returns a tensor as an array: its own memory where TensorFlow lends that, else a copy.

    What Session.run hands out is a copy; what a Python function is given was the memory itself on
    TensorFlow 2.11 and later.
    """
    lent = []

    def take(array):
        lent.append(array)
        return np.int32(0)

    session.run(tf.py_func(take, [tensor], tf.int32))
    return lent[0]


@contextlib.contextmanager
def computations(inputs, problem):
    """Yields {(order, side): Computation, or the error where TensorFlow has no such thing}."""
    made: Dict[Any, Any] = {}
    with tf.Graph().as_default():
        tensors, initializers, feeds = make_inputs(inputs, problem)
        targets = {}
        limits = [side for side in problem.sides if side in benchmark_limits.SIDES]
        sides = [side for side in problem.sides if side not in limits]
        for side, order in itertools.product(sides, problem.orders):
            made[order, side] = missing(side, order, problem)
            if made[order, side] is None:
                targets[order, side] = make_target(side, order, tensors, problem)
        with new_session(problem) as session:
            session.run(initializers, feeds)
            for key, (results, target) in targets.items():
                made[key] = computation(session, results, target)
            if limits:
                logits = lent_array(session, tensors[0])
                of_logits = benchmark_limits.computations(logits, problem.threads)
                for order, side in itertools.product(problem.orders, limits):
                    made[order, side] = of_logits[side]
            yield made
