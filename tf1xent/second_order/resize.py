"""Gradients of the gradients of image resizing, which is linear in the image.

With y = R x, the gradient op computes R^T c for a cotangent c. It is linear in c, so its own
gradient is R again: the forward op, at the size of c.
"""

from typing import Any, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


def _forward(op: Operation, cotangent: Tensor, op_type: str, **arguments: Any) -> Tensor:
    """The forward op on a cotangent, at the size of the gradient op's own input."""
    names = ("align_corners", "half_pixel_centers", "kernel_type", "antialias")
    resize = _tf.raw_op(op_type)
    size = tf.shape(op.inputs[0])[1:3]
    resized = resize(images=cotangent, size=size, **arguments, **_tf.attributes(op, *names))
    return tf.cast(resized, op.inputs[0].dtype)


@supplies("ResizeBilinearGrad", ["ResizeBilinear"], "Linear: the gradient is ResizeBilinear.")
def _resize_bilinear_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None]:
    return _forward(op, cotangent, "ResizeBilinear"), None


@supplies("ResizeBicubicGrad", ["ResizeBicubic"], "Linear: the gradient is ResizeBicubic.")
def _resize_bicubic_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None]:
    return _forward(op, cotangent, "ResizeBicubic"), None


@supplies(
    "ResizeNearestNeighborGrad",
    ["ResizeNearestNeighbor"],
    "Linear: the gradient is ResizeNearestNeighbor.",
)
def _resize_nearest_neighbor_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None]:
    return _forward(op, cotangent, "ResizeNearestNeighbor"), None


@supplies(
    "ScaleAndTranslateGrad",
    ["ScaleAndTranslate"],
    "Linear: the gradient is ScaleAndTranslate. Scale and translation count as constants, as they "
    "do in TensorFlow's first gradient.",
)
def _scale_and_translate_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, None, None, None]:
    _, _, scale, translation = op.inputs
    placed = {"scale": scale, "translation": translation}
    return _forward(op, cotangent, "ScaleAndTranslate", **placed), None, None, None
