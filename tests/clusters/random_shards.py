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

    def __init__(self, loss, devices, options=(), colocate=True, function=None, **arguments):
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
        flat = [t for part in tensors for t in (part if isinstance(part, list) else [part])]
        flat += [
            t
            for part in given.values()
            if isinstance(part, list)
            for t in part
            if t.dtype.is_floating
        ]
        gradient = self._gradient(value, flat)
        along = []
        for one, tensor in zip(gradient, flat):
            with tf.device(tensor.device):
                vector = tf.random_uniform(tf.shape(tensor), dtype=tf.float64)
                along.append(tf.reduce_sum(one * vector))
        product = self._gradient(tf.add_n(along), flat)
        self.operations = [tensor.op for tensor in [value] + gradient + product]

    def feed(self, rows, classes):
        """The feed_dict for numbers of rows, and of classes of each shard."""
        return {self.rows: rows, self.classes: classes}

    def _gradient(self, value, tensors):
        found = tf.gradients(value, tensors, colocate_gradients_with_ops=self.colocate)
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


def _random(sizes, static):
    tensor = tf.random_uniform(tf.stack(sizes), dtype=tf.float64)
    tensor.set_shape(static)
    return tensor
