"""Definitions of this TensorFlow's ops, and which of them have gradients."""

from typing import Any, Dict, Optional

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import op_def_registry

from tf1xent._tf.registry import entry_function, gradient_attribute, gradient_entry
from tf1xent._typing import Operation

# The newest `versions.min_consumer` of a GraphDef that this TensorFlow imports.
NEWEST_GRAPH = tf.GRAPH_DEF_VERSION


# Only those that exist: a library that is loaded later may define others.
_definitions: Dict[str, Any] = {}


def op_definition(op_type: str) -> Optional[Any]:
    """Returns the OpDef of an op type, or None where this TensorFlow knows none of that name."""
    if op_type in _definitions:
        return _definitions[op_type]
    if hasattr(op_def_registry, "get"):
        found = op_def_registry.get(op_type)
    else:  # 1.x
        found = op_def_registry.get_registered_ops().get(op_type) or _definition_in_runtime(op_type)
    if found is not None:
        _definitions[op_type] = found
    return found


def _definition_in_runtime(op_type: str) -> Optional[Any]:
    """The OpDef in C++; in 1.x Python has only the ops of generated modules that are imported."""
    try:
        return tf.Graph()._get_op_def(op_type)
    except tf.errors.NotFoundError:
        return None


def has_gradient(name: Optional[str]) -> bool:
    """Whether a gradient is registered under a name."""
    return name is not None and gradient_entry(name) is not None


def can_be_differentiated(op_type: str) -> bool:
    """Whether an op type has a gradient function; "not differentiable" may be registered too."""
    return entry_function(gradient_entry(op_type)) is not None


# In TF 1.13 second derivatives of a function traced by contrib.eager.defun are silently zero.
TRACED_FUNCTIONS_HAVE_HESSIANS = hasattr(tf, "function")


def call_has_gradients(op: Operation) -> bool:
    """Whether TensorFlow itself traced the called function, and can differentiate it twice."""
    if not TRACED_FUNCTIONS_HAVE_HESSIANS:
        return False
    if getattr(op, "_gradient_function", None) is not None:
        return True
    return has_gradient(gradient_attribute(op))  # 1.x


def enum_name(data_type: int) -> str:
    """The name of a DataType number of a graph, as in "float32"; of an unknown one, its number."""
    try:
        return tf.as_dtype(data_type).name
    except TypeError:
        return str(data_type)
