"""The native library's ops as data: what a graph that holds them means, without the library.

Their registrations are in `ops/op_registrations.h`, which says the same in C++.
"""

import functools
from typing import Any, NamedTuple, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.kernels.op_names import (
    DENSE_GRADIENT,
    DENSE_HESSIAN_PRODUCT,
    DENSE_LOSS,
    LABEL_GRADIENT,
    SPARSE_GRADIENT,
    SPARSE_HESSIAN_PRODUCT,
    SPARSE_LOSS,
)

# Attributes that say a dtype: of the logits and what is like them, of integer labels, of sums.
LOGITS_TYPE, LABELS_TYPE, PRECISE_TYPE = "T", "labels_type", "precise"
INVALID_LABELS = "invalid_labels"
RAISE, NAN = "raise", "nan"


class KernelOp(NamedTuple):
    """The names of an op's inputs and outputs, each with the attribute of its dtype.

    Attributes:
      kind: the op in a word or two.
      inputs, outputs: in order.
      checks_labels: whether it has the attribute `invalid_labels`.
    """

    kind: str
    inputs: Tuple[Tuple[str, str], ...]
    outputs: Tuple[Tuple[str, str], ...]
    checks_labels: bool = False


_LOGITS = ("logits", LOGITS_TYPE)
_INTEGERS = ("labels", LABELS_TYPE)
_DISTRIBUTIONS = ("labels", LOGITS_TYPE)
_VECTORS = ("vectors", LOGITS_TYPE)
_SCALE = ("scale", PRECISE_TYPE)
_STATISTICS = ("statistics", PRECISE_TYPE)
_LOSS = (("loss", PRECISE_TYPE), _STATISTICS)
_GRADIENT = (("gradient", LOGITS_TYPE),)
_PRODUCT = (("product", LOGITS_TYPE),)

KERNEL_OPS = {
    SPARSE_LOSS: KernelOp("sparse", (_LOGITS, _INTEGERS), _LOSS, True),
    SPARSE_GRADIENT: KernelOp(
        "sparse gradient", (_LOGITS, _INTEGERS, _SCALE, _STATISTICS), _GRADIENT, True
    ),
    SPARSE_HESSIAN_PRODUCT: KernelOp(
        "sparse product", (_LOGITS, _INTEGERS, _VECTORS, _SCALE), _PRODUCT, True
    ),
    DENSE_LOSS: KernelOp("dense", (_LOGITS, _DISTRIBUTIONS), _LOSS),
    DENSE_GRADIENT: KernelOp(
        "dense gradient", (_LOGITS, _DISTRIBUTIONS, _SCALE, _STATISTICS), _GRADIENT
    ),
    LABEL_GRADIENT: KernelOp(
        "label gradient", (_LOGITS, _DISTRIBUTIONS, _SCALE, _STATISTICS), _GRADIENT
    ),
    DENSE_HESSIAN_PRODUCT: KernelOp(
        "dense product", (_LOGITS, _DISTRIBUTIONS, _VECTORS, _SCALE), _PRODUCT
    ),
}

CROSS_ENTROPY_OPS = (*_tf.FUSED_OPS, *KERNEL_OPS)


def is_cross_entropy(node: Any) -> bool:
    """Whether a NodeDef is of one of these types."""
    return node.op in CROSS_ENTROPY_OPS


@functools.lru_cache(maxsize=None)
def kernel_op_definition(op_type: str) -> Optional[Any]:
    """The OpDef of one of the library's ops: its name, inputs and outputs; None for other types."""
    if op_type not in KERNEL_OPS:
        return None
    definition = tf.GraphDef().library.function.add().signature
    definition.name = op_type
    for name, attribute in KERNEL_OPS[op_type].inputs:
        definition.input_arg.add(name=name, type_attr=attribute)
    for name, attribute in KERNEL_OPS[op_type].outputs:
        definition.output_arg.add(name=name, type_attr=attribute)
    return definition
