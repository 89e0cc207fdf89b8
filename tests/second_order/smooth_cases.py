"""Cases of quantization, activation functions, normalization, crops and linear algebra."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case
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

QUANTIZATION = [
    *[
        Case(
            f"{sorted(options.items())}",
            "FakeQuantWithMinMaxArgsGradient",
            lambda x, options=options: tf.fake_quant_with_min_max_args(x, -1, 2, **options),
            (AROUND.reshape(2, 4),),
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
        for shape in ([4], [8, 2], [1, 4, 2, 2])
    ],
]

SOFTSIGN = [
    Case(
        f"{np.dtype(dtype)}",
        "SoftsignGrad",
        tf.nn.softsign,
        (np.linspace(-3.1, 3.2, 12).reshape(3, 4).astype(dtype),),
        **options,
    )
    for dtype, options in ((np.float64, {}), (np.float32, FINE))
]

LRN = [
    Case(
        f"{channels} {sorted(options.items())}",
        "LRNGrad",
        lambda x, options=options: tf.nn.local_response_normalization(x, **options),
        (normal(1, 2, 2, channels),),
        **FINE,
    )
    for channels, options in (
        (6, dict(depth_radius=2, bias=1.0, alpha=0.3, beta=0.75)),
        (5, dict(depth_radius=1, bias=2.0, alpha=1.0, beta=0.5)),
        (3, dict(depth_radius=5, bias=1.5, alpha=0.4, beta=1.25)),
        (1, dict(depth_radius=2)),
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
    )
    for name, size, boxes, dtype, options in (
        ("in the image", [3, 4], IN_IMAGE, np.float32, {}),
        ("partly outside", [4, 3], OUTSIDE, np.float32, dict(extrapolation_value=2.0)),
        ("single row", [1, 3], IN_IMAGE, np.float32, {}),
        ("single column", [2, 1], OUTSIDE, np.float32, {}),
        ("float64 image", [2, 2], IN_IMAGE, np.float64, {}),
    )
]


@tf.RegisterGradient("OldCholesky")
def old_cholesky(op, cotangent):
    """The gradient that graphs of old versions of TensorFlow hold."""
    return _tf.raw_op("CholeskyGrad")(l=op.outputs[0], grad=cotangent)


def cholesky(matrix):
    symmetric = (matrix + tf.matrix_transpose(matrix)) / 2
    with tf.get_default_graph().gradient_override_map({"Cholesky": "OldCholesky"}):
        return tf.cholesky(symmetric)


CHOLESKY = [
    Case(
        f"{shape}",
        "CholeskyGrad",
        cholesky,
        (normal(*shape, dtype=np.float64) / 3 + 3 * np.eye(shape[-1]),),
    )
    for shape in ([3, 3], [2, 4, 4], [1, 1])
]

CASES = [*QUANTIZATION, *SOFTSIGN, *LRN, *CHOLESKY, *CROPS]
