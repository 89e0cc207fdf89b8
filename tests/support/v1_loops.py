"""Programs with v1 loops and branches: functions of weights [3] and features [2, 4, 3]."""

import contextlib

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import (
    control_flow_util,
    while_v2,  # noqa: F401 - registers the gradients of loops
)

# Optimized graphs round differently when something else is fetched.
UNOPTIMIZED = tf.ConfigProto()
UNOPTIMIZED.graph_options.rewrite_options.disable_meta_optimizer = True


def can_be_functional():
    """Whether this TensorFlow differentiates all While ops; 1.13 does not."""
    try:
        ops._gradient_registry.lookup("StatelessWhile")
    except LookupError:
        return False
    return True


needs_while = pytest.mark.skipif(
    not can_be_functional(),
    reason="StatelessWhile has no gradient here (TF 1.13): test_functional_files.py has the error",
)


@contextlib.contextmanager
def v1_control_flow():
    """Loops and branches built inside the block are v1's, and so are their gradients."""
    before = control_flow_util.ENABLE_CONTROL_FLOW_V2
    control_flow_util.ENABLE_CONTROL_FLOW_V2 = False
    try:
        yield
    finally:
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = before


def loop(weights, features):
    return tf.while_loop(
        lambda turn, _: turn < 3,
        lambda turn, state: (turn + 1, tf.tanh(state * weights)),
        (0, features),
    )[1]


def swapped_variables(weights, features):
    """Variables that change places: each is an argument of the body and a result."""

    def body(turn, first, second, same):
        return turn + 1, second, tf.tanh(first * weights + same), same

    start = (0, features, 2 * features, weights * weights)
    return tf.add_n(tf.while_loop(lambda turn, *_: turn < 4, body, start)[1:3])


def nested_loops(weights, features):
    def body(turn, state):
        inner = tf.while_loop(
            lambda t, _: t < turn, lambda t, s: (t + 1, tf.tanh(s * weights)), (0, state)
        )
        return turn + 1, inner[1] + 0.5 * weights

    return tf.while_loop(lambda turn, _: turn < 3, body, (0, features))[1]


def branch(weights, features):
    total = tf.reduce_sum(weights)
    first = tf.cond(total > 0, lambda: tf.sin(features * weights), lambda: features)
    second = tf.cond(total > 100, lambda: features, lambda: tf.exp(weights) * features)
    return first * second


def branch_with_two_results(weights, features):
    """Results that share a node; the second branch depends on the first, by the same predicate."""
    predicate = tf.reduce_sum(weights) > 0

    def true():
        shared = tf.tanh(features * weights)
        return shared * shared, shared + weights

    first, second = tf.cond(predicate, true, lambda: (features, features))
    third = tf.cond(predicate, lambda: first * second, lambda: first)
    return first + third


def nested_branches(weights, features):
    total = tf.reduce_sum(weights)

    def inner():
        return tf.cond(total > 5, lambda: features, lambda: tf.square(weights) * features)

    return tf.cond(total > 0, lambda: tf.sin(inner()), lambda: features)


def branch_in_loop(weights, features):
    def body(turn, state):
        new = tf.cond(
            tf.equal(turn % 2, 0),
            lambda: tf.sin(state * weights),
            lambda: state + weights * weights,
        )
        return turn + 1, new

    return tf.while_loop(lambda turn, _: turn < 3, body, (0, features))[1]


def loop_in_branch(weights, features):
    total = tf.reduce_sum(weights)
    return tf.cond(total > 0, lambda: loop(weights, features), lambda: features)


def loop_in_branch_in_loop(weights, features):
    def body(turn, state):
        new = tf.cond(turn > 0, lambda: loop(weights, state), lambda: state * weights)
        return turn + 1, new

    return tf.while_loop(lambda turn, _: turn < 2, body, (0, features))[1]


def mapped(weights, features):
    return tf.map_fn(lambda row: tf.tanh(row * weights) * row, features)


def scanned(weights, features):
    return tf.scan(lambda state, row: tf.tanh(state * weights + row), features)


def mapped_twice(weights, features):
    """A map in a map: TensorArrays that live for one turn."""
    return tf.map_fn(lambda rows: tf.map_fn(lambda row: tf.sin(row * weights), rows), features)


def recurrent(weights, features):
    """What dynamic_rnn builds, with states that stop early."""
    rows = tf.transpose(features * weights, [1, 0, 2])
    inputs = tf.TensorArray(tf.float64, 4).unstack(rows)

    def body(turn, state, outputs):
        new = tf.tanh(state + inputs.read(turn))
        return turn + 1, tf.where(turn < [2, 4], new, state), outputs.write(turn, new)

    start = 0, tf.zeros([2, 3], tf.float64), tf.TensorArray(tf.float64, 4)
    _, state, outputs = tf.while_loop(lambda turn, *_: turn < 4, body, start)
    return outputs.stack() + state


def growing_array(weights, features):
    """An array that grows, written outside too, read one by one."""
    array = tf.TensorArray(tf.float64, 0, dynamic_size=True).write(0, features * weights)

    def body(turn, array):
        return turn + 1, array.write(turn, tf.tanh(array.read(turn - 1) * weights))

    array = tf.while_loop(lambda turn, _: turn < 4, body, (1, array), parallel_iterations=1)[1]
    return array.read(3) + tf.cast(array.size(), tf.float64)


def concatenated(weights, features):
    """Pieces of different lengths."""
    pieces = tf.TensorArray(tf.float64, 3, infer_shape=False)

    def body(turn, pieces):
        return turn + 1, pieces.write(turn, tf.sin(features[0, : turn + 1] * weights))

    return tf.while_loop(lambda turn, _: turn < 3, body, (0, pieces))[1].concat()


def split_array(weights, features):
    rows = tf.TensorArray(tf.float64, 2, infer_shape=False).split(features[0] * weights, [1, 3])

    def body(turn, total):
        return turn + 1, total + tf.reduce_sum(tf.sin(rows.read(turn)))

    return tf.while_loop(lambda turn, _: turn < 2, body, (0, tf.zeros([], tf.float64)))[1]


def two_loops_of_one_array(weights, features):
    """An array that one loop fills and another reads, without a tensor in between."""
    filled = tf.while_loop(
        lambda turn, _: turn < 3,
        lambda turn, array: (turn + 1, array.write(turn, tf.sin(features * weights))),
        (0, tf.TensorArray(tf.float64, 3)),
    )[1]

    def body(turn, state):
        return turn + 1, state * weights + filled.read(turn)

    return tf.while_loop(lambda turn, _: turn < 3, body, (0, features))[1]


def variables_read_inside(weights, features):
    """Resource variables, read by each turn."""
    kernel = tf.get_variable(
        "kernel", [3], tf.float64, tf.constant_initializer(0.7), use_resource=True
    )

    def body(turn, state):
        return turn + 1, tf.tanh(state * weights * kernel)

    return tf.while_loop(lambda turn, _: turn < 2, body, (0, features))[1]


def most_iterations(weights, features):
    return tf.while_loop(
        lambda state: tf.reduce_sum(state) < 1e9,
        lambda state: tf.exp(0.1 * state * weights),
        [features],
        maximum_iterations=3,
    )


def checked(weights, features):
    """Assertions in a loop, and around one."""

    def body(turn, state):
        with tf.control_dependencies([tf.Assert(turn < 10, [turn])]):
            return turn + 1, tf.sin(state * weights)

    with tf.control_dependencies([tf.Assert(tf.reduce_sum(weights) < 100, [weights])]):
        return tf.while_loop(lambda turn, _: turn < 2, body, (0, features))[1]


PROGRAMS = [
    loop,
    swapped_variables,
    nested_loops,
    branch,
    branch_with_two_results,
    nested_branches,
    branch_in_loop,
    loop_in_branch,
    loop_in_branch_in_loop,
    mapped,
    scanned,
    mapped_twice,
    recurrent,
    growing_array,
    concatenated,
    split_array,
    two_loops_of_one_array,
    variables_read_inside,
    most_iterations,
    checked,
]
