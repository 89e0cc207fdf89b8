"""A small network whose operators are asked for on workers and, for the same bits, without them."""

import contextlib

import numpy as np
import tensorflow.compat.v1 as tf

from tf1xent import _tf
from tf1xent.curvature import FisherOperator, GGNOperator, HessianOperator
from tf1xent.curvature.operators.empirical_fisher_operator import EmpiricalFisherOperator

FEATURES, OUTPUTS = 5, 2
RANDOM = np.random.RandomState(0)
DATA = RANDOM.normal(size=[40, FEATURES]).astype(np.float32)
TARGETS = RANDOM.normal(size=[40, OUTPUTS]).astype(np.float32)
SIZES = [7, 3, 9, 1, 5, 6, 9]
KINDS = ("hessian", "ggn", "fisher", "empirical_fisher")
SIZE = FEATURES * OUTPUTS + OUTPUTS


class Network:
    """A graph and its values in a session; float32, with variables of all kinds.

    Attributes:
      session: holds the values.
      xs: the variables, one of them in two parts.
      feeds: of all batches.
    """

    def __init__(self, session):
        self.session = session
        self.data = tf.placeholder(tf.float32, [None, FEATURES], "data")
        self.targets = tf.placeholder(tf.float32, [None, OUTPUTS], "targets")
        self.rate = tf.placeholder_with_default(1.0, [], "rate")  # of something else
        parts = tf.fixed_size_partitioner(2)
        kernel = tf.get_variable(
            "kernel",
            [FEATURES, OUTPUTS],
            initializer=tf.random_normal_initializer(seed=1),
            use_resource=False,
            partitioner=parts,
        )
        with tf.variable_scope("out", use_resource=True):
            self.scale = tf.get_variable("scale", initializer=np.float32([0.5, 2.0]))
            self.average = tf.get_variable("average", initializer=np.float32(0.25), trainable=False)
        self.xs = tf.trainable_variables()
        self.outputs = self.scale * tf.tanh(tf.matmul(self.data, tf.convert_to_tensor(kernel)))
        self.losses = tf.reduce_sum((self.outputs - self.targets - self.average) ** 2, 1)
        self.loss = tf.reduce_mean(self.losses)
        self.count = tf.shape(self.data)[0]
        session.run(tf.global_variables_initializer())
        ends = np.cumsum([0, *SIZES])
        self.feeds = [
            {self.data: DATA[i:j], self.targets: TARGETS[i:j], self.rate: 0.5}
            for i, j in zip(ends[:-1], ends[1:])
        ]

    def operator(self, kind="hessian", workers=None, feeds=None, **options):
        """Return an operator of a kind, of all variables."""
        make, functions, own = {
            "hessian": (HessianOperator, (self.loss,), {}),
            "ggn": (GGNOperator, (self.loss, self.outputs), {}),
            "fisher": (FisherOperator, (self.outputs,), {"distribution": "normal"}),
            "empirical_fisher": (EmpiricalFisherOperator, (self.losses,), {}),
        }[kind]
        feeds = self.feeds if feeds is None else feeds
        options = {"batch_weights": self.count, "worker_timeout": 60, **own, **options}
        return make(self.session, *functions, self.xs, feeds, workers=workers, **options)


@contextlib.contextmanager
def network():
    """The network in a graph and a session of its own."""
    with tf.Graph().as_default(), tf.Session() as session:
        yield Network(session)


def vectors(number=None, size=SIZE):
    """Return a vector, or some as columns."""
    return np.random.RandomState(3).normal(size=size if number is None else [size, number])


def same(actual, expected):
    """Assert that two arrays are the same, bit by bit."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


def looked_up(value, dtype):
    """Return what a table has for a key, and the op that fills it; 1.13 has no tf.lookup."""
    handle = _tf.raw_op("HashTableV2")(key_dtype=tf.string, value_dtype=dtype)
    key, value = tf.constant(["a"]), tf.constant([value], dtype)
    fill = _tf.raw_op("InitializeTableV2")(table_handle=handle, keys=key, values=value)
    find = _tf.raw_op("LookupTableFindV2")
    found = find(table_handle=handle, keys=key[0], default_value=tf.constant(0, dtype))
    return found, fill
