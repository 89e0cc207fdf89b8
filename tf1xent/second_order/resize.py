"""Gradients of the gradients of image resizing, which is linear in the image.

With y = R x, the gradient op computes R^T c for a cotangent c. It is linear in c, so its own
gradient is R again: the forward op, at the size of c.
"""

from typing import Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies

_ATTRIBUTES = ("align_corners", "half_pixel_centers")


def _forward(op: Operation, cotangent: Tensor, op_type: str) -> Tensor:
    """The forward op on a cotangent, at the size of the gradient op's own input."""
    size = tf.shape(op.inputs[0])[1:3]
    resize = _tf.raw_op(op_type)
    resized = resize(images=cotangent, size=size, **_tf.attributes(op, *_ATTRIBUTES))
    return tf.cast(resized, op.inputs[0].dtype)


@supplies("ResizeBilinearGrad", ["ResizeBilinear"], "Linear: the gradient is ResizeBilinear.")
def _resize_bilinear_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None]:
    return _forward(op, cotangent, "ResizeBilinear"), None


@supplies(
    "ResizeNearestNeighborGrad",
    ["ResizeNearestNeighbor"],
    "Linear: the gradient is ResizeNearestNeighbor.",
)
def _resize_nearest_neighbor_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None]:
    return _forward(op, cotangent, "ResizeNearestNeighbor"), None
