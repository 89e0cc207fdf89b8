"""A vocabulary of a million words in four processes: none holds more than its part."""

import os
import time

import pytest
import tensorflow.compat.v1 as tf

from tests.support import clusters
from tf1xent import losses

NUM_CLASSES, DIM, NUM_SHARDS, NUM_ROWS = 1000000, 128, 4, 16
SHARD = NUM_CLASSES // NUM_SHARDS * DIM * 4  # bytes, 128 MB
# For rows, the arrays of chunks, of which as many are alive as ops happen to run at once, and what
# TensorFlow allocates when an op runs for the first time. Half of a shard: 29 to 54 MB were seen.
SLACK = SHARD // 2
NEEDED = 4 << 30


def available():
    """Bytes that processes may have; 0 where there is no /proc."""
    if not os.path.exists("/proc/meminfo"):
        return 0
    with open("/proc/meminfo", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("MemAvailable:")]
    return int(line.split()[1]) * 1024


def beside_the_shard(shape, dtype, partition_info):
    """Initial values made where the variable is; replica_device_setter has them on the worker."""
    number = partition_info.var_offset[0] * NUM_SHARDS // NUM_CLASSES
    with tf.device(f"/job:ps/task:{number}"):
        return tf.random_uniform(shape, -0.1, 0.1, dtype)


class Vocabulary:
    """The last layer of a large model, a quarter of it on each parameter server.

    Attributes:
      initializer: an operation, to be run before.
      operations: those of the loss, the gradient, the product and the step of training, by name.
    """

    def __init__(self, cluster):
        setter = tf.train.replica_device_setter(
            cluster=tf.train.ClusterSpec(cluster.spec), worker_device="/job:worker/task:0"
        )
        split = tf.fixed_size_partitioner(NUM_SHARDS)
        with tf.device(setter):
            weights, vectors = (
                tf.get_variable(
                    name,
                    [NUM_CLASSES, DIM],
                    initializer=beside_the_shard,
                    partitioner=split,
                )
                for name in ("weights", "vectors")
            )
            inputs = tf.random_uniform([NUM_ROWS, DIM])
            labels = tf.range(NUM_ROWS) * 61001
            loss = losses.linear_softmax_cross_entropy(
                labels, inputs, weights, transpose_weights=True
            )
        shards = list(weights)
        assert [shard.device for shard in shards] == [f"/job:ps/task:{i}" for i in range(4)]
        gradient = tf.gradients(loss, shards, colocate_gradients_with_ops=True)
        product = tf.gradients(gradient, shards, list(vectors), colocate_gradients_with_ops=True)
        step = tf.train.GradientDescentOptimizer(1.0).apply_gradients(zip(gradient, shards))
        self.initializer = tf.variables_initializer(shards + list(vectors))
        self.operations = {
            "loss": loss.op,
            "gradient": [one.op for one in gradient],
            "product": [one.op for one in product],
            "step": step,
        }


# How many arrays of a shard's size an operation makes. TensorFlow adds up two for the product, as
# weights enter the gradient in two ways. A step copies a variable of resources that is still read.
ALLOWED = {"loss": 0, "gradient": 1, "product": 2, "step": 2}


def peaks(processes, session, operations, variables):
    """Returns the bytes that each process takes at most: servers beyond their variables.

    Client and worker beyond what they hold after a first run: of all that is run, the master, here
    the worker's, keeps a copy of the graph.
    """
    held(processes)
    session.run(operations)
    of_servers = [clusters.peak_memory(pid) for pid in processes[2:]]
    before = held(processes)
    session.run(operations)
    growth = [clusters.peak_memory(pid) - least for pid, least in zip(processes[:2], before)]
    return growth + [peak - least for peak, least in zip(of_servers, variables)]


def held(processes):
    """Returns what each holds now, and resets its peak to that."""
    time.sleep(0.3)  # a server frees the tensors of a run after the run
    for pid in processes:
        clusters.reset_peak_memory(pid)
    return [clusters.peak_memory(pid) for pid in processes]


@pytest.mark.exhaustive
@pytest.mark.skipif(available() < NEEDED, reason="takes 4 GB, and reads /proc")
def test_no_process_holds_more_than_its_part():
    with clusters.started(worker=1, ps=NUM_SHARDS) as cluster, tf.Graph().as_default():
        vocabulary = Vocabulary(cluster)
        processes = [os.getpid()] + [task.pid for task in cluster.tasks]
        with tf.Session(cluster.targets[0]) as session:
            empty = held(processes)
            session.run(vocabulary.initializer)
            full = held(processes)
            variables = [now - before for now, before in zip(full, empty)]
            found = {
                name: peaks(processes, session, operations, full[2:])
                for name, operations in vocabulary.operations.items()
            }
    print(
        {"variables": in_megabytes(variables)}, {name: in_megabytes(x) for name, x in found.items()}
    )
    assert max(variables[2:]) < 2 * SHARD + SLACK  # with the vectors
    assert min(found["gradient"][2:]) > SHARD / 2  # it does measure
    for name, (of_client, of_worker, *of_servers) in found.items():
        assert max(of_client, of_worker) < SLACK, name
        assert max(of_servers) < ALLOWED[name] * SHARD + SLACK, name


def in_megabytes(sizes):
    """Rounded."""
    return [round(size / 1e6, 1) for size in sizes]
