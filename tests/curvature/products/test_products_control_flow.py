"""Products through branches and loops, of v1 and of v2, against the oracle; nothing is silent."""

import contextlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.curvature import small_nets as nets
from tests.curvature.dense import error, matrices, placeholders
from tests.oracle import curvature_reference as reference
from tests.support.v1_loops import v1_control_flow
from tf1xent import _tf
from tf1xent.curvature.products.gauss_newton import ggn_vector_product
from tf1xent.curvature.products.hessian_diagonal import hessian_diagonal
from tf1xent.curvature.products.hessian_products import hessian_vector_product
from tf1xent.curvature.products.hessians import hessians
from tf1xent.curvature.products.jacobian_products import jacobian_vector_product
from tf1xent.errors import MissingDerivativeError

SQUARE = [(nets.INPUTS, nets.INPUTS), (nets.INPUTS,)]
needs_v2_loops = pytest.mark.skipif(
    _tf.control_flow_v2_refusal() is not None, reason="this TensorFlow has no second derivative"
)


@contextlib.contextmanager
def v2_control_flow():
    """The switch that the errors advise."""
    if _tf.control_flow_v2_refusal() is not None:
        pytest.skip("this TensorFlow differentiates no v2 control flow twice")
    with tf1xent.patched(control_flow_v2=True):
        yield


def turns(w, b, tanh, constant):
    """tanh(state w + b) twice, as a loop of TensorFlow or written out."""
    if tanh is tf.tanh:
        return tf.while_loop(
            lambda turn, _: turn < 2,
            lambda turn, state: (turn + 1, tf.tanh(tf.matmul(state, w) + b)),
            (0, constant),
        )[1]
    return tanh(tanh(constant @ w + b) @ w + b)


def branches(w, b, tanh, constant):
    """The first branch is taken."""
    if tanh is tf.tanh:
        product = tf.matmul(constant, w)
        return tf.cond(tf.reduce_sum(b) < 100.0, lambda: tf.tanh(product + b) * b, lambda: product)
    return tanh(constant @ w + b) * b


def true(network):
    """The Hessian and GGN of the sum of fourth powers of the outputs."""
    w, b = reference.variables(nets.arrays(SQUARE))
    outputs = network(w, b, reference.tanh, reference.constant(nets.FEATURES, w))

    def loss(jet):
        return (jet**4).reshape(18).sum(0)

    return [loss(outputs).second, reference.gauss_newton(outputs, loss)]


def found(network):
    with tf.Graph().as_default(), tf.Session() as session:
        xs = nets.variables(nets.arrays(SQUARE))
        outputs = network(*xs, tf.tanh, tf.constant(nets.FEATURES))
        loss, vectors = outputs**4, placeholders(xs)
        products = [
            hessian_vector_product(loss, xs, vectors),
            ggn_vector_product(loss, outputs, xs, vectors),
        ]
        blocks = hessians(loss, xs, cross_blocks=True)
        diagonal = hessian_diagonal(loss, xs)
        session.run(tf.global_variables_initializer())
        dense = session.run(blocks)
        dense = [[block.reshape(size, -1) for block in row] for row, size in zip(dense, (9, 3))]
        return matrices(session, products, vectors), np.block(dense), session.run(diagonal)


@pytest.mark.parametrize(
    "network, control_flow",
    [(branches, v1_control_flow), (branches, v2_control_flow), (turns, v2_control_flow)],
)
def test_branches_and_v2_loops(network, control_flow):
    with control_flow():
        (hessian, ggn), blocks, diagonal = found(network)
    want = true(network)
    assert error(hessian, want[0]) <= 1e-10
    assert error(ggn, want[1]) <= 1e-10
    assert error(blocks, want[0]) <= 1e-10
    assert error(nets.flat(diagonal), np.diag(want[0])) <= 1e-10


def v1_loop(x):
    """TensorFlow leaves out the second derivative of this loop without a word."""
    return tf.while_loop(lambda t, _: t < 3, lambda t, s: (t + 1, s * x), (0, tf.ones([2])))[1]


@pytest.mark.parametrize(
    "build",
    [
        lambda x: hessian_vector_product(v1_loop(x), x, tf.ones([2])),
        lambda x: hessian_vector_product(tf.tanh(v1_loop(x)), x, tf.ones([2])),
        lambda x: hessians(v1_loop(x), x),
        lambda x: hessian_diagonal(v1_loop(x), x, num_samples=1),
        lambda x: jacobian_vector_product(v1_loop(x), x, tf.ones([2])),
        lambda x: ggn_vector_product(v1_loop(x) ** 2, v1_loop(x), x, tf.ones([2])),
    ],
)
def test_v1_loops_are_refused_with_a_remedy(build):
    with v1_control_flow(), tf.Graph().as_default():
        with pytest.raises((MissingDerivativeError, ValueError)) as raised:
            build(tf.constant([1.0, 2.0]))
    assert "control_flow_v2" in str(raised.value) or "must depend" in str(raised.value)
    assert "loop" in str(raised.value) or "must depend" in str(raised.value)


def test_v1_loops_that_are_not_in_the_way():
    """Before x, behind a stop, or handed a constant gradient that they do not depend on."""
    with v1_control_flow(), tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([1.0, 2.0])
        start = tf.ones([2])
        known = tf.while_loop(lambda t, _: t < 3, lambda t, s: (t + 1, s * 2.0), (0, start))[1]
        loss = tf.reduce_sum(x**2 * known) + tf.reduce_sum(x * tf.stop_gradient(v1_loop(x)))
        (product,) = session.run(hessian_vector_product(loss, x, tf.ones([2])))
    np.testing.assert_allclose(product, [16.0, 16.0])


@pytest.mark.parametrize("taken", [True, False])
def test_outputs_inside_a_v1_branch(taken):
    inside = []

    def true_branch(x):
        inside.append(x**2)
        return tf.reduce_sum(inside[0] ** 2)

    with v1_control_flow(), tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([1.0, 2.0])
        predicate = tf.placeholder(tf.bool, [])
        loss = tf.cond(predicate, lambda: true_branch(x), lambda: tf.reduce_sum(x))
        product = ggn_vector_product(loss, inside[0], x, tf.ones([2]))
        (value,) = session.run(product, {predicate: taken})
    np.testing.assert_allclose(value, [8.0, 32.0] if taken else [0.0, 0.0])


def test_outputs_inside_a_v2_branch_are_refused():
    inside = []

    def true_branch(x):
        inside.append(x**2)
        return tf.reduce_sum(inside[0] ** 2)

    with v2_control_flow(), tf.Graph().as_default():
        x = tf.constant([1.0, 2.0])
        loss = tf.cond(x[0] > 0.0, lambda: true_branch(x), lambda: tf.reduce_sum(x))
        with pytest.raises(ValueError, match="must be from the same graph"):
            ggn_vector_product(loss, inside[0], x, tf.ones([2]))
