"""Cases of image resizing."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.second_order.checking import Case

RANDOM = np.random.RandomState(5)
# Float32 gradients, linear in the cotangent: any step will do.
COARSE = dict(step=0.25, tolerance=1e-5)


CASES = [
    Case(
        f"{size} align_corners={align}",
        op_type,
        lambda image, resize=resize, size=size, align=align: resize(
            image, size, align_corners=align
        ),
        (RANDOM.normal(size=[2, 3, 4, 2]).astype(np.float32),),
        **COARSE,
    )
    for op_type, resize in (
        ("ResizeBilinearGrad", tf.image.resize_bilinear),
        ("ResizeNearestNeighborGrad", tf.image.resize_nearest_neighbor),
    )
    for size in ((5, 7), (2, 2), (1, 1), (3, 4))
    for align in (False, True)
]
