"""The native library's ops and the values that tf1xent builds, as NodeDefs of stock ops.

In the terms of `stock_formula`:

    gradient of the dense loss    S p - l,  entry k, if sure:  sum_{j != k} l_j - S (1 - p_k)
    gradient in the labels        t - d_j
    Hessian product               p (w - <p, w>),  w = v - v_k  if sure,  else  v

each times the row's scale. They are computed from the logits, not from the statistics that the
loss op returns, so that TensorFlow can differentiate them.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from tf1xent._tf import tf
from tf1xent.graphs.formula import kernel_ops, primitive_ops
from tf1xent.graphs.formula.building import Arithmetic, Nodes, Sizes
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS, LABELS_TYPE, LOGITS_TYPE
from tf1xent.graphs.formula.primitive_ops import PRIMITIVES
from tf1xent.graphs.formula.stock_formula import (
    IntegerLabels,
    Rows,
    after,
    dense_loss,
    in_float32,
    nan_unless,
    sparse_loss,
    sparse_output_1,
)

_INT64 = tf.int64.as_datatype_enum


def _statistics(a: Arithmetic, *columns: str) -> str:
    """Packs statistics: [len(columns), batch_size]. As in the kernels, no gradient goes through."""
    return a.op("StopGradient", a.pack(a.dtype, *columns, axis=0))


def _sparse_loss(a: Arithmetic, logits: str, labels: str, raises: bool) -> Tuple[str, str]:
    integers = IntegerLabels(a, logits, labels, raises)
    rows = Rows(a, logits, integers)
    one = a.number(1)
    # With the pivot's 1 for the label's term, unless they are the same.
    others_sum = a.op("Sub", one, a.op("Exp", rows.label_difference))
    others_sum = a.op(
        "Select",
        a.int64("Equal", labels, rows.pivot),
        rows.others,
        a.op("Add", rows.others, others_sum),
    )
    return sparse_loss(a, rows, integers), _statistics(a, rows.m, others_sum, rows.total)


def _sparse_gradient(
    a: Arithmetic, logits: str, labels: str, scale: str, statistics: str, raises: bool
) -> str:
    # The loss op checked the labels: the last of its statistics is NaN for an invalid one. The
    # kernel keeps `raises` only for its own derivative.
    del raises
    types = {"num": 3, "axis": 0, "T": a.dtype}
    total = a.nodes.add("Unpack", [statistics], outputs=3, **types) + ":2"
    nan = nan_unless(a, a.op("GreaterEqual", total, a.number(0)))
    integers = IntegerLabels(a, logits, labels, raises=False)
    return _scaled(a, scale, sparse_output_1(a, Rows(a, logits, integers, nan=nan), integers))


def _sparse_hessian_product(
    a: Arithmetic, logits: str, labels: str, vectors: str, scale: str, raises: bool
) -> str:
    integers = IntegerLabels(a, logits, labels, raises)
    # The product does not depend on the labels, so the scale carries their check: 0, NaN, an error.
    zeros = a.take(a.op("ZerosLike", logits), integers.entries)
    scale = a.op("Add", scale, a.op("Add", zeros, integers.nan_if_invalid))
    return _hessian_product(a, logits, vectors, scale)


def _hessian_product(a: Arithmetic, logits: str, vectors: str, scale: str) -> str:
    rows = Rows(a, logits)
    at_pivot = a.take(vectors, rows.entries)
    shifted = a.op("Sub", vectors, a.column(rows.if_sure(a, at_pivot)))
    probabilities = rows.probabilities(a)
    mean = rows.sizes.row_sum(a.op("Mul", probabilities, shifted))
    centred = a.op("Sub", shifted, a.column(mean))
    return _scaled(a, scale, a.op("Mul", probabilities, centred))


def _dense_loss(a: Arithmetic, logits: str, labels: str) -> Tuple[str, str]:
    rows = Rows(a, logits)
    label_sum = rows.sizes.row_sum(labels)
    at_pivots = a.put(rows.entries, a.take(labels, rows.entries), rows.sizes.shape)
    other_labels = rows.sizes.row_sum(a.op("Sub", labels, at_pivots))
    statistics = _statistics(a, rows.m, rows.others, label_sum, other_labels)
    return dense_loss(a, rows, labels), statistics


def _dense_gradient(
    a: Arithmetic, logits: str, labels: str, scale: str, statistics: Optional[str] = None
) -> str:
    del statistics
    rows = Rows(a, logits)
    label_sum = rows.sizes.row_sum(labels)
    others, _ = rows.split(a, labels, rows.entries)
    own = a.op("Sub", rows.sizes.row_sum(others), a.op("Mul", label_sum, rows.other_mass(a)))
    share = rows.with_pivots(a, rows.scaled_e(a, label_sum), rows.at_pivots(a, own, label_sum))
    return _scaled(a, scale, a.op("Sub", share, others))


def _label_gradient(
    a: Arithmetic, logits: str, labels: str, scale: str, statistics: Optional[str] = None
) -> str:
    del statistics
    rows = Rows(a, logits)
    log1p = rows.log1p(a)
    masked = a.nodes.add(
        "LogicalAnd", [a.op("Equal", labels, a.number(0)), a.is_minus_infinity(logits)]
    )
    no_sure_pivot = a.op("Sub", a.number(1), rows.sure_pivots(a))
    others = a.op("Mul", no_sure_pivot, rows.log_probabilities(a, log1p))
    others = a.op("Select", masked, a.op("ZerosLike", others), others)
    own = rows.if_sure(a, a.op("Neg", log1p))
    return _scaled(a, a.op("Neg", scale), rows.with_pivots(a, others, own))


def _dense_hessian_product(
    a: Arithmetic, logits: str, labels: str, vectors: str, scale: str
) -> str:
    label_sum = Sizes(a, a.shape(labels)).row_sum(labels)
    return _hessian_product(a, logits, vectors, a.op("Mul", scale, label_sum))


def _scaled(a: Arithmetic, scale: str, matrix: str) -> str:
    return a.op("Mul", a.column(scale), matrix)


# --- Values that tf1xent builds: other nodes check labels, here an invalid one gives NaN ----------


def _own_sparse_loss(a: Arithmetic, logits: str, labels: str) -> str:
    integers = IntegerLabels(a, logits, labels, raises=False)
    return sparse_loss(a, Rows(a, logits, integers), integers)


def _own_sparse_gradient(a: Arithmetic, logits: str, labels: str, scale: str) -> str:
    integers = IntegerLabels(a, logits, labels, raises=False)
    return _scaled(a, scale, sparse_output_1(a, Rows(a, logits, integers), integers))


def _own_dense_loss(a: Arithmetic, logits: str, labels: str) -> str:
    return dense_loss(a, Rows(a, logits), labels)


# By the name of the value's gradient; each takes an Arithmetic and the value's inputs.
_OWN_FORMULAS: Dict[str, Callable[..., str]] = {
    primitive_ops.SPARSE_LOSS: _own_sparse_loss,
    primitive_ops.SPARSE_GRADIENT: _own_sparse_gradient,
    primitive_ops.DENSE_LOSS: _own_dense_loss,
    primitive_ops.DENSE_LOSS_OF_LOGITS: _own_dense_loss,
    primitive_ops.DENSE_GRADIENT: _dense_gradient,
    primitive_ops.LABEL_GRADIENT: _label_gradient,
    primitive_ops.HESSIAN_PRODUCT: _hessian_product,
}


# By op type; each takes an Arithmetic and the op's inputs. Loss ops return two tensors.
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
    outputs = _FORMULAS[op_type](a, logits, **tensors)
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
    return _OWN_FORMULAS[name](a, logits, **tensors)
