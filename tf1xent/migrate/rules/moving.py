"""What a call of a function of the family becomes, for either target."""

from typing import Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rules.functions import (
    DENSE,
    DENSE_V2,
    SPARSE,
    Function,
    fits,
    has_stars,
    keyword_value,
    with_renamed_keywords,
    with_value,
)
from tf1xent.migrate.versions import V1, V2

# What has no gradient, so that it need not be stopped.
_CONSTANT = frozenset(
    """tf.one_hot tf.stop_gradient tf.placeholder tf.placeholder_with_default tf.constant tf.zeros
    tf.ones tf.eye tf.zeros_like tf.ones_like tf.argmax tf.sequence_mask""".split()
)
_PASSES = frozenset(
    """tf.cast tf.to_float tf.to_double tf.reshape tf.squeeze tf.expand_dims tf.identity
    tf.transpose tf.convert_to_tensor""".split()
)


def has_no_gradient(node: cst.BaseExpression, context: Context) -> bool:
    """Whether an expression certainly carries no gradient: a placeholder, one-hot rows."""
    value = context.value(node)
    while isinstance(value, cst.Call) and value.args and context.called(value) in _PASSES:
        value = context.value(value.args[0].value)
    return context.called(value) in _CONSTANT


def moved(call: cst.Call, function: Function, context: Context) -> Optional[cst.Call]:
    """Returns the call in its new form, or None if it stays as it is.

    Args:
      call: of `function`, with whatever arguments it must get already.
      function: what is called.
      context: of the module.
    """
    if not context.to_stock or function.name.startswith("tf1xent."):
        if function.name == function.becomes:
            return None
        if function.name == DENSE_V2:
            call = with_renamed_keywords(call, {"dim": "axis"})
        return call.with_changes(func=context.path(function.becomes))
    if function.name == SPARSE:
        return None
    if function.name == DENSE:
        return _stopped(call, context)
    if function.name == DENSE_V2:
        new = with_renamed_keywords(call, {"dim": "axis"})
        if not _is_right_path(call.func, context):
            return new.with_changes(func=context.path(DENSE_V2))
        return None if keyword_value(call, "dim") is None else new
    if _is_right_path(call.func, context) and "contrib" not in function.name:
        return None
    return call.with_changes(func=context.path(function.becomes.replace("tf1xent.", "tf.", 1)))


def _stopped(call: cst.Call, context: Context) -> Optional[cst.Call]:
    """Returns v1's dense call as one of v2, labels without their gradient."""
    labels = keyword_value(call, "labels")
    if labels is None or has_stars(call, "**"):
        return None
    if not has_no_gradient(labels, context):
        call = with_value(call, "labels", context.call("tf.stop_gradient", [("", labels)]))
    call = with_renamed_keywords(call, {"dim": "axis"})
    return call.with_changes(func=context.path(DENSE_V2))


def _is_right_path(func: cst.BaseExpression, context: Context) -> bool:
    """Whether compat.v1 has a function by the name that the source has for it."""
    name = context.name(func)
    assert name is not None
    return name.api == V1 or (name.name == DENSE and context.api(func) == V2)


def can_be_renamed(call: cst.Call, function: Function) -> bool:
    """Whether the new function takes all that a call passes."""
    if function.keywords_only and has_stars(call):
        return False
    return fits(call, function.parameters)
