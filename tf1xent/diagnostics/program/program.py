"""What trains a model, as its graph says it: the loss, the variables, their updates, the data."""

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Tensor
from tf1xent.diagnostics.program.state import DATA, DRAWS, VARIABLES, Roots
from tf1xent.diagnostics.program.updating import Update, pushed_for, updates
from tf1xent.diagnostics.program.wiring import Node, Wiring

__all__ = ["Program", "Update"]


class Program:
    """The parts of a graph that train a model.

    Args:
      graph: a `tf.Graph`, complete.
      loss: the tensor that is minimised, or its name.
      train_op: what the program runs for a step: an op, a tensor, a name, or a list of these.
        Default: the graph's optimizers, and what its collection of training ops holds.
      gradients: for a graph with a loss and no optimizer, gradients to judge, by the name of their
        variable's op.
      from_file: whether the graph was imported, so that no line of a program has made its ops.

    Attributes:
      graph: the `tf.Graph`.
      loss: the tensor that is minimised.
      train_ops: the ops that `train_op` means, or None where it was not given.
      wiring: the `Wiring` of the graph.
      variables: by the name of their op, the tensors that read the variables: of the trainable
        ones, and of all that the loss or an update needs. A session can run it as it is.
      trainable: the names of the trainable ones.
      updates: a list of `Update`, those of the trainable variables first.
      has_optimizer: whether an update has a gradient of the graph's own.
      sources: the tensors that bring data into the loss and the updates: placeholders, outputs of
        input pipelines, of queues, and of Python functions that read no variable.
      random_ops: the names of the ops that draw random numbers, which running again draws anew.
      targets: the names of the tensors by which a step is judged: the loss; the gradients; and what
        else is assigned to trainable variables.
      started: the names of the ops that a step asks for: those of the targets and of the updates.
      needed: the names of all nodes that these need.
      of_loss: the names of all nodes that the loss needs.
      roots: the `Roots` of the wiring.
      pushed: by tensor that comes out of an accumulator, the one that a step pushes into it.

    Raises:
      TypeError: the loss is not of a floating type.
      ValueError: the loss or the training op is not in the graph.
    """

    def __init__(
        self,
        graph: Graph,
        loss: Any,
        train_op: Any = None,
        *,
        gradients: Optional[Mapping[str, Tensor]] = None,
        from_file: bool = False,
    ) -> None:
        self.graph = graph
        self._from_file = from_file
        self.loss = _loss(graph, loss)
        self.wiring = Wiring(graph.as_graph_def(add_shapes=False))
        self.roots = Roots(self.wiring)
        self.pushed: Dict[str, str] = pushed_for(self)
        trainable = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        parts = [part for variable in trainable for part in _tf.parts_of_variable(variable)]
        self.trainable: List[str] = list(dict.fromkeys(part.op.name for part in parts))
        self.train_ops = _train_ops(graph, train_op)
        found = updates(self, self.train_ops)
        self.has_optimizer = any(update.gradient_name is not None for update in found)
        found += [Update(g.op, v, g, None, g.name) for v, g in (gradients or {}).items()]
        found = sorted(found, key=lambda u: u.variable not in self.trainable)
        self.updates = self._without_tokens(found)
        self.targets: List[str] = self._targets()
        self.started: List[str] = [self.op_name(name) for name in self.targets]
        self.started += [update.op.name for update in self.updates]
        self.needed: Set[str] = self.wiring.ancestors(self.started)
        self.of_loss: Set[str] = self.wiring.ancestors([self.op_name(self.loss.name)])
        self.variables: Dict[str, Tensor] = self._variables()
        self.sources: List[Tensor] = self._sources()
        nodes = [self.wiring.nodes[name] for name in self._in_order(self.needed)]
        self.random_ops: List[str] = [n.name for n in nodes if DRAWS.fullmatch(n.op_type)]

    def line_of(self, name: str) -> Optional[str]:
        """Returns the line of the user's program that made an op, or None."""
        if self._from_file:
            return None
        return _tf.line_of(self.graph.get_operation_by_name(self.op_name(name)))

    def op_name(self, name: str) -> str:
        """Returns the name of the graph's op that computes a tensor, or that calls its function."""
        return self.wiring.outermost(name.rpartition(":")[0] if ":" in name else name)

    def _without_tokens(self, found: List[Update]) -> List[Update]:
        """Leaves out what only counts by data of its own, such as by the tokens of a queue."""
        wiring = self.wiring
        counts = [u for u in found if not self._dtype(u.variable).is_floating]
        others = [update.op.name for update in found if update not in counts]
        known = wiring.ancestors([self.loss.op.name, *others])
        tokens = [
            update
            for update in counts
            if any(
                DATA.fullmatch(wiring.nodes[name].op_type)
                for name in wiring.ancestors([update.op.name]) - known
            )
        ]
        return [update for update in found if update not in tokens]

    def _dtype(self, variable: str) -> Any:
        op = self.graph.get_operation_by_name(variable)
        return tf.as_dtype(op.get_attr("dtype")).base_dtype

    def _targets(self) -> List[str]:
        written = [
            tensor
            for update in self.updates
            if update.gradient_name is None and update.variable in self.trainable
            for tensor in self.wiring.nodes[update.node].inputs[1:]
            if self.wiring.dtype_of(tensor).is_floating
        ]
        gradients = [u.gradient_name for u in self.updates if u.gradient_name is not None]
        return list(dict.fromkeys([self.loss.name, *gradients, *written]))

    def _variables(self) -> Dict[str, Tensor]:
        found: Dict[str, Tensor] = {}
        readers: Dict[str, str] = {}
        for node in self.wiring.nodes.values():
            if node.op_type == "ReadVariableOp" and not node.place and node.inputs:
                readers.setdefault(node.inputs[0], node.name + ":0")
        for op in self.graph.get_operations():
            if op.type not in VARIABLES or not (
                op.name in self.needed or op.name in self.trainable
            ):
                continue
            name = op.name + ":0"
            name = readers.get(name, "") if op.type == "VarHandleOp" else name
            if name:
                found[op.name] = self.graph.get_tensor_by_name(name)
        return found

    def _sources(self) -> List[Tensor]:
        read = {tensor for name in self.needed for tensor in self.wiring.nodes[name].inputs}
        read.update(self.targets)
        found = []
        for name in self._in_order(self.needed):
            node = self.wiring.nodes[name]
            if node.place or not DATA.fullmatch(node.op_type) or self._reads_variable(node):
                continue
            for number, dtype in enumerate(node.dtypes):
                tensor = f"{name}:{number}"
                if tensor in read and dtype not in (tf.resource, tf.variant):
                    found.append(self.graph.get_tensor_by_name(tensor))
        return found

    def _reads_variable(self, node: Node) -> bool:
        """Tells whether what a Python function returns depends on the model's variables."""
        if not node.inputs:
            return False
        nodes = (self.wiring.nodes[n] for n in self.wiring.ancestors([node.name], effects=False))
        return any(n.op_type in VARIABLES for n in nodes)

    def _in_order(self, names: Iterable[str]) -> List[str]:
        chosen = set(names)
        return [name for name in self.wiring.nodes if name in chosen]


def ancestors(targets: Sequence[Any], without: Optional[Operation] = None) -> List[Operation]:
    """Returns all ops that tensors and ops need, themselves included, in the graph's order.

    Ops in functions are not among them; `Program.wiring` knows those too.

    Args:
      targets: tensors and ops of one graph.
      without: an op that is not followed: what only it needs is left out, and itself.

    Returns:
      A list of ops.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.diagnostics.program.program import ancestors
    >>> with tf.Graph().as_default():
    ...     x = tf.constant(2.0, name="x")
    ...     other = tf.sqrt(x, name="other")
    ...     loss = tf.square(x, name="loss")
    >>> [op.name for op in ancestors([loss])]
    ['x', 'loss']
    """
    waiting: List[Operation] = [getattr(target, "op", target) for target in targets]
    found: Set[Operation] = set()
    while waiting:
        op = waiting.pop()
        if op not in found and op is not without:
            found.add(op)
            waiting += [tensor.op for tensor in op.inputs]
            waiting += op.control_inputs
    chosen = {op.name for op in found}
    graph = waiting[0].graph if waiting else next(iter(found)).graph if found else None
    return [] if graph is None else [op for op in graph.get_operations() if op.name in chosen]


def _loss(graph: Graph, loss: Any) -> Tensor:
    try:
        tensor = graph.as_graph_element(loss, allow_tensor=True, allow_operation=False)
    except (TypeError, ValueError, KeyError) as error:
        kind = ValueError if isinstance(loss, str) or hasattr(loss, "graph") else TypeError
        raise kind(
            f"Program: `loss` must be a tensor of the graph, got {loss!r}. "
            'Give the tensor that is minimised, or its name, as in "loss:0".'
        ) from error
    if not tensor.dtype.base_dtype.is_floating:
        raise TypeError(
            f"Program: `loss` must be of a floating type, got {tensor.dtype.base_dtype.name} of "
            f"{tensor.name}. Give the tensor that is minimised."
        )
    return tensor


def _train_ops(graph: Graph, train_op: Any) -> Optional[List[Operation]]:
    if train_op is None:
        return None
    given = list(train_op) if isinstance(train_op, (list, tuple)) else [train_op]
    found = []
    for one in given:
        try:
            element = graph.as_graph_element(one)
        except (TypeError, ValueError, KeyError) as error:
            kind = ValueError if isinstance(one, str) or hasattr(one, "graph") else TypeError
            raise kind(
                f"Program: `train_op` must be an op of the graph, got {one!r}. "
                "Give what a step of the training runs."
            ) from error
        found.append(getattr(element, "op", element))
    return found
