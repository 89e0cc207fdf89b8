"""Masks that are multiplied onto losses, or added to logits."""

from typing import Iterator, List, Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules import reading
from tf1xent.migrate.rules.softmax_as_logits import given_to

_SHAPERS = frozenset(["tf.reshape", "tf.expand_dims", "tf.squeeze"])
# What is added to logits to leave classes out is at least this large.
_LEAST_ADDED = 1e3
_STEPS = 6


def is_mask(node: cst.BaseExpression, context: Context) -> bool:
    """Whether an expression is plainly a mask: by its name, or made by sequence_mask."""
    if reading.words(node) & reading.MASK_WORDS:
        return True
    for one in (node, context.value(node)):
        called = context.called(one)
        if called == "tf.sequence_mask":
            return True
        if called in reading.CASTS | _SHAPERS:
            assert isinstance(one, cst.Call)
            if one.args and is_mask(one.args[0].value, context):
                return True
    return False


def _match(node: cst.CSTNode, context: Context) -> Optional[Match]:
    loss: Optional[reading.Loss] = context.once(reading.loss, node)
    if loss is None or not loss.by_row:
        return None
    found = _mask_of(loss.call, context)
    if found is None:
        return None
    kind = "sparse_softmax" if loss.sparse else "softmax"
    name = f"tf1xent.nn.masked_{kind}_cross_entropy_with_logits"
    message = (
        f"this loss is multiplied by `{context.code(found)}`: a NaN or inf in a masked row stays, "
        f"0 * NaN = NaN; {name}(mask=...) does not read such rows"
    )
    mask = _as_here(found, loss.call, context)
    if (
        mask is None
        or context.to_stock
        or loss.labels is None
        or not set(loss.arguments) <= {"labels", "logits", "name"}
    ):
        return Match(message)
    given = [("labels", loss.labels), ("logits", loss.logits), ("mask", mask)]
    given += [(one, loss.arguments[one]) for one in ("name",) if one in loss.arguments]
    new = context.call_in_place(node, name, given)
    return Match(message, None if reading.loses_comments(node, new) else new)


def _mask_of(call: cst.Call, context: Context) -> Optional[cst.BaseExpression]:
    """Returns the mask that a loss is multiplied by, there or behind its name."""
    for factors in _products(call, context):
        for factor in factors:
            if is_mask(factor, context):
                return factor
    return None


def _products(call: cst.Call, context: Context) -> Iterator[List[cst.BaseExpression]]:
    yield _factors_around(call, context)
    outer = context.parents[call]
    if not isinstance(outer, cst.Assign) or len(outer.targets) != 1:
        return
    target = outer.targets[0].target
    if not isinstance(target, cst.Name):
        return
    for use in context.uses(target):
        small = context.parents[use]
        if isinstance(small, cst.AugAssign) and small.target is use:
            if isinstance(small.operator, cst.MultiplyAssign):
                yield [small.value]
        else:
            yield _factors_around(use, context)


def _factors_around(node: cst.BaseExpression, context: Context) -> List[cst.BaseExpression]:
    """Returns the other factors of the product in which a node stands."""
    top, _ = reading.product_around(node, context)
    factors = reading.product(top, context, follow=False)[1]
    return [one for one in factors if one is not node]


def _as_here(
    mask: cst.BaseExpression, place: cst.CSTNode, context: Context
) -> Optional[cst.BaseExpression]:
    """Returns what, at an earlier place, is not 0 where a mask is not 0; None if unsure."""
    for _ in range(_STEPS):
        while context.called(mask) in reading.CASTS:
            assert isinstance(mask, cst.Call)
            if not mask.args:
                return None
            mask = mask.args[0].value
        if reading.is_name(mask) and context.usable(mask, place):
            return mask.deep_clone()
        before = _before_scaling(mask, context)
        if before is None:
            return None
        mask = before
    return None


def _before_scaling(mask: cst.BaseExpression, context: Context) -> Optional[cst.BaseExpression]:
    """Returns what a name was cast or divided from, or what a quotient divides."""
    if isinstance(mask, cst.BinaryOperation) and isinstance(mask.operator, cst.Divide):
        return mask.left
    line = context.line(mask, mask) if reading.is_name(mask) else None
    small = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
    if isinstance(small, cst.AugAssign) and isinstance(small.operator, cst.DivideAssign):
        return small.target
    if isinstance(small, cst.Assign):
        return small.value
    return None


def divisor_of(mask: cst.BaseExpression, context: Context) -> Optional[cst.BaseExpression]:
    """Returns what a mask was divided by, or None."""
    line = context.line(mask, mask) if reading.is_name(mask) else None
    small = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
    divisor: Optional[cst.BaseExpression] = None
    if isinstance(small, cst.AugAssign) and isinstance(small.operator, cst.DivideAssign):
        divisor = small.value
    elif isinstance(small, cst.Assign) and isinstance(small.value, cst.BinaryOperation):
        if isinstance(small.value.operator, cst.Divide):
            divisor = small.value.right
    return None if divisor is None else context.value(divisor)


def _match_added(node: cst.CSTNode, context: Context) -> Optional[Match]:
    loss = given_to(node, context)
    if loss is None or loss.sigmoid:
        return None
    assert isinstance(node, cst.BaseExpression)
    held = context.value(node)
    if not isinstance(held, cst.BinaryOperation) or not isinstance(
        held.operator, (cst.Add, cst.Subtract)
    ):
        return None
    for side in (held.left, held.right):
        for factor in reading.product(side, context)[1]:
            added = reading.number(factor, context)
            if added is not None and abs(added) >= _LEAST_ADDED:
                return Match(
                    f"`{context.code(side)}` is added to the logits to leave classes out: "
                    "right as it is; class_mask=... of tf1xent's losses needs no such number"
                )
    return None


RULES = (
    Rule(
        code="TX303",
        title="a loss multiplied by a mask",
        verdict=Verdict.FIXED,
        meaning="0 * NaN is NaN: what stands in a masked row still reaches the loss and, by its "
        "gradient, every weight. With mask= such rows are not read. The fix keeps the "
        "multiplication, and with it the denominator: finite rows compute the same.",
        before="loss = tf.reduce_mean(mask * tf.nn.sparse_softmax_cross_entropy_with_logits(\n"
        "    labels=y, logits=z\n"
        "))",
        after="loss = tf.reduce_mean(mask * "
        "tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits(\n"
        "    labels=y, logits=z, mask=mask\n"
        "))",
        words=("_cross_entropy",),
        nodes=(cst.Call,),
        match=_match,
    ),
    Rule(
        code="TX402",
        title="a mask added to logits",
        verdict=Verdict.REPORTED,
        meaning="A large negative number leaves a class out as long as it is larger than every "
        "logit. class_mask= says the same without a number.",
        before="loss = tf.nn.sparse_softmax_cross_entropy_with_logits(\n"
        "    labels=y, logits=z + (1.0 - mask) * -1e9\n"
        ")",
        after=None,
        words=("_cross_entropy",),
        nodes=(cst.Call, cst.Name, cst.Attribute, cst.BinaryOperation),
        match=_match_added,
    ),
)
