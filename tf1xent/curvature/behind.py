"""What tensors are computed from: the ops behind them, also those in functions."""

import re
from typing import Collection, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from tf1xent import _tf
from tf1xent._typing import Graph, Operation, Tensor

_CHANGES_A_VARIABLE = re.compile(
    "(Resource)?(Assign|Apply|SparseApply|Scatter|StridedSliceAssign|CountUpTo)"
)
_CONDITIONS = ("If", "StatelessIf", "Case", "StatelessCase")


class Behind(NamedTuple):
    """An op that others are computed from.

    Attributes:
      op: the op.
      name: its own; in a function, after the name of the op that runs it.
      condition: the name of the tensor that decides whether it runs, if it is known.
    """

    op: Operation
    name: str
    condition: Optional[str]


def ops_behind(tensors: Iterable[Tensor], control: bool = False) -> Iterator[Behind]:
    """Yields each op that the values of `tensors` need, in a fixed order.

    Args:
      tensors: tensors or variables of a graph.
      control: whether to include what runs only because of control dependencies.
    """
    seen = set()
    # Ops, each with the name of what runs its function, and what decides about that.
    pending: List[Tuple[Operation, str, Optional[str]]] = [
        (tensor.op, "", None) for tensor in map(_tf.tensor_of, tensors) if tensor is not None
    ]
    while pending:
        op, prefix, condition = pending.pop()
        if (prefix, op.name) in seen:
            continue
        seen.add((prefix, op.name))
        condition = _switch_condition(op) or condition
        yield Behind(op, prefix + op.name, condition)
        inputs = [tensor.op for tensor in op.inputs]
        if control:
            inputs += list(op.control_inputs)
        pending += [(other, prefix, condition if prefix else None) for other in inputs]
        if _tf.runs_functions(op):
            decides = op.inputs[0].name if op.type in _CONDITIONS else condition
            for body in _tf.bodies(op):
                inside = f"{prefix}{op.name}/{body.role}/"
                within = body.graph.get_operations() if control else _outputs(body.graph)
                pending += [(other, inside, decides) for other in within]


def _outputs(graph: Graph) -> List[Operation]:
    return [tensor.op for tensor in graph.outputs]


def _switch_condition(op: Operation) -> Optional[str]:
    """The name of the predicate of a v1 cond whose branch reads its inputs in this op."""
    for tensor in op.inputs:
        if tensor.op.type in ("Switch", "RefSwitch"):
            predicate = tensor.op.inputs[1]
            while predicate.op.type == "Identity":  # tf.cond hands it on
                predicate = predicate.op.inputs[0]
            return str(predicate.name)
    return None


def changed_variables(tensors: Iterable[Tensor]) -> Dict[str, str]:
    """Returns the ops that change a variable when `tensors` are computed, each with its type."""
    found = {}
    for op, name, _ in ops_behind(tensors, control=True):
        if _CHANGES_A_VARIABLE.match(op.type) and op.inputs and _is_variable(op.inputs[0]):
            found[name] = str(op.type)
    return found


def _is_variable(tensor: Tensor) -> bool:
    is_reference = tensor.dtype != tensor.dtype.base_dtype
    return is_reference or _tf.has_handle(tensor)


def variables_behind(tensors: Iterable[Tensor], known: Collection[str] = ()) -> Dict[str, Tensor]:
    """Returns, by name, tensors of the values of all variables that `tensors` are computed from.

    Those whose names are `known` are left out.
    """
    found: Dict[str, Tensor] = {}
    for op, _, _ in ops_behind(tensors):
        if op.name in known:
            continue
        if op.type in _tf.REFERENCE_VARIABLES:
            found[op.name] = op.outputs[0]
        elif op.type == "VarHandleOp" and op.name not in found:
            read = _tf.raw_op("ReadVariableOp")
            found[op.name] = read(resource=op.outputs[0], dtype=op.get_attr("dtype"))
    return dict(sorted(found.items()))
