"""Softmax cross-entropy as NodeDefs of stock ops, which TensorFlow differentiates to every order.

The ops are those of TF 1.13, with every attribute set, so that every later TensorFlow and other
runtimes accept them. Nothing here builds a live graph or depends on the TensorFlow that runs.

For a row x, with k = argmax x, m = x_k taken as a constant, and c = x_k - m, which is 0 but has a
derivative:

    e_j  = exp(x_j - m),  e_k = 0,  s = sum_j e_j     leaves out the pivot's own 1
    sure = s < 1                                      that is, p_k > 1/2
    f, r = exp(-c), 1  if sure,  else  1, exp(c)      r is the pivot's own term
    w    = s f + r - 1,   t = log1p(w)
    d_j  = x_j - m - c  if sure (d_k = 0),  else  x_j - m
    sparse loss   = t - d_y
    dense loss    = sum_j l_j (t - d_j)
    q_j  = [sure and j = k]
    p_j - q_j     = f e_j / (1 + w),  entry k:  -s f / (1 + w)  if sure,  else  r / (1 + w)
    output 1      = (p_j - q_j) + (q_j - l_j)

Values are those of `tf1xent._math.softmax`. c changes no value; it only decides which path
automatic differentiation takes. Where the pivot is the likely class (sure), the path goes through
the pivot, because 1 - p_k would cancel. Elsewhere it passes the pivot by, because 1 minus the sum
of the others would cancel. So neither first derivatives nor Hessian entries subtract nearly equal
numbers. Output 1 is TensorFlow's own gradient, p - l.
"""

from typing import Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.graphs.attributes import DataType
from tf1xent.graphs.formula.building import Arithmetic, Nodes, Sizes

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
    """The terms that all formulas share, named as in the module's docstring.

    Attributes:
      sizes: those of all matrices here; logits and dense labels may have to be broadcast to them.
      numbers: 0, 1, ... batch_size - 1.
      pivot, entries: k, and the indices of the pivots in a matrix.
      e: a matrix.
      shift: c if sure, else 0.
      factor, rest: f and r.
      others, total: s f and 1 + w.
      differences: x_j - m, a matrix; without integer labels.
      label_difference: x_y - m; with integer labels.
      entries_and_labels: the indices of the pivots and of the labels, [batch_size, 2, 2]; likewise.
    """

    def __init__(
        self,
        a: Arithmetic,
        logits: str,
        labels: Optional["IntegerLabels"] = None,
        *,
        nan: str = "",
        common: Optional[Sizes] = None,
    ) -> None:
        """The logits are broadcast to the sizes `common`. `nan` is 0, or NaN for rows of NaN."""
        sizes = labels.sizes if labels else Sizes(a, a.shape(logits))
        self.sizes = common or sizes
        self.numbers = labels.numbers if labels else a.numbers(self.sizes.count)
        types = {"T": a.dtype, "Tidx": DataType(_INT32), "output_type": DataType(_INT64)}
        pivot = a.nodes.add("ArgMax", [logits, a.nodes.constant(1, _INT32)], **types)
        if common:
            pivot = a.int64("Add", pivot, a.int64("ZerosLike", self.numbers))
        self.pivot, self.entries = pivot, a.entries(self.numbers, pivot)
        if labels:  # both entries at once: the gradient of each take is a matrix
            self.entries_and_labels = a.pack(_INT64, self.entries, labels.entries, axis=1)
            taken = a.take(logits, self.entries_and_labels)
            largest = a.nodes.add("Unpack", [taken], outputs=2, num=2, axis=1, T=a.dtype)
        else:
            largest = a.take(logits, clipped(a, sizes, self) if common else self.entries)
        self.m = a.op("StopGradient", largest)
        self.label_difference = a.op("Sub", f"{largest}:1", self.m) if labels else ""
        c = a.op("Sub", largest, self.m)
        m_column = a.column(self.m)
        if common:
            m_column = a.op("Add", m_column, missing_columns(a, sizes, common))
        # x_j - m less half of the largest number: its exponential is 0. But NaN stays NaN.
        zeros = a.op("ZerosLike", c)
        half = a.op("Add", zeros, a.number(tf.as_dtype(a.dtype).max / 2))
        away = a.put(self.entries, half, self.sizes.shape)
        if labels:
            without_pivots = a.op("Sub", logits, a.op("Add", away, m_column))
        else:  # dense losses need the differences too
            self.differences = a.op("Sub", logits, m_column)
            without_pivots = a.op("Sub", self.differences, away)
        self.e = a.op("Exp", without_pivots)
        s = self.sizes.row_sum(self.e)
        for mark in (labels.nan_if_invalid if labels else "", nan):
            s = a.op("Add", s, mark) if mark else s
        self.sure = a.op("Less", s, a.number(1))
        self.shift = a.op("Select", self.sure, c, zeros)
        self.factor = a.op("Exp", a.op("Neg", self.shift))
        self.others = a.op("Mul", s, self.factor)
        self.rest = a.op("Exp", a.op("Select", self.sure, zeros, c))
        self.total = a.op("Add", self.others, self.rest)

    def log1p(self, a: Arithmetic) -> str:
        """Returns log(1 + w): where w < 1 by a series, with the derivatives of log(1 + w).

        The op Log1p is missing in other runtimes. Tricks that compute it from Log alone fail in
        compilers that reorder sums, such as XLA of TF 1.x. The series uses two identities:
        log(1 + w) = 2 log(1 + w') with w' = sqrt(1 + w) - 1 = w / (sqrt(1 + w) + 1), and
        log(1 + w) = 2 atanh(z) with z = w / (w + 2).
        """
        one, two = a.number(1), a.number(2)
        log = a.op("Log", self.total)
        root, w = self.total, self.others  # which is w where w < 1
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

    def scaled_e(self, a: Arithmetic, scale: str = "") -> str:
        """Returns p_j times its row's scale, but 0 at the pivots."""
        factor = a.op("RealDiv", self.factor, self.total)
        factor = a.op("Mul", scale, factor) if scale else factor
        return a.op("Mul", self.e, a.column(factor))

    def with_pivots(self, a: Arithmetic, matrix: str, at_pivots: str) -> str:
        """Returns a matrix, which is 0 at the pivots, with their values."""
        return a.op("Add", matrix, a.put(self.entries, at_pivots, self.sizes.shape))

    def at_pivots(self, a: Arithmetic, if_sure: str, scale: str = "") -> str:
        """Returns what the pivots' values are: p_k times the row's scale where p_k <= 1/2."""
        probability = self.pivot_mass(a)
        unsure = a.op("Mul", scale, probability) if scale else probability
        return a.op("Select", self.sure, if_sure, unsure)

    def pivot_mass(self, a: Arithmetic) -> str:
        """Returns p_k."""
        return a.op("RealDiv", self.rest, self.total)

    def other_mass(self, a: Arithmetic) -> str:
        """Returns 1 - p_k where p_k > 1/2."""
        return a.op("RealDiv", self.others, self.total)

    def probabilities(self, a: Arithmetic) -> str:
        return self.with_pivots(a, self.scaled_e(a), self.pivot_mass(a))

    def if_sure(self, a: Arithmetic, at_pivots: str) -> str:
        """Returns the pivots' values where p_k > 1/2, else 0."""
        return a.op("Select", self.sure, at_pivots, a.op("ZerosLike", at_pivots))

    def sure_pivots(self, a: Arithmetic) -> str:
        """Returns q, a matrix."""
        ones = a.op("Add", a.op("ZerosLike", self.m), a.number(1))
        return a.put(self.entries, self.if_sure(a, ones), self.sizes.shape)

    def split(self, a: Arithmetic, labels: str, entries: str) -> Tuple[str, str]:
        """Returns labels with 0 for those of pivots with p_k > 1/2; and these, 0 in other rows.

        `entries` are the indices of the pivots in `labels`.
        """
        own = self.if_sure(a, a.take(labels, entries))
        return a.op("Sub", labels, a.put(self.entries, own, self.sizes.shape)), own

    def log_probabilities(self, a: Arithmetic, log1p: str) -> str:
        """Returns d_j - t = log p_j, for j other than the pivots with p_k > 1/2."""
        # Not "Sub", whose gradient is first negated as a matrix, and then summed.
        return a.op("Add", self.differences, a.column(a.op("Neg", a.op("Add", log1p, self.shift))))


def clipped(a: Arithmetic, sizes: Sizes, rows: Rows) -> str:
    """Returns the indices of the pivots in a matrix that is still to be broadcast."""
    of_pivot = zip((rows.numbers, rows.pivot), (sizes.count, sizes.columns))
    return a.entries(
        *(a.int64("Minimum", n, a.int64("Sub", size, a.integer(1))) for n, size in of_pivot)
    )


def missing_columns(a: Arithmetic, sizes: Sizes, common: Sizes) -> str:
    """Returns a row of zeros that broadcasts a matrix to as many columns as `common`."""
    missing = a.int64("Sub", common.columns, sizes.columns)
    shape = a.pack(_INT64, a.integer(1), a.int64("Add", missing, a.integer(1)))
    types = {"T": a.dtype, "index_type": DataType(_INT64)}
    return a.nodes.add("Fill", [shape, a.number(0)], **types)


def nan_unless(a: Arithmetic, condition: str) -> str:
    """Returns 0 where a condition holds, else NaN.

    NaN is the square root of -1. A Select with a NaN fails: tf2onnx turns Select into a sum of
    products, which spreads the NaN to every row. XLA of TF 1.x cancels simpler expressions. For
    live graphs `tf1xent._math` has its own function of this kind; here there are only NodeDefs.
    """
    return a.op("Sqrt", a.op("Sub", a.cast(condition, _BOOL, a.dtype), a.number(1)))


class IntegerLabels:
    """int64 labels, [batch_size], of logits.

    Attributes:
      sizes: of the logits.
      numbers: 0, 1, ... batch_size - 1.
      entries: indices of the labels' entries in a matrix. On a CPU GatherNd raises
        InvalidArgumentError for an invalid label, unless `raises` is False.
      nan_if_invalid: 0, or NaN for an invalid label, for devices that do not raise.
    """

    def __init__(self, a: Arithmetic, logits: str, labels: str, raises: bool = True) -> None:
        self.labels, self.sizes = labels, Sizes(a, a.shape(logits))
        self.numbers = a.numbers(self.sizes.count)
        in_range = a.nodes.add(
            "LogicalAnd",
            [
                a.int64("Less", labels, self.sizes.columns),
                a.int64("GreaterEqual", labels, a.integer(0)),
            ],
        )
        self.nan_if_invalid = nan_unless(a, in_range)
        if not raises:
            labels = a.int64("Select", in_range, labels, a.int64("ZerosLike", labels))
        self.entries = a.entries(self.numbers, labels)


def is_hit(a: Arithmetic, rows: Rows, labels: IntegerLabels) -> str:
    """Tells where the label is a pivot with p_k > 1/2."""
    return a.nodes.add("LogicalAnd", [rows.sure, a.int64("Equal", labels.labels, rows.pivot)])


def sparse_loss(a: Arithmetic, rows: Rows, labels: IntegerLabels) -> str:
    """Returns the loss of integer labels, those of `rows`."""
    d = a.op("Sub", rows.label_difference, rows.shift)
    d = a.op("Select", is_hit(a, rows, labels), a.op("ZerosLike", d), d)
    return a.op("Sub", rows.log1p(a), d)


def sparse_output_1(a: Arithmetic, rows: Rows, labels: IntegerLabels) -> str:
    """Returns p less 1 at the labels, those of `rows`."""
    hit = is_hit(a, rows, labels)
    probabilities = rows.pivot_mass(a)
    at_pivots = a.op("Select", hit, a.op("Neg", rows.other_mass(a)), probabilities)
    zeros = a.op("ZerosLike", probabilities)
    at_labels = a.op("Select", hit, zeros, a.op("Sub", zeros, a.number(1)))
    values = a.pack(a.dtype, at_pivots, at_labels, axis=1)
    at_both = a.put(rows.entries_and_labels, values, rows.sizes.shape)
    return a.op("Add", rows.scaled_e(a), at_both)


def dense_loss(a: Arithmetic, rows: Rows, labels: str, sizes: Optional[Sizes] = None) -> str:
    """Returns the loss of labels [batch_size, num_classes], of these sizes if not of the rows'.

    A class with a logit of -inf and a label of 0 contributes 0, not 0 times inf, which is NaN.
    """
    log1p = rows.log1p(a)
    others, own = rows.split(a, labels, clipped(a, sizes, rows) if sizes else rows.entries)
    log_probabilities = rows.log_probabilities(a, log1p)
    left_out = a.nodes.add(
        "LogicalAnd",
        [a.op("Equal", others, a.number(0)), a.is_minus_infinity(log_probabilities)],
    )
    # Where a logit is -inf, e is 0.
    zeros = a.op("StopGradient", rows.e)
    products = a.op("Mul", others, a.op("Select", left_out, zeros, log_probabilities))
    return a.op("Sub", a.op("Mul", own, log1p), rows.sizes.row_sum(products))


def dense_output_1(a: Arithmetic, rows: Rows, labels: str) -> str:
    """Returns p - labels as (p - q) + (q - labels)."""
    at_pivots = rows.at_pivots(a, a.op("Neg", rows.other_mass(a)))
    less_q = rows.with_pivots(a, rows.scaled_e(a), at_pivots)
    return a.op("Add", less_q, a.op("Sub", rows.sure_pivots(a), labels))


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
        integers = IntegerLabels(a, logits, a.cast_if_other(labels, labels_dtype, _INT64))
        rows = Rows(a, logits, integers)
        loss, gradient = sparse_loss(a, rows, integers), sparse_output_1(a, rows, integers)
    else:
        labels = a.cast_if_other(labels, dtype, a.dtype)
        # The fused op broadcasts logits and labels to each other.
        sizes = Sizes(a, a.shape(labels))
        common = a.int64("BroadcastArgs", a.shape(logits), sizes.shape)
        rows = Rows(a, logits, common=Sizes(a, common))
        loss, gradient = dense_loss(a, rows, labels, sizes), dense_output_1(a, rows, labels)
    return a.cast_if_other(loss, a.dtype, dtype), a.cast_if_other(gradient, a.dtype, dtype)
