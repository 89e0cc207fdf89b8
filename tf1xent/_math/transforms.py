"""What happens to logits before their softmax: rows left out, bounds, scales, shifts, masks."""

from typing import Any, Optional

from tf1xent import _tf
from tf1xent._math.matrix import column, smallest
from tf1xent._math.softcap import capped
from tf1xent._tf import tf
from tf1xent._typing import Tensor


def transformed(
    logits: Tensor,
    *,
    valid_rows: Optional[Tensor],
    class_included: Optional[Tensor],
    softcap: Any,
    temperature: Any,
    logit_adjustment: Optional[Tensor],
) -> Tensor:
    """``softcap tanh(a / softcap) / temperature + logit_adjustment``: [batch_size, num_classes].

    Rows that do not count are zeros first, so that nothing of them is in it; classes that are not
    included are the smallest number. None stands for: all, or without it.
    """
    if valid_rows is not None:
        logits = _tf.select_rows(valid_rows, logits, tf.zeros_like(logits))
    if class_included is not None:
        logits = _tf.where(class_included, logits, tf.zeros_like(logits))
    if softcap is not None:
        logits = capped(logits, softcap)
    if temperature is not None:
        logits = logits / temperature
    if logit_adjustment is not None:
        logits = logits + logit_adjustment
    if class_included is not None:
        logits = _tf.where(class_included, logits, smallest(logits))
    return logits


def included(
    class_mask: Optional[Tensor], valid_rows: Optional[Tensor], logits: Tensor
) -> Optional[Tensor]:
    """Which classes take part, of the shape of `logits`; all in a row that does not count.

    `class_mask` broadcasts to that shape; None: all take part.
    """
    if class_mask is None:
        return None
    inside = tf.logical_or(class_mask, tf.zeros_like(logits, tf.bool))
    if valid_rows is not None:
        inside = tf.logical_or(inside, column(tf.logical_not(valid_rows)))
    return _tf.set_static_shape(inside, logits.shape)
