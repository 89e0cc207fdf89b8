"""Small trainings on digits, with room for a fault."""

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

from tf1xent.diagnostics import diagnose
from tf1xent.diagnostics.program.program import Program

DIGITS = load_digits()
IMAGES = (DIGITS.data / 16).astype(np.float32)
LABELS = DIGITS.target.astype(np.int64)
SEED = 7


def layer(x, width, units, name, bias=0.0, scale=None, dtype=tf.float32, **options):
    """A dense layer; tf.layers is not in every TensorFlow."""
    with tf.variable_scope(name):
        start = tf.glorot_uniform_initializer(dtype=dtype, seed=SEED)
        if scale is not None:
            start = tf.random_normal_initializer(stddev=scale, dtype=dtype, seed=SEED)
        kernel = tf.get_variable("kernel", [width, units], dtype, start, **options)
        offset = tf.constant_initializer(bias, dtype=dtype)
        return x @ kernel + tf.get_variable("bias", [units], dtype, offset, **options)


def sparse_loss(logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


class Training:
    """A session with a model of two layers, and what trains it.

    Args:
      activation: of the hidden layer; takes what the layer computes.
      loss: takes logits and labels.
      optimizer: a function that returns one.
      var_list: takes nothing; the variables to train.
      hidden, output: options of the two layers.
    """

    def __init__(
        self,
        activation=tf.nn.relu,
        loss=sparse_loss,
        optimizer=lambda: tf.train.GradientDescentOptimizer(0.5),
        var_list=lambda: None,
        hidden=None,
        output=None,
        scale=1.0,
        before=lambda x: x,
    ):
        self.graph = tf.Graph()
        self._at = 0
        with self.graph.as_default():
            tf.set_random_seed(SEED)
            dtype = dict(hidden or {}).get("dtype", tf.float32)
            self.x = tf.placeholder(dtype, [None, 64], name="x")
            self.y = tf.placeholder(tf.int64, [None], name="y")
            features = activation(layer(before(self.x * scale), 64, 16, "hidden", **(hidden or {})))
            self.logits = layer(features, 16, 10, "output", **(output or {}))
            self.loss = loss(self.logits, self.y)
            self.train = optimizer().minimize(self.loss, var_list=var_list())
            start = tf.global_variables_initializer()
        self.session = tf.Session(graph=self.graph)
        self.session.run(start)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.session.close()

    def feed(self, size=32):
        rows = np.arange(self._at, self._at + size) % len(IMAGES)
        return {self.x: IMAGES[rows], self.y: LABELS[rows]}

    def step(self):
        """Trains on the next batch; returns the loss."""
        feed = self.feed()
        self._at += 32
        return self.session.run([self.loss, self.train], feed)[0]

    def until_bad(self, most=60):
        """Trains until the loss is not finite; returns the variables before, and the feed."""
        for _ in range(most):
            before, feed = self.values(), self.feed()
            if not np.isfinite(self.step()):
                return before, feed
        raise AssertionError("the loss stays finite")

    def values(self):
        with self.graph.as_default():
            return self.session.run({v.op.name: v for v in tf.global_variables()})

    def load(self, **values):
        """Gives variables values, by name with __ for /."""
        with self.graph.as_default():
            for variable in tf.global_variables():
                name = variable.op.name.replace("/", "__")
                if name in values:
                    variable.load(values[name], self.session)

    @property
    def program(self):
        return Program(self.graph, self.loss, self.train)

    def diagnose(self, feed=None, **options):
        return diagnose(
            self.session, self.loss, feed or self.feed(), train_op=self.train, **options
        )
