"""Programs whose gradients TensorFlow has keep them, to the last bit, with the override on."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.second_order.checking import gradients, quick_session


def values(*shape):
    return tf.constant(np.random.RandomState(sum(shape)).normal(size=shape).astype(np.float32) / 2)


def convolutions(w):
    x = tf.nn.relu(tf.nn.conv2d(values(2, 6, 6, 1), w, strides=[1, 1, 1, 1], padding="SAME"))
    x = tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
    return tf.reduce_sum(tf.nn.elu(tf.nn.avg_pool(x, [1, 2, 2, 1], [1, 1, 1, 1], "SAME")) ** 2)


def volumes(w):
    x = tf.nn.conv3d(values(1, 3, 3, 3, 2), w, strides=[1, 1, 1, 1, 1], padding="VALID")
    return tf.reduce_sum(tf.nn.softplus(x) ** 2)


def normalized(w):
    x = tf.reshape(tf.matmul(values(8, 3), w), [2, 2, 2, -1])
    x = tf.nn.fused_batch_norm(x, values(5) + 2, values(5), epsilon=1e-3)[0]
    return tf.reduce_sum(tf.nn.selu(x) * tf.nn.leaky_relu(x))


def recurrent(w):
    state = tf.zeros([2, 3])
    for step in range(3):
        gates = tf.split(tf.matmul(tf.concat([state, values(2, step + 1)[:, :1]], 1), w), 3, 1)
        state = state * tf.sigmoid(gates[0]) + tf.tanh(gates[1]) * tf.sigmoid(gates[2])
    return tf.reduce_sum(state**2)


def attention(w):
    rows = tf.gather(w, [[0, 2, 1], [3, 3, 0]])
    weights = tf.nn.softmax(tf.matmul(rows, rows, transpose_b=True))
    return tf.reduce_sum(tf.rsqrt(tf.nn.relu6(tf.matmul(weights, rows)) + 1) * rows)


# By function, the shape of its parameters.
NETWORKS = {
    convolutions: [3, 3, 1, 4],
    volumes: [2, 2, 2, 2, 1],
    normalized: [3, 5],
    recurrent: [4, 9],
    attention: [4, 3],
}


def derivatives(network, shape):
    """Return the graph of the first and second derivatives, and their values."""
    with tf.Graph().as_default() as graph, quick_session() as session:
        w = values(*shape)
        (first,) = gradients(network(w), [w])
        (second,) = gradients(tf.reduce_sum(tf.sin(first)), [w])
        return graph.as_graph_def(), session.run([first, second])


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_derivatives_are_the_same_bits(network):
    graph, before = derivatives(network, NETWORKS[network])
    tf1xent.override_gradients()
    try:
        graph_with, with_override = derivatives(network, NETWORKS[network])
    finally:
        tf1xent.restore_gradients()
    assert graph_with == graph
    for one, other in zip(before, with_override):
        assert np.all(np.isfinite(one)) and np.any(one != 0)
        assert one.tobytes() == other.tobytes()
