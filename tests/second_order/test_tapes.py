"""The supplied gradients under gradient tapes, eagerly where this TensorFlow is eager."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

import tf1xent
from tests.second_order import (
    crop_cases,
    pooling_cases,
    resize_cases,
    segment_cases,
    smooth_cases,
    sparse_cases,
)
from tests.second_order.checking import case_id, gradients, skip_without_gap

FAMILIES = (crop_cases, pooling_cases, resize_cases, segment_cases, smooth_cases, sparse_cases)
# One case of each op.
BY_OP = {case.op_type: case for family in FAMILIES for case in family.CASES[::-1]}
del BY_OP["CholeskyGrad"]  # which a graph's override of a gradient makes
CASES = list(BY_OP.values())
EAGER = tf.executing_eagerly()
_REGISTRY = ops._gradient_registry._registry
NOT_DIFFERENTIABLE = {name for name, entry in _REGISTRY.items() if entry["type"] is None}


def hessian_product(function, xs, directions):
    """Return products with the Hessian of the sum of the squares of a function, by two tapes."""
    with tf.GradientTape() as outer:
        outer.watch(xs)
        with tf.GradientTape() as inner:
            inner.watch(xs)
            loss = tf.reduce_sum(function(*xs) ** 2)
        found = [tf.convert_to_tensor(gradient) for gradient in inner.gradient(loss, xs)]
    return outer.gradient(found, xs, directions)


@pytest.fixture(autouse=True)
def overridden():
    tf1xent.override_gradients()
    yield
    tf1xent.restore_gradients()


def two_tapes(case, directions):
    """Return a product with the Hessian; through a tf.function where the tape alone refuses."""
    xs, directions = ([tf.constant(x) for x in arrays] for arrays in (case.inputs, directions))
    if not EAGER:
        return hessian_product(case.function, xs, directions)
    try:
        return hessian_product(case.function, xs, directions)
    except tf1xent.errors.MissingDerivativeError as error:
        # An eager tape keeps no inputs of an op that TensorFlow calls not differentiable.
        assert case.op_type in NOT_DIFFERENTIABLE and "tf.function" in str(error)
        return hessian_product(tf.function(case.function), xs, directions)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_two_tapes_find_what_two_gradients_find(case):
    skip_without_gap(case.op_type)
    directions = [np.cos(np.arange(x.size)).reshape(x.shape).astype(x.dtype) for x in case.inputs]
    with tf.Graph().as_default(), tf.Session() as session:
        xs = [tf.constant(x) for x in case.inputs]
        first = gradients(tf.reduce_sum(case.function(*xs) ** 2), xs)
        wanted = session.run(gradients(first, xs, [tf.constant(d) for d in directions]))
        if not EAGER:
            found = [tf.convert_to_tensor(product) for product in two_tapes(case, directions)]
            products = session.run(found)
    if EAGER:
        found = [tf.convert_to_tensor(product) for product in two_tapes(case, directions)]
        products = [product.numpy() for product in found]
    for product, want in zip(products, wanted):
        np.testing.assert_allclose(product, want, rtol=1e-4, atol=1e-4)
