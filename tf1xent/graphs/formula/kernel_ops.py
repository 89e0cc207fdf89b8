"""The native library's ops as data, so that graphs with them can be read without the library.

`ops/op_registrations.h` registers the same ops in C++.
"""

import functools
from typing import NamedTuple, Optional, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import NodeDef, OpDef
from tf1xent.kernels.op_names import (
    DENSE_GRADIENT,
    DENSE_HESSIAN_PRODUCT,
    DENSE_LOSS,
    LABEL_GRADIENT,
    SPARSE_GRADIENT,
    SPARSE_HESSIAN_PRODUCT,
    SPARSE_LOSS,
)

# Attributes that name a dtype: of the logits, vectors and gradients; of integer labels; of sums.
LOGITS_TYPE, LABELS_TYPE, PRECISE_TYPE = "T", "labels_type", "precise"
INVALID_LABELS = "invalid_labels"
RAISE, NAN = "raise", "nan"


class KernelOp(NamedTuple):
    """An op of the native library.

    Attributes:
      kind: a short name for reports.
      inputs, outputs: in order, (name, attribute that names the dtype).
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


def is_cross_entropy(node: NodeDef) -> bool:
    """Tells whether a node is a fused op or an op of the native library."""
    return node.op in CROSS_ENTROPY_OPS


@functools.lru_cache(maxsize=None)
def kernel_op_definition(op_type: str) -> Optional[OpDef]:
    """Returns an OpDef of a library's op, with name, inputs and outputs; None for other types."""
    if op_type not in KERNEL_OPS:
        return None
    definition = tf.GraphDef().library.function.add().signature
    definition.name = op_type
    for name, attribute in KERNEL_OPS[op_type].inputs:
        definition.input_arg.add(name=name, type_attr=attribute)
    for name, attribute in KERNEL_OPS[op_type].outputs:
        definition.output_arg.add(name=name, type_attr=attribute)
    return definition
