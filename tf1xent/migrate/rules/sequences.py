"""Losses of sequences: tf.contrib.seq2seq, its legacy form, and the functions given to them."""

from typing import Optional, Sequence, Tuple

import libcst as cst

from tf1xent.migrate.context import Context, arguments
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules.calls import renamed
from tf1xent.migrate.rules.functions import FUNCTIONS, SPARSE, fits

_SEQUENCE_LOSS = "tf.contrib.seq2seq.sequence_loss"
_LOSS_FUNCTION = "softmax_loss_function"
_LISTS = ("logits", "targets", "weights", "average_across_timesteps")
_LEGACY = {
    "sequence_loss": (*_LISTS, "average_across_batch", _LOSS_FUNCTION, "name"),
    "sequence_loss_by_example": (*_LISTS, _LOSS_FUNCTION, "name"),
}
_LEGACY_MODULE = "tf.contrib.legacy_seq2seq."
# Where it was before TF 1.0.
_OLD_MODULE = "tf.nn.seq2seq."


def _sequence_loss(node: cst.CSTNode, context: Context) -> Optional[Match]:
    if not context.to_stock:
        return renamed(node, context, _SEQUENCE_LOSS)
    if context.called(node) != _SEQUENCE_LOSS:
        return None
    assert isinstance(node, cst.Call)
    given = arguments(node, FUNCTIONS[_SEQUENCE_LOSS].parameters)
    if (
        given is None
        or not set(_LISTS[:3]) <= set(given)
        or not set(given) <= {*_LISTS[:3], "name"}
    ):
        return Match(
            "compat.v1 has no sequence_loss, and no one function for these arguments: write "
            "tf.nn.sparse_softmax_cross_entropy_with_logits times the weights, and the mean"
        )
    new = context.call(
        "tf.losses.sparse_softmax_cross_entropy",
        [
            ("labels", given["targets"]),
            ("logits", given["logits"]),
            ("weights", given["weights"]),
            *([("scope", given["name"])] if "name" in given else []),
            ("loss_collection", cst.Name("None")),
            ("reduction", context.path("tf.losses.Reduction.MEAN")),
        ],
    )
    return Match("becomes the mean by weights of tf.losses, the same number", new)


def _legacy_sequence_loss(node: cst.CSTNode, context: Context) -> Optional[Match]:
    called = context.called(node) or ""
    module, _, name = called.rpartition(".")
    if name not in _LEGACY or module + "." not in (_LEGACY_MODULE, _OLD_MODULE):
        return None
    assert isinstance(node, cst.Call)
    if context.to_stock:
        return Match(f"TF 2.x has no {name} of lists: stack them for a loss of [batch, time]")
    if module + "." == _OLD_MODULE:
        return Match(f"is {_LEGACY_MODULE}{name} since TF 1.0")
    given = arguments(node, _LEGACY[name])
    if given is None or _LOSS_FUNCTION in given or not fits(node, _LEGACY[name]):
        return None
    function = context.path(FUNCTIONS[SPARSE].becomes)
    if not _are_flat(given.get("targets"), context):
        function = _flattening(function, context)
    return Match(f"its loss becomes {FUNCTIONS[SPARSE].becomes}", _with_argument(node, function))


def _are_flat(targets: Optional[cst.BaseExpression], context: Context) -> bool:
    """Whether a list is written out, and each entry is `tf.reshape(..., [-1])`."""
    if not isinstance(targets, (cst.List, cst.Tuple)):
        return False
    for element in targets.elements:
        entry = context.value(element.value)
        if context.called(entry) != "tf.reshape":
            return False
        assert isinstance(entry, cst.Call)
        shape = (arguments(entry, ("tensor", "shape")) or {}).get("shape")
        if shape is None or context.code(shape).replace(" ", "") not in ("[-1]", "(-1,)"):
            return False
    return True


def _flattening(function: cst.BaseExpression, context: Context) -> cst.BaseExpression:
    """Returns a function that does what the loss does by itself: it reshapes labels to [-1]."""
    reshape = context.call(
        "tf.reshape", [("", cst.Name("labels")), ("", cst.parse_expression("[-1]"))]
    )
    called = context.call(
        FUNCTIONS[SPARSE].becomes, [("labels", reshape), ("logits", cst.Name("logits"))]
    )
    space = cst.SimpleWhitespace(" ")
    return cst.Lambda(
        cst.Parameters(
            [
                cst.Param(cst.Name("labels"), comma=cst.Comma(whitespace_after=space)),
                cst.Param(cst.Name("logits")),
            ]
        ),
        called,
        whitespace_after_lambda=space,
    )


def _with_argument(call: cst.Call, function: cst.BaseExpression) -> cst.Call:
    """Returns a call with the loss function as its last argument, on a line as the others are."""
    *others, last = call.args
    comma = others[0].comma if others else cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    is_trailing = isinstance(last.comma, cst.Comma)
    added = cst.Arg(
        function,
        keyword=cst.Name(_LOSS_FUNCTION),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
        comma=last.comma if is_trailing else cst.MaybeSentinel.DEFAULT,
        whitespace_after_arg=last.whitespace_after_arg,
    )
    last = last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*others, last, added])


def _loss_function(node: cst.CSTNode, context: Context) -> Optional[Match]:
    """Matches `softmax_loss_function=` with a function that cannot be called by keywords."""
    assert isinstance(node, cst.Arg)
    if node.keyword is None or node.keyword.value != _LOSS_FUNCTION:
        return None
    call = context.parents.get(node)
    if call is None or "seq" not in (context.called(call) or ""):
        return None
    found = _parameters(node.value, context)
    if found is None or {"labels", "logits"} <= set(found):
        return None
    return Match(
        f"TensorFlow calls it with labels=... and logits=... since TF 1.3, and before with two "
        f"arguments in an order that changed; its parameters are ({', '.join(found)})"
    )


def _parameters(node: cst.BaseExpression, context: Context) -> Optional[Sequence[str]]:
    """Returns the names of a function's parameters, if it is in sight and takes no `**kwargs`."""
    value = context.value(node)
    if isinstance(value, cst.Lambda):
        parameters = value.params
    else:
        definition = context.function(value)
        if definition is None:
            return None
        parameters = definition.params
    if parameters.star_kwarg is not None:
        return None
    listed: Tuple[cst.Param, ...] = (*parameters.params, *parameters.kwonly_params)
    return [parameter.name.value for parameter in listed]


RULES = (
    Rule(
        code="TX106",
        title="tf.contrib.seq2seq.sequence_loss",
        verdict=Verdict.REWRITTEN,
        meaning=(
            "tf.contrib is gone from TF 2.x. The same arguments and value, on every TensorFlow, "
            "more accurate, with derivatives of every order."
        ),
        before="loss = tf.contrib.seq2seq.sequence_loss(z, y, w)",
        after="loss = tf1xent.losses.sequence_loss(z, y, w)",
        words=("sequence_loss",),
        nodes=(cst.Call,),
        match=_sequence_loss,
    ),
    Rule(
        code="TX107",
        title="tf.contrib.legacy_seq2seq's losses of lists",
        verdict=Verdict.REWRITTEN,
        meaning=(
            "The loss that they sum is replaced by their own argument for that. They stay, and "
            "need TF 1.x."
        ),
        before=(
            "loss = tf.contrib.legacy_seq2seq.sequence_loss_by_example(\n"
            "    [z], [tf.reshape(y, [-1])], [w])"
        ),
        after=(
            "loss = tf.contrib.legacy_seq2seq.sequence_loss_by_example(\n"
            "    [z], [tf.reshape(y, [-1])], [w], "
            "softmax_loss_function=tf1xent.nn.sparse_softmax_cross_entropy_with_logits)"
        ),
        words=("sequence_loss",),
        nodes=(cst.Call,),
        match=_legacy_sequence_loss,
    ),
    Rule(
        code="TX312",
        title="a softmax_loss_function with parameters of other names",
        verdict=Verdict.REPORTED,
        meaning=(
            "It is called with (logits, labels) before TF 1.0, with (labels, logits) until 1.2, "
            "and with labels=..., logits=... since: other names fail, and the order says nothing."
        ),
        before=(
            "loss = tf.contrib.legacy_seq2seq.sequence_loss(\n"
            "    z, y, w, softmax_loss_function=lambda x, t: sampled(t, x))"
        ),
        after=None,
        words=("softmax_loss_function",),
        nodes=(cst.Arg,),
        match=_loss_function,
    ),
)
