"""Probabilities that are given to a loss as its logits."""

from typing import Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules import reading

_SIGMOIDS = frozenset(["tf.sigmoid", "tf.nn.sigmoid", "tf.math.sigmoid"])
_ACTIVATIONS = ("activation", "activation_fn")


def given_to(node: cst.CSTNode, context: Context) -> Optional[reading.Loss]:
    """Returns the loss that a node is given to as its logits, or None."""
    argument = context.parents[node]
    if not isinstance(argument, cst.Arg):
        return None
    found: Optional[reading.Loss] = context.once(reading.loss, context.parents[argument])
    return found if found is not None and found.logits is node else None


def _match(node: cst.CSTNode, context: Context) -> Optional[Match]:
    loss = given_to(node, context)
    if loss is None:
        return None
    assert isinstance(node, cst.BaseExpression)
    held = context.value(node)
    softmax = reading.softmax(held, context)
    written = context.code(node) if reading.is_name(node) else "this argument"
    if softmax is not None:
        if loss.sigmoid:
            return Match(
                f"`{written}` is a softmax, and the loss takes its sigmoid again: give it the "
                "logits, or take the softmax loss if the classes exclude each other"
            )
        new = softmax.logits if context.usable(softmax.logits, node) else None
        return Match(
            f"`{written}` is a softmax already: with C classes the loss cannot go below "
            "log(C - 1 + e) - 1 (1.46 for 10), and gradients are small; give it the softmax's "
            "argument",
            None if new is None or reading.loses_comments(node, new) else new,
        )
    activation = _activation(held, context)
    if activation is not None:
        return Match(
            f"`{written}` comes from a layer whose activation is {activation}, and the loss has "
            "its own: give that layer no activation"
        )
    if context.called(held) in _SIGMOIDS and loss.sigmoid:
        assert isinstance(held, cst.Call)
        inner = held.args[0].value if held.args else None
        usable = inner is not None and context.usable(inner, node)
        return Match(
            f"`{written}` is a sigmoid already: the loss cannot go below log(1 + 1/e) = 0.31, and "
            "gradients are small; give it the sigmoid's argument",
            inner if usable else None,
        )
    return None


def _activation(node: cst.CSTNode, context: Context) -> Optional[str]:
    """Returns the softmax or sigmoid that a layer ends with, or None."""
    called = context.called(node)
    if called is None or not called.startswith(("tf.layers.", "tf.contrib.")):
        return None
    assert isinstance(node, cst.Call)
    for argument in node.args:
        if argument.keyword is not None and argument.keyword.value in _ACTIVATIONS:
            name = context.name(argument.value)
            if name is not None and name.name in reading.SOFTMAXES | _SIGMOIDS:
                return name.name
    return None


RULES = (
    Rule(
        code="TX301",
        title="a softmax given as logits",
        verdict=Verdict.FIXED,
        meaning="The loss takes the softmax of a softmax. It cannot go below log(C - 1 + e) - 1, "
        "and its gradients are small. Taking the softmax off changes the training: learning rates "
        "that were tuned to it may be too large.",
        before="p = tf.nn.softmax(z)\n"
        "loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=p)",
        after="p = tf.nn.softmax(z)\n"
        "loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)",
        words=("_cross_entropy", "sequence_loss"),
        nodes=(cst.Call, cst.Name, cst.Attribute),
        match=_match,
    ),
)
