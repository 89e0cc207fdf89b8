"""The docstrings of the metrics: here what all share, in its own file what one says alone."""

import textwrap
from typing import Dict, Mapping, NamedTuple, Tuple

WIDTH = 96  # of help(), which indents by 4
ARGUMENTS = {
    "labels": "integer labels, `Tensor` of int32 or int64, of the shape of `logits` without the "
    "class axis; or soft labels (one-hot rows, distributions), `Tensor` of any numeric dtype and "
    "of the shape of `logits`. The true class of a soft label is its argmax. The rank tells which; "
    "where it is known only at run time, integers are integer labels and floating-point numbers "
    "soft labels.",
    "logits": "`Tensor` of half, bfloat16, float32 or float64, `[..., num_classes]`, in nats. half "
    "and bfloat16 are computed in float32.",
}
OPTIONS = {
    "mask": "`Tensor` of bool, or of numbers of which 0 is False: which examples are valid. Its "
    "shape is that of `logits` without the class axis, or has 1 in place of any size. Without a "
    "mask, soft labels that are all zero mean that the label is missing: the example is not valid.",
    "ignore_label": "an integer; examples with this label are not valid. Integer labels only.",
    "weights": "a number, or a `Tensor` that broadcasts as a mask does: the weight of each "
    "example. An example of weight 0 adds nothing, even where its own value is infinite or NaN.",
    "axis": "the class axis of `logits`, and of soft labels.",
}
COLLECTIONS = {
    "metrics_collections": "names of the collections to which `value` is added, or None.",
    "updates_collections": "names of the collections to which `update_op` is added, or None.",
}
PLAIN_NAME = {"name": "name of the operation."}
STREAMING_NAME = {"name": "name of the variable scope."}
ONLY_IN_WEIGHTS = (
    "none in labels and logits, in which it is piecewise constant (`tf.gradients` returns None); "
    "in `weights`, of every order."
)
_ISOLATION = " Values of examples that are not valid, NaN included, do not reach it."
DTYPE = "Scalar of the logits' dtype, float32 for half and bfloat16: "
INVALID_LABELS = (
    "; on a CPU also a valid example whose integer label is outside `[0, num_classes)` (on a GPU "
    "and under XLA the result is NaN then)"
)


class Metric(NamedTuple):
    """What the docstrings say of one metric.

    Attributes:
      summary: the first line, of one batch.
      text: formula and remarks, of both functions.
      returns: of the value.
      example: lines that run in a graph with a `session`, with what they print below.
      streaming: arguments of the streaming example's call, and what that prints.
      source: of the formula.
      arguments: meanings of the metric's own arguments.
      derivatives: of the plain function.
      errors: more ValueErrors; ends with "; " if there are any.
      run_errors: more InvalidArgumentErrors; starts with "; " if there are any.
      streaming_text: a remark of the streaming function alone.
      variables: of the streaming function.
    """

    summary: str
    text: str
    returns: str
    example: str
    streaming: Tuple[str, str]
    source: str
    arguments: Mapping[str, str] = {}
    derivatives: str = ONLY_IN_WEIGHTS
    errors: str = ""
    run_errors: str = ""
    streaming_text: str = ""
    variables: str = "variables `total` and `count`"


def docstrings(name: str, metric: Metric) -> Tuple[str, str]:
    """The docstrings of the plain and of the streaming function."""
    text = textwrap.dedent(metric.text).strip()
    source = _filled("Source: " + metric.source)
    own = {**ARGUMENTS, **metric.arguments, **OPTIONS}
    value_error = (
        f"(graph build) {metric.errors}shapes that do not fit, an axis that `logits` lacks, an "
        "`ignore_label` with soft labels or outside of the labels' dtype."
    )
    errors = {
        "ValueError": value_error,
        "TypeError": "(graph build) dtypes other than the above.",
        "tf.errors.InvalidArgumentError": "(session run) shapes known only at run time that do not "
        "fit" + metric.run_errors + ".",
    }
    plain = [
        metric.summary,
        text,
        _section("Args", {**own, **PLAIN_NAME}),
        "Returns:\n" + _filled(metric.returns + _ISOLATION, "  "),
        _filled("**Derivatives**: " + metric.derivatives),
        _section("Raises", errors),
        _example(metric.example),
        source,
    ]
    returned = {
        "`value`": metric.returns[0].lower() + metric.returns[1:],
        "`update_op`": f"adds the batch to the local {metric.variables}, float64; the value with "
        "it. A batch that fails is not added.",
    }
    eager = {"RuntimeError": "(graph build) eager execution is enabled."}
    streaming = [
        f"The `{name}` of all batches so far.",
        textwrap.fill(f"{metric.summary} {metric.streaming_text}".strip(), WIDTH),
        text,
        "Run `tf.local_variables_initializer()` first; run it again to start anew.",
        _section("Args", {**own, **COLLECTIONS, **STREAMING_NAME}),
        _section("Returns", returned),
        _filled("**Derivatives**: none, because the value is computed from variables."),
        _section("Raises", {**eager, **errors}),
        _example(_STREAMING_EXAMPLE.format(name, *metric.streaming)),
        source,
    ]
    return "\n\n".join(plain), "\n\n".join(streaming)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _section(title: str, entries: Dict[str, str]) -> str:
    return "\n".join([title + ":"] + [_filled(f"{k}: {v}", "  ") for k, v in entries.items()])


def _example(lines: str) -> str:
    return (
        "Example:\n\n"
        ">>> import tensorflow.compat.v1 as tf\n"
        ">>> from tf1xent import metrics\n"
        ">>> with tf.Graph().as_default(), tf.Session() as session:\n"
    ) + textwrap.dedent(lines).strip()


_STREAMING_EXAMPLE = """
...     labels = tf.placeholder(tf.int32, [None])
...     logits = tf.placeholder(tf.float32, [None, 2])
...     pair = metrics.streaming_{}({})
...     value, update_op = pair
...     session.run(tf.local_variables_initializer())
...     for batch in ([0, 1], [1, -1]):
...         _ = session.run(update_op, {{labels: batch, logits: [[2.0, 1.0], [0.0, 0.0]]}})
...     print("{{:.4g}}".format(session.run(value)))
{}
"""
