"""Small trainings on digits that go well until a step with a planted fault."""

import numpy as np
import tensorflow.compat.v1 as tf
from sklearn.datasets import load_digits

from tf1xent.diagnostics import diagnose

DIGITS = load_digits()
IMAGES = (DIGITS.data / 16).astype(np.float32)
LABELS = DIGITS.target.astype(np.int64)
BATCH = 32


class Model:
    """Tensors of a small network, for the losses that the tests write."""

    def __init__(self, dtype=tf.float32, units=16):
        self.x = tf.placeholder(tf.float32, [None, 64], "x")
        self.y = tf.placeholder(tf.int64, [None], "y")
        self.mask = tf.placeholder_with_default(tf.ones_like(self.x[:, 0]), [None], "mask")
        self.hidden = tf.nn.relu(dense(tf.cast(self.x, dtype), 64, units, "hidden"))
        self.logits = dense(self.hidden, units, 10, "logits")
        self.one_hot = tf.one_hot(self.y, 10, dtype=dtype)

    def losses(self):
        """The cross-entropy of each row, as TensorFlow computes it."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.y, logits=self.logits)


def dense(x, width, units, name):
    """A dense layer; its variables are float32, as in mixed precision."""
    with tf.variable_scope(name):
        kernel = tf.get_variable("kernel", [width, units])
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
        return x @ tf.cast(kernel, x.dtype) + tf.cast(bias, x.dtype)


def batch(number):
    """The images and labels of a batch: writable."""
    rows = np.arange(number * BATCH, (number + 1) * BATCH) % len(IMAGES)
    return IMAGES[rows].copy(), LABELS[rows].copy()


def cause_of(loss_of, spoil=None, **options):
    """The cause that a diagnosis names, or None."""
    return diagnosed(loss_of, spoil, **options).cause


def diagnosed(loss_of, spoil=None, *, steps=3, dtype=tf.float32, variables=None, optimizer=None):
    """Trains a few steps, then diagnoses the next one.

    Args:
      loss_of: takes a `Model`, returns the loss.
      spoil: takes a `Model`, images and labels; may change them, or return other feeds.
      steps: how many steps go well before.
      dtype: of the activations.
      variables: takes the variables' values by name, and changes them.
      optimizer: the program's, by default gradient descent.
    """
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        model = Model(dtype)
        loss = loss_of(model)
        train = (optimizer or tf.train.GradientDescentOptimizer(0.1)).minimize(loss)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for number in range(steps):
                images, labels = batch(number)
                value, _ = session.run([loss, train], {model.x: images, model.y: labels})
                assert np.isfinite(value)
            images, labels = batch(steps)
            feeds = {model.x: images, model.y: labels}
            feeds.update((spoil and spoil(model, images, labels)) or {})
            changed = None
            if variables is not None:
                changed = {v.op.name: session.run(v) for v in tf.global_variables()}
                variables(changed)
            return diagnose(session, loss, feeds, variables=changed, steps=1)
