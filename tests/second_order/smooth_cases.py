"""Cases of quantization, activation functions, normalization, crops and linear algebra."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case, differentiated_by
from tf1xent import _tf

RANDOM = np.random.RandomState(8)
# Linear pieces in float32.
COARSE = dict(step=1e-2, tolerance=1e-5)
# Curved in float32.
FINE = dict(step=1e-2, tolerance=2e-4)


def normal(*shape, dtype=np.float32):
    return RANDOM.normal(size=shape).astype(dtype)


# Values away from the bounds of their range, -1 and 2 more or less, on both sides of each.
AROUND = np.float32([-3, -1.5, -0.4, 0, 0.3, 1.5, 2.6, 4])


def straight_through(quantize):
    """The same values, with the first gradient that fake quantization has by definition."""

    def function(x, low=-1.0, high=2.0):
        low, high = (tf.zeros_like(x) + bound for bound in (low, high))
        clipped = tf.where(x < low, low, tf.where(x > high, high, x))
        return clipped + tf.stop_gradient(quantize(x) - clipped)

    return function


QUANTIZATION = [
    *[
        Case(
            f"{sorted(options.items())}",
            "FakeQuantWithMinMaxArgsGradient",
            lambda x, options=options: tf.fake_quant_with_min_max_args(x, -1, 2, **options),
            (AROUND.reshape(2, 4),),
            composition=straight_through(
                lambda x, options=options: tf.fake_quant_with_min_max_args(x, -1, 2, **options)
            ),
            **COARSE,
        )
        for options in ({}, {"num_bits": 3, "narrow_range": True})
    ],
    *[
        Case(
            f"{shape} {sorted(options.items())}",
            "FakeQuantWithMinMaxVarsGradient",
            lambda x, low, high, options=options: tf.fake_quant_with_min_max_vars(
                x, low, high, **options
            ),
            (AROUND.reshape(shape), np.float32(-1), np.float32(2)),
            composition=straight_through(
                lambda x, options=options: tf.fake_quant_with_min_max_vars(x, -1.0, 2.0, **options)
            ),
            static=shape == [8],
            **COARSE,
        )
        for shape, options in (([8], {}), ([2, 2, 2], {"num_bits": 4, "narrow_range": True}))
    ],
    *[
        Case(
            f"{shape}",
            "FakeQuantWithMinMaxVarsPerChannelGradient",
            lambda x, low, high: tf.fake_quant_with_min_max_vars_per_channel(x, low, high),
            (
                RANDOM.permutation(np.tile(AROUND, shape[-1])[: np.prod(shape)]).reshape(shape),
                np.linspace(-1.1, -0.8, shape[-1], dtype=np.float32),
                np.linspace(1.9, 2.2, shape[-1], dtype=np.float32),
            ),
            **COARSE,
        )
        for shape in ([4], [1, 4, 2, 2])
    ],
]

SOFTSIGN = [
    Case(
        f"{np.dtype(dtype)}",
        "SoftsignGrad",
        tf.nn.softsign,
        (np.linspace(-3.1, 3.2, 12).reshape(3, 4).astype(dtype),),
        composition=lambda x: x / (1 + tf.abs(x)),
        static=dtype == np.float64,
        **options,
    )
    for dtype, options in (
        (np.float64, {}),
        (np.float32, FINE),
        (np.float16, dict(step=0.1, tolerance=3e-2)),
    )
]


def normalized(depth_radius=5, bias=1.0, alpha=1.0, beta=0.5):
    """Local response normalization in stock ops."""

    def function(x):
        channels = np.arange(x.shape.as_list()[-1])
        near = np.abs(channels[:, np.newaxis] - channels) <= depth_radius
        squares = tf.tensordot(x * x, tf.constant(near, x.dtype), 1)
        return x / (bias + alpha * squares) ** beta

    return function


LRN = [
    Case(
        f"{channels} {sorted(options.items())} {np.dtype(dtype)}",
        "LRNGrad",
        lambda x, options=options: tf.nn.local_response_normalization(x, **options),
        (normal(1, 2, 2, channels, dtype=dtype),),
        composition=normalized(**options),
        third=channels == 6,
        **tolerances,
    )
    for channels, options, dtype, tolerances in (
        (6, dict(depth_radius=2, bias=1.0, alpha=0.3, beta=0.75), np.float32, FINE),
        (3, dict(depth_radius=5, bias=1.5, alpha=0.4, beta=1.25), np.float32, FINE),
        (1, dict(depth_radius=2), np.float32, dict(step=5e-3, tolerance=1e-3)),
        (3, dict(depth_radius=1), np.float16, dict(step=0.1, tolerance=5e-2)),
    )
]

IN_IMAGE = np.float32([[0.11, 0.23, 0.71, 0.83], [0.77, 0.68, 0.12, 0.07], [0.3, 0.43, 0.33, 0.9]])
OUTSIDE = np.float32([[-0.31, 0.23, 0.71, 1.43], [0.45, -0.52, 1.3, 0.47]])


def crop(size, indices, **options):
    return lambda image, boxes: tf.image.crop_and_resize(
        image, boxes, np.int32(indices), size, **options
    )


CROPS = [
    Case(
        name,
        "CropAndResizeGradBoxes",
        crop(size, np.arange(len(boxes)) % 2, **options),
        (normal(2, 5, 6, 2, dtype=dtype), boxes),
        step=2e-3,
        tolerance=1e-3,
        third="image" in name,
    )
    for name, size, boxes, dtype, options in (
        ("in the image", [3, 4], IN_IMAGE, np.float32, {}),
        ("partly outside", [4, 3], OUTSIDE, np.float32, dict(extrapolation_value=2.0)),
        ("single row", [1, 3], IN_IMAGE, np.float32, {}),
        ("single column", [2, 1], OUTSIDE, np.float32, {}),
        ("float64", [2, 2], IN_IMAGE, np.float64, {}),
    )
]


def symmetric_cholesky(matrix):
    return tf.cholesky((matrix + tf.matrix_transpose(matrix)) / 2)


def old_cholesky(matrix):
    """With the gradient that graphs of old versions of TensorFlow hold."""

    def gradient(op, cotangent):
        return _tf.raw_op("CholeskyGrad")(l=op.outputs[0], grad=cotangent)

    with differentiated_by(Cholesky=gradient):
        return symmetric_cholesky(matrix)


CHOLESKY = [
    Case(
        f"{shape}",
        "CholeskyGrad",
        old_cholesky,
        (normal(*shape, dtype=np.float64) / 3 + 3 * np.eye(shape[-1]),),
        composition=symmetric_cholesky,
        third=len(shape) == 3,
        static=shape != [3, 3],
    )
    for shape in ([3, 3], [2, 4, 4], [1, 1])
]

CASES = [*QUANTIZATION, *SOFTSIGN, *LRN, *CHOLESKY, *CROPS]
