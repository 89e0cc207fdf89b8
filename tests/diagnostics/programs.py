"""Small trainings of all kinds on digits, as programs write them; and what their own step does.

Each function of `PROGRAMS` builds one in the default graph and returns its loss, its training op
and what it feeds.
"""

import contextlib
from typing import Any, Dict, List, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import Step

DIGITS = load_digits()
IMAGES = (DIGITS.data[:12] / 16).astype(np.float32)
LABELS = DIGITS.target[:12].astype(np.int64)
# Newer TensorFlows build v2 loops if they are not told otherwise.
HAS_CONTROL_FLOW_V2 = hasattr(tf, "enable_control_flow_v2")


class Built(NamedTuple):
    """A program in a graph, as `PROGRAMS` returns it."""

    loss: Any
    train_op: Any
    feeds: Dict[Any, Any]


class Ran(NamedTuple):
    """A step of a program, as its own session has run it."""

    program: Program
    step: Step
    loss: Any
    gradients: Dict[str, np.ndarray]
    variables: Dict[str, np.ndarray]


@contextlib.contextmanager
def control_flow_v2(on):
    """Loops and branches are functions, or not, as far as this TensorFlow has the choice."""
    if not HAS_CONTROL_FLOW_V2:
        yield
        return
    before = tf.control_flow_v2_enabled()
    (tf.enable_control_flow_v2 if on else tf.disable_control_flow_v2)()
    try:
        yield
    finally:
        (tf.enable_control_flow_v2 if before else tf.disable_control_flow_v2)()


def without_grappler():
    """Every op by itself, as a replay runs them."""
    options = tf.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    options.graph_options.optimizer_options.opt_level = -1
    return options


def ran(build, changed=None):
    """Builds a program in the default graph, runs a step and returns it.

    Args:
      build: one of `PROGRAMS`.
      changed: by name, values that variables have before the step.
    """
    tf.set_random_seed(2)
    built = build()
    graph = tf.get_default_graph()
    program = Program(graph, built.loss, built.train_op)
    gradients = {u.gradient.name: u.gradient for u in program.updates if u.gradient is not None}
    sources = {t.name: t for t in program.sources if t not in built.feeds}
    with tf.Session(config=without_grappler()) as session:
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        coordinator = tf.train.Coordinator()
        tf.train.start_queue_runners(session, coordinator)
        for name, value in (changed or {}).items():
            variable = {v.op.name: v for v in tf.global_variables()}[name]
            variable.load(value, session)
        before = session.run(program.variables)
        # One run for all, so that all are of the same batch.
        fetches = [built.loss, gradients, sources, built.train_op]
        loss, found, data, _ = session.run(fetches, built.feeds)
        after = session.run(program.variables)
        coordinator.request_stop()
    data.update({tensor.name: np.asarray(value) for tensor, value in built.feeds.items()})
    return Ran(program, Step(1, data, before, loss), loss, found, after)


def named(build):
    """The name of a case."""
    return getattr(build, "__name__", "none")


def inputs():
    """Placeholders for images and labels, and what to feed to them."""
    x = tf.placeholder(tf.float32, [None, 64], "x")
    y = tf.placeholder(tf.int64, [None], "y")
    return x, y, {x: IMAGES, y: LABELS}


def mean_loss(logits, labels):
    """The loss of the digits."""
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def weights(name, shape, resource=False, **options):
    """A variable for a layer."""
    return tf.get_variable(name, shape, use_resource=resource, **options)


def descent(loss, optimizer=None):
    """A training op, with a global step."""
    optimizer = optimizer or tf.train.GradientDescentOptimizer(0.1)
    return optimizer.minimize(loss, tf.train.get_or_create_global_step())


def relu_net():
    """Reference variables, momentum, a weight that is used twice."""
    x, y, feeds = inputs()
    w = weights("w", [64, 10])
    tied = tf.matmul(tf.nn.relu(x @ w), w, transpose_b=True)
    loss = mean_loss(tied @ w, y) + 1e-3 * tf.nn.l2_loss(w)
    return Built(loss, descent(loss, tf.train.MomentumOptimizer(0.1, 0.9)), feeds)


def sparse_adam():
    """Gradients by rows, which Adam applies in several ops; partitioned."""
    words = tf.placeholder(tf.int64, [None], "words")
    table = weights("table", [16, 4], partitioner=tf.fixed_size_partitioner(2))
    logits = tf.nn.embedding_lookup(table, words) @ weights("w", [4, 10], True)
    loss = mean_loss(logits, tf.constant(LABELS))
    return Built(loss, descent(loss, tf.train.AdamOptimizer(0.1)), {words: LABELS})


def batch_norm():
    """Statistics that the step updates before the weights."""
    x, y, feeds = inputs()
    logits = x @ weights("w", [64, 10])
    mean = tf.reduce_mean(logits, 0)
    moving = weights("moving", [10], trainable=False)
    update = tf.assign_sub(moving, 0.1 * (moving - mean))
    loss = mean_loss(logits - mean, y)
    with tf.control_dependencies([update]):
        return Built(loss, descent(loss), feeds)


def recurrent():
    """A loop over rows of pixels, of which each example has another number."""
    x, y, feeds = inputs()
    w = weights("w", [18, 10])
    rows = tf.transpose(tf.reshape(x, [-1, 8, 8]), [1, 0, 2])
    state = tf.zeros([12, 10])
    states = tf.scan(lambda h, row: tf.tanh(tf.concat([row, h], 1) @ w), rows, state)
    mask = tf.transpose(tf.sequence_mask(y % 8 + 1, 8, tf.float32))
    loss = mean_loss(tf.reduce_sum(states * mask[:, :, None], 0) * 3.0, y)
    return Built(loss, descent(loss, tf.train.AdamOptimizer(0.1)), feeds)


def branches():
    """A loop with a branch and a check in it, and a branch around it."""
    x, y, feeds = inputs()
    # 1.15 has no gradient of a handle in a branch of a loop.
    w = tf.identity(weights("w", [64, 10], True))

    def body(i, h):
        with tf.control_dependencies([tf.Assert(i < 4, [i, h])]):
            h = tf.identity(h)
        return i + 1, tf.cond(i < 2, lambda: h + x @ w, lambda: tf.sqrt(tf.abs(h * 2.0) + 1.0))

    logits = tf.cond(
        tf.reduce_sum(x) > 0,
        lambda: tf.while_loop(lambda i, h: i < 4, body, [0, x @ w])[1],
        lambda: x @ w,
    )
    loss = mean_loss(logits, y)
    return Built(loss, descent(loss), feeds)


def by_hand():
    """Descent in the program's own words, with two kinds of variables."""
    x, y, feeds = inputs()
    w, b = weights("w", [64, 10]), weights("b", [10], True)
    loss = mean_loss(x @ w + b, y)
    gradients = tf.gradients(loss, [w, b])
    rate = tf.constant(0.1)
    train = [w.assign_sub(rate * gradients[0]), tf.assign(b, b - rate * gradients[1]).op]
    return Built(loss, tf.group(*train), feeds)


def conditional_update():
    """A step that a branch may skip, as loss scaling does."""
    x, y, feeds = inputs()
    loss = mean_loss(x @ weights("w", [64, 10], True), y)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    gradients = optimizer.compute_gradients(loss)
    train = tf.cond(loss > 0, lambda: optimizer.apply_gradients(gradients), tf.no_op)
    return Built(loss, train, feeds)


def steps_in_a_loop():
    """Three steps in one run: a loop reads the variable that it changes."""
    x, y, feeds = inputs()
    w = weights("w", [64, 10], True)

    def body(i, _):
        loss = mean_loss(x @ w, y)
        (gradient,) = tf.gradients(loss, w)
        with tf.control_dependencies([w.assign_sub(0.5 * gradient)]):
            return i + 1, tf.identity(loss)

    loss = tf.while_loop(lambda i, _: i < 3, body, [0, 0.0])[1]
    return Built(loss, loss, feeds)


def pipeline():
    """Data from an iterator, a queue and a Python function."""
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).repeat().shuffle(30).batch(6)
    x, y = tf.data.make_one_shot_iterator(data).get_next()
    noise = tf.train.batch([tf.random_uniform([64])], 6)
    shift = tf.py_func(lambda: np.float32(np.random.rand()), [], tf.float32)
    shift.set_shape([])
    with tf.control_dependencies([x, noise]):
        loss = mean_loss((x + noise + shift) @ weights("w", [64, 10]), y)
    return Built(loss, descent(loss), {})


def many_types():
    """Half, bfloat16 and complex numbers, and a lookup table."""
    x, y, feeds = inputs()
    half = tf.cast(x, tf.float16) @ weights("w", [64, 8], dtype=tf.float16)
    brain = tf.cast(tf.cast(half, tf.bfloat16) * tf.cast(1.5, tf.bfloat16), tf.float32)
    waves = tf.abs(tf.spectral.fft(tf.cast(brain, tf.complex64)))
    logits = waves @ weights("v", [8, 10])
    loss = mean_loss(logits, y)
    if hasattr(tf, "lookup"):
        initializer = tf.lookup.KeyValueTensorInitializer(LABELS[:1], tf.constant([2.0]))
        loss *= tf.lookup.StaticHashTable(initializer, 1.0).lookup(y[0])
    return Built(loss, descent(loss), feeds)


def noisy():
    """Prints, checks and summaries; a Python function in the middle of the model."""
    x, y, feeds = inputs()
    logits = x @ weights("w", [64, 10])
    logits = tf.Print(logits, [logits], "a batch of logits: ")
    doubled = tf.py_func(lambda value: value * 2, [logits], tf.float32)
    loss = mean_loss(logits, y) + 1e-3 * tf.reduce_mean(doubled)
    printing = tf.print("a loss: ", loss)
    with tf.control_dependencies([printing, tf.Assert(loss < 1e6, [loss])]):
        loss = tf.check_numerics(loss, "the loss")
    tf.summary.scalar("loss", loss)
    return Built(loss, descent(loss), feeds)


def functions():
    """A function that is called twice, in Python's and in TensorFlow's own loop."""
    x, y, feeds = inputs()
    w = weights("w", [64, 10], True)
    layer = tf.function(lambda a, b: tf.tanh(a @ b))
    mixed = tf.matmul(layer(x, w), w, transpose_b=True)
    loss = mean_loss(layer(mixed, w), y)
    return Built(loss, descent(loss), feeds)


def function_step():
    """A whole step in one function."""
    x, y, feeds = inputs()
    w = weights("w", [64, 10], True)

    @tf.function
    def step(x, y):
        loss = mean_loss(x @ w, y)
        w.assign_sub(0.5 * tf.gradients(loss, w.handle)[0])
        return loss

    loss = step(x, y)
    return Built(loss, loss, feeds)


PROGRAMS: List[Any] = [
    relu_net,
    sparse_adam,
    batch_norm,
    recurrent,
    branches,
    by_hand,
    conditional_update,
    steps_in_a_loop,
    pipeline,
    many_types,
    noisy,
]
# Reference variables cannot stand in functions.
IN_FUNCTIONS = [recurrent, branches, conditional_update, steps_in_a_loop] * HAS_CONTROL_FLOW_V2
TRACED = [functions, function_step] * hasattr(tf, "function")
