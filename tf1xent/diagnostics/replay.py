"""Runs a step again, in a copy of the graph in which every tensor is taken down.

A probe hangs on each tensor of a floating type: a Python function that runs when the tensor is
there, and before what reads it. So the records stand in an order of the computation, also inside
loops and branches, of which nothing can be fetched, and nothing is kept of a tensor but numbers.
The copy runs without grappler, which else makes one op of several: what each op computes shows.
"""

from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import GraphDef, Session, Tensor
from tf1xent.diagnostics.program import Program
from tf1xent.diagnostics.recording import Recording
from tf1xent.diagnostics.step import Step

# The values of variables are in the step; the others hand on what stands at their inputs.
_NOT_PROBED: Tuple[str, ...] = (
    "Variable",
    "VariableV2",
    "Enter",
    "RefEnter",
    "NextIteration",
    "RefNextIteration",
)
_NOT_PROBED += ("Switch", "RefSwitch")
# They start with the first of their inputs that is there: a probe would make them wait for both.
_START_EARLY = ("Merge", "RefMerge")
_SCOPE = "tf1xent_probes"

# By name of a tensor, what computes the value that its readers get instead.
Replaced = Mapping[str, Callable[[np.ndarray], np.ndarray]]


class Replay:
    """A copy of a program in which steps can be run again, and looked at.

    Making one costs about as much as building the program. Close it, or use it in a ``with``.

    Args:
      program: a `Program`.
      replaced: by name of a tensor of a floating type, a function that makes another value of its
        value, which is what the rest of the graph then reads. To try a cure.
      rewrite: changes the copy's GraphDef, with the probes in it. To try a cure too.
    """

    def __init__(
        self,
        program: Program,
        replaced: Optional[Replaced] = None,
        rewrite: Optional[Callable[[GraphDef], None]] = None,
    ) -> None:
        self.program = program
        self._recording = Recording()
        self._kept: Sequence[str] = ()
        self._replaced = frozenset(replaced or ())
        # By name of a tensor, the name of its probe's op.
        self._probes: Dict[str, str] = {}
        # Holds the Python functions behind the probes.
        self._functions = tf.Graph()
        self.graph = tf.Graph()
        definition = self._with_probes(dict(replaced or {}))
        if rewrite is not None:
            rewrite(definition)
        with self.graph.as_default():
            tf.import_graph_def(definition, name="")
            self._loaders = {name: self._loader(name) for name in program.variables}
        self.session: Session = tf.Session(graph=self.graph, config=_configuration())

    def run(self, step: Step, *, update: bool = False, keep: Iterable[str] = ()) -> Recording:
        """Runs the loss and all gradients of a step again.

        Args:
          step: a `Step`.
          update: whether the variables are updated too.
          keep: names of tensors whose values are wanted whole.

        Returns:
          A `Recording`. An error of TensorFlow's ends up in it, and is not raised.
        """
        self._load(step.variables)
        self._recording, self._kept = Recording(), tuple(keep)
        names = [self.program.loss.name, *self._gradients()]
        shown = [self._probes[n] + ":0" if n in self._replaced else n for n in names]
        # Nothing in the graph reads the last tensors, and so nothing waits for their probes.
        targets: List[Any] = [*shown, [self._probes[n] for n in names if n in self._probes]]
        if update:
            targets.append([u.op.name for u in self.program.updates])
        feeds = {name: step.feeds[name] for name in step.feeds}
        try:
            values = self.session.run(targets, feeds)
            self._recording.loss = values[0]
        except tf.errors.OpError as error:
            self._recording.error = _tf.error_line(error)
        if update:
            self._recording.variables = self._read()
        return self._recording

    def values(self, step: Step, names: Sequence[str]) -> Optional[List[np.ndarray]]:
        """Returns tensors of any type, of which only what they need is computed.

        None where that fails: inside loops and functions, or where the run ends with an error.
        """
        self._load(step.variables)
        last, self._recording = self._recording, Recording()
        try:
            found: List[np.ndarray] = self.session.run(list(names), dict(step.feeds))
        except (tf.errors.OpError, ValueError, KeyError, TypeError):
            return None
        finally:
            self._recording = last
        return found

    def close(self) -> None:
        """Closes the session."""
        self.session.close()

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _gradients(self) -> List[str]:
        found = (u.gradient.name for u in self.program.updates if u.gradient is not None)
        return list(dict.fromkeys(found))

    def _with_probes(self, replaced: Dict[str, Callable[..., Any]]) -> GraphDef:
        definition = tf.GraphDef()
        definition.CopyFrom(self.program.graph.as_graph_def(add_shapes=False))
        nodes = list(definition.node)
        probes = self._probes
        for op in self.program.graph.get_operations():
            if op.type in _NOT_PROBED:
                continue
            for tensor in op.outputs:
                if tensor.dtype.base_dtype.is_floating:
                    probe = definition.node.add()
                    self._write_probe(probe, tensor, replaced.get(tensor.name))
                    probes[tensor.name] = probe.name
        for node in nodes:
            node.device = ""
            if node.op in _START_EARLY:
                continue
            for position, name in enumerate(node.input):
                if name.startswith("^"):
                    continue
                full = name if ":" in name else name + ":0"
                if full in replaced:
                    node.input[position] = probes[full]
                elif full in probes:
                    node.input.append("^" + probes[full])
        return definition

    def _write_probe(self, node: Any, tensor: Tensor, replacement: Optional[Any]) -> None:
        name, op_type, dtype = tensor.name, tensor.op.type, tensor.dtype.base_dtype

        def take_down(value: Any) -> Any:
            self._recording.add(name, op_type, value, name in self._kept)
            return None if replacement is None else np.asarray(replacement(value), value.dtype)

        with self._functions.as_default():
            outputs = [] if replacement is None else dtype
            made = tf.py_func(take_down, [tf.zeros([], dtype)], outputs)
        node.CopyFrom(getattr(made, "op", made).node_def)
        node.name = f"{_SCOPE}/{name.replace(':', '_')}"
        node.input[:] = [name[:-2] if name.endswith(":0") else name]

    def _loader(self, name: str) -> Any:
        """Returns (placeholder, op) that give a variable a value."""
        op = self.graph.get_operation_by_name(name)
        dtype = tf.as_dtype(op.get_attr("dtype"))
        value = tf.placeholder(dtype)
        if op.type == "VarHandleOp":
            return value, _tf.raw_op("AssignVariableOp")(resource=op.outputs[0], value=value)
        return value, tf.assign(op.outputs[0], value, validate_shape=False).op

    def _load(self, variables: Mapping[str, np.ndarray]) -> None:
        loaders = {name: self._loaders[name] for name in variables if name in self._loaders}
        feeds = {loader[0]: variables[name] for name, loader in loaders.items()}
        self.session.run([loader[1] for loader in loaders.values()], feeds)

    def _read(self) -> Dict[str, np.ndarray]:
        names = {n: v.value() for n, v in self.program.variables.items()}
        return dict(zip(names, self.session.run([t.name for t in names.values()])))


def _configuration() -> Any:
    configuration = tf.ConfigProto(allow_soft_placement=True, inter_op_parallelism_threads=1)
    configuration.graph_options.rewrite_options.disable_meta_optimizer = True
    configuration.graph_options.optimizer_options.opt_level = -1
    return configuration
