"""Softmax cross-entropy as NodeDefs of old stock ops, differentiable to every order by TensorFlow.

The ops are those of TF 1.13, with every attribute written out, so that any TensorFlow since, and
other runtimes, take them; nothing here builds a graph or asks the TensorFlow at hand. For a row x,
with k = argmax x, m = x_k taken as a constant and c = x_k - m, which is 0 but has a derivative:

    e_j  = exp(x_j - m),  s = sum_{j != k} e_j        the pivot's own 1 is left out
    sure = s < 1                                      that is, p_k > 1/2
    w    = s exp(-c)  if sure,  else  s + exp(c) - 1  t = log1p(w)
    d_j  = x_j - m - c  if sure (d_k = 0),  else  x_j - m
    sparse loss   = -d_y + t
    dense loss    = sum_j l_j (t - d_j)
    q_j  = [sure and j = k]
    p_j - q_j     = -w / (1 + w)  if q_j = 1,  e_j exp(-c) / (1 + w)  if sure,  else  e_j / (1 + w)
    output 1      = (p_j - q_j) + (q_j - l_j)

Values are those of `tf1xent._softmax`. Where c is 0 it only says along which path automatic
differentiation goes: through the pivot where that is the likely class, whose 1 - p_k would cancel,
and past it where it is not, whose 1 - sum of the others would. So no derivative of first order, and
no entry of a Hessian, subtracts nearly equal numbers. Output 1 is TensorFlow's own gradient, p - l.
"""

import functools
from typing import Any, Dict, List, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf

_NARROW = (tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_FLOAT32 = tf.float32.as_datatype_enum
_BOOL = tf.bool.as_datatype_enum
_INT32 = tf.int32.as_datatype_enum


class Nodes:
    """Adds NodeDefs to a graph, below one scope, on one device, with some attributes in common.

    Every constant waits for `anchor`, a node: so it is computed in the loop or branch where that
    one runs, and nowhere else.
    """

    def __init__(self, nodes: Any, names: Any, scope: str, device: str, common: Dict[str, Any]):
        self._nodes, self._names = nodes, names
        self._scope, self._device, self._common = scope, device, common
        self.anchor = ""
        # All that the nodes return.
        self.tensors: List[str] = []

    def add(self, op: str, inputs: Sequence[str], *, outputs: int = 1, **attributes: Any) -> str:
        """Adds a node and returns the name of its first output."""
        name = self._names.unique(f"{self._scope}/{op}")
        node = tf.NodeDef(name=name, op=op, input=inputs, device=self._device)
        for key, value in attributes.items():
            set_attribute(node, key, value)
        for key, value in self._common.items():
            node.attr[key].CopyFrom(value)
        self._nodes.append(node)
        self.tensors += [f"{name}:{index}" for index in range(outputs)]
        return name

    def constant(self, value: float, dtype: int) -> str:
        """A scalar."""
        anchor = [f"^{self.anchor}"]
        return self.add("Const", anchor, dtype=DataType(dtype), value=_scalar(value, dtype))


@functools.lru_cache(maxsize=None)
def _scalar(value, dtype):
    return tf.make_tensor_proto(value, dtype=tf.as_dtype(dtype), shape=[])


class DataType(int):
    """A number of a DataType, so that an attribute is not taken for an integer."""


def set_attribute(node, key, value):
    """Sets an attribute of a NodeDef to a value of the field that fits the Python type."""
    attribute = node.attr[key]
    if isinstance(value, list):
        attribute.list.type.extend(value)
    elif isinstance(value, DataType):
        attribute.type = value
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    else:
        attribute.tensor.CopyFrom(value)


class Arithmetic:
    """The ops of the formula, of one dtype of logits and one of indices."""

    def __init__(self, nodes: Nodes, dtype: int, index_dtype: int):
        self.nodes, self.dtype, self.index_dtype = nodes, DataType(dtype), DataType(index_dtype)

    def op(self, name, *inputs):
        return self.nodes.add(name, inputs, T=self.dtype)

    def number(self, value):
        return self.nodes.constant(value, self.dtype)

    def integer(self, value):
        return self.nodes.constant(value, self.index_dtype)

    def column(self, row_values, dtype=None):
        """[batch_size] -> [batch_size, 1]"""
        axis = self.nodes.constant(1, _INT32)
        dtype = self.dtype if dtype is None else DataType(dtype)
        return self.nodes.add("ExpandDims", [row_values, axis], T=dtype, Tdim=DataType(_INT32))

    def row_sum(self, matrix):
        axis = self.nodes.constant(1, _INT32)
        types = {"T": self.dtype, "Tidx": DataType(_INT32)}
        return self.nodes.add("Sum", [matrix, axis], keep_dims=False, **types)

    def cast(self, tensor, source, target):
        return _cast(self.nodes, [tensor], source, target)

    def sizes(self, matrix):
        """The number of rows and of columns, scalars of the index dtype."""
        types = {"T": self.dtype, "out_type": self.index_dtype}
        shape = self.nodes.add("Shape", [matrix], **types)
        sizes = self.nodes.add("Unpack", [shape], outputs=2, num=2, axis=0, T=self.index_dtype)
        return sizes, f"{sizes}:1"

    def entries(self, rows, classes):
        """Where the entries [i, classes[i]] are: [batch_size, 2]."""
        limits = [self.integer(0), rows, self.integer(1)]
        numbers = self.nodes.add("Range", limits, Tidx=self.index_dtype)
        return self.nodes.add("Pack", [numbers, classes], N=2, axis=1, T=self.index_dtype)

    def take(self, matrix, entries):
        types = {"Tparams": self.dtype, "Tindices": self.index_dtype}
        return self.nodes.add("GatherNd", [matrix, entries], **types)

    def one_hot(self, classes, columns, on, off, dtype):
        if self.index_dtype != _INT32:
            columns = self.cast(columns, self.index_dtype, _INT32)
        types = {"T": DataType(dtype), "TI": self.index_dtype}
        return self.nodes.add("OneHot", [classes, columns, on, off], axis=-1, **types)


class _Rows:
    """What the loss and output 1 of all rows share, named as in the module's formulas."""

    def __init__(self, a: Arithmetic, logits: str):
        self.count, self.columns = a.sizes(logits)
        axis = a.nodes.constant(1, _INT32)
        types = {"T": a.dtype, "Tidx": DataType(_INT32), "output_type": a.index_dtype}
        self.pivot = a.nodes.add("ArgMax", [logits, axis], **types)
        yes, no = a.nodes.constant(True, _BOOL), a.nodes.constant(False, _BOOL)
        is_pivot = a.one_hot(self.pivot, self.columns, yes, no, _BOOL)
        largest = a.take(logits, a.entries(self.count, self.pivot))
        m = a.op("StopGradient", largest)
        self.c = a.op("Sub", largest, m)
        self.shifted = a.op("Sub", logits, a.column(m))
        self.e = a.op("Exp", self.shifted)
        s = a.row_sum(a.op("Select", is_pivot, a.op("ZerosLike", self.e), self.e))
        self.sure = a.op("Less", s, a.number(1))
        self.reversed = a.op("Exp", a.op("Neg", self.c))
        unsure_w = a.op("Sub", a.op("Add", s, a.op("Exp", self.c)), a.number(1))
        self.w = a.op("Select", self.sure, a.op("Mul", s, self.reversed), unsure_w)
        sure_columns = a.column(self.sure, _BOOL)
        self.sure_pivot = a.nodes.add("LogicalAnd", [is_pivot, sure_columns])

    def difference(self, a, shifted):
        """x - m, less c where the row is sure; `shifted` is x_j - m of one entry a row."""
        return a.op("Sub", shifted, a.op("Select", self.sure, self.c, a.op("ZerosLike", self.c)))


def _output_1(a, rows, labels):
    """(p - q) + (q - labels)"""
    ones = a.op("Exp", a.op("ZerosLike", rows.c))
    factor = a.op("Select", rows.sure, rows.reversed, ones)
    others = a.op("Select", rows.sure_pivot, a.op("ZerosLike", rows.e), rows.e)
    at_pivot = a.cast(rows.sure_pivot, _BOOL, a.dtype)
    numerator = a.op(
        "Sub",
        a.op("Mul", others, a.column(factor)),
        a.op("Mul", at_pivot, a.column(rows.w)),
    )
    total = a.op("Add", rows.w, a.number(1))
    probabilities = a.op("RealDiv", numerator, a.column(total))
    return a.op("Add", probabilities, a.op("Sub", at_pivot, labels))


def _sparse(a: Arithmetic, logits: str, labels: str):
    """(loss, output 1) of integer labels [batch_size], of the index dtype.

    An invalid label makes GatherNd raise InvalidArgumentError on a CPU, and its row NaN elsewhere.
    """
    rows = _Rows(a, logits)
    in_range = a.nodes.add(
        "LogicalAnd",
        [
            a.nodes.add("Less", [labels, rows.columns], T=a.index_dtype),
            a.nodes.add("GreaterEqual", [labels, a.integer(0)], T=a.index_dtype),
        ],
    )
    nans = a.op("Add", rows.w, a.number(float("nan")))
    rows.w = a.op("Select", in_range, rows.w, nans)
    at_label = a.take(rows.shifted, a.entries(rows.count, labels))
    hit = a.nodes.add(
        "LogicalAnd",
        [rows.sure, a.nodes.add("Equal", [labels, rows.pivot], T=a.index_dtype)],
    )
    difference = rows.difference(a, at_label)
    difference = a.op("Select", hit, a.op("ZerosLike", difference), difference)
    loss = a.op("Sub", a.op("Log1p", rows.w), difference)
    one_hot = a.one_hot(labels, rows.columns, a.number(1), a.number(0), a.dtype)
    return loss, _output_1(a, rows, one_hot)


def _dense(a: Arithmetic, logits: str, labels: str):
    """(loss, output 1) of labels that broadcast against the logits.

    A class with a logit of -inf and a label of 0 adds nothing, where 0 times inf would be NaN.
    """
    rows = _Rows(a, logits)
    shift = a.op("Select", rows.sure, rows.c, a.op("ZerosLike", rows.c))
    d = a.op("Sub", rows.shifted, a.column(shift))
    d = a.op("Select", rows.sure_pivot, a.op("ZerosLike", d), d)
    terms = a.op("Sub", a.column(a.op("Log1p", rows.w)), d)
    # Both have the shape of the broadcast, which Select does not do.
    nothing = a.op("ZerosLike", a.op("Add", terms, labels))
    terms, labels = a.op("Add", terms, nothing), a.op("Add", labels, nothing)
    left_out = a.nodes.add(
        "LogicalAnd",
        [
            a.op("Equal", labels, a.number(0)),
            a.op("Equal", terms, a.number(float("inf"))),
        ],
    )
    terms = a.op("Select", left_out, nothing, terms)
    loss = a.row_sum(a.op("Mul", labels, terms))
    return loss, _output_1(a, rows, labels)


def _cast(nodes, inputs, source, target):
    types = {"SrcT": DataType(source), "DstT": DataType(target)}
    return nodes.add("Cast", inputs, Truncate=False, **types)


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
        logits = _cast(nodes, [logits, *controls], dtype, _FLOAT32)
    else:
        logits = nodes.add("Identity", [logits, *controls], T=DataType(dtype))
    nodes.anchor = logits
    computed = _FLOAT32 if narrow else dtype
    if op_type == _tf.SPARSE_OP:
        outputs = _sparse(Arithmetic(nodes, computed, labels_dtype), logits, labels)
    else:
        labels = _cast(nodes, [labels], dtype, _FLOAT32) if narrow else labels
        outputs = _dense(Arithmetic(nodes, computed, _INT32), logits, labels)
    if narrow:
        outputs = tuple(_cast(nodes, [output], _FLOAT32, dtype) for output in outputs)
    return outputs
