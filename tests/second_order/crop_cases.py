"""Cases of crop_and_resize, in the image and, where it is bilinear, in the boxes."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case

RANDOM = np.random.RandomState(10)
# Box 0 is flipped, box 1 leaves the image. No point of a crop is near a pixel, where it has a kink.
BOXES = np.float32([[0.81, 0.17, 0.28, 0.74], [0.37, -0.4, 0.93, 1.3], [0.1, 0.2, 0.86, 0.77]])
COARSE = dict(step=0.25, tolerance=1e-5)


def image(dtype=np.float32):
    return RANDOM.normal(size=[2, 5, 4, 2]).astype(dtype)


def crop(size, method="bilinear", boxes=BOXES):
    return lambda images, boxes=boxes: tf.image.crop_and_resize(
        images, boxes, np.int32([1, 0, 1]), size, method=method, extrapolation_value=3.0
    )


CASES = [
    Case("an image", "CropAndResizeGradImage", crop([3, 3]), (image(),), **COARSE),
    Case("nearest", "CropAndResizeGradImage", crop([3, 2], "nearest"), (image(),), **COARSE),
    Case(
        "float64, one pixel, unknown shapes",
        "CropAndResizeGradImage",
        crop([1, 1]),
        (image(np.float64),),
        static=False,
        **COARSE,
    ),
    Case(
        "half",
        "CropAndResizeGradImage",
        crop([2, 4]),
        (image(np.float16),),
        step=0.25,
        tolerance=2e-2,
    ),
    Case(
        "an image and boxes",
        "CropAndResizeGradImage",
        crop([3, 2]),
        (image(), BOXES),
        step=2e-3,
        tolerance=1e-3,
        static=False,
        third=False,  # that of CropAndResizeGradBoxes, which has cases
    ),
]
