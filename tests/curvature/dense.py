"""Dense matrices from products, one unit vector a run."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.curvature.small_nets import flat, split
from tf1xent.curvature.products.differentiation import as_list


def placeholders(xs):
    """A placeholder for a vector of each of xs."""
    return [tf.placeholder(x.dtype.base_dtype, x.shape) for x in as_list(xs)]


def matrices(session, products, vectors):
    """The matrix of each product, a list of tensors, in the placeholders `vectors`."""
    shapes = [vector.shape.as_list() for vector in vectors]
    rows = []
    for unit in np.eye(sum(int(np.prod(shape)) for shape in shapes)):
        fetched = session.run(products, dict(zip(vectors, split(unit, shapes))))
        rows.append([flat(tensors) for tensors in fetched])
    return [np.array(columns).T for columns in zip(*rows)]


def error(got, want):
    """The largest error, relative to the largest entry."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    return np.abs(got - want).max() / np.abs(want).max()
