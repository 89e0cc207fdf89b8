"""The gradient registry, the gradient attributes of ops, and where in a graph they sit."""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

from tf1xent._tf.modules import module_if_there

_forwardprop = module_if_there("eager.forwardprop")  # 1.x has no forward mode

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"
GUARD_OP = "PreventGradient"

_GRADIENT_ATTRIBUTE = "_gradient_op_type"


def _registry():
    return ops._gradient_registry._registry


def register_gradient(name, function):
    """Registers `function` as the gradient named `name`; a second time, replaces it."""
    _registry().pop(name, None)
    ops.RegisterGradient(name)(function)


def gradient_entry(name):
    """Returns the registry's own entry for `name`, to be put back later as the very same object."""
    return _registry().get(name)


def set_gradient_entry(name, entry):
    """Puts an entry that `gradient_entry` returned back in its place."""
    _registry()[name] = entry


def entry_function(entry):
    """Returns the gradient function in a registry entry, or None where there is no entry."""
    return None if entry is None else entry["type"]


def forget_forward_mode_traces():
    """Makes forward mode look gradients up anew: it keeps traces of those that it once found."""
    cache = getattr(_forwardprop, "_jvp_function_cache", None)
    if cache is not None:  # 2.13 and later
        cache.clear()
        return
    for name in ("_jvp_exact_shapes", "_jvp_relaxed_shapes"):
        traced = getattr(_forwardprop, name, None)
        if traced is not None:
            traced._function_cache = type(traced._function_cache)()


def gradient_attribute(op):
    """Returns the gradient name that `op`, an operation or a NodeDef, carries, or None."""
    if isinstance(op, tf.NodeDef):
        return op.attr[_GRADIENT_ATTRIBUTE].s.decode() if _GRADIENT_ATTRIBUTE in op.attr else None
    try:
        name = op.get_attr(_GRADIENT_ATTRIBUTE)
    except ValueError:
        return None
    return name.decode() if isinstance(name, bytes) else name


def set_gradient_attribute(op, name):
    """Makes `op` carry the gradient name `name`; None takes the attribute away."""
    if isinstance(op, tf.NodeDef):
        if name is None:
            del op.attr[_GRADIENT_ATTRIBUTE]
        else:
            op.attr[_GRADIENT_ATTRIBUTE].s = name.encode()
        return
    if name is None:
        if hasattr(op, "_clear_attr"):
            op._clear_attr(_GRADIENT_ATTRIBUTE)
            return
        name = op.type  # the registry's entry for the op type is what no attribute means
    encoded = name.encode()
    op._set_attr(_GRADIENT_ATTRIBUTE, tf.AttrValue(s=encoded))


def names_own_gradient(op_type):
    """Whether a `gradient_override_map` in force names `op_type`; eagerly there is none."""
    if tf.executing_eagerly():
        return False
    return op_type in tf.get_default_graph()._gradient_override_map


def op_type(op):
    """The type of an operation or a NodeDef."""
    return op.op if isinstance(op, tf.NodeDef) else op.type


def gradient_sites(graph):
    """Yields (holder, its ops) for `graph` and the functions that it holds, with theirs.

    A function holds the graph that it was traced in, and a definition, from which TF 1.x builds
    that graph anew for each gradient of a v2 cond or while loop: then its ops are NodeDefs.
    """
    seen = {id(graph)}
    pending = [graph]
    while pending:
        part = pending.pop()
        yield part, part.get_operations()
        for function in list(getattr(part, "_functions", {}).values()):
            definition = getattr(function, "__dict__", {}).get("definition")
            if definition is not None and id(function) not in seen:
                seen.add(id(function))
                yield function, definition.node_def
            body = getattr(function, "graph", None) or getattr(function, "_func_graph", None)
            if body is not None and id(body) not in seen:
                seen.add(id(body))
                pending.append(body)


# TensorFlow's own gradient functions, as they were when this module was imported.
STOCK_GRADIENTS = {
    op_type: entry_function(gradient_entry(op_type)) for op_type in (SPARSE_OP, DENSE_OP, GUARD_OP)
}

# Ops that hand a tensor on, and those by which it comes in from another graph or a stack.
_HANDING_ON = ("Identity", "Switch", "RefSwitch", "Enter", "RefEnter", "Merge", "Exit")
_COMING_IN = ("Placeholder", "StackPopV2", "StackPop", "TensorListPopBack", "Arg", "_Arg")


def guards_cross_entropy(op):
    """Whether a PreventGradient op guards the second output of a fused cross-entropy op.

    Inside loops and functions that output comes in from elsewhere; there the guard's own message,
    which names the function, tells.
    """
    if isinstance(op, tf.NodeDef):
        return _names_cross_entropy(op.attr["message"].s)
    tensor = None if tf.executing_eagerly() else op.inputs[0]
    while tensor is not None and tensor.op.type in _HANDING_ON:
        tensor = tensor.op.inputs[0]
    if tensor is not None and tensor.op.type not in _COMING_IN:
        return tensor.op.type in (SPARSE_OP, DENSE_OP) and tensor.value_index == 1
    return _names_cross_entropy(op.get_attr("message"))


def _names_cross_entropy(message):
    message = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
    return "softmax_cross_entropy_with_logits" in message
