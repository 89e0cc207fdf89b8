"""The dtypes that losses take, and what each is computed in."""

from tf1xent._tf import tf
from tf1xent._typing import DType, Tensor

HALF_DTYPES = (tf.float16, tf.bfloat16)
LOGITS_DTYPES = (*HALF_DTYPES, tf.float32, tf.float64)
LABEL_DTYPES = (tf.int32, tf.int64)


def is_half(tensor: Tensor) -> bool:
    """Whether `tensor` is of half or bfloat16."""
    return tensor.dtype.base_dtype in HALF_DTYPES


def precise_dtype(tensor: Tensor) -> DType:
    """The dtype in which a loss of logits like `tensor` is computed: float32 for 16 bits."""
    return tf.float64 if tensor.dtype.base_dtype == tf.float64 else tf.float32
