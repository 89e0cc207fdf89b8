"""Digests of variables, computed in the same run as a product and, apart from that, by NumPy.

The bits of a variable count as integers b_i, with arithmetic that wraps around::

    digest = sum_c (2 c + 1) sum_r b_(r k + c)        k columns, c < k

An odd factor lets no change of one entry pass. The sums need no memory of the variable's size.
"""

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Tensor

_COLUMNS = 4096
_ROWS_AT_ONCE = 256
# By the bytes of an entry, the integers that its bits are.
_INTEGERS = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64, 16: tf.int64}


def digest_of_tensor(value: Tensor) -> Tensor:
    """Returns the digest of a tensor, int64; 0 for strings."""
    dtype = value.dtype.base_dtype
    if not _has_digest(dtype):
        return tf.zeros([], tf.int64)
    if dtype == tf.bool:
        value = tf.cast(value, tf.int8)
    bits = tf.reshape(tf.bitcast(value, _INTEGERS[dtype.size]), [-1])
    whole = tf.shape(bits)[0] // _COLUMNS
    rows = tf.reshape(bits[: whole * _COLUMNS], tf.stack([whole, _COLUMNS]))
    total = _weighed(rows) + _weighed(bits[tf.newaxis, whole * _COLUMNS :])
    return tf.cast(total, tf.int64)


def _weighed(rows: Tensor) -> Tensor:
    # Sums of small integers would not fit their own type.
    if rows.dtype not in (tf.int32, tf.int64):
        rows = tf.cast(rows, tf.int32)
    columns = tf.reduce_sum(rows, 0)
    factors = tf.cast(2 * tf.range(tf.shape(columns)[0]) + 1, columns.dtype)
    return tf.reduce_sum(columns * factors)


def digest_of_array(value: np.ndarray) -> int:
    """Returns the digest of an array, as `digest_of_tensor`."""
    value = np.asarray(value)
    if not _has_digest(tf.as_dtype(value.dtype)):
        return 0
    bits = np.ascontiguousarray(value).reshape(-1)
    size = min(bits.dtype.itemsize, 8)
    bits = bits.view(f"<i{size}")
    kind = np.dtype(f"<u{max(size, 4)}")
    columns = np.zeros([_COLUMNS], kind)
    tail = len(bits) % _COLUMNS
    rows = bits[: len(bits) - tail].reshape([-1, _COLUMNS])
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[begin : begin + _ROWS_AT_ONCE].astype(kind)
        columns += np.add.reduce(block, axis=0, dtype=kind)
    columns[:tail] += bits[len(bits) - tail :].astype(kind)
    factors = (2 * np.arange(_COLUMNS) + 1).astype(kind)
    total = np.add.reduce(columns * factors, dtype=kind)
    return int(total.reshape([1]).view(f"<i{kind.itemsize}")[0])


def _has_digest(dtype: tf.DType) -> bool:
    return dtype == tf.bool or dtype.is_floating or dtype.is_integer or dtype.is_complex
