"""Calls of TensorFlow's cross-entropy functions with logits, and the functions as values."""

from typing import Mapping, Optional

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules.functions import (
    CONTRIB_LOSSES,
    DENSE,
    DENSE_V2,
    LAST_NAMES,
    SPARSE,
    called_function,
    function_of,
    is_renamed_where_assigned,
    keyword_value,
    positional,
)
from tf1xent.migrate.rules.moving import can_be_renamed, has_no_gradient, moved
from tf1xent.migrate.rules.order import swapped
from tf1xent.migrate.versions import V1

_NO_VERSION = (
    "TF 1.x stops the gradient in its labels and TF 2.x does not, and nothing in this module says "
    "which it is written for: import tensorflow.compat.v1, or call "
    "tf.compat.v1.nn.softmax_cross_entropy_with_logits_v2"
)


def renamed(node: cst.CSTNode, context: Context, *names: str) -> Optional[Match]:
    """Matches a call of one of the functions whose arguments the new function takes as they are."""
    function = called_function(node, context)
    if function is None or function.name not in names:
        return None
    assert isinstance(node, cst.Call)
    if is_renamed_where_assigned(node.func, context) or not can_be_renamed(node, function):
        return None
    if function.keywords_only and positional(node):
        return None
    if swapped(node, function, context) is not None:
        return None
    new = moved(node, function, context)
    if new is None:
        return None
    return Match(f"becomes {context.code(new.func)}", new)


def _sparse(node: cst.CSTNode, context: Context) -> Optional[Match]:
    return renamed(node, context, SPARSE)


def _dense(node: cst.CSTNode, context: Context) -> Optional[Match]:
    found = renamed(node, context, DENSE)
    if found is None:
        return None
    assert isinstance(node, cst.Call)
    if context.api(node.func) == V1 or keyword_value(node, "dim") is not None:
        return found
    labels = keyword_value(node, "labels")
    if labels is not None and has_no_gradient(labels, context):
        return found
    return Match(_NO_VERSION)


def _dense_v2(node: cst.CSTNode, context: Context) -> Optional[Match]:
    return renamed(node, context, DENSE_V2)


def _value(node: cst.CSTNode, context: Context) -> Optional[Match]:
    assert isinstance(node, (cst.Attribute, cst.Name))
    if not _may_be_function(node, context) or not _is_read(node, context.parents):
        return None
    name, function = context.name(node), function_of(node, context)
    if name is None or function is None or function.name.startswith("tf1xent."):
        return None
    if function.name in CONTRIB_LOSSES:
        return Match(
            f"takes (logits, {function.labels}), and {function.becomes} takes "
            f"({function.labels}, logits): call it with keywords"
        )
    if function.name == DENSE and context.api(node) != V1:
        return Match(_NO_VERSION)
    if not context.to_stock:
        new = context.path(function.becomes)
    elif name.api is not None or function.name == SPARSE:
        return None
    elif function.name.startswith("tf.contrib."):
        return Match("compat.v1 has no such function")
    else:
        new = context.path(function.name)
    return Match(f"becomes {context.code(new)}", new)


def _may_be_function(node: cst.BaseExpression, context: Context) -> bool:
    """Whether a name is worth to be looked up; most are not."""
    if isinstance(node, cst.Attribute):
        return node.attr.value in LAST_NAMES
    return isinstance(node, cst.Name) and node.value in context.imported_as(LAST_NAMES)


def _is_read(node: cst.CSTNode, parents: Mapping[cst.CSTNode, cst.CSTNode]) -> bool:
    """Whether a name stands for its value: it is not called, assigned, deleted, or looked into."""
    parent = parents.get(node)
    if isinstance(parent, cst.Call):
        return parent.func is not node
    if isinstance(parent, cst.Arg):
        return parent.keyword is not node
    if isinstance(parent, cst.Param):
        return parent.default is node
    if isinstance(parent, (cst.AnnAssign, cst.AugAssign)):
        return parent.value is node
    return not isinstance(
        parent,
        (
            *(cst.Attribute, cst.AssignTarget, cst.Del, cst.ImportAlias, cst.ImportFrom),
            *(cst.AsName, cst.FunctionDef, cst.ClassDef, cst.NameItem, cst.Decorator),
            *(cst.NamedExpr, cst.For, cst.CompFor),
        ),
    )


_EXACT = "The same value, more accurate, with derivatives of every order."

RULES = (
    Rule(
        code="TX101",
        title="TensorFlow's sparse softmax cross-entropy",
        verdict=Verdict.REWRITTEN,
        meaning=_EXACT,
        before="loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)",
        after="loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)",
        words=("sparse_softmax_cross_entropy_with_logits",),
        nodes=(cst.Call,),
        match=_sparse,
    ),
    Rule(
        code="TX102",
        title="TensorFlow's dense softmax cross-entropy, labels as constants",
        verdict=Verdict.REWRITTEN,
        meaning=(
            _EXACT + " The function of this name stops the gradient in the labels in TF 1.x, and "
            "not in 2.x. It is rewritten where the module says which is meant; else reported."
        ),
        before=(
            "y = tf.placeholder(tf.float32, [None, 10])\n"
            "loss = tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=z)"
        ),
        after=(
            "y = tf.placeholder(tf.float32, [None, 10])\n"
            "loss = tf1xent.nn.softmax_cross_entropy_with_logits(labels=y, logits=z)"
        ),
        words=("softmax_cross_entropy_with_logits",),
        nodes=(cst.Call,),
        match=_dense,
    ),
    Rule(
        code="TX103",
        title="TensorFlow's dense softmax cross-entropy, derivatives by labels too",
        verdict=Verdict.REWRITTEN,
        meaning=_EXACT + " The mixed derivatives, which TensorFlow's op returns as 0, are right.",
        before="loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)",
        after="loss = tf1xent.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)",
        words=("softmax_cross_entropy_with_logits",),
        nodes=(cst.Call,),
        match=_dense_v2,
    ),
    Rule(
        code="TX108",
        title="one of these functions as a value",
        verdict=Verdict.REWRITTEN,
        meaning="As an argument, in functools.partial, in a table: it takes the same arguments.",
        before="loss_fn = tf.nn.sparse_softmax_cross_entropy_with_logits",
        after="loss_fn = tf1xent.nn.sparse_softmax_cross_entropy_with_logits",
        words=("softmax_cross_entropy", "sequence_loss"),
        nodes=(cst.Attribute, cst.Name),
        match=_value,
    ),
)
