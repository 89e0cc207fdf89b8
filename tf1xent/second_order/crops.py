"""Gradients of the gradient of `tf.image.crop_and_resize` in the image.

With y = C(boxes) x, the gradient op computes C(boxes)^T c for a cotangent c. Its inner product
with v is <C(boxes) v, c>. So its gradient in c crops v, and its gradient in the boxes is that of
cropping v with the cotangent c, for which TensorFlow has an op.
"""

from typing import Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


@supplies(
    "CropAndResizeGradImage",
    ["CropAndResize"],
    "Linear in its cotangent: there the gradient is CropAndResize; in the boxes it is "
    "CropAndResizeGradBoxes (zero for method='nearest', which is constant between jumps).",
)
def _crop_and_resize_grad_image(
    op: Operation, cotangent: Tensor
) -> Tuple[Tensor, Optional[Tensor], None, None]:
    grads, boxes, box_ind, _ = op.inputs
    method = _tf.attributes(op, "method")
    crop = _tf.raw_op("CropAndResize")
    size = tf.shape(grads)[1:3]
    crops = crop(image=cotangent, boxes=boxes, box_ind=box_ind, crop_size=size, **method)
    if op.get_attr("method") != b"bilinear":
        return crops, None, None, None
    grad_boxes = _tf.raw_op("CropAndResizeGradBoxes")
    moved = grad_boxes(grads=grads, image=cotangent, boxes=boxes, box_ind=box_ind, **method)
    return crops, moved, None, None
