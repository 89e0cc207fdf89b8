"""The data of the programs: scikit-learn's digits, in batches that a number alone determines."""

import numpy as np
from sklearn.datasets import load_digits

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES / 16).astype(np.float32)
PIXELS, HIDDEN, CLASSES = 64, 16, 10
BATCH = 32


def batch(number):
    """Returns the images and labels of a batch."""
    rows = np.arange(number * BATCH, (number + 1) * BATCH) % len(IMAGES)
    return IMAGES[rows], LABELS[rows]


def for_curvature():
    """Returns the images and labels over which curvature is computed."""
    return IMAGES[:300], LABELS[:300]


def initial(rows, columns):
    """Returns weights to start from, float32 [rows, columns]."""
    random = np.random.RandomState(rows)
    return random.normal(0, 1 / np.sqrt(rows), [rows, columns]).astype(np.float32)


def direction(variable):
    """Returns what the Hessian in a variable is multiplied with, float32."""
    shape = variable.shape.as_list()
    return np.random.RandomState(sum(shape)).normal(size=shape).astype(np.float32)


def save(path, losses, values, directions, products, **more):
    """Writes what a program has seen: losses by step, and vectors over all variables."""

    def flat(arrays):
        return np.concatenate([np.ravel(array) for array in arrays] or [[]])

    np.savez(
        path,
        steps=list(losses),
        losses=list(losses.values()),
        values=flat(values),
        directions=flat(directions),
        products=flat(products),
        **more,
    )
