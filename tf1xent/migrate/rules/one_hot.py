"""One-hot rows given to the dense loss, where the sparse one takes the labels themselves."""

from typing import Optional

import libcst as cst

from tf1xent.migrate.context import Context, arguments
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules.functions import (
    DENSE,
    DENSE_V2,
    FUNCTIONS,
    SPARSE,
    called_function,
    has_stars,
    positional,
    with_keywords,
    with_value,
)
from tf1xent.migrate.rules.order import swapped

_DENSE = frozenset(
    name for dense in (DENSE, DENSE_V2) for name in (dense, FUNCTIONS[dense].becomes)
)
_ONE_HOT = ("indices", "depth", "on_value", "off_value", "axis", "dtype", "name")
_NEUTRAL = {
    "on_value": ("1", "1.0", "1."),
    "off_value": ("0", "0.0", "0."),
    "axis": ("-1", "None"),
    "dtype": None,  # any: the loss casts
    "name": None,
}


def _one_hot(node: cst.CSTNode, context: Context) -> Optional[Match]:
    if context.called(node) not in _DENSE:
        return None
    function = called_function(node, context)
    assert isinstance(node, cst.Call) and function is not None
    if has_stars(node) or has_stars(node, "**") or positional(node) and function.keywords_only:
        return None
    given = arguments(node, function.parameters) or {}
    if not {"labels", "logits"} <= set(given) or not set(given) <= {"labels", "logits", "name"}:
        return None
    labels = _numbers(given["labels"], context)
    if labels is None or swapped(node, function, context) is not None:
        return None
    message = (
        "one-hot rows: the sparse loss takes the labels themselves; a label outside the range is "
        "an error there, and a loss of 0 here"
    )
    if not context.usable(labels, node):
        return Match(message)
    if context.to_stock and not function.name.startswith("tf1xent."):
        target = SPARSE
    else:
        target = FUNCTIONS[SPARSE].becomes
    new = with_keywords(node, function.parameters)
    return Match(message, with_value(new, "labels", labels).with_changes(func=context.path(target)))


def _numbers(labels: cst.BaseExpression, context: Context) -> Optional[cst.BaseExpression]:
    """Returns what one-hot rows are made of, if they are 1 and 0 and the last axis is theirs."""
    value = context.value(labels)
    while context.called(value) in ("tf.cast", "tf.to_float"):
        assert isinstance(value, cst.Call)
        value = context.value(value.args[0].value)
    if context.called(value) != "tf.one_hot":
        return None
    assert isinstance(value, cst.Call)
    given = arguments(value, _ONE_HOT) or {}
    for name, argument in given.items():
        allowed = _NEUTRAL.get(name)
        if allowed is not None and context.code(argument) not in allowed:
            return None
    return given.get("indices")


RULES = (
    Rule(
        code="TX311",
        title="one_hot and the dense loss",
        verdict=Verdict.FIXED,
        meaning=(
            "Often written because TensorFlow's sparse op had no Hessian; tf1xent's has. It is "
            "reported only, since labels outside the range have rows of zeros and so a loss of 0, "
            "and are an error in the sparse loss."
        ),
        before=(
            "loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.one_hot(y, 10), logits=z)"
        ),
        after="loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)",
        words=("softmax_cross_entropy",),
        nodes=(cst.Call,),
        match=_one_hot,
    ),
)
