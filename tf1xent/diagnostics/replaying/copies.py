"""A copy of a program in a session of its own: to run steps again as the program itself ran them.

No op is added to the program's graph, and nothing of its session changes. Grappler works here, as
in the program's own session; `Replay` shows the same step without.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, NodeDef, Operation, Session, Tensor
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.step import History, Step

# For one run, in a training that waits for it meanwhile.
MOST_SECONDS = 600


class Trend(NamedTuple):
    """Some steps in a row on the same batch.

    Attributes:
      history: their `History`; its last loss is that after the last step.
      variables: the values of the trainable variables after the last step, by name.
      error: the message with which the steps ended, or None.
    """

    history: History
    variables: Dict[str, np.ndarray]
    error: Optional[str] = None


class Copy:
    """A copy of a program: its graph in a session of its own. Close it.

    An accumulator of gradients would wait for those of other workers: its reader gets the one that
    the step pushes.

    Args:
      program: a `Program`.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        definition = program.graph.as_graph_def()
        for node in definition.node:
            node.device = ""
            _read_instead(node, program.pushed)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(definition, name="")
            self._loaders = {name: loader_of(self.graph, name) for name in program.variables}
        tables = program.graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS)
        self._elements = {name: tensor.name for name, tensor in program.variables.items()}
        self.session: Session = tf.Session(
            graph=self.graph, config=tf.ConfigProto(allow_soft_placement=True)
        )
        try:
            self.session.run([op.name for op in tables])
        except tf.errors.OpError:  # what needs them says so when it runs
            pass

    def load(self, variables: Mapping[str, np.ndarray]) -> None:
        """Gives variables their values."""
        loaders = {name: self._loaders[name] for name in variables if name in self._loaders}
        feeds = {loader.value: variables[name] for name, loader in loaders.items()}
        self.session.run([loader.assign for loader in loaders.values()], feeds)

    def run(
        self,
        step: Step,
        fetches: Sequence[str],
        feeds: Optional[Mapping[str, Any]] = None,
        load: bool = True,
    ) -> List[Any]:
        """Runs names of tensors and ops in a step, and feeds other tensors too."""
        if load:
            self.load(step.variables)
        options = tf.RunOptions(timeout_in_ms=MOST_SECONDS * 1000)
        given = {**step.feeds, **(feeds or {})}
        return list(self.session.run(list(fetches), given, options=options))

    def read(self, names: Sequence[str]) -> Dict[str, np.ndarray]:
        """Returns the values of variables, by name."""
        values = self.session.run([self._elements[name] for name in names])
        return dict(zip(names, values))

    def initial_values(self) -> Dict[str, np.ndarray]:
        """Returns what the program's initializers give to the variables, as far as they do."""
        found: Dict[str, np.ndarray] = {}
        keys = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)
        found_there = [v for key in keys for v in self.program.graph.get_collection(key)]
        # The initializer of a variable with replicas would be a new op.
        variables = [part for v in found_there for part in _tf.parts_of_variable(v)]
        ops = {v.op.name: v.initializer.name for v in variables if v.op.name in self._elements}
        try:
            self.session.run(list(ops.values()))
            found = self.read(list(ops))
        except (tf.errors.OpError, ValueError):  # they need what is not there
            return {}
        return found

    def rates(self, step: Step) -> Dict[str, Any]:
        """Returns the learning rates of a step, by name of their tensor."""
        found = {u.rate.name: None for u in self.program.updates if u.rate is not None}
        names = [name for name in found if self.graph.is_feedable(self._tensor(name))]
        return dict(zip(names, self.run(step, names)))

    def steps(self, step: Step, number: int, factor: float = 1.0) -> Trend:
        """Runs some steps on the same batch, from the step's variables; stops at an error.

        Args:
          step: where it starts.
          number: how many steps.
          factor: by which the learning rates are multiplied.
        """
        gradients = gradient_names(self.program)
        trainable = [name for name in self.program.trainable if name in self._elements]
        fetches = [self.program.loss.name, *gradients.values()]
        first = len(fetches)
        fetches += [self._elements[name] for name in trainable]
        taken = _Taken(list(gradients))
        variables: Dict[str, np.ndarray] = {}
        error = None
        try:
            feeds = {}
            if factor != 1.0:
                feeds = {n: r * r.dtype.type(factor) for n, r in self.rates(step).items()}
            self.load(step.variables)
            for left in range(number, -1, -1):
                # Apart from the updates: a reference variable may be read after its update.
                found = self.run(step, fetches, feeds, False)
                before, variables = variables, dict(zip(trainable, found[first:]))
                if before:
                    taken.change(before, variables)
                taken.losses.append(total(found[0]))
                if left:
                    taken.gradients(found[1:first])
                if left and step.is_training:
                    self.run(step, training_ops(self.program), feeds, False)
        except tf.errors.OpError as caught:
            error = _tf.error_line(caught)
        return Trend(taken.history(), variables, error)

    def close(self) -> None:
        """Closes the session."""
        self.session.close()

    def _tensor(self, name: str) -> Any:
        return self.graph.get_tensor_by_name(name)


def _read_instead(node: NodeDef, pushed: Mapping[str, str]) -> None:
    """Lets a node read other tensors, and not wait for those whose place they take."""
    taken = {"^" + name.rpartition(":")[0] for name in pushed}
    inputs = [pushed.get(name if ":" in name else name + ":0", name) for name in node.input]
    if inputs != list(node.input) or taken & set(inputs):
        del node.input[:]
        node.input.extend(name for name in inputs if name not in taken)


class _Taken:
    """The numbers of steps, as they come."""

    def __init__(self, names: List[str]) -> None:
        self._names = names  # of the variables whose gradients are known
        self.losses: List[float] = []
        self._gradient_norms: List[float] = []
        self._ratios: Dict[str, List[float]] = {}
        self._norms: Dict[str, List[float]] = {}
        self._unchanged: Dict[str, int] = {}
        self._zero: Dict[str, int] = {}

    def gradients(self, values: Sequence[Any]) -> None:
        """Takes down the gradients of a step."""
        norms = dict(zip(self._names, map(norm, values)))
        self._gradient_norms.append(norm(np.array(list(norms.values()))))
        for name, size in norms.items():
            self._zero[name] = self._zero.get(name, 0) + 1 if size == 0 else 0

    def change(self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> None:
        """Takes down what a step has made of the variables."""
        for name, value in before.items():
            with np.errstate(all="ignore"):
                change = norm(np.asarray(after[name], np.float64) - np.asarray(value, np.float64))
            size = norm(value)
            same = after[name].tobytes() == value.tobytes()
            self._unchanged[name] = self._unchanged.get(name, 0) + 1 if same else 0
            self._norms.setdefault(name, []).append(norm(after[name]))
            ratio = change / size if size else (0.0 if change == 0 else float("inf"))
            self._ratios.setdefault(name, []).append(ratio)

    def history(self) -> History:
        """Returns all of it."""
        steps = np.arange(len(self._gradient_norms))
        return History(
            np.arange(len(self.losses)),
            np.array(self.losses),
            np.array(self._gradient_norms),
            steps,
            {name: np.array(ratios) for name, ratios in self._ratios.items()},
            self._unchanged,
            {name: np.array(norms) for name, norms in self._norms.items()},
            self._zero,
            True,
        )


def gradient_names(program: Program) -> Dict[str, str]:
    """Returns the names of the gradients that optimizers apply, by name of a variable."""
    return {u.variable: u.gradient.name for u in program.updates if u.gradient is not None}


def training_ops(program: Program) -> List[str]:
    """Returns the names of the ops that make a step of training."""
    return list(dict.fromkeys(u.op.name for u in program.updates))


def norm(value: Any) -> float:
    """Returns the Euclidean norm of an array of any floating dtype; NaN and inf stay."""
    wide = np.asarray(value)
    wide = wide.astype(np.float32 if wide.dtype.kind == "V" else np.float64, copy=False)
    largest = float(np.max(np.abs(wide))) if wide.size else 0.0
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(np.ravel(wide) / largest))


def total(loss: Any) -> float:
    """Returns a loss as a number: what is minimised where the tensor has several is their sum."""
    return float(np.sum(np.asarray(loss).astype(np.float64)))


class Loader(NamedTuple):
    """How a variable of a copy gets a value, and gives one.

    Attributes:
      value: the placeholder that is fed.
      assign: the op that assigns it.
      read: the tensor that reads the variable.
    """

    value: Tensor
    assign: Operation
    read: Tensor


def loader_of(graph: Graph, name: str) -> Loader:
    """Adds to the default graph what loads and reads a variable of it, by the name of its op."""
    op = graph.get_operation_by_name(name)
    dtype, variable = tf.as_dtype(op.get_attr("dtype")), op.outputs[0]
    value = tf.placeholder(dtype)
    if op.type == "VarHandleOp":
        read = _tf.raw_op("ReadVariableOp")(resource=variable, dtype=dtype)
        assign = _tf.raw_op("AssignVariableOp")(resource=variable, value=value)
        return Loader(value, assign, read)
    return Loader(value, tf.assign(variable, value, validate_shape=False).op, variable)
