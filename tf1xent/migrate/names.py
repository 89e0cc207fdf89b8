"""Which of TensorFlow's functions a name in the source stands for."""

from typing import Any, List, Mapping, NamedTuple, Optional

import libcst as cst
from libcst.metadata import Assignment, ImportAssignment, QualifiedNameSource, Scope

# What TensorFlow calls the same thing, by its beginning; the longest beginning that fits decides.
_BEGINNINGS = {
    "tensorflow": "tf",
    "tensorflow.compat.v1": "tf",
    "tensorflow.compat.v2": "tf",
    "tensorflow.python.ops.nn": "tf.nn",
    "tensorflow.python.ops.nn_ops": "tf.nn",
    "tensorflow.python.ops.nn_impl": "tf.nn",
    "tensorflow.python.ops.math_ops": "tf",
    "tensorflow.python.ops.array_ops": "tf",
    "tensorflow.python.ops.clip_ops": "tf",
    "tensorflow.python.ops.losses.losses": "tf.losses",
    "tensorflow.python.ops.losses.losses_impl": "tf.losses",
    "tensorflow.contrib.losses.python.losses": "tf.contrib.losses",
    "tensorflow.contrib.losses.python.losses.loss_ops": "tf.contrib.losses",
    "tensorflow.contrib.slim.losses": "tf.contrib.losses",
    "tensorflow.contrib.slim.python.slim.losses": "tf.contrib.losses",
    "tensorflow.contrib.seq2seq.python.ops.loss": "tf.contrib.seq2seq",
    "tensorflow.contrib.legacy_seq2seq.python.ops.seq2seq": "tf.contrib.legacy_seq2seq",
    "tf_slim": "tf.contrib.slim",
    "tf_slim.losses": "tf.contrib.losses",
    "tf_slim.losses.loss_ops": "tf.contrib.losses",
    "tf1xent": "tf1xent",
}
# A file that mentions none of these has no such name.
PACKAGES = frozenset(old.split(".")[0] for old in _BEGINNINGS)
# What the beginnings say of the API: "v1" and "v2" differ in names and order. The modules below
# tensorflow.python have the names of v1 in every TensorFlow.
_EXPLICIT = {"tensorflow.compat.v1": "v1", "tensorflow.compat.v2": "v2"}
_INTERNAL = "tensorflow.python."


class TensorFlowName(NamedTuple):
    """A name of TensorFlow's API, or of tf1xent's.

    Attributes:
      name: as "tf.nn.softmax", whatever the source calls it; tf1xent's as "tf1xent.nn.softmax".
      api: "v1" or "v2" if the source says which; None for what is plainly `tensorflow`.
    """

    name: str
    api: Optional[str]


def tensorflow_name(qualified: str) -> Optional[TensorFlowName]:
    """Returns what a full dotted name stands for in TensorFlow, or None.

    >>> tensorflow_name("tensorflow.compat.v1.nn.softmax")
    TensorFlowName(name='tf.nn.softmax', api='v1')
    >>> tensorflow_name("numpy.log") is None
    True
    """
    old = qualified
    while old not in _BEGINNINGS:
        old = old.rpartition(".")[0]
        if not old:
            return None
    api = "v1" if old.startswith(_INTERNAL) else _EXPLICIT.get(old)
    return TensorFlowName(_BEGINNINGS[old] + qualified[len(old) :], api)


def qualified_name(
    node: cst.CSTNode,
    scopes: Mapping[cst.CSTNode, Any],
    parents: Mapping[cst.CSTNode, cst.CSTNode],
) -> Optional[str]:
    """Returns the full name of a dotted expression behind imports, or None if it is not certain.

    It is certain if all that gives the first name a value are imports of one thing, such as
    `tensorflow.compat.v1` and, should that fail, `tensorflow`. `name = None` does not count: it
    says that an import failed.
    """
    first = node
    while isinstance(first, cst.Attribute):
        first = first.value
    scope: Optional[Scope] = scopes.get(node)
    if scope is None or not isinstance(first, cst.Name):
        return None
    for one in scope[first.value]:
        if not isinstance(one, ImportAssignment) and not _is_none(one, parents):
            return None
    found = sorted(
        name.name
        for name in scope.get_qualified_names_for(node)
        if name.source is QualifiedNameSource.IMPORT
    )
    known = [tensorflow_name(name) for name in found]
    if not found or len({name if one is None else one.name for name, one in zip(found, known)}) > 1:
        return None
    apis = [None if one is None else one.api for one in known]
    said = [api for api in apis if api is not None]
    if len(set(said)) > 1:
        return None
    return found[apis.index(said[0])] if said else found[0]


def dotted_name(node: cst.CSTNode) -> str:
    """Returns the dotted name that an import has, as it is written."""
    parts: List[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if isinstance(node, cst.Name):
        parts.append(node.value)
    return ".".join(reversed(parts))


def _is_none(one: Any, parents: Mapping[cst.CSTNode, cst.CSTNode]) -> bool:
    """Whether an assignment is `name = None`."""
    target = parents.get(one.node) if isinstance(one, Assignment) else None
    outer = parents.get(target) if isinstance(target, cst.AssignTarget) else None
    value = outer.value if isinstance(outer, cst.Assign) else None
    return isinstance(value, cst.Name) and value.value == "None"
