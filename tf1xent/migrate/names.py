"""Which of TensorFlow's functions a name in the source stands for."""

from typing import Any, Mapping, NamedTuple, Optional

import libcst as cst
from libcst.metadata import QualifiedNameSource, Scope

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
    "tensorflow.contrib.slim.losses": "tf.contrib.losses",
    "tensorflow.contrib.slim.python.slim.losses": "tf.contrib.losses",
    "tf_slim": "tf.contrib.slim",
    "tf_slim.losses": "tf.contrib.losses",
}
# A file that mentions none of these has no such name.
PACKAGES = frozenset(old.split(".")[0] for old in _BEGINNINGS)
# What other names of a function say of its API: "v1" and "v2" differ in names and order.
_EXPLICIT = {"tensorflow.compat.v1": "v1", "tensorflow.compat.v2": "v2"}


class TensorFlowName(NamedTuple):
    """A name of TensorFlow's API.

    Attributes:
      name: as "tf.nn.softmax", whatever the source calls it.
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
    fits = [old for old in _BEGINNINGS if qualified == old or qualified.startswith(old + ".")]
    if not fits:
        return None
    old = max(fits, key=len)
    return TensorFlowName(_BEGINNINGS[old] + qualified[len(old) :], _EXPLICIT.get(old))


def qualified_name(node: cst.CSTNode, scopes: Mapping[cst.CSTNode, Any]) -> Optional[str]:
    """Returns the full name of a dotted expression behind imports, or None if it is not certain."""
    scope: Optional[Scope] = scopes.get(node)
    if scope is None or not isinstance(node, (cst.Name, cst.Attribute)):
        return None
    found = {
        name.name
        for name in scope.get_qualified_names_for(node)
        if name.source is QualifiedNameSource.IMPORT
    }
    # Two imports of one name, in branches such as try and except: certain if TensorFlow's agree.
    certain = {tensorflow_name(name) or name for name in found}
    return min(found, key=len) if len(certain) == 1 else None
