"""Cross-entropies written by hand."""

from typing import Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict


def _log_of_softmax(node: cst.CSTNode, context: Context) -> Optional[Match]:
    if context.called(node) not in ("tf.log", "tf.math.log"):
        return None
    assert isinstance(node, cst.Call)
    if len(node.args) != 1:
        return None
    inner = context.value(node.args[0].value)
    if context.called(inner) != "tf.nn.softmax" or inner is not node.args[0].value:
        return None
    assert isinstance(inner, cst.Call)
    new = inner.with_changes(func=context.path("tf.nn.log_softmax"))
    return Match("log(softmax(x)) is -inf where log_softmax(x) is finite", new)


RULES = (
    Rule(
        code="TX201",
        title="log of a softmax",
        verdict=Verdict.REWRITTEN,
        meaning="From a gap of 87 between logits on, float32 has -inf and NaN here.",
        before="p = tf.log(tf.nn.softmax(z))",
        after="p = tf.nn.log_softmax(z)",
        words=("log(",),
        nodes=(cst.Call,),
        match=_log_of_softmax,
    ),
)
