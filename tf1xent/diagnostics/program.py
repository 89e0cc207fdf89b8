"""What trains a model, as its graph says it: the loss, the variables, their updates, the data."""

import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Tensor

# Optimizers' own ops, and what assigns to a variable in other ways. The first input is the
# variable.
_APPLIES = re.compile(r"(Resource)?(Sparse)?Apply\w+")
_ASSIGNS = re.compile(r"Assign(Add|Sub)?|Assign(Add|Sub)?VariableOp|(Resource)?Scatter\w+")
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable")
# The names that the definitions of optimizers' ops give to their inputs.
_GRADIENTS = ("grad", "delta")
_RATES = ("lr", "alpha")
# What hands out data that another run would not see again.
_DATA = re.compile(
    r"Placeholder(V2)?|\w*Iterator\w*GetNext\w*|Queue(Dequeue|Read)\w*|(Eager)?PyFunc\w*"
)


class Update(NamedTuple):
    """One op that changes a variable.

    Attributes:
      op: the op.
      variable: the name of the variable's op.
      gradient: the tensor with the gradient, or with its rows if it is sparse; None where the op is
        not an optimizer's.
      rate: the tensor with the learning rate, or None where the op has none.
    """

    op: Operation
    variable: str
    gradient: Optional[Tensor]
    rate: Optional[Tensor]


class Program:
    """The parts of a graph that train a model.

    Args:
      graph: a `tf.Graph`.
      loss: the tensor that is minimised.
      train_op: the op, or a list of ops, that make the updates. Default: all ops that change a
        variable.
      gradients: where the graph has a loss and no optimizer: gradients to judge, by the name of
        their variable's op.
      from_file: whether the graph was imported, so that no line of a program made its ops.

    Attributes:
      graph: the `tf.Graph`.
      loss: the tensor that is minimised.
      variables: all global and local variables, by the name of their op.
      trainable: the names of the trainable ones.
      updates: a list of `Update`, those of the trainable variables first.
      sources: the tensors that bring data into the loss and the updates: placeholders, outputs of
        input pipelines and of Python functions.
    """

    def __init__(
        self,
        graph: Graph,
        loss: Tensor,
        train_op: Any = None,
        *,
        gradients: Optional[Mapping[str, Tensor]] = None,
        from_file: bool = False,
    ) -> None:
        self._from_file = from_file
        self.graph = graph
        self.loss = loss
        keys = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)
        found = [variable for key in keys for variable in graph.get_collection(key)]
        self.variables: Dict[str, Any] = {variable.op.name: variable for variable in found}
        trainable = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        self.trainable: List[str] = list(dict.fromkeys(v.op.name for v in trainable))
        targets = train_op if isinstance(train_op, (list, tuple)) else [train_op]
        ops = graph.get_operations() if train_op is None else ancestors(targets)
        updates = [u for u in map(_update, ops) if u is not None]
        updates += [Update(g.op, v, g, None) for v, g in (gradients or {}).items()]
        self.updates = sorted(updates, key=lambda u: u.variable not in self.trainable)
        targets = [loss, *(update.op for update in self.updates)]
        self.sources: List[Tensor] = [
            output
            for op in ancestors(targets)
            if _DATA.fullmatch(op.type)
            for output in op.outputs
            if output.dtype not in (tf.resource, tf.variant)
        ]

    def line_of(self, name: str) -> Optional[str]:
        """Returns the line of the user's program that made an op, or None."""
        if self._from_file:
            return None
        try:
            return _tf.line_of(self.graph.get_operation_by_name(name.split(":")[0]))
        except KeyError:  # it is inside a function
            return None


def ancestors(targets: Sequence[Any]) -> List[Operation]:
    """Returns all ops that tensors and ops need, themselves included, in the graph's order."""
    waiting: List[Operation] = [getattr(target, "op", target) for target in targets]
    found: Set[Operation] = set()
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting += [tensor.op for tensor in op.inputs]
            waiting += op.control_inputs
    return in_order(found)


def in_order(ops: Iterable[Operation]) -> List[Operation]:
    """Returns ops in the order in which they were made."""
    chosen = {op.name for op in ops}
    graph = next(iter(ops)).graph if chosen else None
    return [] if graph is None else [op for op in graph.get_operations() if op.name in chosen]


def _update(op: Operation) -> Optional[Update]:
    applies = _APPLIES.fullmatch(op.type)
    if not (applies or _ASSIGNS.fullmatch(op.type)) or not op.inputs:
        return None
    variable = _variable_behind(op.inputs[0])
    if variable is None:
        return None
    if not applies:
        return Update(op, variable, None, None)
    inputs = dict(zip((argument.name for argument in op.op_def.input_arg), op.inputs))
    gradient = next((inputs[name] for name in _GRADIENTS if name in inputs), None)
    rate = next((inputs[name] for name in _RATES if name in inputs), None)
    return Update(op, variable, gradient, rate)


def _variable_behind(tensor: Tensor) -> Optional[str]:
    """Returns the name of the variable that a reference or a handle leads to."""
    op = tensor.op
    while op.type in ("Identity", "Enter", "RefEnter", "Switch", "RefSwitch", "RefIdentity"):
        op = op.inputs[0].op
    return op.name if op.type in _VARIABLES else None
