"""What the probes of the causes read: a step that has run again, and the steps before it."""

from typing import Dict, List, NamedTuple, Optional, Set

from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.comparing import OwnRun, own_run
from tf1xent.diagnostics.copies import Copy
from tf1xent.diagnostics.problems import Problem, problem_of
from tf1xent.diagnostics.program import Program, ancestors
from tf1xent.diagnostics.recording import Recording, TensorRecord
from tf1xent.diagnostics.replay import Replay
from tf1xent.diagnostics.step import History, Step


class Origin(NamedTuple):
    """A tensor that is not finite although all that it is computed from is.

    Attributes:
      record: its first record that is not finite.
      inputs: the records, of the same round where there is one, of its op's inputs.
      in_gradient: whether it stands in the gradient, and the loss does not need it.
    """

    record: TensorRecord
    inputs: List[TensorRecord]
    in_gradient: bool


class Evidence:
    """What is known of a step that went wrong.

    Attributes:
      program: a `Program`.
      step: the `Step`.
      history: the `History` before it.
      replay: a `Replay` of the program, to ask for more.
      copy: a `Copy` of it, made where it is needed.
      recording: the `Recording` of the step.
      origins: a list of `Origin`: where what is not finite in the loss or a gradient comes from, in
        the order of the computation. What another op dropped again is not among them.
      dropped: a list of `Origin`: the others.
    """

    def __init__(
        self,
        program: Program,
        step: Step,
        history: History,
        replay: Replay,
        copy: Optional[Copy] = None,
    ) -> None:
        self.program, self.step, self.history, self.replay = program, step, history, replay
        self.recording: Recording = replay.run(step)
        self._ops: Dict[str, Operation] = {op.name: op for op in program.graph.get_operations()}
        self._of_loss: Set[str] = {op.name for op in ancestors([program.loss])}
        found = _origins(self)
        reaching = _reaching(self)
        self.origins: List[Origin] = [o for o in found if o.record.name in reaching]
        self.dropped: List[Origin] = [o for o in found if o.record.name not in reaching]
        self._copy = copy
        self._problem: Optional[List[Optional[Problem]]] = None
        self._own: Optional[OwnRun] = None

    @property
    def copy(self) -> Copy:
        """The program's graph in another session, with grappler and without probes."""
        if self._copy is None:
            self._copy = Copy(self.program)
        return self._copy

    @property
    def own(self) -> OwnRun:
        """The step as the program's own session computes it."""
        if self._own is None:
            self._own = own_run(self.copy, self.step)
        return self._own

    @property
    def problem(self) -> Optional[Problem]:
        """What is wrong with the step, or None if nothing is."""
        if self._problem is None:
            self._problem = [problem_of(self)]
        return self._problem[0]

    def close(self) -> None:
        """Closes the session of the copy."""
        if self._copy is not None:
            self._copy.close()

    def op(self, name: str) -> Optional[Operation]:
        """Returns the op that a name, or the name of a tensor, means; None inside a function."""
        return self._ops.get(name.split(":")[0])

    def tensor(self, name: str) -> Optional[Tensor]:
        """Returns a tensor by name, or None inside a function."""
        op = self.op(name)
        return None if op is None else op.outputs[int(name.split(":")[1])]

    def needed_by_loss(self, name: str) -> bool:
        """Tells whether the loss is computed from a tensor or an op."""
        return name.split(":")[0] in self._of_loss


def _origins(evidence: Evidence) -> List[Origin]:
    recording, bad, found = evidence.recording, evidence.recording.bad(), {}
    for record in recording.records:
        if not record.is_bad or record.name in found:
            continue
        op = evidence.op(record.name)
        inputs = [] if op is None else [tensor.name for tensor in op.inputs]
        rounds = [recording.of(name) for name in inputs]
        records = [r[min(record.round, len(r) - 1)] for r in rounds if r]
        if any(r.is_bad for r in records) or (op is not None and _reads_bad(op, bad)):
            continue
        in_gradient = not evidence.needed_by_loss(record.name)
        found[record.name] = Origin(record, records, in_gradient)
    return list(found.values())


def _reads_bad(op: Operation, bad: Set[str]) -> bool:
    return any(tensor.name in bad for tensor in op.inputs)


def _reaching(evidence: Evidence) -> Set[str]:
    """Returns the bad tensors that the loss or a gradient becomes bad by."""
    bad = evidence.recording.bad()
    targets = [evidence.program.loss]
    targets += [u.gradient for u in evidence.program.updates if u.gradient is not None]
    waiting = [tensor for tensor in targets if tensor.name in bad]
    found = set()
    while waiting:
        tensor = waiting.pop()
        if tensor.name in found:
            continue
        found.add(tensor.name)
        waiting += [x for x in _read_by(tensor) if x.name in bad or x.op.type in _HANDED_ON]
    return found & bad


_HANDED_ON = ("Enter", "RefEnter", "NextIteration", "Switch", "RefSwitch", "StackPopV2")


def _read_by(tensor: Tensor) -> List[Tensor]:
    return list(tensor.op.inputs)
