"""Class weights that are multiplied onto the logits."""

from typing import Optional, Tuple

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules import reading

_LIST_MAKERS = frozenset(["tf.constant", "tf.convert_to_tensor", "tf.Variable"])


def _match(node: cst.CSTNode, context: Context) -> Optional[Match]:
    if not isinstance(node, cst.Call):
        return None
    loss: Optional[reading.Loss] = context.once(reading.loss, node)
    if loss is None or loss.sigmoid:
        return None
    apart = _weights_and_logits(loss.logits, context)
    if apart is None:
        return None
    weights, logits = apart
    kind = "sparse_softmax" if loss.sparse else "softmax"
    name = f"tf1xent.nn.weighted_{kind}_cross_entropy_with_logits"
    message = (
        f"class weights `{context.code(weights)}` multiply the logits: they change each class's "
        f"temperature, not its share of the loss; meant is {name}(class_weights=...)"
    )
    if reading.softmax(context.value(logits), context) is not None:
        return Match(f"{message}; `{context.code(logits)}` is a softmax: give it the logits too")
    known = {"labels", "logits", "name"}
    if (
        context.to_stock
        or not loss.by_row
        or loss.labels is None
        or not set(loss.arguments) <= known
        or not context.usable(weights, node)
        or not context.usable(logits, node)
    ):
        return Match(message)
    given = [("labels", loss.labels), ("logits", reading.bare(logits))]
    given.append(("class_weights", reading.bare(weights)))
    given += [(one, loss.arguments[one]) for one in ("name",) if one in loss.arguments]
    new = context.call_in_place(node, name, given)
    return Match(message, None if reading.loses_comments(node, new) else new)


def _weights_and_logits(
    node: cst.BaseExpression, context: Context
) -> Optional[Tuple[cst.BaseExpression, cst.BaseExpression]]:
    sign, factors = reading.product(node, context)
    if sign != 1 or len(factors) != 2:
        return None
    for weights, logits in (factors, factors[::-1]):
        if _are_class_weights(weights, logits, context):
            return weights, logits
    return None


def _are_class_weights(
    weights: cst.BaseExpression, logits: cst.BaseExpression, context: Context
) -> bool:
    """Whether one factor is named as class weights, or is a list of weights beside logits."""
    words = reading.words(weights)
    if not words & reading.WEIGHT_WORDS or not reading.is_name(weights):
        return False
    if words & reading.CLASS_WORDS:
        return True
    held = context.value(weights)
    listed = context.called(held) in _LIST_MAKERS
    if listed and isinstance(held, cst.Call) and held.args:
        inner = context.value(held.args[0].value)
        return isinstance(inner, (cst.List, cst.Tuple))
    return bool(reading.words(logits) & {"logit", "logits"})


RULES = (
    Rule(
        code="TX302",
        title="class weights times logits",
        verdict=Verdict.FIXED,
        meaning="Weights on logits scale each class's temperature; a weight of 0 makes the class's "
        "logit 0 and not the class absent. Class weights belong to the loss, where they scale "
        "what a class adds to it. The fix changes the training.",
        before="loss = tf.nn.softmax_cross_entropy_with_logits(\n"
        "    labels=y, logits=z * class_weights\n"
        ")",
        after="loss = tf1xent.nn.weighted_softmax_cross_entropy_with_logits(\n"
        "    labels=y, logits=z, class_weights=class_weights\n"
        ")",
        words=("_cross_entropy", "sequence_loss"),
        nodes=(cst.Call,),
        match=_match,
    ),
)
