"""What `traffic` measures: all that crosses, and a loss whose logits cross is found out."""

import collections

import tensorflow.compat.v1 as tf

from tests.clusters import random_shards, traffic
from tests.support.v1_loops import v1_control_flow
from tf1xent import losses


def test_each_tensor_that_crosses_is_counted(cluster):
    worker, *others = cluster.devices
    with tf.Graph().as_default(), tf.device(worker):
        rows = tf.placeholder(tf.int32, [])
        row = tf.random_uniform([rows, 5], dtype=tf.float64)
        results = []
        for number, device in enumerate(others):
            with tf.device(device):
                results.append(
                    tf.reduce_sum(row * tf.random_uniform([2 + number, 1, 5], dtype=tf.float64), 2)
                )
        total = tf.add_n([tf.reduce_sum(result, 0) for result in results])
        with tf.Session(cluster.targets[0]) as session:
            measured = traffic.measured(session, total.op, {rows: 3})
    assert sorted(edge.num_bytes for edge in measured.edges) == [48, 72, 120, 120]
    sent = collections.Counter()
    for edge in measured.edges:
        sent[edge.tensor, edge.source, edge.destination] += edge.num_bytes
    # TensorFlow's own list, of which some may be missing.
    reported = measured.reported()
    assert reported and all(reported[key] == sent[key] for key in reported)


def test_iterations_of_a_loop_are_counted_each(cluster):
    worker, other, _ = cluster.devices
    # TensorFlow 2.4 runs the bodies of functional loops where the loop is.
    with v1_control_flow(), tf.Graph().as_default(), tf.device(worker):

        def body(step, total):
            with tf.device(other):
                there = tf.sin(total)
            return step + 1, total + there

        start = tf.random_uniform([7], dtype=tf.float64)
        _, total = tf.while_loop(lambda step, _: step < 3, body, [0, start])
        with tf.Session(cluster.targets[0]) as session:
            measured = traffic.measured(session, total.op)
    sizes = [edge.num_bytes for edge in measured.edges if edge.shape == (7,)]
    assert len(sizes) >= 6  # there and back, three times


def of_all_logits(labels, shards, **options):
    """A loss for which all logits go where it is built."""
    return losses.sparse_softmax_cross_entropy(labels, tf.concat(shards, axis=1), **options)


def test_a_loss_whose_logits_cross_is_found_out(cluster):
    with tf.Graph().as_default():
        shards = random_shards.RandomShards("logits", cluster.devices, function=of_all_logits)
        with tf.Session(cluster.targets[0]) as session:
            few, many = (
                traffic.measured(session, shards.operations, shards.feed(4, n)).num_bytes
                for n in (10, 80)
            )
    assert many - few >= 2 * 4 * 70 * random_shards.ITEM
