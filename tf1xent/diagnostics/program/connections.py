"""Why a variable has no gradient: where the way from the loss back to it ends."""

from typing import List, NamedTuple, Optional, Set

from tf1xent import _tf
from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.program.program import Program, ancestors

# Through them flows nothing back, or nothing but zeros.
_ENDS = ("StopGradient", "PreventGradient")
_CONSTANT = ("Sign", "Round", "Rint", "Floor", "Ceil", "FloorDiv", "FloorMod")


class Connection(NamedTuple):
    """How a variable is connected to the loss.

    Attributes:
      is_used: whether the loss is computed from it.
      is_differentiable: whether a gradient flows back to it.
      end: the first op after the variable that lets no gradient through, if one does.
    """

    is_used: bool
    is_differentiable: bool
    end: Optional[Operation]


class Connections:
    """The ways from the loss of a program back to its variables."""

    def __init__(self, program: Program) -> None:
        self._of_loss: Set[Operation] = set(ancestors([program.loss]))
        self._reached: Set[Operation] = set()
        self._cuts: List[Operation] = []
        waiting: List[Tensor] = [program.loss]
        while waiting:
            tensor = waiting.pop()
            op = tensor.op
            if op in self._reached or op in self._cuts:
                continue
            if _lets_through(tensor):
                self._reached.add(op)
                waiting += list(op.inputs)
            elif op.inputs:
                self._cuts.append(op)

    def of(self, program: Program, name: str) -> Connection:
        """Returns how a variable, given by its op's name, is connected."""
        op = program.graph.get_operation_by_name(name)
        if op in self._reached or op not in self._of_loss:
            return Connection(op in self._of_loss, op in self._reached, None)
        for cut in self._cuts:
            behind = ancestors([cut])
            if op in behind:
                return Connection(True, False, _first_end(behind, op))
        return Connection(True, False, None)


def _first_end(ops: List[Operation], variable: Operation) -> Optional[Operation]:
    """Returns the first of ops, in the graph's order, that ends the way on from a variable."""
    after = {variable}
    for op in ops:
        if op in after or not any(tensor.op in after for tensor in op.inputs):
            continue
        after.add(op)
        if not all(_lets_through(tensor) for tensor in op.outputs):
            return op
    return None


def _lets_through(tensor: Tensor) -> bool:
    op = tensor.op
    if not _tf.carries_gradients(tensor):
        return False
    if not op.inputs:  # a variable, a constant, a placeholder
        return True
    if op.type in _ENDS or op.type in _CONSTANT:
        return False
    return _tf.runs_functions(op) or _tf.is_defun_call(op) or _differentiable(op)


def _differentiable(op: Operation) -> bool:
    return _tf.can_be_differentiated(_tf.gradient_in_use(op))
