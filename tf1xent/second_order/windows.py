"""Windows over rows and columns of `[batch, rows, columns, channels]`, as pooling ops move them.

An op that takes the largest of each window sends each gradient to one place. Its own gradient reads
the incoming cotangent at these places, which `places_of_maxima` finds as the kernels do: the first
of several equal ones, row by row.
"""

from typing import NamedTuple, Optional, Tuple

from tf1xent._tf import tf
from tf1xent._typing import Tensor


class Spans(NamedTuple):
    """The windows along one axis.

    Attributes:
      starts: `[num_windows]` int32, the first position of each; below 0 in padding.
      ends: `[num_windows]` int32, behind the last position of each.
      size: int32 scalar, the positions of the largest.
      rate: from one position to the next.
    """

    starts: Tensor
    ends: Tensor
    size: Tensor
    rate: int = 1

    def positions(self) -> Tuple[Tensor, Tensor]:
        """`[num_windows, size]` positions, and whether each is in its window and not in padding."""
        steps = self.rate * tf.range(self.size)
        positions = self.starts[:, tf.newaxis] + steps
        inside = tf.logical_and(positions >= 0, positions < self.ends[:, tf.newaxis])
        return tf.where(inside, positions, tf.zeros_like(positions)), inside


def windows_of(values: Tensor, rows: Spans, columns: Spans) -> Tuple[Tensor, Tensor]:
    """The values of each window, and which of them count.

    Returns:
      `[batch, row windows, rows.size, column windows, columns.size, channels]`, and bool of that
      shape without batch and channels.
    """
    row_positions, rows_inside = rows.positions()
    column_positions, columns_inside = columns.positions()
    gathered = tf.gather(tf.gather(values, row_positions, axis=1), column_positions, axis=3)
    inside = tf.logical_and(rows_inside[:, :, tf.newaxis, tf.newaxis], columns_inside)
    return gathered, inside


def places_of_maxima(
    values: Tensor, rows: Spans, columns: Spans, added: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor]:
    """Where the largest value of each window is.

    Args:
      values: `[batch, rows, columns, channels]`.
      added: `[rows.size, columns.size, channels]`, added to the values of each window.

    Returns:
      Two int64 tensors `[batch, row windows, column windows, channels]`: the place in the flattened
      values, and the place in the flattened `added`.
    """
    gathered, inside = windows_of(values, rows, columns)
    if added is not None:
        gathered += added[:, tf.newaxis]
    inside = tf.logical_and(inside[..., tf.newaxis], tf.ones_like(gathered, tf.bool))
    least = tf.fill(tf.shape(gathered), tf.constant(-float("inf"), gathered.dtype))
    candidates = tf.transpose(tf.where(inside, gathered, least), [0, 1, 3, 5, 2, 4])
    shape = tf.shape(candidates)
    maxima = tf.argmax(tf.reshape(candidates, tf.concat([shape[:4], [-1]], 0)), axis=-1)
    in_row, in_column = maxima // tf.cast(shape[5], tf.int64), maxima % tf.cast(shape[5], tf.int64)
    height, width, channels = (tf.cast(tf.shape(values)[i], tf.int64) for i in (1, 2, 3))
    batch = tf.range(tf.cast(shape[0], tf.int64))[:, tf.newaxis, tf.newaxis, tf.newaxis]
    channel = tf.range(channels)
    row = _from_start(rows, in_row, rows.starts[:, tf.newaxis, tf.newaxis])
    column = _from_start(columns, in_column, columns.starts[:, tf.newaxis])
    place = ((batch * height + row) * width + column) * channels + channel
    return place, maxima * channels + channel


def _from_start(spans: Spans, step: Tensor, starts: Tensor) -> Tensor:
    # A window that lies in the padding alone has its maximum, so to say, at the edge: the kernels
    # send a gradient there.
    return tf.maximum(tf.cast(starts, tf.int64) + spans.rate * step, 0)


def read(values: Tensor, places: Tensor) -> Tensor:
    """The values at places in the flattened tensor."""
    return tf.gather(tf.reshape(values, [-1]), places)
