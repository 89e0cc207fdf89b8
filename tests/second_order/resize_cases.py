"""Cases of image resizing."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case
from tf1xent import _tf

RANDOM = np.random.RandomState(5)
# Linear in the image: any step will do, and a long one loses fewest digits of float32.
COARSE = dict(step=0.25, tolerance=1e-5)
HALF = dict(step=0.25, tolerance=2e-2)


def image(*shape, dtype=np.float32):
    return (RANDOM.normal(size=shape).astype(dtype),)


def resize(op_type, size, **attributes):
    return lambda images: _tf.raw_op(op_type)(images=images, size=size, **attributes)


def linear_resize(op_type, size, attributes, shape):
    """The same as a product with the matrix of the resize, read off the unit images."""

    def function(images):
        pixels = shape[1] * shape[2]
        units = tf.reshape(tf.eye(pixels, dtype=images.dtype), [pixels, *shape[1:3], 1])
        matrix = tf.stop_gradient(resize(op_type, size, **attributes)(units))
        matrix = tf.cast(tf.reshape(matrix, [pixels, -1]), tf.float32)
        flat = tf.reshape(tf.transpose(tf.cast(images, tf.float32), [0, 3, 1, 2]), [-1, pixels])
        resized = tf.reshape(tf.matmul(flat, matrix), [shape[0], shape[3], *size])
        return tf.transpose(resized, [0, 2, 3, 1])

    return function


def placed(size, scale, translation, kernel, antialias):
    return lambda images: _tf.raw_op("ScaleAndTranslate")(
        images=images,
        size=size,
        scale=scale,
        translation=translation,
        kernel_type=kernel,
        antialias=antialias,
    )


def has_attribute(op_type, name):
    definition = _tf.op_definition(op_type)
    return definition is not None and name in {attribute.name for attribute in definition.attr}


OPS = ("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor")
MODES = [dict(align_corners=False), dict(align_corners=True)]
if has_attribute("ResizeBilinear", "half_pixel_centers"):
    MODES.append(dict(half_pixel_centers=True))
DTYPES = [
    ("ResizeBilinear", np.float64, COARSE),
    ("ResizeBilinear", np.float16, HALF),
    ("ResizeBicubic", np.float64, COARSE),
    ("ResizeNearestNeighbor", np.float64, COARSE),
    ("ResizeNearestNeighbor", np.float16, HALF),
]

CASES = [
    Case(
        f"{size} {attributes}",
        op_type + "Grad",
        resize(op_type, size, **attributes),
        image(2, 3, 4, 2),
        composition=linear_resize(op_type, size, attributes, [2, 3, 4, 2]),
        **COARSE,
    )
    for op_type in OPS
    for attributes in MODES
    for size in ((5, 7), (2, 3))
]
CASES += [
    Case(
        f"{name}",
        op_type + "Grad",
        resize(op_type, size, align_corners=True),
        image(*shape),
        static=name != "unknown shapes",
        **COARSE,
    )
    for op_type in OPS
    for name, shape, size in (
        ("to one pixel", [2, 3, 4, 1], (1, 1)),
        ("from one pixel, unknown shapes", [2, 1, 1, 2], (3, 2)),
        ("unknown shapes", [1, 2, 3, 2], (3, 3)),
        ("no images", [0, 2, 2, 1], (3, 3)),
    )
]
CASES += [
    Case(
        np.dtype(dtype).name,
        op_type + "Grad",
        resize(op_type, (5, 3)),
        image(1, 4, 4, 2, dtype=dtype),
        **precision,
    )
    for op_type, dtype, precision in DTYPES
]
CASES += [
    Case(
        f"{kernel} {size} {scale} {translation} antialias={antialias}",
        "ScaleAndTranslateGrad",
        placed(size, scale, translation, kernel, antialias),
        image(2, 5, 4, 2),
        static=antialias,
        **COARSE,
    )
    for kernel, size, scale, translation, antialias in (
        ("lanczos3", (3, 2), (0.6, 0.5), (0.0, 0.0), True),
        ("triangle", (3, 2), (0.6, 0.5), (0.0, 0.0), False),
        ("keyscubic", (7, 6), (1.4, 1.5), (0.5, -0.7), True),
        ("gaussian", (7, 6), (1.0, 1.5), (2.5, -1.5), False),
        ("box", (1, 1), (0.2, 0.25), (0.0, 0.0), True),
    )
]
