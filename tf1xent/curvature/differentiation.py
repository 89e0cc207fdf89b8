"""Gradients as the products need them: dense, and zero where there is none."""

from typing import List, Optional, Sequence

from tf1xent._tf import tf
from tf1xent._typing import Tensor


def as_list(tensors: object) -> List[Tensor]:
    """Returns a list of tensors or variables; a partitioned variable becomes its parts."""
    given = list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
    parts: List[Tensor] = []
    for tensor in given:
        # A PartitionedVariable is iterable, a tensor in a graph says that it is not.
        parts += list(tensor) if hasattr(tensor, "_get_partitions") else [tensor]
    return parts


def gradients(
    ys: Sequence[Tensor], xs: Sequence[Tensor], grad_ys: Optional[Sequence[Tensor]] = None
) -> List[Tensor]:
    """Gradients of the sum of `ys` in `xs`: dense, and zeros where `ys` do not depend on one."""
    found = tf.gradients(list(ys), list(xs), grad_ys=None if grad_ys is None else list(grad_ys))
    return [
        tf.zeros_like(x) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, x in zip(found, xs)
    ]
