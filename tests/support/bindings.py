"""What TensorFlow's modules and gradient registry hold, for tests of the patch."""

import sys

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import nn_ops

from tests.oracle import reference
from tests.support.loss_graph import DENSE_V1, DENSE_V2, NAMES, SPARSE

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"
GUARD = "PreventGradient"
OP_TYPES = (SPARSE_OP, DENSE_OP, GUARD)

# Found before anything is patched: the functions by their name in nn_ops, and the registry's own
# entries, which must come back as the very objects.
STOCK = {
    name: getattr(nn_ops, name)
    for name in (
        SPARSE,
        SPARSE + "_v2",
        DENSE_V1,
        DENSE_V2,
        DENSE_V2 + "_helper",
    )
    if hasattr(nn_ops, name)
}
REGISTRY = ops._gradient_registry._registry
STOCK_GRADIENT = REGISTRY[SPARSE_OP]["type"]

CONFIDENT = np.array([[50.0, 0.0, 1.0]], np.float32)
CONFIDENT_LOSS = float(reference.Reference(CONFIDENT).sparse_loss(np.array([0]))[0])


def bindings():
    """{(module, name): function}: where loaded modules hold one of TensorFlow's functions."""
    stock = {id(function) for function in STOCK.values()}
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.split(".")[0] in ("tf1xent", "tests"):
            continue
        # Not vars(module): a lazily loaded module must not be loaded for this.
        for name, value in list(object.__getattribute__(module, "__dict__").items()):
            if id(value) in stock:
                found[module_name, name] = value
    return found


def public_bindings():
    """What a program gets under the names of tf.nn and its compat modules, by attribute."""
    found = {}
    for path in ("nn", "compat.v1.nn", "compat.v2.nn"):
        module = tensorflow
        for part in path.split("."):
            module = getattr(module, part, None)
        for name in NAMES:
            if hasattr(module, name):
                found[path, name] = getattr(module, name)
    return found


def registered():
    return {name: REGISTRY[name] for name in OP_TYPES}


def confident_loss(function, labels=(0,)):
    with tf.Graph().as_default(), tf.Session() as session:
        return float(session.run(function(labels=tf.constant(labels), logits=CONFIDENT))[0])


def assert_ours(function):
    assert confident_loss(function) == pytest.approx(CONFIDENT_LOSS, rel=1e-5)


def assert_stock(function):
    assert confident_loss(function) == 0.0


# The second derivative of TensorFlow's own op ----------------------------------------------------

LOGITS = np.array([[1.0, 2.0, 0.5]])


def hessian():
    """Return it for one row of logits, or the error's type."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        try:
            (second,) = tf.hessians(STOCK[SPARSE](labels=tf.constant([1]), logits=logits), logits)
        except LookupError:
            return LookupError
        return session.run(second)[0, :, 0]


STOCK_HESSIAN = hessian()


def assert_overridden():
    rows = [reference.Reference(LOGITS).derivative_product([row[None]])[0] for row in np.eye(3)]
    np.testing.assert_allclose(hessian(), np.asarray(rows, np.float64), rtol=1e-12)


def assert_as_stock():
    np.testing.assert_array_equal(hessian(), STOCK_HESSIAN)
