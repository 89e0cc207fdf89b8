"""Softmax cross-entropy as NodeDefs of stock ops, which TensorFlow differentiates to every order.

The ops are those of TF 1.13, with every attribute set, so that every later TensorFlow and other
runtimes accept them. Nothing here builds a live graph or depends on the TensorFlow that runs.

For a row x, with k = argmax x, m = x_k taken as a constant, and c = x_k - m, which is 0 but has a
derivative:

    e_j  = exp(x_j - m),  s = sum_{j != k} e_j        leaves out the pivot's own 1
    sure = s < 1                                      that is, p_k > 1/2
    w    = s exp(-c)  if sure,  else  s + exp(c) - 1,   t = log1p(w)
    d_j  = x_j - m - c  if sure (d_k = 0),  else  x_j - m
    sparse loss   = -d_y + t
    dense loss    = sum_j l_j (t - d_j)
    q_j  = [sure and j = k]
    f    = exp(-c)  if sure,  else  1
    p_j - q_j     = -w / (1 + w)  if q_j = 1,  else  f e_j / (1 + w)
    output 1      = (p_j - q_j) + (q_j - l_j)

Values are those of `tf1xent._math.softmax`. c changes no value; it only decides which path
automatic differentiation takes. Where the pivot is the likely class (sure), the path goes through
the pivot, because 1 - p_k would cancel. Elsewhere it passes the pivot by, because 1 minus the sum
of the others would cancel. So neither first derivatives nor Hessian entries subtract nearly equal
numbers. Output 1 is TensorFlow's own gradient, p - l.
"""

from typing import Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.graphs.attributes import DataType
from tf1xent.graphs.formula.building import Arithmetic, Nodes

_NARROW = (tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_FLOAT32 = tf.float32.as_datatype_enum
_BOOL = tf.bool.as_datatype_enum
_INT32 = tf.int32.as_datatype_enum
_INT64 = tf.int64.as_datatype_enum
# log(1 + w) is halved so often; then these factors of its series suffice: the next term is below
# the rounding error of float64.
_HALVINGS = 3
_FACTORS = [2.0 ** (_HALVINGS + 1) / (2 * n + 1) for n in range(6)]


class Rows:
    """The terms that all formulas share, named as in the module's docstring."""

    def __init__(self, a: Arithmetic, logits: str) -> None:
        self.logits = logits
        self.count, self.columns = a.sizes(logits)
        axis = a.nodes.constant(1, _INT32)
        types = {"T": a.dtype, "Tidx": DataType(_INT32), "output_type": DataType(_INT64)}
        self.pivot = a.nodes.add("ArgMax", [logits, axis], **types)
        self.is_pivot = a.is_class(self.pivot, self.columns)
        self.entries = a.entries(self.count, self.pivot)
        self.m = a.op("StopGradient", a.take(logits, self.entries))
        self.shifted = a.op("Sub", logits, a.column(self.m))
        # Taken from the difference, so that no compiler folds it to 0 and its exponential to 1.
        self.c = c = a.take(self.shifted, self.entries)
        self.e = a.op("Exp", self.shifted)
        s = self.row_sum(a, a.without(self.is_pivot, self.e))
        self.sure = a.op("Less", s, a.number(1))
        self.shift = a.op("Select", self.sure, c, a.op("ZerosLike", c))
        self.factor = a.op("Exp", a.op("Neg", self.shift))
        unsure_w = a.op("Sub", a.op("Add", s, a.op("Exp", c)), a.number(1))
        self.w = a.op("Select", self.sure, a.op("Mul", s, self.factor), unsure_w)
        sure_columns = a.column(self.sure, _BOOL)
        self.sure_pivot = a.nodes.add("LogicalAnd", [self.is_pivot, sure_columns])

    def mark(self, a: Arithmetic, nan: str) -> None:
        """Adds `nan`, which is 0 or NaN, to w, and so to everything computed from w."""
        self.w = a.op("Add", self.w, nan)

    def row_sum(self, a: Arithmetic, matrix: str) -> str:
        """Sums over the classes: [batch_size]."""
        return a.row_sum(matrix, self.count, self.columns)

    def log1p(self, a: Arithmetic) -> str:
        """Returns log(1 + w): where w < 1 by a series, with the derivatives of log(1 + w).

        The op Log1p is missing in other runtimes. Tricks that compute it from Log alone fail in
        compilers that reorder sums, such as XLA of TF 1.x. The series uses two identities:
        log(1 + w) = 2 log(1 + w') with w' = sqrt(1 + w) - 1 = w / (sqrt(1 + w) + 1), and
        log(1 + w) = 2 atanh(z) with z = w / (w + 2).
        """
        one, two = a.number(1), a.number(2)
        log = a.op("Log", a.op("Add", self.w, one))
        root, w = a.op("Add", self.w, one), self.w
        for _ in range(_HALVINGS):
            root = a.op("Sqrt", root)
            w = a.op("RealDiv", w, a.op("Add", root, one))
        z = a.op("RealDiv", w, a.op("Add", w, two))
        square = a.op("Mul", z, z)
        series = a.number(_FACTORS[-1])
        for factor in reversed(_FACTORS[:-1]):
            series = a.op("Add", a.op("Mul", series, square), a.number(factor))
        value = a.op("Select", self.sure, a.op("Mul", z, series), log)
        return a.op("Add", log, a.op("StopGradient", a.op("Sub", value, log)))

    def probabilities(self, a: Arithmetic) -> Tuple[str, str]:
        """Returns (p - q, q)."""
        at_pivot = a.cast(self.sure_pivot, _BOOL, a.dtype)
        numerator = a.op(
            "Sub",
            a.op("Mul", a.without(self.sure_pivot, self.e), a.column(self.factor)),
            a.op("Mul", at_pivot, a.column(self.w)),
        )
        total = a.op("Add", self.w, a.number(1))
        return a.op("RealDiv", numerator, a.column(total)), at_pivot

    def surprisals(self, a: Arithmetic) -> str:
        """Returns t - d_j = -log p_j."""
        d = a.op("Sub", self.shifted, a.column(self.shift))
        return a.op("Sub", a.column(self.log1p(a)), a.without(self.sure_pivot, d))


def nan_unless(a: Arithmetic, condition: str) -> str:
    """Returns 0 where a condition holds, else NaN.

    NaN is the square root of -1. A Select with a NaN fails: tf2onnx turns Select into a sum of
    products, which spreads the NaN to every row. XLA of TF 1.x cancels simpler expressions. For
    live graphs `tf1xent._math` has its own function of this kind; here there are only NodeDefs.
    """
    return a.op("Sqrt", a.op("Sub", a.cast(condition, _BOOL, a.dtype), a.number(1)))


class IntegerLabels:
    """int64 labels, [batch_size].

    Attributes:
      entries: indices of the labels' entries in a matrix. On a CPU GatherNd raises
        InvalidArgumentError for an invalid label, unless `raises` is False.
      nan_if_invalid: 0, or NaN for an invalid label, for devices that do not raise.
      is_label: whether j is the label of row i.
    """

    def __init__(self, a: Arithmetic, rows: Rows, labels: str, raises: bool = True) -> None:
        self.labels = labels
        in_range = a.nodes.add(
            "LogicalAnd",
            [
                a.int64("Less", labels, rows.columns),
                a.int64("GreaterEqual", labels, a.integer(0)),
            ],
        )
        self.nan_if_invalid = nan_unless(a, in_range)
        if not raises:
            labels = a.int64("Select", in_range, labels, a.int64("ZerosLike", labels))
        self.entries = a.entries(rows.count, labels)
        self.is_label = a.is_class(self.labels, rows.columns)


def output_1(a: Arithmetic, rows: Rows, labels: str) -> str:
    """Returns (p - q) + (q - labels)."""
    probabilities, at_pivot = rows.probabilities(a)
    return a.op("Add", probabilities, a.op("Sub", at_pivot, labels))


def sparse_loss(a: Arithmetic, rows: Rows, labels: IntegerLabels) -> str:
    """Returns the loss of integer labels; `rows` are already marked where labels are invalid."""
    at_label = a.take(rows.shifted, labels.entries)
    hit = a.nodes.add("LogicalAnd", [rows.sure, a.int64("Equal", labels.labels, rows.pivot)])
    d = a.without(hit, a.op("Sub", at_label, rows.shift))
    return a.op("Sub", rows.log1p(a), d)


def dense_loss(a: Arithmetic, rows: Rows, labels: str) -> str:
    """Returns the loss of labels [batch_size, num_classes].

    A class with a logit of -inf and a label of 0 contributes 0, not 0 times inf, which is NaN.
    """
    surprisals = rows.surprisals(a)
    left_out = a.nodes.add(
        "LogicalAnd",
        [a.op("Equal", labels, a.number(0)), a.is_infinite(surprisals)],
    )
    return rows.row_sum(a, a.op("Mul", labels, a.without(left_out, surprisals)))


def broadcast_to_each_other(a: Arithmetic, logits: str, labels: str) -> Tuple[str, str]:
    """Returns both in their common broadcast shape."""
    zeros = a.op("ZerosLike", a.op("Add", logits, labels))
    return a.op("Add", zeros, logits), a.op("Add", zeros, labels)


def in_float32(
    nodes: Nodes, dtype: int, logits: str, controls: Sequence[str]
) -> Tuple[Arithmetic, str]:
    """Returns (arithmetic, logits) in the dtype to compute in: float32 for half and bfloat16.

    Everything computed from these logits runs after `controls`.
    """
    if dtype in _NARROW:
        dtype, logits = _FLOAT32, nodes.cast([logits, *controls], dtype, _FLOAT32)
    else:
        logits = nodes.add("Identity", [logits, *controls], T=DataType(dtype))
    nodes.anchor = logits
    return Arithmetic(nodes, dtype), logits


def after(nodes: Nodes, tensor: str, dtype: int, controls: Sequence[str]) -> str:
    """Makes what reads a tensor run after `controls`, if there are any."""
    if not controls:
        return tensor
    return nodes.add("Identity", [tensor, *controls], T=DataType(dtype))


def loss_and_gradient(
    nodes: Nodes,
    op_type: str,
    dtype: int,
    labels_dtype: int,
    inputs: Sequence[str],
    controls: Sequence[str],
) -> Tuple[str, str]:
    """Returns both outputs of a fused op, in its dtype, from its inputs, logits and labels.

    Everything added runs after `controls`, except constants.
    """
    logits, labels = inputs
    labels = after(nodes, labels, labels_dtype, controls)
    a, logits = in_float32(nodes, dtype, logits, controls)
    if op_type == _tf.SPARSE_OP:
        rows = Rows(a, logits)
        integers = IntegerLabels(a, rows, a.cast_if_other(labels, labels_dtype, _INT64))
        rows.mark(a, integers.nan_if_invalid)
        loss = sparse_loss(a, rows, integers)
        labels = a.cast(integers.is_label, _BOOL, a.dtype)
    else:
        labels = a.cast_if_other(labels, dtype, a.dtype)
        # As the fused op does. Select does not broadcast.
        logits, labels = broadcast_to_each_other(a, logits, labels)
        rows = Rows(a, logits)
        loss = dense_loss(a, rows, labels)
    gradient = output_1(a, rows, labels)
    return a.cast_if_other(loss, a.dtype, dtype), a.cast_if_other(gradient, a.dtype, dtype)
