"""Finds the ops that change variables in a step, their gradients and their learning rates."""

import re
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.program.state import VARIABLES
from tf1xent.diagnostics.program.wiring import ARGUMENT, Node

if TYPE_CHECKING:
    from tf1xent.diagnostics.program.program import Program

# Optimizers' own ops, and what assigns to a variable in other ways. The first input is the
# variable.
_APPLIES = re.compile(r"(Resource)?(Sparse)?Apply\w+")
_ASSIGNS = re.compile(r"Assign(Add|Sub)?|Assign(Add|Sub)?VariableOp|(Resource)?Scatter\w+")
# Assignments that training alone makes; others give a variable its first value too.
_CHANGES = re.compile(r"Assign(Add|Sub)(VariableOp)?|(Resource)?Scatter(Nd)?(Add|Sub)")
# The names that the definitions of optimizers' ops give to their inputs.
_GRADIENTS = ("grad", "delta")
_RATES = ("lr", "alpha")
# By op type that pushes a gradient into an accumulator, the input that holds it or its rows, and
# the first of those that come out again.
_PUSHES = {"AccumulatorApplyGradient": 2, "SparseAccumulatorApplyGradient": 3}
_PUSHES["ResourceAccumulatorApplyGradient"] = 2
_FIRST_PUSHED = {op_type: 2 for op_type in _PUSHES}
_TAKES = tuple(op_type.replace("Apply", "Take") for op_type in _PUSHES)
# The scope that `tf.gradients` opens, and how far behind an assignment its gradient is looked for.
_GRADIENT_SCOPE = re.compile(r"(^|/)gradients(_\d+)?/")
_NEAR = 60
_HANDS_ON = ("Identity", "Switch", "Enter", "StopGradient")


class Update(NamedTuple):
    """One op that changes a variable.

    Attributes:
      op: the op of the graph that does it; where a function does it, the one that calls it.
      variable: the name of the variable's op.
      gradient: the tensor with the gradient, or with its rows if it is sparse; None where the op is
        not an optimizer's, or where it cannot be fetched, as in a function or a branch.
      rate: the tensor with the learning rate, or None where there is none that can be fetched.
      gradient_name: the gradient's name in a `Recording`, also where it cannot be fetched; or None.
      rate_name: the same of the learning rate.
      node: the name of the node that does it, in a function too.
    """

    op: Operation
    variable: str
    gradient: Optional[Tensor]
    rate: Optional[Tensor]
    gradient_name: Optional[str] = None
    rate_name: Optional[str] = None
    node: str = ""


class _Parts(NamedTuple):
    gradient: Optional[str]
    rate: Optional[str]


def updates(program: "Program", train_ops: Optional[Sequence[Operation]]) -> List[Update]:
    """Returns all updates that a step makes, in the order of the graph."""
    wiring, roots, found = program.wiring, program.roots, []
    trained = set(program.trainable)
    running = wiring.ancestors(_started(program, train_ops, trained))
    running |= _behind_accumulators(program, running)
    for node in list(wiring.nodes.values()):
        if not node.inputs or wiring.outermost(node.name) not in running:
            continue
        applies = _APPLIES.fullmatch(node.op_type)
        if not (applies or _ASSIGNS.fullmatch(node.op_type)):
            continue
        names = [n for n in roots.of(node.inputs[0]) if wiring.nodes[n].op_type in VARIABLES]
        for name in names:
            parts = _Parts(None, None)
            if applies:
                parts = _parts_of_optimizer(node)
            elif name in trained:
                parts = _parts_of_assignment(program, node)
            parts = _Parts(_before_accumulator(program, parts.gradient), parts.rate)
            op = program.graph.get_operation_by_name(wiring.outermost(node.name))
            parts = _Parts(*(_recorded(program, name) for name in parts))
            gradient, rate = (_fetchable(program, name) for name in parts)
            found.append(Update(op, name, gradient, rate, *parts, node.name))
    return found


def _started(program: "Program", given: Optional[Sequence[Operation]], trained: Set[str]) -> List:
    """Returns the names of the nodes that a step of the training runs."""
    if given is not None:
        return [op.name for op in given]
    wiring, found = program.wiring, []
    for element in program.graph.get_collection(tf.GraphKeys.TRAIN_OP):
        name = getattr(getattr(element, "op", element), "name", None)
        found += [name] if name in wiring.nodes else []
    for node in wiring.nodes.values():
        if not node.inputs:
            continue
        applies = _APPLIES.fullmatch(node.op_type) is not None
        if applies or (_ASSIGNS.fullmatch(node.op_type) and _trains(program, node, trained)):
            found.append(wiring.outermost(node.name))
    return found


def _trains(program: "Program", node: Node, trained: Set[str]) -> bool:
    """Tells whether an assignment is a step's, and not an initializer's or a saver's."""
    if not program.roots.of(node.inputs[0]) & trained:
        return False
    if _CHANGES.fullmatch(node.op_type) or _subtracts(program, node) is not None:
        return True
    return _named_gradient(program, node) is not None


def _parts_of_optimizer(node: Node) -> _Parts:
    definition = _tf.op_definition(node.op_type)
    arguments = [] if definition is None else [a.name for a in definition.input_arg]
    inputs = dict(zip(arguments, node.inputs))
    gradient = next((inputs[name] for name in _GRADIENTS if name in inputs), None)
    return _Parts(gradient, next((inputs[name] for name in _RATES if name in inputs), None))


def _parts_of_assignment(program: "Program", node: Node) -> _Parts:
    """Returns the parts of ``w.assign_sub(rate * gradient)`` and its like."""
    if _CHANGES.fullmatch(node.op_type):
        change: Optional[str] = node.inputs[-1]
    else:
        change = _subtracts(program, node)
    if change is None:
        return _Parts(_named_gradient(program, node), None)
    behind = program.wiring.node_of(_through(program, change))
    # The second as in momentum * before - rate * gradient.
    for term in (change, *(behind.inputs[1:] if behind.op_type == "Sub" else ())):
        factors = _factors(program, term)
        if factors is not None:
            decays = _is_variable(program, str(factors.gradient))
            return _Parts(None, None) if decays else factors
    # Adam's: rate * momentum / (square root + epsilon), whose momentum the rows were added to.
    quotient = _factors(program, behind.inputs[0]) if behind.op_type == "RealDiv" else None
    rate = None if quotient is None else quotient.rate
    return _Parts(_summed_rows(program, node) or _named_gradient(program, node), rate)


def _subtracts(program: "Program", node: Node) -> Optional[str]:
    """Returns x of ``w.assign(w - x)`` or ``w.assign(w + x)``, or None."""
    if node.op_type not in ("Assign", "AssignVariableOp") or len(node.inputs) < 2:
        return None
    behind = program.wiring.node_of(_through(program, node.inputs[1]))
    if behind.op_type not in ("Sub", "Add", "AddV2"):
        return None
    read = program.wiring.node_of(behind.inputs[0])
    read_from = program.roots.of((read.inputs or behind.inputs)[0])
    same = read_from & program.roots.of(node.inputs[0])
    return behind.inputs[1] if same else None


def _factors(program: "Program", tensor: str) -> Optional[_Parts]:
    """Returns (gradient, rate) of their product, of which either may be negated."""
    node = program.wiring.node_of(_through(program, tensor))
    if node.op_type == "Neg":
        node = program.wiring.node_of(_through(program, node.inputs[0]))
    if node.op_type != "Mul":
        return None
    first, second = node.inputs
    for rate, gradient in ((first, second), (second, first)):
        if _rank(program, rate) == 0 and _rank(program, gradient) != 0:
            behind = program.wiring.node_of(gradient)
            gradient = behind.inputs[0] if behind.op_type == "Neg" else gradient
            return _Parts(gradient, rate)
    return None


def _is_variable(program: "Program", tensor: str) -> bool:
    """Tells whether a tensor is a variable itself, as in a decay of weights."""
    node = program.wiring.node_of(_through(program, tensor))
    return node.op_type in VARIABLES or node.op_type == "ReadVariableOp"


def _summed_rows(program: "Program", node: Node) -> Optional[str]:
    """Returns the rows of a sparse gradient that several ops apply, such as Adam's."""
    for found in _nearest(program, node):
        if found.op_type == "UnsortedSegmentSum":
            return found.inputs[0]
    return None


def _named_gradient(program: "Program", node: Node) -> Optional[str]:
    """Returns the nearest tensor of the variable's shape that `tf.gradients` has named."""
    if node.place:
        return None
    shape = program.graph.get_tensor_by_name(node.inputs[-1]).shape
    if shape.ndims is None:
        return None
    for found in _nearest(program, node):
        if _GRADIENT_SCOPE.search(found.name) and len(found.dtypes) == 1 and not found.place:
            tensor = program.graph.get_tensor_by_name(found.name + ":0")
            alike = tensor.shape.ndims is not None and tensor.shape.as_list() == shape.as_list()
            if alike and found.dtypes[0].is_floating:
                return str(tensor.name)
    return None


def _nearest(program: "Program", node: Node) -> Iterator[Node]:
    """Yields the nodes that a node needs, the nearest first, and not all."""
    waiting: List[str] = [node.name]
    seen: Set[str] = set()
    for name in waiting:  # grows
        if name in seen or len(seen) > _NEAR:
            continue
        seen.add(name)
        found = program.wiring.nodes[name]
        yield found
        waiting += [tensor.rpartition(":")[0] for tensor in found.inputs]
        waiting += found.controls


def _rank(program: "Program", tensor: str) -> Optional[int]:
    node = program.wiring.node_of(tensor)
    if node.op_type == "Const" and node.definition is not None:
        return len(node.definition.attr["value"].tensor.tensor_shape.dim)
    if node.op_type == ARGUMENT:
        return _rank(program, program.wiring.sources(tensor)[0])
    if node.place:
        return None
    rank: Optional[int] = program.graph.get_tensor_by_name(tensor).shape.ndims
    return rank


def _through(program: "Program", tensor: str) -> str:
    node = program.wiring.node_of(tensor)
    while node.op_type in _HANDS_ON:
        tensor = node.inputs[0]
        node = program.wiring.node_of(tensor)
    return tensor


def _behind_accumulators(program: "Program", running: Set[str]) -> Set[str]:
    """Returns the optimizers' ops that apply what a step pushes: another thread runs them."""
    wiring, roots = program.wiring, program.roots
    pushed: Set[str] = set()
    for name in running:
        if wiring.nodes[name].op_type in _PUSHES:
            pushed |= roots.of(wiring.nodes[name].inputs[0])
    if not pushed:
        return set()
    found = set()
    for node in wiring.nodes.values():
        if _APPLIES.fullmatch(node.op_type):
            gradient = _parts_of_optimizer(node).gradient
            if gradient is not None and _accumulator(program, gradient)[0] & pushed:
                found.add(node.name)
    return found


def _accumulator(program: "Program", gradient: str) -> Tuple[Set[str], str]:
    taken = _through(program, gradient)
    node = program.wiring.node_of(taken)
    return (program.roots.of(node.inputs[0]) if node.op_type in _TAKES else set()), taken


def _before_accumulator(program: "Program", gradient: Optional[str]) -> Optional[str]:
    """Returns the gradient that a step pushes, for one that is taken from an accumulator."""
    if gradient is None:
        return None
    for root in _accumulator(program, gradient)[0]:
        for writer in program.roots.writers.get(root, ()):
            node = program.wiring.nodes[writer]
            if node.op_type in _PUSHES:
                return node.inputs[_PUSHES[node.op_type]]
    return gradient


def _recorded(program: "Program", name: Optional[str]) -> Optional[str]:
    """Returns the tensor that a branch or a loop hands on: it has a record."""
    wiring = program.wiring
    while name is not None:
        node = wiring.node_of(name)
        sources = wiring.sources(name) if node.op_type in (ARGUMENT, "Switch", "Enter") else []
        if len(sources) != 1:
            break
        name = sources[0]
    return name


def _fetchable(program: "Program", name: Optional[str]) -> Optional[Tensor]:
    """Returns the tensor that a session can run for a name, or None."""
    if name is None or program.wiring.node_of(name).place:
        return None
    tensor = program.graph.get_tensor_by_name(name)
    return tensor if _tf.can_be_fetched(tensor) else None


def pushed_for(program: "Program") -> Dict[str, str]:
    """Returns, by tensor that comes out of an accumulator, the one that a step pushes into it."""
    found = {}
    for node in program.wiring.nodes.values():
        if node.op_type in _TAKES:
            for root in program.roots.of(node.inputs[0]):
                for name in program.roots.writers.get(root, ()):
                    writer = program.wiring.nodes[name]
                    first = _FIRST_PUSHED.get(writer.op_type, 0)
                    for number, tensor in enumerate(writer.inputs[first:]):
                        found[f"{node.name}:{number}"] = tensor
    return found
