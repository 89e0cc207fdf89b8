"""The functions of the cross-entropy family: their parameters, and what takes their place."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import libcst as cst

from tf1xent.migrate.context import Context
from tf1xent.migrate.versions import V2

SPARSE = "tf.nn.sparse_softmax_cross_entropy_with_logits"
DENSE = "tf.nn.softmax_cross_entropy_with_logits"
DENSE_V2 = "tf.nn.softmax_cross_entropy_with_logits_v2"


class Function(NamedTuple):
    """A function of TensorFlow's.

    Attributes:
      name: as `Context.called` gives it.
      becomes: tf1xent's function.
      parameters: in their order.
      labels, logits: of the parameters.
      keywords_only: whether TF 1.x refuses positional arguments. Before TF 1.0 it took them in
        another order.
    """

    name: str
    becomes: str
    parameters: Tuple[str, ...]
    labels: str = "labels"
    logits: str = "logits"
    keywords_only: bool = False


_REDUCED = ("weights", "scope", "loss_collection", "reduction")
_SMOOTHED = ("weights", "label_smoothing", "scope", "loss_collection", "reduction")
_SEQUENCE = (
    *("logits", "targets", "weights", "average_across_timesteps", "average_across_batch"),
    *("sum_over_timesteps", "sum_over_batch", "softmax_loss_function", "name"),
)

_ALL = (
    Function(SPARSE, "tf1xent" + SPARSE[2:], ("labels", "logits", "name"), keywords_only=True),
    Function(
        DENSE,
        "tf1xent" + DENSE[2:],
        ("labels", "logits", "dim", "name", "axis"),
        keywords_only=True,
    ),
    Function(DENSE_V2, "tf1xent" + DENSE_V2[2:], ("labels", "logits", "axis", "name", "dim")),
    Function(
        "tf.losses.sparse_softmax_cross_entropy",
        "tf1xent.losses.sparse_softmax_cross_entropy",
        ("labels", "logits", *_REDUCED),
    ),
    Function(
        "tf.losses.softmax_cross_entropy",
        "tf1xent.losses.softmax_cross_entropy",
        ("onehot_labels", "logits", *_SMOOTHED),
        labels="onehot_labels",
    ),
    Function(
        "tf.contrib.losses.sparse_softmax_cross_entropy",
        "tf1xent.losses.sparse_softmax_cross_entropy",
        ("logits", "labels", "weights", "scope"),
    ),
    Function(
        "tf.contrib.losses.softmax_cross_entropy",
        "tf1xent.losses.softmax_cross_entropy",
        ("logits", "onehot_labels", "weights", "label_smoothing", "scope"),
        labels="onehot_labels",
    ),
    Function(
        "tf.contrib.seq2seq.sequence_loss",
        "tf1xent.losses.sequence_loss",
        _SEQUENCE,
        labels="targets",
    ),
)
CONTRIB_LOSSES = tuple(one.name for one in _ALL if one.name.startswith("tf.contrib.losses."))
# tf1xent's own take the same; they are looked at for what the numbers cannot tell.
FUNCTIONS: Dict[str, Function] = {
    **{one.becomes: one._replace(name=one.becomes, keywords_only=False) for one in _ALL[:5]},
    **{one.name: one for one in _ALL},
}
LAST_NAMES = frozenset(name.rsplit(".", 1)[-1] for name in FUNCTIONS)


def function_of(node: cst.BaseExpression, context: Context) -> Optional[Function]:
    """Returns the function that an expression is; TensorFlow 2's dense one is DENSE_V2."""
    name = context.name(node)
    found = None if name is None else FUNCTIONS.get(name.name)
    if found is not None and found.name == DENSE and context.api(node) == V2:
        return FUNCTIONS[DENSE_V2]
    return found


def called_function(node: cst.CSTNode, context: Context) -> Optional[Function]:
    """Returns the function that a call calls."""
    if context.called(node) not in FUNCTIONS:
        return None
    assert isinstance(node, cst.Call)
    return function_of(node.func, context)


def is_renamed_where_assigned(func: cst.BaseExpression, context: Context) -> bool:
    """Whether a variable is called that holds the function: what it was given is renamed."""
    return isinstance(func, cst.Name) and not context.is_imported(func)


def positional(call: cst.Call) -> List[cst.Arg]:
    """Returns the arguments before the first keyword."""
    return [argument for argument in call.args if argument.keyword is None and not argument.star]


def has_stars(call: cst.Call, star: str = "*") -> bool:
    """Whether a call passes `*args`, or with star="**" `**kwargs`."""
    return any(argument.star == star for argument in call.args)


def fits(call: cst.Call, parameters: Sequence[str]) -> bool:
    """Whether all that a call passes are these parameters, each at most once."""
    given = list(parameters[: len(positional(call))])
    given += [argument.keyword.value for argument in call.args if argument.keyword is not None]
    return (
        len(positional(call)) <= len(parameters)
        and len(set(given)) == len(given)
        and set(given) <= set(parameters)
    )


def with_keyword(argument: cst.Arg, keyword: str) -> cst.Arg:
    """Returns an argument by keyword; its value, comma and comments as they were."""
    return argument.with_changes(
        keyword=cst.Name(keyword),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )


def with_keywords(call: cst.Call, keywords: Sequence[str]) -> cst.Call:
    """Returns a call whose positional arguments have keywords; as many as there are of either."""
    made = list(call.args)
    for position, keyword in zip(range(len(positional(call))), keywords):
        made[position] = with_keyword(made[position], keyword)
    return call.with_changes(args=made)


def with_renamed_keywords(call: cst.Call, names: Mapping[str, str]) -> cst.Call:
    """Returns a call in which keywords have other names; spaces as they were."""
    made = [
        argument.with_changes(keyword=cst.Name(names[argument.keyword.value]))
        if argument.keyword is not None and argument.keyword.value in names
        else argument
        for argument in call.args
    ]
    return call.with_changes(args=made)


def keyword_value(call: cst.Call, keyword: str) -> Optional[cst.BaseExpression]:
    """Returns what a call passes by a keyword, or None."""
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == keyword:
            return argument.value
    return None


def with_value(call: cst.Call, keyword: str, value: cst.BaseExpression) -> cst.Call:
    """Returns a call that passes another value by a keyword."""
    made = [
        argument.with_changes(value=value)
        if argument.keyword is not None and argument.keyword.value == keyword
        else argument
        for argument in call.args
    ]
    return call.with_changes(args=made)
