"""The mode "logsumexp": cross-entropy ops become stock ops.

It replaces TensorFlow's fused ops, the native library's ops, and the values that tf1xent built
under `patch()`. Each keeps its name and becomes an IdentityN of what replaces it.
"""

from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import DType, NodeDef
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.gradients import FILLING_GRADIENT, GRADIENT_NAMES
from tf1xent.graphs.attributes import DataType
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.formula.building import Arithmetic, Nodes
from tf1xent.graphs.formula.kernel_formula import stock_outputs, stock_value
from tf1xent.graphs.formula.kernel_ops import (
    CROSS_ENTROPY_OPS,
    INVALID_LABELS,
    KERNEL_OPS,
    LABELS_TYPE,
    LOGITS_TYPE,
    NAN,
    PRECISE_TYPE,
    RAISE,
)
from tf1xent.graphs.formula.primitive_ops import (
    DIFFERENTIABLE,
    PRIMITIVES,
    checks_waited_for,
    primitive_name,
    primitives,
)
from tf1xent.graphs.formula.stock_formula import loss_and_gradient
from tf1xent.graphs.raw import NodeList
from tf1xent.graphs.rewriting.inlining import become_identity
from tf1xent.graphs.wiring import Names, Wiring, join_reference, split_inputs, split_reference

# Attributes of the op itself; other attributes with an underscore say where and how nodes run.
_OWN = (_tf.GRADIENT_ATTRIBUTE, "_output_shapes")
LOGITS_TYPES = (tf.half, tf.bfloat16, tf.float32, tf.float64)
_LABELS_TYPES = (tf.int32, tf.int64)
_PRECISE_TYPES = [dtype.as_datatype_enum for dtype in (tf.float32, tf.float64)]
_DEFAULT_LABELS_TYPE = tf.int64.as_datatype_enum

# The tensors that a rewrite adds, by name of the rewritten node.
Added = Dict[str, List[str]]


def replace_ops(wiring: Wiring, results: List[str]) -> Added:
    """Replaces the cross-entropy ops of a graph or function body; returns the tensors added.

    `results` are the references that the function returns; those to outputs that go are changed.
    """
    guards = wiring.guards()
    own = primitives(wiring)
    _remove_gradient_names(wiring)
    _open_guards(wiring.nodes, guards)
    _drop_residuals(wiring, own, results)
    around = contexts(wiring)
    names = Names(wiring.positions)
    added = _tie_labels_to_checks(wiring, own, names)
    second_outputs = _second_outputs_read(wiring, own, results)
    replaced = {*wiring.of_types(CROSS_ENTROPY_OPS), *own}
    # In order: what a replaced node reads is final before it is replaced.
    for position in filter(replaced.__contains__, wiring.order):
        node = wiring.nodes[position]
        inside = around[position] is not None
        nodes = nodes_in_place_of(node, wiring.nodes, names, "logsumexp", inside)
        if node.op in _tf.FUSED_OPS:
            gradient = _replace_fused_op(nodes, node, wiring.where)
            if position in second_outputs:
                read = _differentiable(nodes, node, gradient)
                moves = {join_reference(node.name, 1): read}
                _redirect(wiring.nodes, second_outputs[position], results, moves)
        elif node.op in KERNEL_OPS:
            _replace_kernel_op(nodes, node, wiring.where)
        else:
            _replace_primitive(nodes, node, wiring.where)
        added[node.name] = nodes.tensors
        wiring.nodes[position] = node
    return added


def _second_outputs_read(
    wiring: Wiring, own: Dict[int, str], results: Sequence[str]
) -> Dict[int, Set[int]]:
    """Returns the readers of the gradients that fused ops hand out, by position.

    The readers of `own` may have become some, and `results` may have one.
    """
    fused = wiring.of_types(_tf.FUSED_OPS)
    by_name = {wiring.nodes[position].name: position for position in fused}
    found: Dict[int, Set[int]] = {}
    readers = wiring.readers([*fused, *own]).values()
    for reader in {reader for of_one in readers for reader, _ in of_one}:
        for name, index in map(split_reference, wiring.nodes[reader].input):
            if index == 1 and name in by_name:
                found.setdefault(by_name[name], set()).add(reader)
    for name, index in map(split_reference, results):
        if index == 1 and name in by_name:
            found.setdefault(by_name[name], set())
    return found


def _differentiable(nodes: Nodes, fused: NodeDef, gradient: str) -> str:
    """Returns the gradient that a replaced op hands out, with its derivative.

    TensorFlow gives every output of an IdentityN a gradient, of zeros if there is no other; these
    would go all the way through the second output when the loss is differentiated. So the IdentityN
    hands it out without a derivative. The value is that of the output, which may be fed.
    """
    a = Arithmetic(nodes, fused.attr["T"].list.type[1])
    zero = a.op("Sub", gradient, a.op("StopGradient", gradient))
    return a.op("Add", a.op("StopGradient", f"{fused.name}:1"), zero)


def _redirect(
    nodes: NodeList, readers: Iterable[int], results: List[str], moves: Dict[str, str]
) -> None:
    """Makes some nodes, and the `results`, read other tensors: the values of `moves`, by key."""

    def moved(reference: str) -> str:
        return moves.get(join_reference(*split_reference(reference)), reference)

    for position in readers:
        node = nodes[position]
        node.input[:] = map(moved, node.input)
        nodes[position] = node
    results[:] = map(moved, results)


def _tie_labels_to_checks(wiring: Wiring, own: Dict[int, str], names: Names) -> Added:
    """Makes labels depend on the value of their check, where they only wait for it.

    The loss reads the check's value too, but the stock ops that replace the loss do not; TensorFlow
    would then drop the check.
    """
    added = {}
    for position, checks in checks_waited_for(wiring, own).items():
        node = wiring.nodes[position]
        nodes = nodes_in_place_of(node, wiring.nodes, names, "checked")
        labels, waits = split_inputs(node)[0][0], set()
        for check in (wiring.nodes[p] for p in sorted(checks)):
            a = Arithmetic(nodes, checked_type(check, "T", 0, LOGITS_TYPES, wiring.where))
            # False for every value of the check, NaN too: a square is not below 0.
            never = a.op("Less", a.op("Mul", check.name, check.name), a.op("ZerosLike", check.name))
            labels_type = node.attr["T"].type
            zero = a.cast(never, tf.bool.as_datatype_enum, labels_type)
            labels = nodes.add("Add", [labels, zero], T=DataType(labels_type))
            waits.add(f"^{check.name}")
        node.input[:] = [labels, *(r for r in node.input[1:] if r not in waits)]
        wiring.nodes[position] = node
        added[node.name] = nodes.tensors
    return added


def _open_guards(nodes: NodeList, guards: Iterable[int]) -> None:
    """Turns guards (PreventGradient) into Identity."""
    for position in guards:
        node = nodes[position]
        node.op = "Identity"
        for key in ("message", _tf.GRADIENT_ATTRIBUTE):
            if key in node.attr:
                del node.attr[key]
        nodes[position] = node


def _remove_gradient_names(wiring: Wiring) -> None:
    """Removes the gradient names of tf1xent; refuses nodes whose gradient would be lost.

    Names of PRIMITIVES stay here: these nodes are replaced. Where stock ops compute a value and
    have the right gradients themselves (DIFFERENTIABLE), the name is all that goes.
    """
    nodes, where = wiring.nodes, wiring.where
    for position in nodes.mentioning(_tf.GRADIENT_ATTRIBUTE):
        node = nodes[position]
        name = _tf.gradient_attribute(node)
        if name is None or primitive_name(node) is not None:
            continue
        # What `override_gradients` names on a live graph's other ops, which are stock ops.
        of_override = node.op not in GRADIENT_NAMES and name in (
            FILLING_GRADIENT,
            _tf.gradient_name(node.op),
        )
        if name in DIFFERENTIABLE or of_override:
            _tf.set_gradient_attribute(node, None)
            nodes[position] = node
            continue
        if node.op in CROSS_ENTROPY_OPS and name != GRADIENT_NAMES.get(node.op, node.op):
            raise RewriteError(
                f"{where}: node `{node.name}` has a gradient of its own, `{name}`, which stock ops "
                'would lose. Use the mode "tag", which keeps it.'
            )
        if name.startswith("Tf1xent") and node.op not in (*GRADIENT_NAMES, *KERNEL_OPS):
            raise RewriteError(
                f"{where}: node `{node.name}` is tf1xent's own, with the gradient `{name}`, and "
                "cannot become stock ops. Differentiate the graph where tf1xent is imported."
            )


def _drop_residuals(wiring: Wiring, own: Dict[int, str], results: List[str]) -> None:
    """Removes the outputs that the nodes of `own` keep for their gradients only.

    Otherwise every run of a value would compute them. A node, or one of `results`, that reads such
    an output then reads the tensor that the output handed on.
    """
    nodes = wiring.nodes
    sources: Dict[str, str] = {}
    for position, name in own.items():
        node = nodes[position]
        data, _ = split_inputs(node)
        for index in range(1 + len(PRIMITIVES[name].inputs), len(data)):
            sources[join_reference(node.name, index)] = data[index]

    readers = {reader for found in wiring.readers(own).values() for reader, _ in found}
    _redirect(nodes, readers, results, sources)


def nodes_in_place_of(
    node: NodeDef, graph_nodes: NodeList, names: Names, scope: str, inside: bool = False
) -> Nodes:
    """Returns a builder of nodes below the name of `node`, on its device, with its attributes."""
    common = {key: node.attr[key] for key in node.attr if key.startswith("_") and key not in _OWN}
    scope = names.unique(f"{node.name}/{scope}")
    return Nodes(graph_nodes, names, scope, node.device, common, inside)


def _replace_primitive(nodes: Nodes, node: NodeDef, where: str) -> None:
    name: Any = _tf.gradient_attribute(node)  # a primitive has one
    inputs, controls = split_inputs(node)
    end = 1 + len(PRIMITIVES[name].inputs)
    types = list(node.attr["T"].list.type)
    is_whole = len(inputs) == len(types) >= end
    if not is_whole or types[0] != types[1] or types[0] not in _PRECISE_TYPES:
        raise GraphFileError(
            f"{where}: node `{node.name}`, {node.op}, must have the inputs of `{name}`, got "
            f"{len(inputs)} inputs of {', '.join(map(_tf.enum_name, types)) or 'no types'}."
        )
    value = stock_value(nodes, name, types[1:end], inputs[1:end], controls)
    become_identity(node, [value, *inputs[1:end]], types[:end])
    if "_output_shapes" in node.attr:
        del node.attr["_output_shapes"].list.shape[end:]


def _replace_fused_op(nodes: Nodes, fused: NodeDef, where: str) -> str:
    """Returns the gradient of the loss, as stock ops compute it."""
    inputs, controls = checked_inputs(fused, 2, where)
    dtype = checked_type(fused, "T", 0, LOGITS_TYPES, where)
    labels_dtype = dtype
    if fused.op == _tf.SPARSE_OP:
        labels_dtype = checked_type(fused, "Tlabels", _DEFAULT_LABELS_TYPE, _LABELS_TYPES, where)
    loss, gradient = loss_and_gradient(nodes, fused.op, dtype, labels_dtype, inputs, controls)
    handed_out = Arithmetic(nodes, dtype).op("StopGradient", gradient)
    become_identity(fused, [loss, handed_out], [dtype, dtype])
    return gradient


def _replace_kernel_op(nodes: Nodes, node: NodeDef, where: str) -> None:
    op = KERNEL_OPS[node.op]
    inputs, controls = checked_inputs(node, len(op.inputs), where)
    types = {LOGITS_TYPE: checked_type(node, LOGITS_TYPE, 0, LOGITS_TYPES, where)}
    is_double = types[LOGITS_TYPE] == tf.float64.as_datatype_enum
    precise = tf.float64 if is_double else tf.float32
    types[PRECISE_TYPE] = checked_type(node, PRECISE_TYPE, 0, (precise,), where)
    if any(attribute == LABELS_TYPE for _, attribute in op.inputs):
        types[LABELS_TYPE] = checked_type(node, LABELS_TYPE, 0, _LABELS_TYPES, where)
    invalid_labels = RAISE
    if op.checks_labels and INVALID_LABELS in node.attr:
        invalid_labels = node.attr[INVALID_LABELS].s.decode("utf-8", "replace")
    if invalid_labels not in (RAISE, NAN):
        raise GraphFileError(
            f"{where}: node `{node.name}`, {node.op}: its attribute `{INVALID_LABELS}` must be "
            f"{RAISE} or {NAN}, got {invalid_labels!r}."
        )
    raises = invalid_labels == RAISE
    outputs = stock_outputs(nodes, node.op, types, raises, inputs, controls)
    become_identity(node, outputs, [types[attribute] for _, attribute in op.outputs])


def checked_inputs(node: NodeDef, count: int, where: str) -> Tuple[List[str], List[str]]:
    """Returns a node's data inputs and control inputs; GraphFileError for another number."""
    inputs, controls = split_inputs(node)
    if len(inputs) != count:
        number = {2: "two", 4: "four"}[count]
        raise GraphFileError(
            f"{where}: node `{node.name}`, {node.op}, must have {number} inputs, got {len(inputs)}."
        )
    return inputs, controls


def checked_type(
    node: NodeDef, key: str, default: int, allowed: Sequence[DType], where: str
) -> int:
    """Returns a dtype attribute as its number; GraphFileError for a dtype that is not allowed."""
    number = node.attr[key].type if key in node.attr else default
    if number not in [dtype.as_datatype_enum for dtype in allowed]:
        names = ", ".join(dtype.name for dtype in allowed)
        requirement = f"one of {names}" if len(allowed) > 1 else names
        raise GraphFileError(
            f"{where}: node `{node.name}`, {node.op}: its attribute `{key}` must be "
            f"{requirement}, got {_tf.enum_name(number) if number else 'none'}."
        )
    return number
