"""Small networks, one for each family: products with the Hessian against finite differences."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.second_order.checking import quick_session
from tf1xent import _tf

IMAGES = np.random.RandomState(0).normal(size=[2, 6, 6, 2])
LABELS = [1, 2]


def weights(name, *shape, dtype=tf.float64, scale=0.5):
    values = np.random.RandomState(len(name)).normal(size=shape) * scale
    return tf.get_variable(name, initializer=tf.constant(values, dtype), use_resource=True)


def convolved(dtype=tf.float64):
    return tf.nn.conv2d(
        tf.constant(IMAGES, dtype),
        weights("filter", 3, 3, 2, 3, dtype=dtype),
        strides=[1, 1, 1, 1],
        padding="SAME",
    )


def classified(features):
    flat = tf.reshape(tf.tanh(features), [2, -1])
    logits = tf.matmul(flat, weights("dense", int(flat.shape[1]), 3, dtype=flat.dtype))
    return tf.reduce_sum(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=logits)
    )


def max_pool_with_argmax():
    return classified(
        tf.nn.max_pool_with_argmax(convolved(), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")[0]
    )


def fractional_max_pool():
    return classified(fractional("FractionalMaxPool"))


def fractional_avg_pool():
    return classified(fractional("FractionalAvgPool"))


def fractional(op_type):
    return _tf.raw_op(op_type)(
        value=convolved(), pooling_ratio=[1, 1.5, 1.5, 1], deterministic=True, seed=1, seed2=2
    )[0]


def dilation():
    dilated = tf.nn.dilation2d(
        convolved(), weights("structure", 2, 2, 3), [1, 2, 2, 1], [1, 1, 1, 1], "VALID"
    )
    return classified(dilated)


def softsign():
    return classified(tf.nn.softsign(convolved()))


def local_response_normalization():
    return classified(tf.nn.lrn(convolved(tf.float32), depth_radius=1, alpha=0.5, beta=0.75))


def crops_of_predicted_boxes():
    """The boxes come from the images, as in a network that looks where it wants."""
    images = tf.constant(IMAGES, tf.float32)
    moves = tf.matmul(
        tf.reshape(images, [2, -1]), weights("boxes", 72, 4, dtype=tf.float32, scale=0.01)
    )
    boxes = tf.constant([0.13, 0.21, 0.84, 0.77]) + 0.1 * tf.tanh(moves)
    features = tf.nn.conv2d(
        images,
        weights("filter", 3, 3, 2, 3, dtype=tf.float32),
        strides=[1, 1, 1, 1],
        padding="SAME",
    )
    return classified(tf.image.crop_and_resize(features, boxes, [0, 1], [3, 2]))


def incomplete_gamma():
    features = tf.nn.softplus(convolved())
    return classified(tf.igamma(features[..., :1], features[..., 1:]))


def speech():
    steps = tf.constant(np.random.RandomState(1).normal(size=[7, 2, 3]), tf.float32)
    hidden = tf.tanh(tf.tensordot(steps, weights("hidden", 3, 5, dtype=tf.float32), 1))
    logits = tf.tensordot(hidden, weights("classes", 5, 4, dtype=tf.float32), 1)
    labels = tf.SparseTensor([[0, 0], [0, 1], [1, 0]], [0, 0, 2], [2, 2])
    return tf.reduce_sum(tf.nn.ctc_loss(labels, logits, [7, 5]))


NETWORKS = [
    max_pool_with_argmax,
    fractional_max_pool,
    fractional_avg_pool,
    dilation,
    softsign,
    local_response_normalization,
    crops_of_predicted_boxes,
    incomplete_gamma,
    speech,
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_products_with_the_hessian(network):
    tf1xent.override_gradients()
    try:
        with tf.Graph().as_default(), quick_session() as session:
            loss = network()
            variables = tf.trainable_variables()
            gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, variables)]
            random = np.random.RandomState(7)
            dtype = loss.dtype.as_numpy_dtype
            directions = [random.normal(size=v.shape.as_list()).astype(dtype) for v in variables]
            products = tf.gradients(gradients, variables, [tf.constant(d) for d in directions])
            session.run(tf.global_variables_initializer())
            values, products = session.run([variables, products])
            step, tolerance = (1e-6, 1e-6) if dtype == np.float64 else (2e-3, 5e-3)
            ends = []
            for sign in (1, -1):
                for variable, value, direction in zip(variables, values, directions):
                    variable.load(value + sign * step * direction, session)
                ends.append(session.run(gradients))
    finally:
        tf1xent.restore_gradients()
    assert len(variables) == len(products) >= 2
    for found, above, below in zip(products, *ends):
        wanted = (above - below) / (2 * step)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
