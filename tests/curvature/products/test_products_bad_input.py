"""Bad input of the graph functions: each a clear error, before or when TensorFlow would raise."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tf1xent.curvature.products.empirical_fisher import empirical_fisher_vector_product
from tf1xent.curvature.products.fisher import fisher_vector_product
from tf1xent.curvature.products.gauss_newton import ggn_vector_product
from tf1xent.curvature.products.hessian_diagonal import hessian_diagonal
from tf1xent.curvature.products.hessian_products import hessian_vector_product
from tf1xent.curvature.products.hessians import hessians
from tf1xent.curvature.products.jacobian_products import (
    jacobian_vector_product,
    vector_jacobian_product,
)
from tf1xent.curvature.products.logits_hessian import logits_hessian
from tf1xent.errors import MissingDerivativeError


def raises(error, message, build):
    with tf.Graph().as_default():
        with pytest.raises(error, match=re.escape(message)):
            build(tf.constant([[1.0, 2.0]]), tf.ones([1, 2]))


@pytest.mark.parametrize("function", [hessian_vector_product, jacobian_vector_product])
def test_vectors_of_xs(function):
    name = function.__name__
    raises(
        ValueError,
        f"{name}: `vectors` must hold one tensor for each of `xs`, got 1 for 2.",
        lambda x, v: function(x**2, [x, x], v),
    )
    raises(
        ValueError,
        f"{name}: `vectors` must have the shapes of `xs`, got (2,) for (1, 2).",
        lambda x, v: function(x**2, x, v[0]),
    )
    raises(
        TypeError,
        f"{name}: `vectors` must have the dtypes of `xs`, got float64 for float32. Use tf.cast.",
        lambda x, v: function(x**2, x, tf.cast(v, tf.float64)),
    )


def test_vectors_of_ys():
    raises(
        ValueError,
        "vector_jacobian_product: `vectors` must have the shapes of `ys`, got (1, 2) for (1, 1).",
        lambda x, v: vector_jacobian_product(x[:, :1], x, v),
    )


def test_arrays_and_numbers_are_converted():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([[1.0, 2.0]])
        products = hessian_vector_product(x**3, x, np.array([[1.0, 1.0]]))
        products += hessian_vector_product(x**3, [x], [[[1, 1]]])
        for product in session.run(products):
            np.testing.assert_allclose(product, [[6.0, 12.0]], rtol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda x, v: hessian_vector_product("loss", x, v),
        lambda x, v: hessian_vector_product(x, np.ones([1, 2]), v),
        lambda x, v: ggn_vector_product(x, None, x, v),
        lambda x, v: fisher_vector_product(x, [x, 1.0], [v, v]),
        lambda x, v: hessians(x, [None]),
    ],
)
def test_what_is_no_tensor(build):
    raises(TypeError, "must be tensors or variables, got ", build)


def test_complex_numbers():
    raises(
        TypeError,
        "hessian_vector_product: `xs` must be real, got complex64.",
        lambda x, v: hessian_vector_product(x, tf.complex(x, x), v),
    )


def test_a_loss_that_is_not_computed_from_the_outputs():
    raises(
        ValueError,
        "ggn_vector_product: `loss` must depend on `outputs`, got no path of gradients",
        lambda x, v: ggn_vector_product(x**2, tf.identity(x), x, v),
    )


def test_distributions_outputs_and_weights():
    raises(
        ValueError,
        "`distribution` must be one of ['bernoulli', 'categorical', 'normal'], got 'poisson'.",
        lambda x, v: fisher_vector_product(x, x, v, distribution="poisson"),
    )
    raises(
        ValueError,
        "`outputs` must have the shape [..., num_outputs] of rank 2 or more, got (2,).",
        lambda x, v: fisher_vector_product(x[0], x, v, distribution="bernoulli"),
    )
    raises(
        ValueError,
        "`outputs` must have the shape [..., num_outputs] of rank 1 or more, got ().",
        lambda x, v: fisher_vector_product(x[0, 0], x, v),
    )
    raises(
        TypeError,
        "`outputs` must be floating point, got int64.",
        lambda x, v: fisher_vector_product(tf.argmax(x, axis=1), x, v),
    )
    raises(
        ValueError,
        "fisher_vector_product: `weights` must broadcast to one weight for each example, (1,), "
        "got (2,).",
        lambda x, v: fisher_vector_product(x, x, v, weights=[1.0, 2.0]),
    )
    raises(
        ValueError,
        "empirical_fisher_vector_product: `losses` must hold the loss of each example, got a "
        "scalar.",
        lambda x, v: empirical_fisher_vector_product(tf.reduce_mean(x), x, v),
    )


def test_samples_and_seeds():
    for bad in (0, -1, 1.5, True):
        raises(
            ValueError,
            f"`num_samples` must be a positive integer or None, got {bad!r}.",
            lambda x, v, bad=bad: hessian_diagonal(x, x, num_samples=bad),
        )
    raises(
        ValueError,
        "`seed` must be None for an exact diagonal, got 3.",
        lambda x, v: hessian_diagonal(x, x, seed=3),
    )


def test_several_logits():
    raises(
        ValueError,
        "logits_hessian: `logits` must be one tensor [..., num_classes], got ['()'].",
        lambda x, v: logits_hessian(x, x[0, 0]),
    )


# --- Missing derivatives ----------------------------------------------------------------------


def stock_loss(logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)


def lacks_a_second_derivative():
    """Whether stock TensorFlow refuses that of the fused op, as 1.x does."""
    with tf.Graph().as_default():
        logits = tf.constant([[1.0, 2.0]])
        (gradient,) = tf.gradients(stock_loss(logits), logits)
        try:
            tf.gradients(gradient, logits)
        except LookupError:
            return True
        return False


@pytest.mark.skipif(not lacks_a_second_derivative(), reason="TensorFlow 2.x has one")
@pytest.mark.parametrize(
    "build",
    [
        lambda x, v: hessian_vector_product(stock_loss(2.0 * x), x, v),
        lambda x, v: ggn_vector_product(*((lambda z: (stock_loss(z), z))(2.0 * x)), x, v),
        lambda x, v: hessians(stock_loss(x), x),
        lambda x, v: hessians(stock_loss(x), x, cross_blocks=True),
        lambda x, v: hessian_diagonal(stock_loss(x), x),
        lambda x, v: hessian_diagonal(stock_loss(x), x, num_samples=1),
        lambda x, v: logits_hessian(stock_loss(x), x),
    ],
)
def test_the_stock_loss_of_1x_is_refused_with_a_remedy(build):
    raises(MissingDerivativeError, "Call tf1xent.override_gradients()", build)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.constant([[1.0, 2.0]])
        tf1xent.override_gradients()
        try:
            session.run(build(x, tf.ones([1, 2])))
        finally:
            tf1xent.restore_gradients()
        assert graph is x.graph


def test_the_stock_loss_has_first_derivatives():
    """J v needs no second derivative of the loss: the empirical Fisher product works as it is."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([[1.0, 2.0]])
        product = empirical_fisher_vector_product(stock_loss(x), x, tf.constant([[1.0, 0.0]]))
        (value,) = session.run(product)
    gradient = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum() - [1.0, 0.0]
    np.testing.assert_allclose(value, [gradient * gradient[0]], rtol=1e-5)


def test_parts_that_tensorflow_leaves_out_are_refused():
    """TensorFlow differentiates the gradient of its dense op as if its labels were constant."""

    def build(x, v):
        labels = tf.nn.softmax(2.0 * x)
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=x)
        return hessian_vector_product(loss, x, v)

    raises(MissingDerivativeError, "its labels depend on the variables too", build)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([[1.0, 2.0]], tf.float64)
        tf1xent.override_gradients()
        try:
            (product,) = session.run(build(x, tf.constant([[1.0, 0.0]], tf.float64)))
        finally:
            tf1xent.restore_gradients()
        (gradient,) = tf.gradients(
            tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax(2.0 * x), logits=x), x
        )
        step = 1e-5
        ahead, behind = (session.run(gradient, {x: [[1.0 + h, 2.0]]}) for h in (step, -step))
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda x, v: jacobian_vector_product(tf.fake_quant_with_min_max_args(x), x, v),
        lambda x, v: fisher_vector_product(
            tf.fake_quant_with_min_max_args(x), x, v, distribution="normal"
        ),
        lambda x, v: hessian_vector_product(tf.fake_quant_with_min_max_args(x) ** 2 / 2.0, x, v),
    ],
)
def test_gradients_that_tensorflow_takes_for_constants_are_refused(build):
    """The gradient of a quantized value passes inside the range; TensorFlow's own is a constant."""
    raises(MissingDerivativeError, "FakeQuantWithMinMaxArgs", build)
    with tf.Graph().as_default(), tf.Session() as session:
        tf1xent.override_gradients()
        try:
            x = tf.constant([[1.0, 200.0]])
            product = build(x, tf.constant([[3.0, 5.0]]))
        finally:
            tf1xent.restore_gradients()
        np.testing.assert_allclose(session.run(product), [[[3.0, 0.0]]])


@pytest.mark.skipif(not tf.executing_eagerly(), reason="TensorFlow 1.x builds graphs")
def test_eager_execution_is_refused_by_tensorflow():
    x = tf.constant([1.0])
    with pytest.raises(RuntimeError, match="tf.gradients is not supported when eager"):
        hessian_vector_product(x**2, x, x)
