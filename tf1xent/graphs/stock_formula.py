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

Values are those of `tf1xent._softmax`. Where c is 0 it only says along which path automatic
differentiation goes: through the pivot where that is the likely class, whose 1 - p_k would cancel,
and past it where it is not, whose 1 - sum of the others would. So no derivative of first order, and
no entry of a Hessian, subtracts nearly equal numbers. Output 1 is TensorFlow's own gradient, p - l.
"""

from typing import Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.graphs.building import Arithmetic, DataType, Nodes

_NARROW = (tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_FLOAT32 = tf.float32.as_datatype_enum
_BOOL = tf.bool.as_datatype_enum
_INT32 = tf.int32.as_datatype_enum
_INT64 = tf.int64.as_datatype_enum
# Of log(1 + w), and the factors of its series then: the next is below the rounding of float64.
_HALVINGS = 3
_FACTORS = [2.0 ** (_HALVINGS + 1) / (2 * n + 1) for n in range(6)]


class _Rows:
    """What the loss and output 1 of all rows share, named as in the module's formulas."""

    def __init__(self, a: Arithmetic, logits: str):
        self.count, self.columns = a.sizes(logits)
        axis = a.nodes.constant(1, _INT32)
        types = {"T": a.dtype, "Tidx": DataType(_INT32), "output_type": DataType(_INT64)}
        self.pivot = a.nodes.add("ArgMax", [logits, axis], **types)
        is_pivot = a.is_class(self.pivot, self.columns)
        entries = a.entries(self.count, self.pivot)
        m = a.op("StopGradient", a.take(logits, entries))
        self.shifted = a.op("Sub", logits, a.column(m))
        # Out of the difference, so that no compiler knows that it is 0, and its exponential 1.
        c = a.take(self.shifted, entries)
        self.e = a.op("Exp", self.shifted)
        others = a.op("Select", is_pivot, a.op("ZerosLike", self.e), self.e)
        s = a.row_sum(others, self.count, self.columns)
        self.sure = a.op("Less", s, a.number(1))
        self.shift = a.op("Select", self.sure, c, a.op("ZerosLike", c))
        self.factor = a.op("Exp", a.op("Neg", self.shift))
        unsure_w = a.op("Sub", a.op("Add", s, a.op("Exp", c)), a.number(1))
        self.w = a.op("Select", self.sure, a.op("Mul", s, self.factor), unsure_w)
        sure_columns = a.column(self.sure, _BOOL)
        self.sure_pivot = a.nodes.add("LogicalAnd", [is_pivot, sure_columns])

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


def _output_1(a, rows, labels):
    """(p - q) + (q - labels)"""
    others = a.op("Select", rows.sure_pivot, a.op("ZerosLike", rows.e), rows.e)
    at_pivot = a.cast(rows.sure_pivot, _BOOL, a.dtype)
    numerator = a.op(
        "Sub",
        a.op("Mul", others, a.column(rows.factor)),
        a.op("Mul", at_pivot, a.column(rows.w)),
    )
    total = a.op("Add", rows.w, a.number(1))
    probabilities = a.op("RealDiv", numerator, a.column(total))
    return a.op("Add", probabilities, a.op("Sub", at_pivot, labels))


def _sparse(a: Arithmetic, logits: str, labels: str):
    """(loss, output 1) of int64 labels, [batch_size].

    An invalid label makes GatherNd raise InvalidArgumentError on a CPU, and its row NaN elsewhere.
    """
    rows = _Rows(a, logits)
    in_range = a.nodes.add(
        "LogicalAnd",
        [
            a.int64("Less", labels, rows.columns),
            a.int64("GreaterEqual", labels, a.integer(0)),
        ],
    )
    # 0, or NaN as the root of -1: tf2onnx makes a sum of products of Select, where a NaN would be
    # in every row, and XLA of TF 1.x cancels what it can.
    valid = a.cast(in_range, _BOOL, a.dtype)
    rows.w = a.op("Add", rows.w, a.op("Sqrt", a.op("Sub", valid, a.number(1))))
    at_label = a.take(rows.shifted, a.entries(rows.count, labels))
    hit = a.nodes.add("LogicalAnd", [rows.sure, a.int64("Equal", labels, rows.pivot)])
    d = a.op("Sub", at_label, rows.shift)
    d = a.op("Select", hit, a.op("ZerosLike", d), d)
    loss = a.op("Sub", rows.log1p(a), d)
    one_hot = a.cast(a.is_class(labels, rows.columns), _BOOL, a.dtype)
    return loss, _output_1(a, rows, one_hot)


def _dense(a: Arithmetic, logits: str, labels: str):
    """(loss, output 1) of labels that broadcast against the logits.

    A class with a logit of -inf and a label of 0 adds nothing, where 0 times inf would be NaN.
    """
    # The fused op broadcasts both before anything else; Select does not do it at all.
    nothing = a.op("ZerosLike", a.op("Add", logits, labels))
    logits, labels = a.op("Add", logits, nothing), a.op("Add", labels, nothing)
    rows = _Rows(a, logits)
    d = a.op("Sub", rows.shifted, a.column(rows.shift))
    d = a.op("Select", rows.sure_pivot, a.op("ZerosLike", d), d)
    terms = a.op("Sub", a.column(rows.log1p(a)), d)
    left_out = a.nodes.add(
        "LogicalAnd",
        [
            a.op("Equal", labels, a.number(0)),
            a.op("Equal", terms, a.number(float("inf"))),
        ],
    )
    terms = a.op("Select", left_out, nothing, terms)
    loss = a.row_sum(a.op("Mul", labels, terms), rows.count, rows.columns)
    return loss, _output_1(a, rows, labels)


def loss_and_gradient(
    nodes: Nodes,
    op_type: str,
    dtype: int,
    labels_dtype: int,
    inputs: Sequence[str],
    controls: Sequence[str],
) -> Tuple[str, str]:
    """Both outputs of a fused op from its inputs, logits and labels, in its dtype.

    half and bfloat16 are computed in float32. All that is added runs after `controls`.
    """
    logits, labels = inputs
    narrow = dtype in _NARROW
    if narrow:
        logits = nodes.cast([logits, *controls], dtype, _FLOAT32)
    else:
        logits = nodes.add("Identity", [logits, *controls], T=DataType(dtype))
    nodes.anchor = logits
    computed = _FLOAT32 if narrow else dtype
    if op_type == _tf.SPARSE_OP:
        if labels_dtype != _INT64:
            labels = nodes.cast([labels], labels_dtype, _INT64)
        outputs = _sparse(Arithmetic(nodes, computed), logits, labels)
    else:
        labels = nodes.cast([labels], dtype, _FLOAT32) if narrow else labels
        outputs = _dense(Arithmetic(nodes, computed), logits, labels)
    if narrow:
        outputs = tuple(nodes.cast([output], _FLOAT32, dtype) for output in outputs)
    return outputs
