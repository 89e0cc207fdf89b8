"""Cross-entropy ops in a GraphDef: tagged, untagged, or replaced by stock ops.

"tag" and "fused" are for TensorFlow's fused ops alone; stock ops take the place of the native
library's ops and of tf1xent's own values too.
"""

from typing import Any, Container, Dict, Iterable, List, Set, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.gradients import GRADIENT_NAMES
from tf1xent.graphs.control_flow import contexts
from tf1xent.graphs.formula.building import Arithmetic, DataType, Nodes
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
    checks_of_labels,
    checks_waited_for,
    primitive_name,
    primitives,
)
from tf1xent.graphs.formula.stock_formula import broadcast_to_each_other, loss_and_gradient
from tf1xent.graphs.functions import Body, Library
from tf1xent.graphs.raw import Graph, NodeList, check_is_readable
from tf1xent.graphs.rewriting.inlining import Inliner, become_identity
from tf1xent.graphs.shapes import forget_shapes, missed_broadcasts
from tf1xent.graphs.wiring import Names, Wiring, join_reference, split_inputs, split_reference

MODES = ("logsumexp", "tag", "fused")

# Attributes of one op; the others that begin with an underscore are of the place where it runs.
_OWN = (_tf.GRADIENT_ATTRIBUTE, "_output_shapes")
_LOGITS_TYPES = (tf.half, tf.bfloat16, tf.float32, tf.float64)
_LABELS_TYPES = (tf.int32, tf.int64)
_PRECISE_TYPES = [dtype.as_datatype_enum for dtype in (tf.float32, tf.float64)]
_DEFAULT_LABELS_TYPE = tf.int64.as_datatype_enum

# The tensors that a rewrite adds, by name of the node in whose place they stand.
Added = Dict[str, List[str]]


def rewritten(
    content: bytes, mode: str, where: str, wanted: Iterable[str] = ()
) -> Tuple[bytes, Added]:
    """The bytes of a GraphDef, rewritten, its function library too.

    Also returned is what was added, in the place of the `wanted` nodes of those rewritten.
    """
    graph = Graph(content, where)
    added = _rewrite(graph, mode, where, wanted)
    return graph.take_content(), added


def _rewrite(graph: Graph, mode: str, where: str, wanted: Iterable[str]) -> Added:
    check_is_readable(graph.rest, where)
    library = Library(graph.rest.library, where)
    main = Wiring(graph.nodes, where)
    if mode == "fused":
        _untag(graph.nodes)
        for function in library.functions.values():
            for node in function.node_def:
                _untagged(node)
        return {}
    # First all bodies take the place of their calls, then ops are rewritten: what guards them may
    # be on the other side of a call.
    inliner = Inliner(library)
    for name in inliner.holding:
        body = Body(library.functions[name], library)
        inliner.inline(body.wiring())
        inliner.add(body)
    added = inliner.inline(main)
    if added:
        main = Wiring(graph.nodes, where)
    misled: Set[str] = set()
    for body in inliner.bodies.values():
        if _forget_wrong_shapes(body.wiring(), library, misled):
            misled.add(body.name)
    _forget_wrong_shapes(main, library, misled)
    wanted = {name for name in wanted if name in main.positions}
    for call in wanted.intersection(added):
        wanted.update(split_reference(tensor)[0] for tensor in added[call])
    added.update(_rewrite_nodes(main, mode, wanted, results=[]))
    for body in inliner.bodies.values():
        _rewrite_nodes(body.wiring(), mode, wanted=(), results=body.results)
        body.put_into(library.functions[body.name], library)
    return {name: added[name] for name in added if name in wanted}


def _forget_wrong_shapes(wiring: Wiring, library: Library, misled: Set[str]) -> bool:
    """Takes shapes off that a missed broadcast, or a function with one, made wrong; whether any."""
    positions = missed_broadcasts(wiring)
    if misled:
        positions += [p for p, names in library.callers(wiring) if misled.intersection(names)]
    forget_shapes(wiring, positions)
    return bool(positions)


def _untag(nodes: NodeList) -> None:
    for position in list(nodes.mentioning(_tf.GRADIENT_ATTRIBUTE)):
        node = nodes[position]
        if _untagged(node):
            nodes[position] = node


def _untagged(node: Any) -> bool:
    """Takes our gradient name off a node; whether there was one."""
    is_ours = node.op in GRADIENT_NAMES and _tf.gradient_attribute(node) == GRADIENT_NAMES[node.op]
    if is_ours:
        _tf.set_gradient_attribute(node, None)
    return is_ours


def _rewrite_nodes(wiring: Wiring, mode: str, wanted: Container[str], results: List[str]) -> Added:
    guards = [p for p in wiring.of_types((_tf.GUARD_OP,)) if wiring.guarded(p) is not None]
    if mode == "tag":
        checks = checks_of_labels(wiring)
        fused = [p for p in wiring.of_types(_tf.FUSED_OPS) if p not in checks]
        added = _broadcast(wiring)
        _tag(wiring.nodes, [*guards, *fused])
        return {name: added[name] for name in added if name in wanted}
    own = primitives(wiring)
    _leave_to_tensorflow(wiring)
    _open(wiring.nodes, guards)
    _without_residuals(wiring, own, results)
    around = contexts(wiring)
    names = Names(wiring.positions)
    added = _computed_from_checks(wiring, own, names)
    for position in [*wiring.of_types(CROSS_ENTROPY_OPS), *own]:
        node = wiring.nodes[position]
        inside = around[position] is not None
        tensors = _replace(wiring.nodes, node, names, wiring.where, inside)
        added[node.name] = tensors
        wiring.nodes[position] = node
    return {name: added[name] for name in added if name in wanted}


def _computed_from_checks(wiring: Wiring, own: Dict[int, str], names: Names) -> Added:
    """Makes labels that wait for their check depend on its value: without a loss that does, too,
    TensorFlow would drop the check."""
    added = {}
    for position, checks in checks_waited_for(wiring, own).items():
        node = wiring.nodes[position]
        nodes = _new_nodes(wiring.nodes, node, names, "checked")
        labels, waits = split_inputs(node)[0][0], set()
        for check in (wiring.nodes[p] for p in sorted(checks)):
            a = Arithmetic(nodes, _checked_type(check, "T", 0, _LOGITS_TYPES, wiring.where))
            # 0 for all values of the check, which are NaN or not negative.
            never = a.op("Less", a.op("Mul", check.name, check.name), a.op("ZerosLike", check.name))
            labels_type = node.attr["T"].type
            nothing = a.cast(never, tf.bool.as_datatype_enum, labels_type)
            labels = nodes.add("Add", [labels, nothing], T=DataType(labels_type))
            waits.add(f"^{check.name}")
        node.input[:] = [labels, *(r for r in node.input[1:] if r not in waits)]
        wiring.nodes[position] = node
        added[node.name] = nodes.tensors
    return added


def _broadcast(wiring: Wiring) -> Added:
    """Lets dense ops get what they would broadcast themselves, by names of these ops."""
    added = {}
    names = Names(wiring.positions)
    for position in missed_broadcasts(wiring):
        node = wiring.nodes[position]
        nodes = _new_nodes(wiring.nodes, node, names, "broadcast")
        inputs, controls = _checked_inputs(node, 2, wiring.where)
        dtype = _checked_type(node, "T", 0, _LOGITS_TYPES, wiring.where)
        node.input[:] = [*broadcast_to_each_other(Arithmetic(nodes, dtype), *inputs), *controls]
        wiring.nodes[position] = node
        added[node.name] = nodes.tensors
    return added


def _tag(nodes: NodeList, positions: Iterable[int]) -> None:
    for position in positions:
        node = nodes[position]
        if _tf.gradient_attribute(node) is None:
            _tf.set_gradient_attribute(node, GRADIENT_NAMES[node.op])
            nodes[position] = node


def _open(nodes: NodeList, guards: Iterable[int]) -> None:
    """Makes guards hand on what they guard."""
    for position in guards:
        node = nodes[position]
        node.op = "Identity"
        for key in ("message", _tf.GRADIENT_ATTRIBUTE):
            if key in node.attr:
                del node.attr[key]
        nodes[position] = node


def _leave_to_tensorflow(wiring: Wiring) -> None:
    """Sees to it that nothing has a gradient of ours, or that gradient alone."""
    nodes, where = wiring.nodes, wiring.where
    for position in nodes.mentioning(_tf.GRADIENT_ATTRIBUTE):
        node = nodes[position]
        name = _tf.gradient_attribute(node)
        if name is None or primitive_name(node) is not None:
            continue
        if name in DIFFERENTIABLE:
            _tf.set_gradient_attribute(node, None)
            nodes[position] = node
            continue
        if node.op in CROSS_ENTROPY_OPS and name != GRADIENT_NAMES.get(node.op, node.op):
            raise RewriteError(
                f"{where}: node `{node.name}` carries a gradient of its own, `{name}`, which stock "
                'ops would not keep. Use the mode "tag", which leaves it.'
            )
        if name.startswith("Tf1xent") and node.op not in (*GRADIENT_NAMES, *KERNEL_OPS):
            raise RewriteError(
                f"{where}: node `{node.name}` is tf1xent's own, with the gradient `{name}`, and "
                "cannot become stock ops. Differentiate the graph where tf1xent is imported."
            )


def _without_residuals(wiring: Wiring, own: Dict[int, str], results: List[str]) -> None:
    """Lets nothing, nor `results`, read from the nodes of `own` what these keep for gradients.

    They lose these outputs, which would have to be computed with every value; what reads one reads
    its source instead.
    """
    nodes = wiring.nodes
    sources: Dict[str, str] = {}
    for position, name in own.items():
        node = nodes[position]
        data, _ = split_inputs(node)
        for index in range(1 + len(PRIMITIVES[name].inputs), len(data)):
            sources[join_reference(node.name, index)] = data[index]

    def moved(reference):
        return sources.get(join_reference(*split_reference(reference)), reference)

    results[:] = map(moved, results)
    for reader in {reader for readers in wiring.readers(own).values() for reader, _ in readers}:
        node = nodes[reader]
        node.input[:] = [moved(reference) for reference in node.input]
        nodes[reader] = node


def _replace(graph_nodes: NodeList, node: Any, names: Names, where: str, inside: bool) -> List[str]:
    """Puts stock ops in the place of a cross-entropy op; returns the tensors added."""
    nodes = _new_nodes(graph_nodes, node, names, "logsumexp", inside)
    if node.op in KERNEL_OPS:
        _replace_kernel_op(nodes, node, where)
    elif node.op in _tf.FUSED_OPS:
        _replace_fused_op(nodes, node, where)
    else:
        _replace_primitive(nodes, node, where)
    return nodes.tensors


def _new_nodes(
    graph_nodes: NodeList, node: Any, names: Names, scope: str, inside: bool = False
) -> Nodes:
    """What adds nodes for a node, below a scope of its name and in its place."""
    common = {key: node.attr[key] for key in node.attr if key.startswith("_") and key not in _OWN}
    scope = names.unique(f"{node.name}/{scope}")
    return Nodes(graph_nodes, names, scope, node.device, common, inside)


def _replace_primitive(nodes: Nodes, node: Any, where: str) -> None:
    name = _tf.gradient_attribute(node)
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


def _replace_fused_op(nodes: Nodes, fused: Any, where: str) -> None:
    inputs, controls = _checked_inputs(fused, 2, where)
    dtype = _checked_type(fused, "T", 0, _LOGITS_TYPES, where)
    labels_dtype = dtype
    if fused.op == _tf.SPARSE_OP:
        labels_dtype = _checked_type(fused, "Tlabels", _DEFAULT_LABELS_TYPE, _LABELS_TYPES, where)
    outputs = loss_and_gradient(nodes, fused.op, dtype, labels_dtype, inputs, controls)
    become_identity(fused, outputs, [dtype, dtype])


def _replace_kernel_op(nodes: Nodes, node: Any, where: str) -> None:
    op = KERNEL_OPS[node.op]
    inputs, controls = _checked_inputs(node, len(op.inputs), where)
    types = {LOGITS_TYPE: _checked_type(node, LOGITS_TYPE, 0, _LOGITS_TYPES, where)}
    is_double = types[LOGITS_TYPE] == tf.float64.as_datatype_enum
    precise = tf.float64 if is_double else tf.float32
    types[PRECISE_TYPE] = _checked_type(node, PRECISE_TYPE, 0, (precise,), where)
    if any(attribute == LABELS_TYPE for _, attribute in op.inputs):
        types[LABELS_TYPE] = _checked_type(node, LABELS_TYPE, 0, _LABELS_TYPES, where)
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


def _checked_inputs(node: Any, count: int, where: str) -> Tuple[List[str], List[str]]:
    inputs, controls = split_inputs(node)
    if len(inputs) != count:
        number = {2: "two", 4: "four"}[count]
        raise GraphFileError(
            f"{where}: node `{node.name}`, {node.op}, must have {number} inputs, got {len(inputs)}."
        )
    return inputs, controls


def _checked_type(node: Any, key: str, default: int, allowed: Any, where: str) -> int:
    number = node.attr[key].type if key in node.attr else default
    if number not in [dtype.as_datatype_enum for dtype in allowed]:
        names = ", ".join(dtype.name for dtype in allowed)
        requirement = f"one of {names}" if len(allowed) > 1 else names
        raise GraphFileError(
            f"{where}: node `{node.name}`, {node.op}: its attribute `{key}` must be "
            f"{requirement}, got {_tf.enum_name(number) if number else 'none'}."
        )
    return number
