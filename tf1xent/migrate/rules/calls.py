"""Calls of TensorFlow's own cross-entropy functions."""

from typing import Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict


def _sparse(node: cst.CSTNode, context: Context) -> Optional[Match]:
    if context.called(node) != "tf.nn.sparse_softmax_cross_entropy_with_logits":
        return None
    assert isinstance(node, cst.Call)
    if context.to_stock:
        return None
    name = "tf1xent.nn.sparse_softmax_cross_entropy_with_logits"
    return Match(f"becomes {name}", node.with_changes(func=context.path(name)))


RULES = (
    Rule(
        code="TX101",
        title="TensorFlow's sparse softmax cross-entropy",
        verdict=Verdict.REWRITTEN,
        meaning="Same value; derivatives of every order exist.",
        before="loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)",
        after="loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)",
        words=("sparse_softmax_cross_entropy_with_logits",),
        nodes=(cst.Call,),
        match=_sparse,
    ),
)
