"""Which argument are the labels and which the logits, where only their names can tell."""

import re
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

import libcst as cst

if TYPE_CHECKING:
    from tf1xent.migrate.context import Context

LABELS, LOGITS = "labels", "logits"
_OTHER = {LABELS: LOGITS, LOGITS: LABELS}

# Words of names. Who writes one of the sure ones means it; of the others both must speak.
SURE = {
    LOGITS: frozenset(["logit", "logits"]),
    LABELS: frozenset(["label", "labels", "lbl", "onehot", "target", "targets"]),
}
LIKELY = {
    LOGITS: frozenset(
        """pred preds prediction predictions predict predicted output outputs out score scores
        activation activations hypothesis net dense fc""".split()
    ),
    LABELS: frozenset("y ys yy truth gt true actual correct expected annotation".split()),
}
# What gives its first argument another shape or type.
_SAME = frozenset(
    """tf.reshape tf.cast tf.to_float tf.to_double tf.to_int32 tf.to_int64 tf.squeeze
    tf.expand_dims tf.identity tf.transpose tf.concat tf.stack tf.stop_gradient tf.boolean_mask
    tf.gather tf.slice""".split()
)
_MAKES = {
    "tf.one_hot": LABELS,
    "tf.argmax": LABELS,
    "tf.arg_max": LABELS,
    "tf.placeholder": LABELS,
    "tf.matmul": LOGITS,
    "tf.add": LOGITS,
    "tf.nn.bias_add": LOGITS,
    "tf.nn.xw_plus_b": LOGITS,
    "tf.nn.conv2d": LOGITS,
    "tf.layers.dense": LOGITS,
    "tf.layers.conv2d": LOGITS,
    "tf.contrib.layers.fully_connected": LOGITS,
    "tf.contrib.layers.linear": LOGITS,
    "tf.contrib.slim.fully_connected": LOGITS,
    "tf.contrib.slim.conv2d": LOGITS,
}


class Role(NamedTuple):
    """What an expression is, as far as its names say; `sure` if they leave no doubt."""

    what: Optional[str]
    sure: bool = False


def roles(
    first: cst.BaseExpression, second: cst.BaseExpression, context: "Context"
) -> Optional[Tuple[str, str]]:
    """Returns which of two arguments are LABELS and which LOGITS, or None if that is not clear.

    It is clear if both say it and do not say the same, or if only one says it beyond doubt.
    """
    one, other = role(first, context), role(second, context)
    if one.what is not None and other.what is not None and one.what != other.what:
        return one.what, other.what
    if one.what is not None and one.sure and not other.sure:
        return one.what, _OTHER[one.what]
    if other.what is not None and other.sure and not one.sure:
        return _OTHER[other.what], other.what
    return None


def role(node: cst.BaseExpression, context: "Context") -> Role:
    """Returns what an expression is: by a sure word, else by its value, else by a likely word."""
    node = _inner(node, context)
    name = _name(node)
    words = words_of(name)
    for what in (LOGITS, LABELS):  # "label_logits" are logits
        if not SURE[what].isdisjoint(words):
            return Role(what, sure=True)
    if {"one", "hot"} <= words:
        return Role(LABELS, sure=True)
    value = _inner(context.value(node), context)
    if isinstance(value, cst.BinaryOperation):
        operands = [_inner(side, context) for side in (value.left, value.right)]
        if any(context.called(side) == "tf.matmul" for side in operands):
            return Role(LOGITS)
    made = _MAKES.get(context.called(value) or "")
    if made is not None:
        return Role(made, sure=value is node)  # `tf.argmax(y_, 1)` as the argument
    for what in (LOGITS, LABELS):  # "y_pred" are logits
        if not LIKELY[what].isdisjoint(words):
            return Role(what)
    return Role(None)


def _inner(node: cst.BaseExpression, context: "Context") -> cst.BaseExpression:
    """Returns what is indexed, reshaped or cast, without that."""
    while True:
        if isinstance(node, cst.Subscript):
            node = node.value
        elif isinstance(node, cst.Call) and node.args and context.called(node) in _SAME:
            node = node.args[0].value
            if isinstance(node, (cst.List, cst.Tuple)) and node.elements:
                node = node.elements[0].value
        else:
            return node


def _name(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def words_of(name: str) -> "frozenset[str]":
    """Returns the words of a name, in lower case: of `yPred_2` "y" and "pred"."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name))
