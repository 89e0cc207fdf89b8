"""The gradient of the gradient of crop_and_resize in the boxes, for bilinear interpolation.

A crop's row i lies at p = (1 - t) y1 + t y2 of the image, in its pixels, with t = i / (n - 1), and
its columns alike. Between the four pixels around it the image is bilinear::

    p_y = whole + f_y      value = (1 - f_y) [(1 - f_x) a + f_x b] + f_y [(1 - f_x) c + f_x d]

The op computes the sum of g times the derivative of the value in y1, x1, y2 and x2. With a
cotangent u, and m the movement of p that u of the boxes makes, <u, op> is the sum of::

    g (D_y m_y + D_x m_x)      D_y = (1 - f_x) (c - a) + f_x (d - b)      D_x alike

which is linear in g and in the image, and in each of f_y and f_x: its derivatives are written out
below. A point outside the image adds nothing, and one on a pixel has D = 0, as in the op.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


class _Line(NamedTuple):
    """Where the rows or columns of the crops lie; n of them, in each of the boxes.

    Attributes:
      first_weights: `[n]`, the derivative of a position in y1 or x1.
      last_weights: `[n]`, in y2 or x2.
      low: `[boxes, n]` int32, the pixel before.
      high: the pixel behind; the same on a pixel.
      fraction: `[boxes, n]`, of the way between them.
      counts: `[boxes, n]`, 1 where the position is in the image, else 0.
    """

    first_weights: Tensor
    last_weights: Tensor
    low: Tensor
    high: Tensor
    fraction: Tensor
    counts: Tensor

    def movement(self, first: Tensor, last: Tensor) -> Tensor:
        """`[boxes, n]`, of the positions when the ends of the boxes move by `[boxes]`."""
        moved = first[:, tf.newaxis] * self.first_weights + last[:, tf.newaxis] * self.last_weights
        return moved * self.counts

    def in_ends(self, in_positions: Tensor) -> List[Tensor]:
        """The gradients in both ends of the boxes, for one in the positions."""
        counted = in_positions * self.counts
        return [
            tf.reduce_sum(counted * weights, axis=1)
            for weights in (self.first_weights, self.last_weights)
        ]


def _line(first: Tensor, last: Tensor, length: Tensor, number: Tensor) -> _Line:
    end = tf.cast(length - 1, first.dtype)
    steps = tf.cast(tf.range(number), first.dtype)
    # A single row or column lies in the middle of its box.
    last_weights = steps * (end / tf.cast(tf.maximum(number - 1, 1), first.dtype))
    last_weights += tf.cast(tf.equal(number, 1), first.dtype) * end / 2
    positions = first[:, tf.newaxis] * end + (last - first)[:, tf.newaxis] * last_weights
    counts = tf.cast(tf.logical_and(positions >= 0, positions <= end), first.dtype)
    low, high = (
        tf.cast(tf.clip_by_value(tf.stop_gradient(rounded(positions)), 0, end), tf.int32)
        for rounded in (tf.floor, tf.ceil)
    )
    fraction = positions - tf.cast(low, first.dtype)
    return _Line(end - last_weights, last_weights, low, high, fraction, counts)


def _of_rows(values: Tensor) -> Tensor:
    """`[boxes, rows]` as `[boxes, rows, columns, channels]`."""
    return values[:, :, tf.newaxis, tf.newaxis]


def _of_columns(values: Tensor) -> Tensor:
    """`[boxes, columns]` as `[boxes, rows, columns, channels]`."""
    return values[:, tf.newaxis, :, tf.newaxis]


def _places(op: Operation, rows: _Line, columns: _Line) -> List[Tensor]:
    """`[boxes, rows, columns]`, where a, b, c and d are among all the pixels of the images."""
    _, height, width, _ = tf.unstack(tf.shape(op.inputs[1]), num=4)
    first_row = op.inputs[3][:, tf.newaxis] * height
    return [
        (first_row + row)[:, :, tf.newaxis] * width + column[:, tf.newaxis, :]
        for row in (rows.low, rows.high)
        for column in (columns.low, columns.high)
    ]


def _in_image(op: Operation, places: List[Tensor], weights: Sequence[Tensor]) -> Optional[Tensor]:
    """The gradient in the image, whose pixels have been read with these weights."""
    incoming, image = op.inputs[:2]
    if not image.dtype.is_floating:
        return None
    sizes = tf.shape(image)
    flat = tf.stack([tf.reduce_prod(sizes[:3]), sizes[3]])
    pixels = [
        tf.scatter_nd(place[..., tf.newaxis], incoming * weight, flat)
        for place, weight in zip(places, weights)
    ]
    in_image = tf.cast(tf.reshape(tf.add_n(pixels), sizes), image.dtype)
    return _tf.with_static_shape(in_image, image.shape)


@supplies("CropAndResizeGradBoxes", ["CropAndResize"], "Closed form, bilinear between the pixels.")
def _crop_and_resize_grad_boxes(
    op: Operation, cotangent: Tensor
) -> Tuple[Tensor, Optional[Tensor], Tensor, None]:
    incoming, image, boxes, _ = op.inputs
    sizes, image_sizes = tf.shape(incoming), tf.shape(image)
    y1, x1, y2, x2 = tf.unstack(boxes, num=4, axis=1)
    rows = _line(y1, y2, image_sizes[1], sizes[1])
    columns = _line(x1, x2, image_sizes[2], sizes[2])
    u_y1, u_x1, u_y2, u_x2 = tf.unstack(cotangent, num=4, axis=1)
    f_y, f_x = _of_rows(rows.fraction), _of_columns(columns.fraction)
    m_y = _of_rows(rows.movement(u_y1, u_y2)) * _of_columns(columns.counts)
    m_x = _of_columns(columns.movement(u_x1, u_x2)) * _of_rows(rows.counts)
    places = _places(op, rows, columns)
    pixels = tf.reshape(tf.cast(image, incoming.dtype), tf.stack([-1, image_sizes[3]]))
    a, b, c, d = (tf.gather(pixels, place) for place in places)
    in_incoming = m_y * ((1 - f_x) * (c - a) + f_x * (d - b))
    in_incoming += m_x * ((1 - f_y) * (b - a) + f_y * (d - c))
    weights = (
        -(1 - f_x) * m_y - (1 - f_y) * m_x,
        -f_x * m_y + (1 - f_y) * m_x,
        (1 - f_x) * m_y - f_y * m_x,
        f_x * m_y + f_y * m_x,
    )
    twist = incoming * (a - b - c + d)
    in_y1, in_y2 = rows.in_ends(tf.reduce_sum(twist * m_x, axis=[2, 3]))
    in_x1, in_x2 = columns.in_ends(tf.reduce_sum(twist * m_y, axis=[1, 3]))
    return (
        _tf.with_static_shape(in_incoming, incoming.shape),
        _in_image(op, places, weights),
        tf.stack([in_y1, in_x1, in_y2, in_x2], axis=1),
        None,
    )
