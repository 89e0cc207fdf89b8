"""The native library's ops and the values that tf1xent builds, as NodeDefs of stock ops.

In the terms of `stock_formula`:

    gradient of the dense loss    S (p - q) + (S q - l),  entry k, if q_k = 1: sum_{j != k} l_j
    gradient in the labels        t - d_j
    Hessian product               S p (w - <p, w>),  w = v - v_k  if sure,  else  v

each times the row's scale. They are computed from the logits, not from the statistics that the
loss op returns, so that TensorFlow can differentiate them.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from tf1xent._tf import tf
from tf1xent.graphs.formula import kernel_ops, primitive_ops
from tf1xent.graphs.formula.building import Arithmetic, Nodes
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS, LABELS_TYPE, LOGITS_TYPE
from tf1xent.graphs.formula.primitive_ops import PRIMITIVES
from tf1xent.graphs.formula.stock_formula import (
    IntegerLabels,
    Rows,
    after,
    dense_loss,
    in_float32,
    nan_unless,
    output_1,
    sparse_loss,
)

_BOOL = tf.bool.as_datatype_enum
_INT64 = tf.int64.as_datatype_enum


def _statistics(a: Arithmetic, *columns: str) -> str:
    """Packs statistics: [len(columns), batch_size]. As in the kernels, no gradient goes through."""
    return a.op("StopGradient", a.pack(a.dtype, *columns, axis=0))


def _sparse_loss(a: Arithmetic, rows: Rows, labels: str, raises: bool) -> Tuple[str, str]:
    integers = IntegerLabels(a, rows, labels, raises)
    others_sum = rows.row_sum(a, a.without(integers.is_label, rows.e))
    at_label = a.op("Exp", a.take(rows.shifted, integers.entries))
    total = a.op("Add", others_sum, a.op("Add", at_label, integers.nan_if_invalid))
    rows.mark(a, integers.nan_if_invalid)
    return sparse_loss(a, rows, integers), _statistics(a, rows.m, others_sum, total)


def _sparse_gradient(
    a: Arithmetic, rows: Rows, labels: str, scale: str, statistics: str, raises: bool
) -> str:
    # The loss op checked the labels: the last of its statistics is NaN for an invalid one. The
    # kernel keeps `raises` only for its own derivative.
    del raises
    types = {"num": 3, "axis": 0, "T": a.dtype}
    total = a.nodes.add("Unpack", [statistics], outputs=3, **types) + ":2"
    rows.mark(a, nan_unless(a, a.op("GreaterEqual", total, a.number(0))))
    one_hot = a.cast(a.is_class(labels, rows.columns), _BOOL, a.dtype)
    return _scaled(a, scale, output_1(a, rows, one_hot))


def _sparse_hessian_product(
    a: Arithmetic, rows: Rows, labels: str, vectors: str, scale: str, raises: bool
) -> str:
    integers = IntegerLabels(a, rows, labels, raises)
    # The product does not depend on the labels, so the scale carries their check: 0, NaN, an error.
    zeros = a.take(a.op("ZerosLike", rows.e), integers.entries)
    scale = a.op("Add", scale, a.op("Add", zeros, integers.nan_if_invalid))
    return _hessian_product(a, rows, vectors, scale)


def _hessian_product(a: Arithmetic, rows: Rows, vectors: str, scale: str) -> str:
    at_pivot = a.take(vectors, rows.entries)
    shift = a.op("Select", rows.sure, at_pivot, a.op("ZerosLike", at_pivot))
    shifted = a.op("Sub", vectors, a.column(shift))
    probabilities = a.op("Add", *rows.probabilities(a))
    mean = rows.row_sum(a, a.op("Mul", probabilities, shifted))
    centred = a.op("Sub", shifted, a.column(mean))
    return _scaled(a, scale, a.op("Mul", probabilities, centred))


def _dense_loss(a: Arithmetic, rows: Rows, labels: str) -> Tuple[str, str]:
    others_sum = rows.row_sum(a, a.without(rows.is_pivot, rows.e))
    # c is 0, or NaN where the largest logit is not finite.
    others_sum = a.op("Add", others_sum, rows.c)
    label_sum = rows.row_sum(a, labels)
    other_labels = rows.row_sum(a, a.without(rows.is_pivot, labels))
    statistics = _statistics(a, rows.m, others_sum, label_sum, other_labels)
    return dense_loss(a, rows, labels), statistics


def _dense_gradient(
    a: Arithmetic, rows: Rows, labels: str, scale: str, statistics: Optional[str]
) -> str:
    del statistics
    probabilities, at_pivot = rows.probabilities(a)
    others = a.without(rows.sure_pivot, labels)
    own = a.op("Mul", at_pivot, a.column(rows.row_sum(a, others)))
    share = a.op("Mul", a.column(rows.row_sum(a, labels)), probabilities)
    return _scaled(a, scale, a.op("Add", share, a.op("Sub", own, others)))


def _label_gradient(
    a: Arithmetic, rows: Rows, labels: str, scale: str, statistics: Optional[str]
) -> str:
    del statistics
    masked = a.nodes.add(
        "LogicalAnd",
        [a.op("Equal", labels, a.number(0)), a.is_minus_infinity(rows.logits)],
    )
    return _scaled(a, scale, a.without(masked, rows.surprisals(a)))


def _dense_hessian_product(a: Arithmetic, rows: Rows, labels: str, vectors: str, scale: str) -> str:
    scale = a.op("Mul", scale, rows.row_sum(a, labels))
    return _hessian_product(a, rows, vectors, scale)


def _scaled(a: Arithmetic, scale: str, matrix: str) -> str:
    return a.op("Mul", a.column(scale), matrix)


# --- Values that tf1xent builds: other nodes check labels, here an invalid one gives NaN ----------


def _own_sparse_loss(a: Arithmetic, rows: Rows, labels: str) -> str:
    integers = IntegerLabels(a, rows, labels, raises=False)
    rows.mark(a, integers.nan_if_invalid)
    return sparse_loss(a, rows, integers)


def _own_sparse_gradient(a: Arithmetic, rows: Rows, labels: str, scale: str) -> str:
    integers = IntegerLabels(a, rows, labels, raises=False)
    rows.mark(a, integers.nan_if_invalid)
    one_hot = a.cast(integers.is_label, _BOOL, a.dtype)
    return _scaled(a, scale, output_1(a, rows, one_hot))


def _own_dense_gradient(a: Arithmetic, rows: Rows, labels: str, scale: str) -> str:
    return _dense_gradient(a, rows, labels, scale, None)


def _own_label_gradient(a: Arithmetic, rows: Rows, labels: str, scale: str) -> str:
    return _label_gradient(a, rows, labels, scale, None)


# By the name of the value's gradient; each takes (a, rows) and the value's inputs but the logits.
_OWN_FORMULAS: Dict[str, Callable[..., str]] = {
    primitive_ops.SPARSE_LOSS: _own_sparse_loss,
    primitive_ops.SPARSE_GRADIENT: _own_sparse_gradient,
    primitive_ops.DENSE_LOSS: dense_loss,
    primitive_ops.DENSE_LOSS_OF_LOGITS: dense_loss,
    primitive_ops.DENSE_GRADIENT: _own_dense_gradient,
    primitive_ops.LABEL_GRADIENT: _own_label_gradient,
    primitive_ops.HESSIAN_PRODUCT: _hessian_product,
}


# By op type; each takes (a, rows) and the op's inputs but the logits. Loss ops return two tensors.
_FORMULAS: Dict[str, Callable[..., Any]] = {
    kernel_ops.SPARSE_LOSS: _sparse_loss,
    kernel_ops.SPARSE_GRADIENT: _sparse_gradient,
    kernel_ops.SPARSE_HESSIAN_PRODUCT: _sparse_hessian_product,
    kernel_ops.DENSE_LOSS: _dense_loss,
    kernel_ops.DENSE_GRADIENT: _dense_gradient,
    kernel_ops.LABEL_GRADIENT: _label_gradient,
    kernel_ops.DENSE_HESSIAN_PRODUCT: _dense_hessian_product,
}


def stock_outputs(
    nodes: Nodes,
    op_type: str,
    types: Dict[str, int],
    raises: bool,
    inputs: Sequence[str],
    controls: Sequence[str],
) -> List[str]:
    """Returns the outputs of one of the native library's ops.

    Args:
      nodes: where to add nodes.
      op_type: a key of KERNEL_OPS.
      types: the dtypes, by name of the attribute that says them.
      raises: whether an invalid integer label raises; otherwise its row is NaN.
      inputs: the op's inputs.
      controls: control inputs; everything added, except constants, runs after them.
    """
    op = KERNEL_OPS[op_type]
    tensors: Dict[str, Any] = dict(zip([name for name, _ in op.inputs], inputs))
    dtype = types[LOGITS_TYPE]
    a, logits = in_float32(nodes, dtype, tensors.pop("logits"), controls)
    for name, attribute in op.inputs:
        if name in tensors:
            tensors[name] = after(nodes, tensors[name], types[attribute], controls)
        if name in tensors and attribute == LOGITS_TYPE:
            tensors[name] = a.cast_if_other(tensors[name], dtype, a.dtype)
        elif attribute == LABELS_TYPE:
            tensors[name] = a.cast_if_other(tensors[name], types[LABELS_TYPE], _INT64)
    if op.checks_labels:
        tensors["raises"] = raises
    outputs = _FORMULAS[op_type](a, Rows(a, logits), **tensors)
    if isinstance(outputs, tuple):  # loss and statistics
        return list(outputs)
    return [a.cast_if_other(outputs, a.dtype, dtype)]


def stock_value(
    nodes: Nodes, name: str, types: Sequence[int], inputs: Sequence[str], controls: Sequence[str]
) -> str:
    """Returns the value of one of PRIMITIVES from its inputs, which have the dtypes `types`.

    Everything added runs after `controls`, except constants.
    """
    tensors = {
        key: after(nodes, tensor, dtype, controls if key != "logits" else ())
        for key, tensor, dtype in zip(PRIMITIVES[name].inputs, inputs, types)
    }
    a, logits = in_float32(nodes, types[0], tensors.pop("logits"), controls)
    if types[1] != types[0]:  # integer labels
        tensors["labels"] = a.cast_if_other(tensors["labels"], types[1], _INT64)
    return _OWN_FORMULAS[name](a, Rows(a, logits), **tensors)
