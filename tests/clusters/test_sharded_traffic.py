"""What crosses from task to task for a loss over shards and its derivatives: numbers by row.

The bytes are the same however many classes there are, and grow as the batch does.
"""

import pytest
import tensorflow.compat.v1 as tf

from tests.clusters import traffic
from tests.clusters.random_shards import DIM, RandomShards
from tests.clusters.sharded_cases import OFTEN_WRONG, OPTIONS
from tests.support.option_cases import unoptimised
from tf1xent import losses

ROWS, CLASSES = 6, 10  # of a shard


def check_by_row(measure):
    """Asserts what the bytes depend on; returns those of `ROWS` rows.

    Args:
      measure: (rows, classes of a shard) -> the Traffic.
    """
    few, many = measure(ROWS, CLASSES), measure(ROWS, 8 * CLASSES)
    twice, thrice = measure(2 * ROWS, CLASSES), measure(3 * ROWS, CLASSES)
    assert few.num_bytes > 0
    assert many.num_bytes == few.num_bytes, many.largest()
    assert thrice.num_bytes - twice.num_bytes == twice.num_bytes - few.num_bytes
    return few.num_bytes


def check(cluster, loss, options=(), num_tasks=3, **arguments):
    """`check_by_row` of a loss, its gradient and its Hessian-vector product."""
    with tf.Graph().as_default():
        shards = RandomShards(loss, cluster.devices[:num_tasks], options, **arguments)
        with tf.Session(cluster.targets[0], config=unoptimised()) as session:
            return check_by_row(
                lambda *sizes: traffic.measured(session, shards.operations, shards.feed(*sizes))
            )


@pytest.mark.lengthy
def test_bytes_of_logits_in_shards(cluster):
    # A row: to each of two other tasks and back, twelve numbers at most for each derivative.
    assert check(cluster, "logits", ("label_smoothing", "class_weights")) < 3 * 2 * 12 * 8 * ROWS


@pytest.mark.lengthy
def test_bytes_of_a_linear_layer_whose_gradient_is_not_colocated(cluster):
    check(cluster, "linear", order=1, chunk_size=4, colocate=False)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "loss, options, arguments",
    [
        ("logits", tuple(OPTIONS), {"partition_strategy": "mod"}),
        ("linear", OFTEN_WRONG, {"chunk_size": 4}),
    ],
)
def test_bytes_of_every_option(loss, options, arguments, cluster):
    """Bytes add up, so an option that lets too many cross is found out in any company.

    The linear loss sends what the other does; its logits are computed beside each shard.
    """
    check(cluster, loss, options, num_tasks=2, **arguments)


def partitioned(cluster, num_classes, rows, use_resource):
    """Builds a training step on weights that replica_device_setter puts on parameter servers.

    Returns:
      (initializer, (a training step, the operations of a Hessian-vector product)).
    """
    setter = tf.train.replica_device_setter(
        cluster=tf.train.ClusterSpec(cluster.spec), worker_device="/job:worker/task:0"
    )
    split = tf.fixed_size_partitioner(2)
    scope = tf.variable_scope(f"of_{num_classes}", use_resource=use_resource)
    with scope, tf.device(setter):
        weights = tf.get_variable("weights", [num_classes, DIM], tf.float64, partitioner=split)
        biases = tf.get_variable("biases", [num_classes], tf.float64, partitioner=split)
        inputs = tf.random_uniform([rows, DIM], dtype=tf.float64)
        labels = tf.floormod(7 * tf.range(rows), num_classes)
        loss = losses.linear_softmax_cross_entropy(
            labels, inputs, weights, biases, transpose_weights=True, chunk_size=4
        )
        variables = list(weights) + list(biases)
        gradient = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
        vectors = []
        for variable in variables:
            with tf.device(variable.device):
                vectors.append(tf.random_uniform(variable.shape, dtype=tf.float64))
        product = tf.gradients(gradient, variables, vectors, colocate_gradients_with_ops=True)
        step = tf.train.GradientDescentOptimizer(0.1).apply_gradients(zip(gradient, variables))
    devices = {variable.device for variable in variables}
    assert devices == {"/job:ps/task:0", "/job:ps/task:1"}
    return tf.variables_initializer(variables), (step, [one.op for one in product])


@pytest.mark.lengthy
@pytest.mark.parametrize("use_resource", [False, True])
def test_bytes_of_partitioned_variables_on_parameter_servers(use_resource, cluster):
    with tf.Graph().as_default():
        rows = tf.placeholder(tf.int32, [])
        built = {
            size: partitioned(cluster, 2 * size, rows, use_resource)
            for size in (CLASSES, 8 * CLASSES)
        }
        with tf.Session(cluster.targets[0], config=unoptimised()) as session:
            session.run([initializer for initializer, _ in built.values()])
            for number in range(2):

                def measure(num_rows, size, number=number):
                    return traffic.measured(session, built[size][1][number], {rows: num_rows})

                check_by_row(measure)
