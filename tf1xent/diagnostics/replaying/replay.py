"""Runs a step again, in a copy of the graph in which every tensor is taken down.

A probe hangs on each tensor of a floating type: a Python function that runs when the tensor is
there, and before what reads it. So the records stand in an order of the computation, also inside
loops, branches and functions, of which nothing can be fetched, and nothing is kept of a tensor but
numbers. The copy runs without grappler, which else makes one op of several: what each op computes
shows.
"""

import functools
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import GraphDef, Session
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.copies import MOST_SECONDS, loader_of
from tf1xent.diagnostics.replaying.probing import Probe, with_probes
from tf1xent.diagnostics.replaying.recording import Recording
from tf1xent.diagnostics.replaying.step import Step

# By name of a tensor, what computes the value that its readers get instead.
Replaced = Mapping[str, Callable[[np.ndarray], np.ndarray]]


class Replay:
    """A copy of a program in which steps can be run again, and looked at.

    Making one costs about as much as building the program. Close it, or use it in a ``with``.

    What the program prints, checks, writes or puts into a queue is left out. Data come from the
    step alone: input pipelines, queues and Python functions do not run. Random numbers are drawn
    anew, see `Program.random_ops`. Lookup tables are filled by the initializers of the graph's
    collection.

    Args:
      program: a `Program`.
      replaced: by name of a tensor of a floating type, or of a variable, a function that makes
        another value of its value, which is what the rest of the graph then reads. To try a cure.
      rewrite: changes the copy's GraphDef, with the probes in it. To try a cure too.

    Raises:
      ValueError: `replaced` names a tensor that the step does not compute.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.diagnostics.program.program import Program
    >>> from tf1xent.diagnostics.replaying.replay import Replay
    >>> from tf1xent.diagnostics.replaying.step import Step
    >>> with tf.Graph().as_default() as graph:
    ...     w = tf.get_variable("w", initializer=[4.0, 0.0], use_resource=True)
    ...     loss = tf.reduce_sum(tf.sqrt(w), name="loss")
    ...     train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    >>> step = Step(1, {}, {"w": np.array([4.0, 0.0], np.float32)})
    >>> with Replay(Program(graph, loss)) as replay:
    ...     recording = replay.run(step)
    >>> float(recording.loss)
    2.0
    >>> [(record.op_type, record.first_bad) for record in recording.records if record.is_bad]
    [('SqrtGrad', (1,))]
    """

    def __init__(
        self,
        program: Program,
        replaced: Optional[Replaced] = None,
        rewrite: Optional[Callable[[GraphDef], None]] = None,
    ) -> None:
        self.program = program
        self._replaced = dict(replaced or {})
        self._recording = Recording()
        self._kept: Sequence[str] = ()
        # The functions behind the probes live as long as they stand here.
        self._functions: List[Callable[..., Any]] = []
        self._tables = _table_initializers(program)
        copy = with_probes(program, self._token, self._replaced, _configuration(), self._tables)
        self._probes, self._fed, self._instead = copy.probes, copy.fed, copy.tensors
        self._check_replaced()
        if rewrite is not None:
            rewrite(copy.definition)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(copy.definition, name="")
            self._loaders = {name: loader_of(self.graph, name) for name in program.variables}
        self.session: Session = tf.Session(graph=self.graph, config=_configuration())
        # The names of the variables that have had a value.
        self._loaded: Set[str] = set()
        self._tables_error = self._fill_tables()

    def run(self, step: Step, *, update: bool = False, keep: Iterable[str] = ()) -> Recording:
        """Runs the loss and all gradients of a step again.

        Args:
          step: a `Step`.
          update: whether the variables are updated too; then `step.variables` has to hold all that
            an update reads, and what is not in it is not read afterwards.
          keep: names of tensors whose values are wanted whole.

        Returns:
          A `Recording`. An error of TensorFlow's ends up in it, and is not raised.

        Raises:
          ValueError: the step lacks the value of a source.
        """
        feeds = self._feeds(step)
        self._recording, self._kept = Recording(), tuple(keep)
        values = self._load(step.variables)
        for name, tensor in self.program.variables.items():
            if name in values and _is_number(tensor.dtype.base_dtype):
                op_type = self.program.wiring.nodes[name].op_type
                self._take_down(Probe(name + ":0", op_type), np.asarray(values[name]))
        names = self.program.targets
        fed = {name.rpartition(":")[0] for name in feeds}
        # Nothing in the graph reads the last tensors, and so nothing waits for their probes.
        ops = [self.program.op_name(name) for name in names]
        ops += [self._probes[name] for name in names if name in self._probes]
        if update:
            ops += [u.op.name for u in self.program.updates]
        ops = [name for name in dict.fromkeys(ops) if self._has_op(name) and name not in fed]
        loss = self._fetched(names[0])
        options = tf.RunOptions(timeout_in_ms=MOST_SECONDS * 1000)
        try:
            self._recording.loss = self.session.run([loss, ops], feeds, options=options)[0]
        except tf.errors.OpError as error:
            self._recording.error = self._tables_error or _tf.error_line(error)
        if update:
            self._recording.variables = self._read()
        return self._recording

    def values(self, step: Step, names: Sequence[str]) -> Optional[List[np.ndarray]]:
        """Returns tensors of any type, of which only what they need is computed.

        None where that fails: inside loops and functions, where the step does not need them, or
        where the run ends with an error.
        """
        last, self._recording = self._recording, Recording()
        try:
            self._load(step.variables)
            fetched = [self._fetched(name) for name in names]
            found: List[np.ndarray] = self.session.run(fetched, self._feeds(step))
        except (tf.errors.OpError, ValueError, KeyError, TypeError):
            return None
        finally:
            self._recording = last
        return found

    def close(self) -> None:
        """Closes the session."""
        self.session.close()
        self._functions.clear()

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _token(self, probe: Probe) -> str:
        function = functools.partial(self._take_down, probe)
        self._functions.append(function)
        return _tf.function_token(function)

    def _take_down(self, probe: Probe, value: Any) -> Any:
        name = probe.tensor
        self._recording.add(name, probe.op_type, value, name in self._kept)
        if name not in self._replaced:
            return None
        return np.asarray(self._replaced[name](value), value.dtype)

    def _fetched(self, name: str) -> str:
        """Returns the tensor of the copy that holds what a tensor's readers read."""
        if name in self._replaced and name in self._probes:
            return self._probes[name] + ":0"
        return self._instead.get(name, name)

    def _check_replaced(self) -> None:
        for name in self._replaced:
            known = name in self.program.wiring.references
            node = self.program.wiring.node_of(name).name if known else name
            if node not in self.program.needed:
                raise ValueError(
                    f"Replay: `replaced` must name tensors that the step computes, got {name!r}. "
                    "Take a name from a Recording of the program."
                )

    def _feeds(self, step: Step) -> Dict[str, np.ndarray]:
        lacking = [
            tensor.name
            for tensor in self.program.sources
            if tensor.name not in step.feeds and tensor.op.type != "PlaceholderWithDefault"
        ]
        if lacking:
            raise ValueError(
                f"Replay.run: `step.feeds` must hold all data of the step, got no {lacking[0]}. "
                "Fetch the tensors of Program.sources together with the loss."
            )
        feeds = {self._fed.get(name, name): value for name, value in step.feeds.items()}
        return {name: v for name, v in feeds.items() if self._has_op(name.rpartition(":")[0])}

    def _has_op(self, name: str) -> bool:
        try:
            self.graph.get_operation_by_name(name)
        except KeyError:
            return False
        return True

    def _load(self, variables: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        values = {}
        for name in variables:
            if name in self._loaders:
                change = self._replaced.get(name + ":0")
                value = np.asarray(variables[name])
                values[name] = value if change is None else np.asarray(change(value), value.dtype)
        feeds = {self._loaders[name].value: value for name, value in values.items()}
        self.session.run([self._loaders[name].assign for name in values], feeds)
        self._loaded.update(values)
        return values

    def _read(self) -> Dict[str, np.ndarray]:
        found: Dict[str, np.ndarray] = self.session.run(
            {name: self._loaders[name].read for name in self._loaded}
        )
        return found

    def _fill_tables(self) -> Optional[str]:
        try:
            self.session.run(self._tables)
        except tf.errors.OpError as error:
            return "A lookup table cannot be filled: " + _tf.error_line(error)
        return None


def _table_initializers(program: Program) -> List[str]:
    """Returns the names of the ops that fill the tables that the step reads."""
    found = []
    for op in program.graph.get_collection(tf.GraphKeys.TABLE_INITIALIZERS):
        nodes = program.wiring.ancestors([op.name]) if op.name in program.wiring.nodes else ()
        tables = {n for n in nodes if "HashTable" in program.wiring.nodes[n].op_type}
        if tables & program.needed:
            found.append(op.name)
    return found


def _is_number(dtype: Any) -> bool:
    return bool(dtype.is_floating or dtype.is_complex)


def _configuration() -> Any:
    configuration = tf.ConfigProto(allow_soft_placement=True, inter_op_parallelism_threads=1)
    configuration.graph_options.rewrite_options.disable_meta_optimizer = True
    configuration.graph_options.optimizer_options.opt_level = -1
    return configuration
