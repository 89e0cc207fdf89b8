"""Cases of ops that only old graphs have, or that no gradient of TensorFlow's own makes."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case, as_an_old_graph, differentiated_by
from tf1xent import _tf

RANDOM = np.random.RandomState(9)


def tiled(x):
    return tf.tile(x, [2, 3])


def tiled_in_an_old_graph(x):
    as_an_old_graph(2)

    def gradient(op, cotangent):
        return [_tf.raw_op("TileGrad")(input=cotangent, multiples=op.inputs[1]), None]

    with differentiated_by(Tile=gradient):
        return tiled(x)


def normalized(scaled):
    def function(x, mean, variance, beta, gamma):
        as_an_old_graph(8)
        return _tf.raw_op("BatchNormWithGlobalNormalization")(
            t=x,
            m=mean,
            v=variance,
            beta=beta,
            gamma=gamma,
            variance_epsilon=0.1,
            scale_after_normalization=scaled,
        )

    return function


def normalized_by_hand(scaled):
    def function(x, mean, variance, beta, gamma):
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma if scaled else None, 0.1)

    return function


def unbatched(x):
    """As tf.contrib.batching has it: the part of one caller, who fills the batch alone."""

    def gradient(op, cotangent):
        original, index, part = op.inputs
        unbatched = _tf.raw_op("UnbatchGrad")(
            original_input=original, batch_index=index, grad=cotangent, id=part
        )
        return [unbatched, None, None]

    with differentiated_by(Unbatch=gradient):
        batch = _tf.raw_op("Batch")(
            in_tensors=[tf.ones([3, 2], x.dtype)],
            num_batch_threads=1,
            max_batch_size=3,
            batch_timeout_micros=0,
            grad_timeout_micros=10**7,
        )
        return _tf.raw_op("Unbatch")(
            batched_tensor=batch.batched_tensors[0] * x**3,
            batch_index=batch.batch_index,
            id=batch.id,
            timeout_micros=10**7,
        )


def old_cholesky(matrix):
    as_an_old_graph(12)

    def gradient(op, cotangent):
        return _tf.raw_op("BatchCholeskyGrad")(l=op.outputs[0], grad=cotangent)

    with differentiated_by(Cholesky=gradient):
        return cholesky(matrix)


def cholesky(matrix):
    return tf.cholesky((matrix + tf.matrix_transpose(matrix)) / 2)


IMAGE = RANDOM.normal(size=[1, 4, 4, 2]).astype(np.float32)
WINDOWS = dict(ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")


def unpooled(values):
    """Each value at the place of its window's maximum. Its gradient reads there."""

    def gradient(op, cotangent):
        read = _tf.raw_op("MaxPoolGradGradWithArgmax")(
            input=op.inputs[0], grad=cotangent, argmax=op.inputs[2], **WINDOWS
        )
        return [None, read, None]

    _, places = tf.nn.max_pool_with_argmax(IMAGE, **WINDOWS)
    with differentiated_by(MaxPoolGradWithArgmax=gradient):
        return _tf.raw_op("MaxPoolGradWithArgmax")(
            input=IMAGE, grad=values, argmax=places, **WINDOWS
        )


def unpooled_by_hand(values):
    _, places = tf.nn.max_pool_with_argmax(IMAGE, **WINDOWS)
    flat = tf.scatter_nd(tf.reshape(places, [-1, 1]), tf.reshape(values, [-1]), [IMAGE.size])
    return tf.reshape(flat, IMAGE.shape)


MOMENTS = tuple(RANDOM.uniform(0.5, 1.5, size=[4, 3]))

CASES = [
    Case(
        "",
        "TileGrad",
        tiled_in_an_old_graph,
        (RANDOM.normal(size=[2, 3]),),
        step=0.25,
        tolerance=1e-9,
        composition=tiled,
        runs=False,  # TensorFlow has the op, and a kernel that its attributes never fit
    ),
    *(
        Case(
            f"scale_after_normalization={scaled}",
            "BatchNormWithGlobalNormalizationGrad",
            normalized(scaled),
            (RANDOM.normal(size=[2, 2, 3, 3]), *MOMENTS),
            static=scaled,
            third=scaled,
            composition=normalized_by_hand(scaled),
        )
        for scaled in (True, False)
    ),
    Case(
        "one caller",
        "UnbatchGrad",
        unbatched,
        (RANDOM.normal(size=[3, 2]),),
        third=False,  # Unbatch has a gradient only here
    ),
    Case(
        "",
        "BatchCholeskyGrad",
        old_cholesky,
        (RANDOM.normal(size=[2, 3, 3]) / 3 + 3 * np.eye(3),),
        composition=cholesky,
    ),
    Case(
        "",
        "MaxPoolGradGradWithArgmax",
        unpooled,
        (RANDOM.normal(size=[1, 2, 2, 2]).astype(np.float32),),
        tolerance=1e-5,
        composition=unpooled_by_hand,
        runs=False,  # on GPUs
    ),
]
