"""Softmax cross-entropy as NodeDefs of old stock ops, differentiable to every order by TensorFlow.

The ops are those of TF 1.13, with every attribute written out, so that any TensorFlow since, and
other runtimes, take them; nothing here builds a graph or asks the TensorFlow at hand. For a row x,
with k = argmax x, m = x_k taken as a constant and c = x_k - m, which is 0 but has a derivative:

    e_j  = exp(x_j - m),  s = sum_{j != k} e_j        the pivot's own 1 is left out
    sure = s < 1                                      that is, p_k > 1/2
    w    = s exp(-c)  if sure,  else  s + exp(c) - 1,   t = log1p(w)
    d_j  = x_j - m - c  if sure (d_k = 0),  else  x_j - m
    sparse loss   = -d_y + t
    dense loss    = sum_j l_j (t - d_j)
    q_j  = [sure and j = k]
    f    = exp(-c)  if sure,  else  1
    p_j - q_j     = -w / (1 + w)  if q_j = 1,  else  f e_j / (1 + w)
    output 1      = (p_j - q_j) + (q_j - l_j)

Values are those of `tf1xent._math.softmax`. Where c is 0 it only says along which path automatic
differentiation goes: through the pivot where that is the likely class, whose 1 - p_k would cancel,
and past it where it is not, whose 1 - sum of the others would. So no derivative of first order, and
no entry of a Hessian, subtracts nearly equal numbers. Output 1 is TensorFlow's own gradient, p - l.
"""

from typing import Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.graphs.formula.building import Arithmetic, DataType, Nodes

_NARROW = (tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_FLOAT32 = tf.float32.as_datatype_enum
_BOOL = tf.bool.as_datatype_enum
_INT32 = tf.int32.as_datatype_enum
_INT64 = tf.int64.as_datatype_enum
# Of log(1 + w), and the factors of its series then: the next is below the rounding of float64.
_HALVINGS = 3
_FACTORS = [2.0 ** (_HALVINGS + 1) / (2 * n + 1) for n in range(6)]


class Rows:
    """What the formulas of all rows share, named as in the module's own."""

    def __init__(self, a: Arithmetic, logits: str):
        self.logits = logits
        self.count, self.columns = a.sizes(logits)
        axis = a.nodes.constant(1, _INT32)
        types = {"T": a.dtype, "Tidx": DataType(_INT32), "output_type": DataType(_INT64)}
        self.pivot = a.nodes.add("ArgMax", [logits, axis], **types)
        self.is_pivot = a.is_class(self.pivot, self.columns)
        self.entries = a.entries(self.count, self.pivot)
        self.m = a.op("StopGradient", a.take(logits, self.entries))
        self.shifted = a.op("Sub", logits, a.column(self.m))
        # Out of the difference, so that no compiler knows that it is 0, and its exponential 1.
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

    def mark(self, a, nan):
        """Makes NaN of w, and so of all that is made of it, where `nan`, else 0, is NaN."""
        self.w = a.op("Add", self.w, nan)

    def row_sum(self, a, matrix):
        """Sums of the classes' entries."""
        return a.row_sum(matrix, self.count, self.columns)

    def log1p(self, a):
        """log(1 + w): its value by a series where w < 1, its derivatives those of log(1 + w).

        Other runtimes have no Log1p, and compilers that reorder sums, as XLA of TF 1.x does, undo
        the ways to make one of a logarithm alone. log(1 + w) = 2 log(1 + w') with
        w' = sqrt(1 + w) - 1 = w / (sqrt(1 + w) + 1), and = 2 atanh(z) with z = w / (w + 2).
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

    def probabilities(self, a):
        """(p - q, q)"""
        at_pivot = a.cast(self.sure_pivot, _BOOL, a.dtype)
        numerator = a.op(
            "Sub",
            a.op("Mul", a.without(self.sure_pivot, self.e), a.column(self.factor)),
            a.op("Mul", at_pivot, a.column(self.w)),
        )
        total = a.op("Add", self.w, a.number(1))
        return a.op("RealDiv", numerator, a.column(total)), at_pivot

    def surprises(self, a):
        """t - d_j, that is -log p_j"""
        d = a.op("Sub", self.shifted, a.column(self.shift))
        return a.op("Sub", a.column(self.log1p(a)), a.without(self.sure_pivot, d))


def nan_unless(a: Arithmetic, condition: str) -> str:
    """0 where a condition holds, else NaN.

    As the root of -1: tf2onnx makes a sum of products of Select, where a NaN would be in every row,
    and XLA of TF 1.x cancels what it can.
    """
    return a.op("Sqrt", a.op("Sub", a.cast(condition, _BOOL, a.dtype), a.number(1)))


class IntegerLabels:
    """int64 labels, [batch_size].

    Attributes:
      entries: where their entries are in a matrix. GatherNd raises InvalidArgumentError on a CPU
        for an invalid label, unless `raises` is False.
      nan_if_invalid: 0, or NaN for an invalid label, which is what other devices answer.
      is_label: whether j is the label of row i.
    """

    def __init__(self, a: Arithmetic, rows: Rows, labels: str, raises: bool = True):
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
    """(p - q) + (q - labels)"""
    probabilities, at_pivot = rows.probabilities(a)
    return a.op("Add", probabilities, a.op("Sub", at_pivot, labels))


def sparse_loss(a: Arithmetic, rows: Rows, labels: IntegerLabels) -> str:
    """The loss of integer labels, in rows that are marked where these are invalid."""
    at_label = a.take(rows.shifted, labels.entries)
    hit = a.nodes.add("LogicalAnd", [rows.sure, a.int64("Equal", labels.labels, rows.pivot)])
    d = a.without(hit, a.op("Sub", at_label, rows.shift))
    return a.op("Sub", rows.log1p(a), d)


def dense_loss(a: Arithmetic, rows: Rows, labels: str) -> str:
    """The loss of labels [batch_size, num_classes].

    A class with a logit of -inf and a label of 0 adds nothing, where 0 times inf would be NaN.
    """
    surprises = rows.surprises(a)
    left_out = a.nodes.add(
        "LogicalAnd",
        [a.op("Equal", labels, a.number(0)), a.is_infinite(surprises)],
    )
    return rows.row_sum(a, a.op("Mul", labels, a.without(left_out, surprises)))


def broadcast_to_each_other(a: Arithmetic, logits: str, labels: str) -> Tuple[str, str]:
    """Both in the shape to which they broadcast."""
    nothing = a.op("ZerosLike", a.op("Add", logits, labels))
    return a.op("Add", nothing, logits), a.op("Add", nothing, labels)


def in_float32(
    nodes: Nodes, dtype: int, logits: str, controls: Sequence[str]
) -> Tuple[Arithmetic, str]:
    """(arithmetic of the dtype to compute in, the logits in it): half and bfloat16 in float32.

    All that is computed of these logits runs after `controls`.
    """
    if dtype in _NARROW:
        dtype, logits = _FLOAT32, nodes.cast([logits, *controls], dtype, _FLOAT32)
    else:
        logits = nodes.add("Identity", [logits, *controls], T=DataType(dtype))
    nodes.anchor = logits
    return Arithmetic(nodes, dtype), logits


def after(nodes: Nodes, tensor: str, dtype: int, controls: Sequence[str]) -> str:
    """A tensor that is read only after `controls`, if there are any."""
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
    """Both outputs of a fused op from its inputs, logits and labels, in its dtype.

    All that is added runs after `controls`.
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
        # The fused op broadcasts both before anything else; Select does not do it at all.
        logits, labels = broadcast_to_each_other(a, logits, labels)
        rows = Rows(a, logits)
        loss = dense_loss(a, rows, labels)
    gradient = output_1(a, rows, labels)
    return a.cast_if_other(loss, a.dtype, dtype), a.cast_if_other(gradient, a.dtype, dtype)
