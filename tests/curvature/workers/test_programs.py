"""What a worker gets, in a session of this process: a copy of a graph, values, digests."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.curvature.workers.network import looked_up
from tf1xent.curvature.behind import variables_behind
from tf1xent.curvature.workers.digests import digest_of_array, digest_of_tensor
from tf1xent.curvature.workers.program import Program, Values
from tf1xent.curvature.workers.state import state_besides_variables

RANDOM = np.random.RandomState(0)
# By dtype, how many entries; more than the columns of a digest for one.
DIGESTED = [("float32", 9000), ("float64", 5), ("float16", 4097), ("bfloat16", 7), ("int64", 3)]
DIGESTED += [("int32", 1), ("uint8", 4096), ("bool", 6), ("complex64", 3), ("complex128", 3)]
DIGESTED += [("float32", 0)]


@pytest.mark.parametrize("name, number", DIGESTED)
def test_a_digest_is_that_of_numpy_and_changes_with_each_entry(name, number):
    dtype = tf.as_dtype(name)
    values = [np.abs(RANDOM.normal(size=number))]
    for entry in {0, number // 2, number - 1} if number else ():
        values.append(values[0].copy())
        values[-1][entry] = 200 if name == "uint8" else -3
    if name == "bool":
        values = [value > 0 for value in values]
    arrays = [value.astype(dtype.as_numpy_dtype) for value in values]
    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(dtype)
        digest = digest_of_tensor(fed)
        found = [int(session.run(digest, {fed: array})) for array in arrays]
    assert found == [digest_of_array(array) for array in arrays]
    assert len(set(found)) == len(arrays)


def test_the_bits_count_not_the_values():
    zeros = digest_of_array(np.zeros(3))
    assert zeros != digest_of_array(-np.zeros(3))
    assert digest_of_array(np.array([1.0, 2.0])) != digest_of_array(np.array([2.0, 1.0]))


def test_strings_have_no_digest():
    assert digest_of_array(np.array([b"a"], object)) == 0


class Cluster:
    """A graph as a program with parameter servers has it, with variables of all kinds."""

    def __init__(self):
        with tf.device("/job:ps/task:1"):
            self.reference = tf.get_variable(
                "reference",
                [4, 2],
                initializer=tf.ones_initializer(),
                partitioner=tf.fixed_size_partitioner(2),
                use_resource=False,
            )
            self.resource = tf.get_variable(
                "resource", [2], tf.float64, tf.ones_initializer(), use_resource=True
            )
            self.average = tf.get_variable(
                "average", [], tf.float64, trainable=False, use_resource=True
            )
        self.unused = tf.get_variable("unused", [3])
        self.data = tf.placeholder(tf.float32, [None, 4], "data")
        with tf.device("/job:worker/task:0/device:GPU:0"):
            product = tf.matmul(self.data, tf.convert_to_tensor(self.reference))
        with tf.colocate_with(self.unused.op):
            sums = tf.reduce_sum(tf.cast(product, tf.float64) * self.resource)
        self.loss = tf.multiply(sums, self.average, name="loss")


def program_of(tensors):
    reads = variables_behind(tensors)
    return Program(tensors[0].graph, tensors, list(reads)), list(reads)


def test_a_program_is_the_part_that_is_needed_without_the_places_of_a_cluster():
    with tf.Graph().as_default():
        model = Cluster()
        program, names = program_of([model.loss])
        before = model.loss.graph.as_graph_def()
    assert names == ["average", "reference/part_0", "reference/part_1", "resource"]
    ops = {op.name: op for op in program.graph.get_operations()}
    assert "unused" not in ops
    assert "tf1xent_worker" not in str(before)
    assert {op.device for op in ops.values()} == {"", "/device:GPU:0"}
    assert ops["MatMul"].device == "/device:GPU:0"
    arrays = {
        "average": np.array(0.5),
        "reference/part_0": np.arange(4, dtype=np.float32).reshape(2, 2),
        "reference/part_1": np.ones([2, 2], np.float32),
        "resource": np.array([2.0, 3.0]),
    }
    values = Values(arrays)
    config = tf.ConfigProto(allow_soft_placement=True)
    with tf.Session(graph=program.graph, config=config) as session:
        for assigned, feeds in program.calls(values):
            session.run(assigned, feeds)
        loss = session.run("loss:0", {"data:0": np.ones([1, 4])})
        assert program.agrees(session.run(program.digests), values)
        loader = program.variables["resource"]
        session.run(loader.assign, {loader.value: np.array([2.0, 3.5])})
        assert not program.agrees(session.run(program.digests), values)
    whole = np.concatenate([arrays["reference/part_0"], arrays["reference/part_1"]])
    assert loss == 0.5 * (np.ones([1, 4]) @ whole @ arrays["resource"])[0]


def test_large_variables_go_in_calls_of_their_own(monkeypatch):
    monkeypatch.setattr("tf1xent.curvature.workers.program._BYTES_OF_A_CALL", 24)
    with tf.Graph().as_default():
        model = Cluster()
        program, names = program_of([model.loss])
    arrays = dict(zip(names, (np.zeros(()), np.zeros([2, 2]), np.zeros(1), np.zeros(2))))
    sizes = [len(assigned) for assigned, _ in program.calls(Values(arrays))]
    assert sizes == [1, 1, 2]


def test_values_are_compared_by_their_bits():
    first = np.array([0.0, 1.0])
    values = Values({"x": first})
    assert values.are({"x": np.array([0.0, 1.0])})
    first[1] = 2.0
    assert values.are({"x": np.array([0.0, 1.0])})
    assert not values.are({"x": np.array([-0.0, 1.0])})
    assert not values.are({"x": np.array([0.0, 1.0], np.float32)})


def table(data):
    return looked_up(1.0, tf.float32)[0] + data


def queue(data):
    return tf.FIFOQueue(1, [tf.float32], shapes=[[]]).dequeue() + data


def pipeline(data):
    dataset = tf.data.Dataset.from_tensors(1.0)
    return tf.data.make_initializable_iterator(dataset).get_next() + data


def python_function(data):
    return tf.py_func(lambda x: x, [data], tf.float32)


def in_a_branch(data):
    return tf.cond(tf.reduce_sum(data) > 0, lambda: python_function(data), lambda: data)


def drawn(data):
    return data + tf.random_uniform([])


def in_a_loop(data):
    return tf.while_loop(lambda x: tf.reduce_sum(x) < 3, lambda x: x + 1, [data])


STATES = {
    table: "HashTable",
    queue: "FIFOQueue",
    pipeline: "Iterator",
    python_function: "PyFunc",
    in_a_branch: "PyFunc",
    drawn: None,
    in_a_loop: None,
}


@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__)
def test_other_state_than_variables_is_found(make):
    with tf.Graph().as_default():
        data = tf.placeholder(tf.float32, [])
        made = make(data)
        loss = made * tf.get_variable("x", [])
        found = state_besides_variables([loss], [])
        assert state_besides_variables([loss], [tf.convert_to_tensor(made)]) == {}
    types = " ".join(found.values())
    assert (STATES[make] in types) if STATES[make] else not types
