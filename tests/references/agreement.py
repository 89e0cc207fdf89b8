"""What the comparisons share: real logits, our derivatives of them, and how near is the same.

The logits are those of a linear classifier of handwritten digits, most of them right and a few
wrong, one picture a row. As the libraries differ in where the classes stand, a batch comes in
several layouts of the same numbers.
"""

import collections
import functools

import numpy as np
import tensorflow.compat.v1 as tf

NUM_ROWS, NUM_CLASSES = 24, 10
MISSING = "needs {}; `python3 tools/run.py test -e references` makes an environment that has it"

# shape: that of the labels; axis: where the classes stand in the logits.
Layout = collections.namedtuple("Layout", "shape axis")
LAYOUTS = {
    "rows": Layout((NUM_ROWS,), 1),
    "sequences": Layout((6, 4), 2),
    "signals": Layout((6, 4), 1),
    "images": Layout((6, 2, 2), 1),
}

Batch = collections.namedtuple(
    "Batch", "axis logits labels soft_labels distributions mask weights vector"
)
# Of <loss, cotangent>: the loss itself, its gradient, and its Hessian times the batch's vector.
Derivatives = collections.namedtuple("Derivatives", "loss gradient product")

_GENERATOR = np.random.RandomState(3)
CLASS_WEIGHTS = _GENERATOR.uniform(0.25, 2.0, size=NUM_CLASSES)
CLASS_WEIGHTS[4] = 0.0
SOFT_LABELS = _GENERATOR.gamma(0.5, size=(NUM_ROWS, NUM_CLASSES))  # rows do not sum to 1
MASK = _GENERATOR.uniform(size=NUM_ROWS) < 0.7
WEIGHTS = _GENERATOR.uniform(0.25, 2.0, size=NUM_ROWS)
WEIGHTS[MASK.argmax()] = 0.0  # a row that counts, with no weight
VECTOR = _GENERATOR.normal(size=(NUM_ROWS, NUM_CLASSES))


@functools.lru_cache(maxsize=None)
def _digits():
    """Logits [NUM_ROWS, NUM_CLASSES] and labels of pictures of digits."""
    from sklearn.datasets import load_digits  # only where the comparisons run

    pictures, labels = load_digits(return_X_y=True)
    pictures = np.hstack([pictures / 16.0, np.ones((len(pictures), 1))])
    one_hot = np.eye(NUM_CLASSES)[labels]
    classifier = np.linalg.lstsq(pictures, one_hot, rcond=None)[0]
    logits = 10.0 * pictures.dot(classifier)
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)[: NUM_ROWS // 4]
    chosen = np.concatenate([wrong, np.arange(NUM_ROWS - len(wrong))])
    return logits[chosen], labels[chosen].astype(np.int64)


def batch(layout):
    """The `Batch` in one of the LAYOUTS."""
    shape, axis = LAYOUTS[layout]
    logits, labels = _digits()

    def with_classes(matrix):
        return np.moveaxis(matrix.reshape(shape + (NUM_CLASSES,)), -1, axis)

    return Batch(
        axis=axis,
        logits=with_classes(logits),
        labels=labels.reshape(shape),
        soft_labels=with_classes(SOFT_LABELS),
        distributions=with_classes(SOFT_LABELS / SOFT_LABELS.sum(axis=1, keepdims=True)),
        mask=MASK.reshape(shape),
        weights=WEIGHTS.reshape(shape),
        vector=with_classes(VECTOR),
    )


def cotangent(shape):
    """What losses of this shape are multiplied by before they are differentiated."""
    return np.random.RandomState(4).uniform(0.5, 1.5, size=shape) if shape else np.ones(())


def our_derivatives(build, point, vector):
    """The `Derivatives` of ``build(tensor)`` at a point, as a graph run by a session."""
    with tf.Graph().as_default(), tf.Session() as session:
        # Not a constant, whose losses would be folded into constants.
        tensor = tf.placeholder_with_default(point, point.shape)
        loss = build(tensor)
        (gradient,) = tf.gradients(loss * cotangent(loss.shape.as_list()), tensor)
        (product,) = tf.gradients(gradient * vector, tensor)
        return Derivatives(*session.run([loss, gradient, product]))


def assert_agree(ours, theirs, tolerance=1e-13):
    """Fails unless all derivatives differ by no more than `tolerance` of the largest entry."""
    for name, our, their in zip(Derivatives._fields, ours, theirs):
        our, their = np.asarray(our), np.asarray(their)
        assert our.dtype == their.dtype == np.float64, name
        assert our.shape == their.shape, name
        largest = np.abs(their).max()
        assert largest > 1e-3, f"{name}: nothing to compare"
        np.testing.assert_allclose(our, their, rtol=0, atol=tolerance * largest, err_msg=name)
