"""What goes between devices: a few numbers by row, never a block of classes, to second order."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.losses.linear_layer import BIASES, INPUTS, WEIGHTS
from tests.support.option_cases import unoptimised
from tf1xent import losses
from tf1xent.curvature import hessian_vector_product

BATCH_SIZE, DIM, NUM_CLASSES = 5, 3, 300
RANDOM = np.random.RandomState(0)
LABELS = np.array([0, 160, 299, 2, 150])
HALVES = [NUM_CLASSES // 2] * 2
# All options together: tests/clusters/test_sharded_traffic.py.
OPTIONS = {
    "label_smoothing": 0.1,
    "class_weights": RANDOM.uniform(0.5, 2.0, NUM_CLASSES),
    "z_loss": 0.1,
    "ignore_label": 2,
}


def shard_variables(shape_of):
    """A variable beside each of two devices, which are not the one that everything else is on."""
    variables = []
    for number, size in enumerate(HALVES):
        with tf.device(f"/cpu:{number + 1}"):
            value = np.random.RandomState(number).normal(size=shape_of(size))
            resource = number == 0  # and the other a reference variable
            variables.append(tf.Variable(value, name=f"shard_{number}", use_resource=resource))
    return variables


def sent(metadata):
    """The number of entries of each tensor that one device sent to another, by name."""
    sizes = {}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            for output in node.output:
                shape = [dim.size for dim in output.tensor_description.shape.dim]
                sizes[node.node_name, output.slot] = int(np.prod(shape))
    found = {}
    for graph in metadata.partition_graphs:
        for node in graph.node:
            if node.op in ("_Send", "_HostSend"):
                name, _, slot = node.input[0].partition(":")
                found[node.input[0]] = sizes[name, int(slot or 0)]
    return found


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["logits", "linear"])
def test_no_block_of_classes_leaves_its_device(kind):
    """Value, gradient and Hessian-vector product, of shards that are in one piece or in chunks."""
    with tf.Graph().as_default():
        rows = BATCH_SIZE if kind == "logits" else DIM
        shards = shard_variables(lambda size: (rows, size))
        with tf.device("/cpu:0"):  # a scope that shards do not follow
            if kind == "logits":
                loss = losses.sharded_softmax_cross_entropy(LABELS, shards, **OPTIONS)
            else:
                inputs = tf.placeholder_with_default(INPUTS.reshape(-1, DIM)[:5], [BATCH_SIZE, DIM])
                loss = losses.linear_softmax_cross_entropy(
                    LABELS, inputs, shards, chunk_size=40, **OPTIONS
                )
        vectors = []
        for shard in shards:
            with tf.device(shard.device):
                vectors.append(tf.cos(shard.read_value()))
        gradients = tf.gradients(loss, shards)
        products = hessian_vector_product(loss, shards, vectors)
        totals = []
        for tensor, device in zip(gradients + products, [shard.device for shard in shards] * 2):
            with tf.device(device):
                totals.append(tf.reduce_sum(tf.abs(tensor)))
        metadata = tf.RunMetadata()
        config = unoptimised()
        config.device_count["CPU"] = 3
        with tf.Session(config=config) as session:
            session.run(tf.global_variables_initializer())
            values = session.run(
                [loss] + totals,
                options=tf.RunOptions(
                    trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True
                ),
                run_metadata=metadata,
            )
    assert len(metadata.partition_graphs) == 3 and all(np.isfinite(values)) and all(values)
    moved = sent(metadata)
    too_large = {name: size for name, size in moved.items() if size > BATCH_SIZE * DIM}
    assert moved and not too_large


def test_weights_in_one_tensor_are_used_where_the_loss_is_built():
    """With parameter servers a worker reads the weights and computes by itself."""
    with tf.Graph().as_default():
        with tf.device("/cpu:1"):
            weights, biases = tf.Variable(WEIGHTS), tf.Variable(BIASES)
        with tf.device("/cpu:2"):
            loss = losses.linear_softmax_cross_entropy([3], INPUTS[0, :1], weights, biases)
        assert loss.device == "/device:CPU:2"
        places = {
            op.device for op in tf.get_default_graph().get_operations() if "MatMul" == op.type
        }
    assert places == {"/device:CPU:2"}


@pytest.mark.parametrize("use_resource", [False, True])
def test_partitioned_variables_of_parameter_servers_are_worked_on_there(use_resource):
    setter = tf.train.replica_device_setter(ps_tasks=3, worker_device="/job:worker/task:0")
    with tf.Graph().as_default() as graph, tf.device(setter):
        weights, biases = (
            tf.get_variable(
                name,
                shape,
                partitioner=tf.fixed_size_partitioner(3, axis=len(shape) - 1),
                use_resource=use_resource,
            )
            for name, shape in (("weights", [4, 10]), ("biases", [10]))
        )
        inputs, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
        loss = losses.linear_softmax_cross_entropy(
            labels, inputs, weights, biases, label_smoothing=0.1
        )
        parts = list(weights)
        gradients = tf.gradients(loss, parts)
    devices = [part.device for part in parts]
    assert len(set(devices)) == 3
    assert loss.device.startswith("/job:worker")
    assert [gradient.device for gradient in gradients] == devices
    for op in graph.get_operations():
        if op.type == "MatMul":
            assert op.device in devices, op.name
