"""Calls of TensorFlow's reduced losses: tf.losses, tf.contrib.losses and slim.losses."""

from typing import Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules.calls import renamed
from tf1xent.migrate.rules.functions import (
    CONTRIB_LOSSES,
    called_function,
    fits,
    has_stars,
    with_keywords,
    with_renamed_keywords,
)
from tf1xent.migrate.rules.moving import moved
from tf1xent.migrate.rules.order import swapped


def _losses(node: cst.CSTNode, context: Context) -> Optional[Match]:
    names = ("tf.losses.sparse_softmax_cross_entropy", "tf.losses.softmax_cross_entropy")
    return renamed(node, context, *names)


def _contrib(node: cst.CSTNode, context: Context) -> Optional[Match]:
    function = called_function(node, context)
    if function is None or function.name not in CONTRIB_LOSSES:
        return None
    assert isinstance(node, cst.Call)
    if swapped(node, function, context) is not None:
        return None
    # `weight` was the name before TF 0.12.
    call = with_renamed_keywords(node, {"weight": "weights"})
    if has_stars(call) or not fits(call, function.parameters):
        return Match(
            f"takes (logits, {function.labels}), and tf.losses takes ({function.labels}, logits): "
            "write keywords"
        )
    new = moved(with_keywords(call, function.parameters), function, context)
    assert new is not None
    return Match(f"becomes {context.code(new.func)}, by keywords: the order differs", new)


RULES = (
    Rule(
        code="TX104",
        title="tf.losses' softmax cross-entropies",
        verdict=Verdict.REWRITTEN,
        meaning=(
            "The same arguments, value and collection, more accurate, with derivatives of every "
            "order. float64 stays float64, where tf.losses computes in float32."
        ),
        before="loss = tf.losses.sparse_softmax_cross_entropy(y, z, weights=w)",
        after="loss = tf1xent.losses.sparse_softmax_cross_entropy(y, z, weights=w)",
        words=("softmax_cross_entropy",),
        nodes=(cst.Call,),
        match=_losses,
    ),
    Rule(
        code="TX105",
        title="tf.contrib.losses' and slim.losses' softmax cross-entropies",
        verdict=Verdict.REWRITTEN,
        meaning=(
            "tf.contrib is gone from TF 2.x. The same value, by the same number of rows, in the "
            "same collection. These take (logits, labels), and their successors (labels, logits): "
            "the arguments get keywords. float64 stays float64."
        ),
        before="loss = tf.contrib.losses.softmax_cross_entropy(z, y)",
        after="loss = tf1xent.losses.softmax_cross_entropy(logits=z, onehot_labels=y)",
        words=("softmax_cross_entropy",),
        nodes=(cst.Call,),
        match=_contrib,
    ),
)
