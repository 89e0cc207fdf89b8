"""What several rules read of an expression: factors, numbers, names, ranks, calls of losses."""

from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple

import libcst as cst

from tf1xent.migrate.context import Arguments, Context, arguments
from tf1xent.migrate.roles import LABELS, LIKELY, SURE, words_of
from tf1xent.migrate.rules.functions import Function, called_function

LOGS = frozenset(["tf.log", "tf.math.log"])
SOFTMAXES = frozenset(
    ["tf.nn.softmax", "tf.math.softmax", "tf.contrib.layers.softmax", "tf.contrib.slim.softmax"]
)
LOG_SOFTMAXES = frozenset(["tf.nn.log_softmax", "tf.math.log_softmax"])
SUMS = frozenset(["tf.reduce_sum", "tf.math.reduce_sum"])
MEANS = frozenset(["tf.reduce_mean", "tf.math.reduce_mean"])
PRODUCTS = frozenset(["tf.multiply", "tf.math.multiply", "tf.mul"])
_NEGATIVES = frozenset(["tf.negative", "tf.math.negative", "tf.neg"])
CASTS = frozenset(["tf.cast", "tf.to_float", "tf.identity", "tf.stop_gradient"])
# Functions whose first argument's rank is that of their result.
_KEEP_RANK = frozenset(
    """tf.cast tf.to_float tf.to_int32 tf.to_int64 tf.identity tf.stop_gradient tf.nn.bias_add
    tf.nn.relu tf.nn.dropout tf.nn.softmax tf.nn.log_softmax tf.log tf.math.log tf.clip_by_value
    tf.layers.dense tf.contrib.layers.fully_connected tf.contrib.slim.fully_connected
    tf.contrib.layers.linear tf.layers.dropout tf.Variable tf.convert_to_tensor tf.add tf.multiply
    tf.maximum tf.subtract tf.math.add tf.math.multiply""".split()
)
_RANK_2 = frozenset(
    """tf.nn.xw_plus_b tf.layers.flatten tf.contrib.layers.flatten tf.contrib.slim.flatten
    """.split()
)
# The position of a shape that is a list.
_SHAPED = {
    "tf.reshape": 1,
    "tf.placeholder": 1,
    "tf.placeholder_with_default": 1,
    "tf.get_variable": 1,
    "tf.zeros": 0,
    "tf.ones": 0,
    "tf.random_normal": 0,
    "tf.random_uniform": 0,
    "tf.truncated_normal": 0,
    "tf.random.normal": 0,
    "tf.random.truncated_normal": 0,
    "tf.random.uniform": 0,
}
_REDUCTION = ("input_tensor", "axis", "keepdims", "name", "reduction_indices", "keep_dims")

LABEL_WORDS = SURE[LABELS] | LIKELY[LABELS] | frozenset(["hot", "lbls", "groundtruth"])
NO_LABEL_WORDS = frozenset(
    """weight weights mask smoothing confidence pred preds predict predicted prediction predictions
    hat conv out output outputs logit logits prob probs length lengths""".split()
)
PROBABILITY_WORDS = frozenset(
    """p prob probs probability probabilities pred preds prediction predictions predict softmax
    conv hat yhat ypred output outputs""".split()
)
MASK_WORDS = frozenset("mask masks masked".split())
WEIGHT_WORDS = frozenset("weight weights".split())
CLASS_WORDS = frozenset("class classes cls label labels pos balance balanced balancing".split())
EPSILON_WORDS = frozenset("eps epsilon tiny small".split())


def words(node: cst.CSTNode) -> FrozenSet[str]:
    """Returns the words of a name: {"batch", "y"} of ``self.batch_y`` and of ``batchY[0]``."""
    while isinstance(node, cst.Subscript):
        node = node.value
    if isinstance(node, cst.Attribute):
        node = node.attr
    if not isinstance(node, cst.Name):
        return frozenset()
    return words_of(node.value)


def number(node: cst.CSTNode, context: Context) -> Optional[float]:
    """Returns the number that an expression is, also through names, or None."""
    if isinstance(node, (cst.Name, cst.Attribute)):
        node = context.value(node)
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = number(node.expression, context)
        return None if inner is None else -inner
    if isinstance(node, cst.Integer):
        return float(int(node.value, 0)) if node.value.strip("0_") else 0.0
    return float(node.value) if isinstance(node, cst.Float) else None


def is_name(node: cst.CSTNode) -> bool:
    """Whether an expression is a name or an attribute of names."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return isinstance(node, cst.Name)


def bare(node: cst.BaseExpression) -> cst.BaseExpression:
    """Returns an expression without the parentheses around it, where it needs none."""
    return node.with_changes(lpar=[], rpar=[]) if node.lpar else node


def product(
    node: cst.BaseExpression, context: Context, follow: bool = True
) -> Tuple[int, List[cst.BaseExpression]]:
    """Returns the sign and the factors of a product; of one factor for what is none.

    A name stands for its factors if it holds a product or a negation, or was multiplied in place.
    """
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        if not isinstance(node.expression, (cst.Integer, cst.Float)):
            sign, factors = product(node.expression, context, follow)
            return -sign, factors
        return (-1, []) if number(node.expression, context) == 1 else (1, [node])
    called = context.called(node)
    if called in _NEGATIVES:
        assert isinstance(node, cst.Call)
        given = arguments(node, ("x", "name"))
        if given is not None and set(given) == {"x"}:
            sign, factors = product(given["x"], context, follow)
            return -sign, factors
    both = _both_factors(node, called)
    if both is not None:
        (sign, left), (other, right) = (product(one, context, follow) for one in both)
        return sign * other, left + right
    if follow and is_name(node):
        line = context.line(node, node)
        small = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
        if isinstance(small, cst.AugAssign) and isinstance(small.operator, cst.MultiplyAssign):
            sign, factors = _before(node, small, context)
            other, right = product(small.value, context)
            return sign * other, factors + right
        held = context.value(node)
        if held is not node and (sign_or_product(held, context)):
            return product(held, context)
    return 1, [node]


def _before(
    name: cst.BaseExpression, small: cst.AugAssign, context: Context
) -> Tuple[int, List[cst.BaseExpression]]:
    """Returns the factors that a name has before it is multiplied in place."""
    line = context.line(name, small.value)
    earlier = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
    if isinstance(earlier, cst.Assign):
        return product(earlier.value, context)
    return 1, [small.target]


def sign_or_product(node: cst.CSTNode, context: Context) -> bool:
    """Whether an expression is a product or has a sign."""
    called = context.called(node)
    return (
        isinstance(node, cst.UnaryOperation)
        or called in _NEGATIVES
        or _both_factors(node, called) is not None
    )


def _both_factors(node: cst.CSTNode, called: Optional[str]) -> Any:
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        return node.left, node.right
    if called in PRODUCTS:
        assert isinstance(node, cst.Call)
        given = arguments(node, ("x", "y", "name"))
        if given is not None and "x" in given and "y" in given:
            return given["x"], given["y"]
    return None


def product_around(
    node: cst.BaseExpression, context: Context
) -> Tuple[cst.BaseExpression, cst.CSTNode]:
    """Returns the whole product in which a node is a factor, and what that belongs to."""
    top: Any = node
    while True:
        outer = context.parents[top]
        if isinstance(outer, cst.Arg):
            outer = context.parents[outer]
        if not sign_or_product(outer, context):
            return top, outer
        top = outer


class Softmax(NamedTuple):
    """A call of softmax or log_softmax.

    Attributes:
      call: the call.
      logits: its argument.
      axis: -1 by default; None if it is no number.
      axis_as_written: None by default.
      named: whether the operation has a name.
    """

    call: cst.Call
    logits: cst.BaseExpression
    axis: Optional[int]
    axis_as_written: Optional[cst.BaseExpression]
    named: bool


def softmax(
    node: cst.CSTNode, context: Context, names: FrozenSet[str] = SOFTMAXES
) -> Optional[Softmax]:
    """Returns what a call of softmax is given."""
    called = context.called(node)
    if called not in names:
        return None
    assert isinstance(node, cst.Call)
    contrib = str(called).startswith("tf.contrib.")  # has no axis
    given = arguments(node, ("logits",) if contrib else ("logits", "axis", "name", "dim"))
    if given is None or "logits" not in given or {"axis", "dim"} <= set(given):
        return None
    written = given.get("axis", given.get("dim"))
    if written is None or _is_none(written):
        return Softmax(node, given["logits"], -1, None, "name" in given)
    axis = number(written, context)
    found = None if axis is None else int(axis)
    return Softmax(node, given["logits"], found, written, "name" in given)


class Reduction(NamedTuple):
    """A call of reduce_sum or reduce_mean.

    Attributes:
      call: the call.
      mean: whether it is a mean.
      operand: what is reduced.
      axis: the axes as written; None for all.
      keeps: whether axes of one stay, or may.
      name: that of the operation.
    """

    call: cst.Call
    mean: bool
    operand: cst.BaseExpression
    axis: Optional[cst.BaseExpression]
    keeps: bool
    name: Optional[cst.BaseExpression]


def reduction(node: cst.CSTNode, context: Context) -> Optional[Reduction]:
    """Returns what a call of reduce_sum or reduce_mean does, or None."""
    called = context.called(node)
    if called not in SUMS and called not in MEANS:
        return None
    assert isinstance(node, cst.Call)
    given = arguments(node, _REDUCTION)
    if given is None or "input_tensor" not in given:
        return None
    axis = given.get("axis", given.get("reduction_indices"))
    keep = given.get("keepdims", given.get("keep_dims"))
    return Reduction(
        node,
        called in MEANS,
        given["input_tensor"],
        None if axis is None or _is_none(axis) else axis,
        not (keep is None or isinstance(keep, cst.Name) and keep.value in ("False", "None")),
        given.get("name"),
    )


def single_axis(axis: cst.BaseExpression, context: Context) -> Optional[int]:
    """Returns the axis of ``1``, ``[1]`` and ``(-1,)``."""
    if isinstance(axis, (cst.List, cst.Tuple)):
        if len(axis.elements) != 1:
            return None
        axis = axis.elements[0].value
    found = number(axis, context)
    return None if found is None else int(found)


def rank(node: cst.CSTNode, context: Context, depth: int = 8) -> Optional[int]:
    """Returns the number of axes of a tensor where the source says it, or None."""
    if depth == 0:
        return None
    if is_name(node):
        held = context.value(node)  # type: ignore[arg-type]
        return None if held is node else rank(held, context, depth - 1)
    if isinstance(node, cst.BinaryOperation):
        sides = [rank(side, context, depth - 1) for side in (node.left, node.right)]
        return max((side for side in sides if side is not None), default=None)
    called = context.called(node)
    if called is None:
        return None
    assert isinstance(node, cst.Call)
    if called in _RANK_2:
        return 2
    first = node.args[0].value if node.args else None
    if called in ("tf.matmul", "tf.linalg.matmul"):
        ranks = {rank(argument.value, context, depth - 1) for argument in node.args[:2]}
        return (ranks - {None} or {2}).pop() if len(ranks - {None}) < 2 else None
    if called == "tf.one_hot" and first is not None:
        inner = rank(first, context, depth - 1)
        return None if inner is None else inner + 1
    if called in _SHAPED:
        return _length(node, _SHAPED[called], context)
    return rank(first, context, depth - 1) if called in _KEEP_RANK and first is not None else None


def _length(call: cst.Call, position: int, context: Context) -> Optional[int]:
    shapes = [one.value for one in call.args if one.keyword and one.keyword.value == "shape"]
    if not shapes and len(call.args) > position and call.args[position].keyword is None:
        shapes = [call.args[position].value]
    held = context.value(shapes[0]) if shapes else None
    return len(held.elements) if isinstance(held, (cst.List, cst.Tuple)) else None


def _is_none(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"


class Loss(NamedTuple):
    """A call of a cross-entropy from logits.

    Attributes:
      call: the call.
      labels: what it is given as labels, if anything.
      logits: what it is given as logits.
      sparse: whether the labels are integers.
      sigmoid: whether it is made of sigmoids and not of a softmax.
      by_row: whether it returns one loss by row, and takes no weights.
      arguments: all arguments.
    """

    call: cst.Call
    labels: Optional[cst.BaseExpression]
    logits: cst.BaseExpression
    sparse: bool
    sigmoid: bool
    by_row: bool
    arguments: Arguments


_SIGMOIDS: Dict[str, Function] = {
    one.name: one
    for one in (
        Function(
            "tf.nn.sigmoid_cross_entropy_with_logits",
            "",
            ("labels", "logits", "name"),
            keywords_only=True,
        ),
        Function(
            "tf.nn.weighted_cross_entropy_with_logits",
            "",
            ("targets", "logits", "pos_weight", "name"),
            labels="targets",
        ),
        Function(
            "tf.losses.sigmoid_cross_entropy",
            "",
            ("multi_class_labels", "logits", "weights"),
            labels="multi_class_labels",
        ),
        Function(
            "tf.contrib.losses.sigmoid_cross_entropy",
            "",
            ("logits", "multi_class_labels", "weights"),
            labels="multi_class_labels",
        ),
    )
}


def loss(node: cst.CSTNode, context: Context) -> Optional[Loss]:
    """Returns what a call of TensorFlow's or tf1xent's cross-entropy is given, or None."""
    sigmoid = _SIGMOIDS.get(context.called(node) or "")
    function = sigmoid or called_function(node, context)
    if function is None:
        return None
    assert isinstance(node, cst.Call)
    given = arguments(node, () if function.keywords_only else function.parameters)
    if given is None or function.logits not in given:
        return None
    return Loss(
        node,
        given.get(function.labels),
        given[function.logits],
        sparse="sparse" in function.name or function.name.endswith("sequence_loss"),
        sigmoid=sigmoid is not None,
        by_row=".nn." in function.name and sigmoid is None,
        arguments=given,
    )


def loses_comments(old: cst.CSTNode, new: cst.CSTNode) -> bool:
    """Whether a comment within a node is not in what takes its place."""
    return _comments(old) > _comments(new)


def _comments(node: cst.CSTNode) -> int:
    if isinstance(node, cst.Comment):
        return 1
    return sum(_comments(child) for child in node.children)
