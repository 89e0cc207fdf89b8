"""What a masked or weighted loss is divided by, and what that is called."""

from typing import Any, List, Optional, Tuple

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules import reading
from tf1xent.migrate.rules.masks import divisor_of, is_mask

_GUARDS = frozenset(["tf.maximum", "tf.add"])
_BATCH_WORDS = frozenset(["batch", "batchsize"])
_REDUCTION = "tf1xent.losses.Reduction"


def _match(node: cst.CSTNode, context: Context) -> Optional[Match]:
    found = _mean(node, context) or _quotient(node, context)
    return None if found is None else Match(found)


def _mean(node: cst.CSTNode, context: Context) -> Optional[str]:
    found = reading.reduction(node, context)
    if found is None or not found.mean or found.axis is not None:
        return None
    weights = _weights(found.operand, context)
    if weights is None:
        return None
    written = context.code(weights)
    divided = divisor_of(weights, context)
    if divided is not None and context.called(divided) not in reading.MEANS:
        return None  # divided twice, by what has no name here
    if divided is not None:
        return (
            f"divides by the sum of `{written}` before it was divided by its mean: that is "
            f"{_REDUCTION}.MEAN, and NaN where nothing counts"
        )
    return (
        f"divides by the number of all rows, whatever `{written}` says of them: that is "
        f"{_REDUCTION}.SUM_OVER_BATCH_SIZE; by the sum of `{written}` it is .MEAN"
    )


def _quotient(node: cst.CSTNode, context: Context) -> Optional[str]:
    sides = _sides(node, context)
    if sides is None:
        return None
    total = reading.reduction(context.value(sides[0]), context)
    if total is None or total.mean or total.axis is not None:
        return None
    weights = _weights(total.operand, context)
    if weights is None:
        return None
    written = context.code(weights)
    divisor = _plain(sides[1], context)
    count = reading.reduction(divisor, context)
    if count is not None and not count.mean and count.axis is None:
        if context.code(_plain(count.operand, context)) == context.code(_plain(weights, context)):
            return (
                f"divides by the sum of `{written}`: that is {_REDUCTION}.MEAN, 0 where it is 0/0"
            )
        return None
    if context.called(divisor) == "tf.size":
        return f"divides by the number of all rows: that is {_REDUCTION}.SUM_OVER_BATCH_SIZE"
    if (reading.words(sides[1]) | reading.words(_uncast(sides[1], context))) & _BATCH_WORDS:
        return (
            f"divides by the batch size, not by what `{written}` counts: {_REDUCTION}.SUM over the "
            "batch size; learning rates may be tuned to it. By the rows that count it is .MEAN"
        )
    return None


def _sides(node: cst.CSTNode, context: Context) -> Optional[Tuple[Any, Any]]:
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Divide):
        return node.left, node.right
    if context.called(node) in ("tf.div", "tf.divide", "tf.truediv", "tf.math.divide"):
        assert isinstance(node, cst.Call)
        if len(node.args) == 2 and not any(argument.star for argument in node.args):
            return node.args[0].value, node.args[1].value
    return None


def _weights(node: cst.BaseExpression, context: Context) -> Optional[cst.BaseExpression]:
    """Returns the mask or the weights that a loss by row is multiplied by, or None."""
    factors: List[cst.BaseExpression] = reading.product(node, context)[1]
    losses = [context.once(reading.loss, context.value(factor)) for factor in factors]
    if sum(loss is not None and loss.by_row for loss in losses) != 1:
        return None
    for factor, loss in zip(factors, losses):
        is_weight = bool(reading.words(factor) & reading.WEIGHT_WORDS)
        if loss is None and (is_weight or is_mask(factor, context)):
            return factor
    return None


def _uncast(node: cst.BaseExpression, context: Context) -> cst.BaseExpression:
    while context.called(node) in reading.CASTS:
        assert isinstance(node, cst.Call)
        if not node.args:
            break
        node = node.args[0].value
    return node


def _plain(node: cst.BaseExpression, context: Context) -> cst.BaseExpression:
    """Returns a divisor without names, casts and what keeps it from 0."""
    for _ in range(4):
        node = context.value(node)
        called = context.called(node)
        if called in reading.CASTS or called in _GUARDS:
            assert isinstance(node, cst.Call)
            node = node.args[0].value if node.args else node
        elif isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
            node = node.left
    return node


RULES = (
    Rule(
        code="TX304",
        title="the denominator of a masked loss",
        verdict=Verdict.REPORTED,
        meaning="Means of masked losses differ in what they divide by, and learning rates are "
        "tuned to it. What is written is named; `reduction=` of tf1xent's losses takes the names.",
        before="loss = tf.reduce_mean(mask * tf.nn.sparse_softmax_cross_entropy_with_logits(\n"
        "    labels=y, logits=z\n"
        "))",
        after=None,
        words=("_cross_entropy",),
        nodes=(cst.Call, cst.BinaryOperation),
        match=_match,
    ),
)
