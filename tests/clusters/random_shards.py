"""Losses over shards of random numbers, of sizes that are fed: their operations, without results.

Everything of a shard's size is made on the shard's own device, as variables would be.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.clusters.sharded_cases import BY_CLASS, OPTIONS
from tf1xent import losses

DIM = 8
ITEM = np.dtype(np.float64).itemsize


class RandomShards:
    """The operations of a loss, its gradient and a Hessian-vector product.

    Attributes:
      operations: what to run.
      feeds: the function that makes a feed_dict of numbers of rows, and of classes of a shard.
    """

    def __init__(
        self, loss, devices, options=(), colocate=True, order=2, function=None, **arguments
    ):
        self.devices = devices
        self.rows, self.classes = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
        self.colocate = colocate
        num_classes = self.classes * len(devices)
        labels = tf.floormod(7 * tf.range(self.rows), num_classes)
        tensors, given = self._operands(loss), self._options(options)
        if function is None:
            function = {
                "logits": losses.sharded_softmax_cross_entropy,
                "linear": losses.linear_softmax_cross_entropy,
            }[loss]
        value = function(labels, *tensors, **given, **arguments)
        flat = [tensor for part in tensors for tensor in _as_list(part)]
        flat += [
            tensor
            for part in given.values()
            for tensor in _as_list(part)
            if isinstance(tensor, tf.Tensor) and tensor.dtype.is_floating
        ]
        built = [value] + self._gradient([value], flat)
        if order == 2:
            vectors = []
            for tensor in flat:
                with tf.device(tensor.device or None):
                    vectors.append(tf.random_uniform(tf.shape(tensor), dtype=tf.float64))
            built += self._gradient(built[1:], flat, vectors)
        self.operations = [tensor.op for tensor in built]

    def feed(self, rows, classes):
        """The feed_dict for numbers of rows, and of classes of each shard."""
        return {self.rows: rows, self.classes: classes}

    def _gradient(self, values, tensors, vectors=None):
        found = tf.gradients(values, tensors, vectors, colocate_gradients_with_ops=self.colocate)
        return [tf.convert_to_tensor(one) for one in found]

    def _operands(self, loss):
        if loss == "logits":
            return [self._shards([self.rows, self.classes], [None, None])]
        inputs = _random([self.rows, DIM], [None, DIM])
        return [
            inputs,
            self._shards([DIM, self.classes], [DIM, None]),
            self._shards([self.classes], [None]),
        ]

    def _options(self, names):
        given = {}
        for name in names:
            value = OPTIONS[name]
            if name in BY_CLASS:
                value = self._shards([self.classes], [None])
                if name == "class_mask":
                    value = [self._beside(one, lambda one=one: one < 0.9) for one in value]
            elif name == "mask":
                value = tf.range(self.rows) > 1
            elif name == "example_weights":
                value = tf.random_uniform([self.rows], dtype=tf.float64)
            given[name] = value
        return given

    @staticmethod
    def _beside(tensor, build):
        with tf.device(tensor.device):
            return build()

    def _shards(self, sizes, static):
        found = []
        for device in self.devices:
            with tf.device(device):
                found.append(_random(sizes, static))
        return found


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _random(sizes, static):
    tensor = tf.random_uniform(tf.stack(sizes), dtype=tf.float64)
    tensor.set_shape(static)
    return tensor
