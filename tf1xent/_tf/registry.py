"""The gradient registry, the gradient attributes of ops, and where in a graph they sit."""

import contextlib
import functools
import types
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops

from tf1xent._tf.modules import module_if_there
from tf1xent._tf.process import kept_in_process
from tf1xent._typing import Graph, NodeDef, Operation, Tensor

# (op, *cotangents) -> a gradient or None for each input.
GradientFunction = Callable[..., Any]

_forwardprop = module_if_there("eager.forwardprop")  # 1.x has no forward mode
# Imported graphs may have v2 loops and branches. TF 1.x registers their gradients only when these
# modules are imported.
module_if_there("ops.while_v2")
module_if_there("ops.cond_v2")

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"
GUARD_OP = "PreventGradient"
FUSED_OPS = (SPARSE_OP, DENSE_OP)
CTC_OPS = ("CTCLoss", "CTCLossV2")


def gradient_name(op_type: str) -> str:
    """The name under which our gradient of an op type of TensorFlow's is registered."""
    return "Tf1xent" + op_type


# By op type, the names of the gradients that take the place of TensorFlow's.
GRADIENT_NAMES = {op_type: gradient_name(op_type) for op_type in (SPARSE_OP, DENSE_OP, GUARD_OP)}

GRADIENT_ATTRIBUTE = "_gradient_op_type"


def _registry() -> Dict[str, Any]:
    return ops._gradient_registry._registry


def as_tensors(cotangents: Sequence[Optional[Tensor]]) -> List[Optional[Tensor]]:
    """The cotangents, each a tensor or None. The gradient of a gather sends IndexedSlices."""
    return [
        tf.convert_to_tensor(cotangent) if isinstance(cotangent, tf.IndexedSlices) else cotangent
        for cotangent in cotangents
    ]


def register_gradient(name: str, function: GradientFunction) -> None:
    """Registers `function` as the gradient named `name`, in the place of one that is there.

    Each cotangent that it gets is a tensor or None.
    """

    @functools.wraps(function)
    def gradient(op: Operation, *cotangents: Optional[Tensor]) -> Any:
        return function(op, *as_tensors(cotangents))

    _registry().pop(name, None)
    ops.RegisterGradient(name)(gradient)


def gradient_of(name: str) -> Callable[[GradientFunction], GradientFunction]:
    """Decorator: registers the function below it as the gradient of an op type or name."""

    def decorate(function: GradientFunction) -> GradientFunction:
        register_gradient(name, function)
        return function

    return decorate


def gradient_entry(name: str) -> Any:
    """Returns the registry's own entry for `name`, to restore the same object later."""
    return _registry().get(name)


def gradient_to_call(name: str) -> Optional[GradientFunction]:
    """Returns the gradient function registered for an op type or name, or None for none."""
    return entry_function(gradient_entry(name))


def set_gradient_entry(name: str, entry: Any) -> None:
    """Puts an entry that `gradient_entry` returned, or None for none, in its place."""
    if entry is None:
        _registry().pop(name, None)
    else:
        _registry()[name] = entry


def entry_function(entry: Any) -> Optional[GradientFunction]:
    """Returns the gradient function in a registry entry, or None where there is no entry."""
    return None if entry is None else entry["type"]


def set_entry_function(entry: Any, function: Optional[GradientFunction]) -> None:
    """Makes a registry entry hold the gradient function `function`."""
    entry["type"] = function


def entry_like(entry: Any, function: GradientFunction) -> Any:
    """A registry entry of its own, as `entry` but with `function`."""
    return dict(entry, type=function)


@contextlib.contextmanager
def swapped_gradients(functions: Dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Swaps the registry's gradients of op types while gradient ops are built.

    Ops that name a gradient of their own keep it, and so do eager tapes, on which TensorFlow's own
    gradients may be built. No op is changed, unlike by an attribute: a session that has run the op
    warns of that.

    Args:
      functions: by op type; each is called with the function that it replaces, which may be None,
        the op and its cotangents, each a tensor or None.
    """
    before = {op_type: gradient_entry(op_type) for op_type in functions}
    ours = {}
    for op_type, function in functions.items():
        entry = before[op_type]
        if entry is not None:
            ours[op_type] = entry_like(entry, _with_replaced(function, entry_function(entry)))
            set_gradient_entry(op_type, ours[op_type])
    try:
        yield
    finally:
        for op_type, entry in ours.items():
            if gradient_entry(op_type) is entry:  # else other code has replaced it, and keeps it
                set_gradient_entry(op_type, before[op_type])


def _with_replaced(
    function: Callable[..., Any], replaced: Optional[GradientFunction]
) -> GradientFunction:
    def gradient(op: Operation, *cotangents: Optional[Tensor]) -> Any:
        if isinstance(op, tf.Operation):
            return function(replaced, op, *as_tensors(cotangents))
        if replaced is not None:
            return replaced(op, *cotangents)
        return [None] * (1 if op.inputs is None else len(op.inputs))  # tapes drop what is not used

    return gradient


def forget_forward_mode_traces() -> None:
    """Makes forward mode look gradients up again; it caches traces of those it has found."""
    cache = getattr(_forwardprop, "_jvp_function_cache", None)
    if cache is not None:  # 2.13 and later
        cache.clear()
        return
    for name in ("_jvp_exact_shapes", "_jvp_relaxed_shapes"):
        traced = getattr(_forwardprop, name, None)
        if traced is not None:
            traced._function_cache = type(traced._function_cache)()


def gradient_attribute(op: Union[Operation, NodeDef]) -> Optional[str]:
    """Returns the gradient name that `op`, an operation or a NodeDef, carries, or None."""
    if isinstance(op, tf.NodeDef):
        if GRADIENT_ATTRIBUTE not in op.attr:
            return None
        return op.attr[GRADIENT_ATTRIBUTE].s.decode("utf-8", "replace")
    try:
        name = op.get_attr(GRADIENT_ATTRIBUTE)
    except ValueError:
        return None
    return name.decode() if isinstance(name, bytes) else name


def set_gradient_attribute(op: Union[Operation, NodeDef], name: Optional[str]) -> None:
    """Makes `op` carry the gradient name `name`; None takes the attribute away."""
    if isinstance(op, tf.NodeDef):
        if name is None:
            del op.attr[GRADIENT_ATTRIBUTE]
        else:
            op.attr[GRADIENT_ATTRIBUTE].s = name.encode()
        return
    if name is None:
        if hasattr(op, "_clear_attr"):
            op._clear_attr(GRADIENT_ATTRIBUTE)
            return
        name = op.type  # the registry's entry for the op type is what no attribute means
    encoded = name.encode()
    op._set_attr(GRADIENT_ATTRIBUTE, tf.AttrValue(s=encoded))


def names_own_gradient(op_type: str) -> bool:
    """Whether a `gradient_override_map` in force names `op_type`; eagerly there is none."""
    if tf.executing_eagerly():
        return False
    return op_type in tf.get_default_graph()._gradient_override_map


def op_type(op: Union[Operation, NodeDef]) -> str:
    """The type of an operation or a NodeDef."""
    return op.op if isinstance(op, tf.NodeDef) else op.type


def gradient_sites(graph: Graph) -> Iterator[Tuple[Any, Iterable[Union[Operation, NodeDef]]]]:
    """Yields (holder, its ops) for `graph` and the functions that it holds, with theirs.

    A function holds the graph in which it was traced, and a definition. From that, TF 1.x rebuilds
    the graph for each gradient of a v2 cond or while loop; the definition's ops are NodeDefs.
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


# TensorFlow's own gradient functions that ours take the place of, as they were when the process
# first imported this module.
STOCK_GRADIENTS = kept_in_process(
    "stock gradients",
    lambda: {
        op_type: entry_function(gradient_entry(op_type))
        for op_type in (SPARSE_OP, DENSE_OP, GUARD_OP, *CTC_OPS)
        if gradient_entry(op_type) is not None
    },
)

# Ops whose output is their first input.
_HANDING_ON = ("Identity", "Switch", "RefSwitch", "Enter", "RefEnter", "Merge", "Exit")
# Ops whose output comes from another graph, from a stack, or from the branch of a v2 cond.
_COMING_IN = (
    *("Placeholder", "Arg", "_Arg"),
    *("StackPopV2", "StackPop", "TensorListPopBack", "OptionalGetValue"),
)


def handed_on(op_type: str, index: int) -> Optional[int]:
    """The number of the input that is an op's output `index` unchanged, or None."""
    if op_type == "IdentityN":
        return index
    return 0 if op_type in _HANDING_ON else None


def is_second_output(op_type: str, index: int, message: Union[str, bytes]) -> bool:
    """Whether output `index` of an op of a type is a fused cross-entropy op's gradient.

    Inside loops and functions the gradient comes in from elsewhere. There the `message` of the
    guard that reads it decides, because it names the function.
    """
    return _is_second_output(op_type, index, message, FUSED_OPS)


def guards_cross_entropy(op: Union[Operation, NodeDef]) -> bool:
    """Whether a PreventGradient op guards the second output of a fused cross-entropy op.

    Of a NodeDef, and eagerly, only the message is known.
    """
    return _guards(op, FUSED_OPS)


def guards_what_has_a_gradient(op: Union[Operation, NodeDef]) -> bool:
    """Whether a PreventGradient op guards an output whose gradient we supply."""
    return _guards(op, FUSED_OPS) or _guards(op, CTC_OPS)


def in_place_of_guard(op: Operation) -> Tensor:
    """The second output of an op; in graphs where TensorFlow's gradient guards it, an identity.

    TensorFlow derives the seed of a random op from the number of ops before it in the graph.
    Without the identity, those built after a gradient would have other seeds.
    """
    output = op.outputs[1]
    if tf.executing_eagerly() or not _is_guarded(op.type):
        return output
    return tf.identity(output, name=GUARD_OP)


@functools.lru_cache(maxsize=None)
def _is_guarded(op_type: str) -> bool:
    """Whether TensorFlow's gradient of an op type builds a PreventGradient op."""
    with tf.Graph().as_default() as graph:
        tensors = [tf.placeholder(tf.float32) for _ in range(4)]
        like = types.SimpleNamespace(type=op_type, inputs=tensors, outputs=tensors[:2])
        STOCK_GRADIENTS[op_type](like, tensors[0], None)
        return any(op.type == GUARD_OP for op in graph.get_operations())


# What the message of the guard of an op's second output names.
_NAMED: Dict[Tuple[str, ...], str] = {
    FUSED_OPS: "softmax_cross_entropy_with_logits",
    CTC_OPS: "ctc_loss",
}


def _guards(op: Union[Operation, NodeDef], fused: Tuple[str, ...]) -> bool:
    if isinstance(op, tf.NodeDef):
        return _names(op.attr["message"].s, fused)
    if tf.executing_eagerly():
        return _names(op.get_attr("message"), fused)
    tensor = op.inputs[0]
    position = handed_on(tensor.op.type, tensor.value_index)
    while position is not None:
        tensor = tensor.op.inputs[position]
        position = handed_on(tensor.op.type, tensor.value_index)
    return _is_second_output(tensor.op.type, tensor.value_index, op.get_attr("message"), fused)


def _is_second_output(
    op_type: str, index: int, message: Union[str, bytes], fused: Tuple[str, ...]
) -> bool:
    if op_type in _COMING_IN:
        return _names(message, fused)
    return op_type in fused and index == 1


def _names(message: Union[str, bytes], fused: Tuple[str, ...]) -> bool:
    message = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
    return _NAMED[fused] in message
