"""Cross-entropies written as labels times the log of a softmax."""

from typing import Any, List, NamedTuple, Optional, Set, Tuple

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules import reading
from tf1xent.migrate.rules.log_forms import (
    Form,
    Guard,
    Log,
    apart,
    are_labels,
    around,
    read_log,
    read_signed,
    reason,
    with_operand,
)
from tf1xent.migrate.rules.reading import Reduction, Softmax, bare

# What float32 has no smaller normal number than.
_LEAST_EPSILON = 1.2e-38
# Finite for a logit of -inf beside a label of 0, where log_softmax and TensorFlow's op make a NaN.
_FINITE = (Guard.CLIPPED, Guard.EPSILON)
_DENSE = "nn.softmax_cross_entropy_with_logits_v2"
_FROM_PROBABILITIES = "tf1xent.nn.softmax_cross_entropy_with_probabilities"


_Found = Tuple[Guard, Match]


def _whole(node: cst.CSTNode, context: Context) -> Optional[_Found]:
    """Matches a whole cross-entropy, and makes a call of a loss of it."""
    found = read_signed(node, context)
    if found is None or not found.negative:
        return None
    form = found.form
    if form.reduction.mean or form.reduction.keeps:
        return None
    loss = _loss(form, node, context)
    if loss is None:
        return None
    becomes = loss.function

    def replaced(indent: Optional[str] = None) -> cst.BaseExpression:
        new: cst.BaseExpression = context.call(loss.function, loss.arguments, indent)
        if form.reduction.axis is None:
            new = with_operand(form.reduction, new)
        return found.rebuilt(new)

    replacement = replaced()
    indent = context.indent_if_too_wide(replacement, node)
    if indent is not None:
        last_name = loss.function.rsplit(".", 1)[-1]
        first = next(one for one in context.code(replacement).split("\n") if last_name in one)
        replacement = replaced(first[: len(first) - len(first.lstrip())] or indent)
    if reading.loses_comments(node, replacement):
        return None
    axis = (
        None if form.reduction.axis is None else reading.single_axis(form.reduction.axis, context)
    )
    if axis is not None and axis > 0 and not _ranks(form, context):
        axes = "[batch, classes]" if axis == 1 else f"of {axis + 1} axes"
        becomes += f" (for logits {axes})"
    if form.log.softmax is None:
        becomes += ", which clips as it did; from logits nothing would be clipped"
    return form.log.guard, Match(f"{reason(form.log)}; becomes {becomes}", replacement)


class _Loss(NamedTuple):
    """A call of a loss: the function, and what it is given."""

    function: str
    arguments: List[Tuple[str, cst.BaseExpression]]


def _loss(form: Form, root: cst.CSTNode, context: Context) -> Optional[_Loss]:
    """Returns the loss by row that a sum is, or None."""
    axis, name = form.reduction.axis, form.reduction.name
    log = form.log
    if not context.usable(form.labels, root) or _is_explained_otherwise(log):
        return None
    class_axis = -1 if log.softmax is None else log.softmax.axis
    if class_axis is None or (
        axis is not None and not _is_class_axis(axis, class_axis, form, context)
    ):
        return None
    options: List[Tuple[str, cst.BaseExpression]] = []
    if class_axis != -1:
        options.append(("axis", cst.parse_expression(str(class_axis))))
    if axis is not None and name is not None:
        options.append(("name", name))
    given = [("labels", bare(form.labels))]
    if log.softmax is not None and context.usable(log.softmax.logits, root):
        if context.to_stock and not _is_one_hot(form.labels, context):
            return None  # the op's gradient is that of labels which sum to 1
        if context.to_stock and log.guard in _FINITE:
            return None
        dotted = f"tf.{_DENSE}" if context.to_stock else f"tf1xent.{_DENSE}"
        given.append(("logits", bare(log.softmax.logits)))
    elif log.guard is Guard.LOG_SOFTMAX or context.to_stock:
        return None
    elif context.usable(log.probabilities, root):
        dotted = _FROM_PROBABILITIES
        given.append(("probabilities", bare(log.probabilities)))
        if log.softmax is None:
            if not _clips_alike(log) or not context.usable(log.bound_as_written, root):
                return None
            options.insert(0, ("epsilon", log.bound_as_written))
        elif _is_in_graph(log.softmax, context):
            options.insert(0, ("look_through_softmax", cst.Name("True")))
        else:
            return None
    else:
        return None
    return _Loss(dotted, [*given, *options])


def _is_explained_otherwise(log: Log) -> bool:
    """Whether the logits are those of a log_softmax: nothing to look through."""
    return log.softmax is None and log.guard is not Guard.CLIPPED


def _is_in_graph(softmax: Softmax, context: Context) -> bool:
    """Whether the softmax can be looked through: an op of a graph, as TF 1.x builds them."""
    called = context.called(softmax.call)
    return called == "tf.nn.softmax" and context.api(softmax.call.func) != "v2"


def _clips_alike(log: Log) -> bool:
    """Whether the loss from probabilities clips as the source does."""
    return log.upper == 1 and log.bound is not None and log.bound > _LEAST_EPSILON


def _is_class_axis(axis: cst.BaseExpression, class_axis: int, form: Form, context: Context) -> bool:
    """Whether the axis of a sum is that of the classes.

    Axis 1 is the last one of two, axis 2 of three: the softmax, which is over the last, makes that
    all but certain where the source says nothing of the number of axes.
    """
    found = reading.single_axis(axis, context)
    if found is None or found == class_axis:
        return found is not None
    highest = max(found, class_axis)
    ranks = _ranks(form, context) or {highest + 1}
    return (
        highest > 0 and len(ranks) == 1 and all((found - class_axis) % rank == 0 for rank in ranks)
    )


def _ranks(form: Form, context: Context) -> Set[int]:
    """Returns what the source says of the number of axes: nothing, one number or contradictions."""
    softmax = form.log.softmax
    seen = [form.labels, form.log.probabilities, *([] if softmax is None else [softmax.logits])]
    return {rank for rank in (reading.rank(one, context) for one in seen) if rank is not None}


def _is_one_hot(node: cst.BaseExpression, context: Context) -> bool:
    return context.called(context.value(node)) == "tf.one_hot"


def _part(node: cst.CSTNode, context: Context) -> Optional[_Found]:
    """Matches the log alone, where the whole cannot become a call of a loss."""
    log = read_log(node, context)
    if log is None or log.guard is Guard.LOG_SOFTMAX:
        return None
    assert isinstance(node, cst.Call)
    root, factors = around(node, context)
    others, only = apart(factors, context)
    labels = [one for one in others if are_labels(one, log, context)]
    if log.guard is not Guard.IN_PLACE and (only is None or not labels or root is None):
        return None
    if log.softmax is None:
        return _unseen(log, root, context)
    found = log.softmax
    others = [one for one in others if one not in labels]
    because = reason(log) + _advice(root, others, context)
    if log.guard in (
        Guard.CLIPPED,
        Guard.EPSILON,
    ):  # finite for a logit of -inf beside a label of 0
        return log.guard, Match(f"{because}; compute the loss from the logits")
    needed = [found.logits, found.axis_as_written or found.logits]
    if not all(context.usable(one, node) for one in needed):
        return log.guard, Match(
            f"{because}; give the softmax's argument a name, as in `logits = ...`, "
            "and compute the loss from that"
        )
    if found.call is log.probabilities and found.named:
        return log.guard, Match(f"{because}; its softmax has a name: use log_softmax by hand")
    given = [("", bare(found.logits))]
    if found.axis != -1 and found.axis_as_written is not None:
        given.append(("axis", found.axis_as_written))
    new = context.call("tf.nn.log_softmax", given)
    if reading.loses_comments(node, new):
        return log.guard, Match(f"{because}; a comment stands inside: rewrite it by hand")
    return log.guard, Match(f"{because}; becomes tf.nn.log_softmax", new)


def _reduction(node: cst.CSTNode, context: Context) -> Optional[Reduction]:
    return reading.reduction(node, context)


def _unseen(log: Log, root: Optional[cst.CSTNode], context: Context) -> Optional[_Found]:
    """Reports a cross-entropy of probabilities that come from elsewhere."""
    held = context.value(log.probabilities)
    known = isinstance(held, cst.Call) or not reading.is_name(held)
    plain = reading.words(log.probabilities) & reading.PROBABILITY_WORDS
    if known or not plain or root is None or context.once(_reduction, root) is None:
        return None
    return Guard.UNSEEN, Match(
        f"{reason(log)}; if `{context.code(log.probabilities)}` is a softmax, compute the loss "
        "from its logits: softmax_cross_entropy_with_logits_v2(labels=..., logits=...)"
    )


def _advice(
    root: Optional[cst.CSTNode], weights: List[cst.BaseExpression], context: Context
) -> str:
    """Returns what else there is to say of a product with labels that is no whole loss."""
    found = None if root is None else context.once(_reduction, root)
    if found is None:
        return ""
    if weights:
        return (
            f"; if `{context.code(weights[0])}` is a weight of classes or rows, "
            "weighted_softmax_cross_entropy_with_logits takes it"
        )
    over_all = found.mean and found.axis is None
    return "; this mean is over all entries: 1/C of the mean loss" if over_all else ""


def _matching(node: cst.CSTNode, context: Context) -> Optional[_Found]:
    if isinstance(node, cst.Call) and context.called(node) in reading.LOGS:
        return _part(node, context)
    return _whole(node, context)


def _rule(guard: Guard, verdict: Verdict = Verdict.REWRITTEN, **fields: Any) -> Rule:
    def match(node: cst.CSTNode, context: Context) -> Optional[Match]:
        found = context.once(_matching, node)
        return found[1] if found is not None and found[0] is guard else None

    return Rule(
        verdict=verdict,
        nodes=(cst.Call, cst.UnaryOperation, cst.BinaryOperation),
        match=match,
        # Half of the files that take logarithms have neither: as far as such a file can tell, what
        # it takes them of are no classes' probabilities.
        besides=("softmax", "clip_by_value"),
        **fields,
    )


RULES = (
    _rule(
        Guard.NONE,
        code="TX201",
        title="log of a softmax that has a name, unguarded",
        meaning="Where a probability rounds to 0 its log is -inf, and 0 * -inf is NaN: the loss of "
        "one such row is inf or NaN, and training ends. The loss from logits is finite.",
        before="p = tf.nn.softmax(z)\nloss = -tf.reduce_sum(y * tf.log(p), axis=-1)",
        after="p = tf.nn.softmax(z)\n"
        "loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)",
        words=("log(",),
    ),
    _rule(
        Guard.CLIPPED,
        code="TX202",
        title="log of clipped probabilities",
        meaning="Below the bound the gradient is exactly 0: a badly wrong example stops teaching. "
        "The loss from logits is the same above the bound, and goes on below it.",
        before="p = tf.nn.softmax(z)\n"
        "loss = -tf.reduce_sum(y * tf.log(tf.clip_by_value(p, 1e-10, 1.0)), axis=-1)",
        after="p = tf.nn.softmax(z)\n"
        "loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)",
        words=("log(",),
    ),
    _rule(
        Guard.EPSILON,
        code="TX203",
        title="log of probabilities and an epsilon",
        meaning="The loss ends at -log(epsilon) and its gradient fades before: with 1e-10 it is a "
        "quarter of the true one at a gap of 24 between logits. The loss from logits goes on.",
        before="p = tf.nn.softmax(z)\nloss = -tf.reduce_sum(y * tf.log(p + 1e-10), axis=-1)",
        after="p = tf.nn.softmax(z)\n"
        "loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)",
        words=("log(",),
    ),
    _rule(
        Guard.IN_PLACE,
        code="TX204",
        title="log of a softmax",
        meaning="From a gap of 87 between logits on, float32 has -inf here and NaN in the "
        "gradient; fetched alone it may look right, since the graph optimizer makes a "
        "log_softmax of it.",
        before="q = tf.log(tf.nn.softmax(z))",
        after="q = tf.nn.log_softmax(z)",
        words=("log(",),
    ),
    _rule(
        Guard.LOG_SOFTMAX,
        code="TX205",
        title="cross-entropy from log_softmax",
        meaning="Right, but a confident row's loss is rounded to 0 and so is its gradient. The "
        "loss from logits has their digits, and gradients into the labels too.",
        before="loss = -tf.reduce_sum(y * tf.nn.log_softmax(z), axis=-1)",
        after="loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)",
        words=("log_softmax",),
    ),
    _rule(
        Guard.UNSEEN,
        Verdict.REPORTED,
        code="TX401",
        title="log of probabilities that come from elsewhere",
        meaning="Where a softmax is returned or handed over instead of its logits, what it rounds "
        "to 0 or 1 is lost. Hand the logits over, and compute the loss from them.",
        before="loss = -tf.reduce_sum(y * tf.log(p), axis=-1)",
        after=None,
        words=("log(",),
    ),
)
