"""What TensorFlow keeps about the ops and functions of a live graph."""

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import func_graph, function_def_to_graph, tensor_util

from tf1xent._tf.modules import module_if_there
from tf1xent._tf.op_definitions import call_has_gradients
from tf1xent._tf.registry import GRADIENT_ATTRIBUTE, gradient_attribute, gradient_to_call
from tf1xent._typing import DType, FunctionDef, Graph, Operation, Tensor

_backprop_rules = module_if_there("eager.backprop_util")  # 2.x
_POINTERS = (tf.resource, tf.variant)
# Attributes that place an op, or record what is inferred about it.
_NO_MEANING = ("_class", "_output_shapes", "_XlaCompile", "_XlaScope")
_HAS_DEBUG_INFO = "experimental_debug_info" in tf.NodeDef.DESCRIPTOR.fields_by_name

# By dtype; None for one of which the single tensor decides.
_followed: Dict[DType, Optional[bool]] = {}


def carries_gradients(tensor: Tensor) -> bool:
    """Whether `tf.gradients` follows a tensor: whether its dtype has small changes."""
    dtype = tensor.dtype
    if dtype not in _followed:
        base = dtype.base_dtype
        _followed[dtype] = base.is_floating or base.is_complex or base in _POINTERS
        if base == tf.variant and _backprop_rules is not None:
            _followed[dtype] = None  # what the variant holds decides
    known = _followed[dtype]
    return bool(_backprop_rules.IsTrainable(tensor)) if known is None else known


def has_handle(tensor: Tensor) -> bool:
    """Whether a tensor stands for a resource or a variant instead of numbers."""
    return tensor.dtype.base_dtype in _POINTERS


def tensor_of(value: Any) -> Optional[Tensor]:
    """Returns the tensor by which `tf.gradients` knows a tensor or a variable; None for others."""
    if isinstance(value, tf.Tensor):
        return value
    op = getattr(value, "op", None) if not tf.executing_eagerly() else None
    return op.outputs[0] if isinstance(op, tf.Operation) and op.outputs else None


class Meaning(NamedTuple):
    """What an op computes.

    Attributes:
      content: equal bytes for ops of equal types and attributes, whatever their names.
      gradient: the name under which `tf.gradients` looks up the op's gradient.
    """

    content: bytes
    gradient: str


def meaning(op: Operation) -> Meaning:
    """Returns what an op computes."""
    node = op.node_def
    attributes = node.attr
    gradient = gradient_attribute(node) if GRADIENT_ATTRIBUTE in attributes else None
    for field in ("name", "input", "device"):
        node.ClearField(field)
    if _HAS_DEBUG_INFO:
        node.ClearField("experimental_debug_info")
    for name in _NO_MEANING:
        if name in attributes:
            del attributes[name]
    return Meaning(node.SerializeToString(deterministic=True), gradient or node.op)


def gradient_in_use(op: Operation) -> str:
    """Returns the name under which `tf.gradients` looks up the gradient of an op."""
    return gradient_attribute(op) or str(op.type)


def static_value(tensor: Tensor) -> Any:
    """Returns the value of a tensor that the graph alone determines, or None."""
    return tensor_util.constant_value(tensor)


def graph_beside(graph: Graph) -> Graph:
    """Returns an empty graph that may read the tensors of `graph`, which it does not change."""
    with graph.as_default():
        beside = func_graph.FuncGraph("tf1xent_beside")
    versions = graph.graph_def_versions
    if versions.producer < tf.GRAPH_DEF_VERSION:  # old graphs hold ops that new ones cannot
        with beside.as_default():
            tf.import_graph_def(tf.GraphDef(versions=versions), name="")
    return beside


def read_from_outside(beside: Graph) -> List[Tuple[Tensor, Tensor]]:
    """Returns (tensor of another graph, its stand-in) for what a `graph_beside` reads."""
    captures = getattr(beside, "captures", [])
    return list(captures.items() if hasattr(captures, "items") else captures)


def copied(op: Operation, inputs: List[Tensor], graph: Graph) -> Operation:
    """Adds a copy of an op of another graph to `graph`, with other inputs."""
    attributes = {n: value for n, value in op.node_def.attr.items() if n not in _NO_MEANING}
    copy = graph.create_op(
        op.type,
        inputs,
        [output.dtype for output in op.outputs],
        input_types=[tensor.dtype for tensor in op.inputs],
        name="copy",
        attrs=attributes,
    )
    for output, original in zip(copy.outputs, op.outputs):
        if not has_handle(output):
            output.set_shape(original.shape)
    return copy


def can_be_fetched(tensor: Tensor) -> bool:
    """Whether a session can always fetch a tensor: not in a v1 loop, and in no v1 branch."""
    context = tensor.op._get_control_flow_context()
    outside = context is None or (tensor.op.type == "Exit" and context.outer_context is None)
    return outside and bool(tensor.graph.is_fetchable(tensor))


class Loop(NamedTuple):
    """A v1 while loop of a live graph.

    Attributes:
      name: of its frame.
      outermost: the name of the outermost loop around it, or its own.
      back_prop: whether gradients go through it.
    """

    name: str
    outermost: str
    back_prop: bool


def has_context(op: Operation) -> bool:
    """Whether TensorFlow knows in which v1 branch or loop an op is."""
    return op._get_control_flow_context() is not None


def loop_around(op: Operation) -> Optional[Loop]:
    """Returns the innermost v1 while loop that an op is in, or None."""
    context = op._get_control_flow_context()
    context = context.GetWhileContext() if context is not None else None
    if context is None:
        return None
    outermost = context
    while outermost.outer_context is not None:
        outer = outermost.outer_context.GetWhileContext()
        if outer is None:
            break
        outermost = outer
    return Loop(context.name, outermost.name, bool(context.back_prop))


# By op type, the attributes that name the functions whose outputs its own are.
_BODIES = {
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "Case": ("branches",),
    "StatelessCase": ("branches",),
    "While": ("body",),
    "StatelessWhile": ("body",),
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
}
# Types of the ops that are variables.
REFERENCE_VARIABLES = ("Variable", "VariableV2")
VARIABLES = (*REFERENCE_VARIABLES, "VarHandleOp")
TRACED_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def runs_functions(op: Operation) -> bool:
    """Whether an op's outputs are those of functions that `bodies` gives."""
    return op.type in _BODIES


def is_defun_call(op: Operation) -> bool:
    """Whether an op calls a `tf.Defun`, whose name is the op's type."""
    return bool(op.graph._is_function(op.type))


class Body(NamedTuple):
    """A function that an op runs.

    Attributes:
      role: the op's attribute that names it, as in "then_branch".
      name: the function's.
      graph: its ops; `inputs` and `outputs` are those of the function.
      is_traced: whether `graph` is the graph in which a program traced it.
    """

    role: str
    name: str
    graph: Graph
    is_traced: bool


def bodies(op: Operation) -> List[Body]:
    """Returns the functions that an op runs; LookupError if the graph lacks one."""
    found = []
    for role in _BODIES[op.type]:
        value = op.get_attr(role)
        named = list(value) if isinstance(value, (list, tuple)) else [value]
        for number, function in enumerate(named):
            label = f"{role}_{number}" if len(named) > 1 else role
            found.append(_body(op, label, function.name))
    return found


def _body(op: Operation, role: str, name: str) -> Body:
    function = _function(op.graph, name)
    if function is None:
        raise LookupError(f"the graph has no function `{name}`")
    for attribute in ("graph", "_func_graph", "_graph"):
        graph = getattr(function, attribute, None)
        if getattr(graph, "outputs", None):
            return Body(role, name, graph, True)
    definition = _definition(function)
    number = len(definition.signature.input_arg)
    inputs = list(op.inputs)
    shapes = [tensor.shape for tensor in inputs[len(inputs) - number :]]
    with op.graph.as_default():
        graph = function_def_to_graph.function_def_to_graph(definition, input_shapes=shapes)
    return Body(role, name, graph, False)


def _definition(function: Any) -> FunctionDef:
    """Returns a copy of a function's definition; without places, which 1.13 cannot import."""
    found = getattr(function, "cached_definition", None) or function.definition
    definition = type(found)()
    definition.CopyFrom(found)
    for node in definition.node_def:
        node.attr.pop("_class", None)
    return definition


def _function(graph: Optional[Graph], name: str) -> Any:
    while graph is not None:
        function = graph._get_function(name)
        if function is not None:
            return function
        graph = getattr(graph, "outer_graph", None)
    return None


def op_types_called(op: Operation) -> Set[str]:
    """Returns the types of the ops in the function that an op calls, and in those it leads to."""
    names = [op.get_attr("f").name if op.type in TRACED_CALLS else op.type]
    seen: Set[str] = set()
    op_types: Set[str] = set()
    while names:
        name = names.pop()
        function = _function(op.graph, name)
        if function is None or name in seen:
            continue
        seen.add(name)
        for node in _definition(function).node_def:
            op_types.add(node.op)
            names.append(node.op)
            for value in node.attr.values():
                names += [f.name for f in [value.func, *value.list.func] if f.name]
    return op_types


def call_can_be_differentiated(op: Operation) -> bool:
    """Whether TensorFlow has the gradient of a call of a traced function."""
    if call_has_gradients(op):
        return True
    if gradient_to_call(gradient_in_use(op)) is not None:
        return True
    function = _function(op.graph, op.get_attr("f").name)
    is_rebuilt = getattr(op.graph, "outer_graph", None) is not None
    return is_rebuilt and getattr(function, "graph", None) is not None
