"""Labels and logits in the order of other versions, or in each other's place."""

from typing import List, Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.roles import LABELS, role, roles
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules.functions import (
    DENSE,
    DENSE_V2,
    FUNCTIONS,
    SPARSE,
    Function,
    called_function,
    fits,
    has_stars,
    keyword_value,
    positional,
    with_keywords,
    with_renamed_keywords,
)
from tf1xent.migrate.rules.moving import moved
from tf1xent.migrate.versions import V1, V2


def swapped(call: cst.Call, function: Function, context: Context) -> Optional[cst.Call]:
    """Returns a call with labels and logits exchanged, where they seem to be; else None.

    Args:
      call: of `function`.
      function: what is called.
      context: of the module.

    Returns:
      The call with keywords for both, each as its name says.
    """
    given = positional(call)
    if has_stars(call) or given and _is_refused(call.func, function, context):
        return None
    if len(given) >= 2 and set(function.parameters[:2]) == {function.labels, function.logits}:
        first, second = given[0].value, given[1].value
        meant = roles(first, second, context)
        if meant is None or role(first, context).what == role(second, context).what:
            return None
        keywords = _keywords(function, *meant)
        if keywords == list(function.parameters[:2]):
            return None
        return with_keywords(call, [*keywords, *function.parameters[2:]])
    labels = keyword_value(call, function.labels)
    logits = keyword_value(call, function.logits)
    if labels is None or logits is None:
        return None
    said = [role(labels, context), role(logits, context)]
    if said[0].what == LABELS or said[0].what == said[1].what or not all(s.sure for s in said):
        return None
    exchanged = {function.labels: function.logits, function.logits: function.labels}
    return with_renamed_keywords(call, exchanged)


def _is_refused(func: cst.BaseExpression, function: Function, context: Context) -> bool:
    """Whether positional arguments in the wrong order are an error in every TensorFlow.

    They are where 1.x is meant, which takes keywords only, and for sparse labels. compat.v1 of
    newer TensorFlows takes them, and the dense function then computes another loss.
    """
    if not function.keywords_only:
        return False
    name = context.name(func)
    is_v1 = name is not None and name.api is None and context.api(func) == V1
    return is_v1 or function.name == SPARSE


def _keywords(function: Function, first: str, second: str) -> List[str]:
    return [function.labels if one == LABELS else function.logits for one in (first, second)]


def _swapped(node: cst.CSTNode, context: Context) -> Optional[Match]:
    function = called_function(node, context)
    if function is None:
        return None
    assert isinstance(node, cst.Call)
    exchanged = swapped(node, function, context)
    if exchanged is None:
        return None
    new = moved(exchanged, function, context) or exchanged
    order = ", ".join(function.parameters[:2])
    return Match(
        f"{function.name} takes ({order}), and by their names these are the other way round", new
    )


def _positional(node: cst.CSTNode, context: Context) -> Optional[Match]:
    function = called_function(node, context)
    if function is None or not function.keywords_only:
        return None
    assert isinstance(node, cst.Call)
    given = positional(node)
    if not given or has_stars(node) or _is_none(given[0]):
        return None
    is_v2 = context.api(node.func) == V2
    keywords = _keywords_meant(node, function, context, is_v2)
    if keywords is None:
        return Match(
            "(logits, labels) before TF 1.0, an error in 1.x, (labels, logits) in 2.x: "
            "write labels=..., logits=..."
        )
    if keywords[0] == "logits" and not _is_refused(node.func, function, context):
        return None  # that is `_swapped`'s
    if function.name == DENSE and context.api(node.func) is None:
        function = FUNCTIONS[DENSE_V2]  # the order of 2.x, whose function it then is
    named = with_keywords(node, keywords)
    if not fits(named, function.parameters):
        return None
    return Match(
        f"positional arguments, which TF 1.x refuses: {keywords[0]}=..., {keywords[1]}=...",
        moved(named, function, context) or named,
    )


def _keywords_meant(
    call: cst.Call, function: Function, context: Context, is_v2: bool
) -> Optional[List[str]]:
    """Returns the keywords of a call's positional arguments, as their names say."""
    given = positional(call)
    if len(given) == 1:  # the other one by keyword
        other = {"labels": "logits", "logits": "labels"}
        found = [name for word, name in other.items() if keyword_value(call, word) is not None]
        return [found[0], other[found[0]]] if len(found) == 1 else None
    meant = roles(given[0].value, given[1].value, context)
    if meant is None:
        if not is_v2:
            return None
        meant = ("labels", "logits")
    keywords = _keywords(function, *meant)
    if len(given) == 2:
        return keywords
    third = given[2].value
    if len(given) > 3:
        return None
    if isinstance(third, (cst.SimpleString, cst.FormattedString)) or function.name == SPARSE:
        return [*keywords, "name"]
    if isinstance(third, (cst.Integer, cst.UnaryOperation)):
        return [*keywords, "axis" if keywords[0] == "labels" else "dim"]
    return None


def _is_none(argument: cst.Arg) -> bool:
    """Whether an argument is v1's first one, which is for no one to give."""
    return isinstance(argument.value, cst.Name) and argument.value.value == "None"


RULES = (
    Rule(
        code="TX109",
        title="positional arguments of TensorFlow before 1.0",
        verdict=Verdict.REWRITTEN,
        meaning=(
            "These functions took (logits, labels) before TF 1.0, take keywords only in 1.x and "
            "(labels, logits) in 2.x. Keywords are added where the names of the arguments tell "
            "which is which; else the call is reported."
        ),
        before="loss = tf.nn.sparse_softmax_cross_entropy_with_logits(logits, labels)",
        after=(
            "loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits("
            "logits=logits, labels=labels)"
        ),
        words=("softmax_cross_entropy_with_logits",),
        nodes=(cst.Call,),
        match=_positional,
    ),
    Rule(
        code="TX310",
        title="labels and logits in each other's place",
        verdict=Verdict.FIXED,
        meaning=(
            "tf.contrib.losses and slim.losses take (logits, labels), tf.losses and tf.nn take "
            "(labels, logits). Exchanged, dense ones train without an error, on another loss. "
            "--fix writes keywords as the names of the arguments say."
        ),
        before="loss = tf.losses.softmax_cross_entropy(logits, one_hot_labels)",
        after=(
            "loss = tf1xent.losses.softmax_cross_entropy("
            "logits=logits, onehot_labels=one_hot_labels)"
        ),
        words=("softmax_cross_entropy",),
        nodes=(cst.Call,),
        match=_swapped,
    ),
)
