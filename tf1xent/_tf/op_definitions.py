"""What this TensorFlow knows of ops: their definitions, and the newest graphs that it takes."""

from typing import Any, Dict

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import op_def_registry

from tf1xent._tf.registry import entry_function, gradient_attribute, gradient_entry

# The newest `versions.min_consumer` of a GraphDef that this TensorFlow imports.
NEWEST_GRAPH = tf.GRAPH_DEF_VERSION


# Those that were found once; the others a library may bring later.
_definitions: Dict[str, Any] = {}


def op_definition(op_type):
    """Returns the OpDef of an op type, or None where this TensorFlow knows none of that name."""
    if op_type in _definitions:
        return _definitions[op_type]
    if hasattr(op_def_registry, "get"):
        found = op_def_registry.get(op_type)
    else:  # 1.x
        found = op_def_registry.get_registered_ops().get(op_type)
    if found is not None:
        _definitions[op_type] = found
    return found


def has_gradient(name):
    """Whether a gradient is registered under a name that a graph gives."""
    return gradient_entry(name) is not None


def can_be_differentiated(op_type):
    """Whether this TensorFlow has a gradient of an op type, and not a note that there is none."""
    return entry_function(gradient_entry(op_type)) is not None


# TF 1.13 differentiates what its contrib.eager.defun traced twice to zeros, without a word.
_TRACED_FUNCTIONS_HAVE_HESSIANS = hasattr(tf, "function")


def call_has_gradients(op):
    """Whether TensorFlow itself traced what an operation calls, and differentiates that twice."""
    if not _TRACED_FUNCTIONS_HAVE_HESSIANS:
        return False
    if getattr(op, "_gradient_function", None) is not None:
        return True
    return has_gradient(gradient_attribute(op))  # 1.x


def enum_name(data_type):
    """The name of a DataType number of a graph, as in "float32"; of an unknown one, its number."""
    try:
        return tf.as_dtype(data_type).name
    except TypeError:
        return str(data_type)
