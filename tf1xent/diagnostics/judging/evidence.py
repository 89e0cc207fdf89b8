"""What the probes of the causes read: a step that has run again, and the steps before it."""

from typing import Dict, List, NamedTuple, Optional, Set

import numpy as np

from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.judging.hiding import Hiding, find_hiding
from tf1xent.diagnostics.judging.problems import Problem, problem_of
from tf1xent.diagnostics.judging.tracing import Trace, reaching
from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.replaying.comparing import OwnRun, own_run
from tf1xent.diagnostics.replaying.copies import Copy
from tf1xent.diagnostics.replaying.recording import Recording, TensorRecord
from tf1xent.diagnostics.replaying.replay import Replay
from tf1xent.diagnostics.replaying.step import History, Step

# Relative; what another order of a sum, or another kernel, may change of a loss.
_TOLERANCE = 1e-2


class Origin(NamedTuple):
    """A tensor that is not finite although all that it is computed from is.

    Attributes:
      record: its first record of which this is so; in a loop, `record.round` says in which round.
        Of a variable that is not finite before the step, the variable's own: its op type is
        "VarHandleOp" or "VariableV2".
      inputs: one record for each input of its op, of the same round where there is one; None for
        an input without a record, such as of integers.
      in_gradient: whether it stands in the gradient, and the loss does not need it.
      in_loss: whether the loss is not finite by it.
    """

    record: TensorRecord
    inputs: List[Optional[TensorRecord]]
    in_gradient: bool
    in_loss: bool = False


class Evidence:
    """What is known of a step that went wrong.

    A record is bad if an entry is NaN or infinite. It is an origin if it is bad and no record that
    it was computed from is. From the loss and the gradients, and from what else is assigned to
    trainable variables, the bad records are followed back from bad record to bad record; the
    origins that are met are `origins`, the others `dropped`. So

    - where a branch that ``tf.where`` drops is bad, its origin is `dropped`; if its gradient is
      NaN all the same, it stands in `origins`: the op in the branch, if the gradient has read its
      bad value, or else the op of the gradient that made a NaN of finite numbers;
    - what is passed on by a Merge, a loop, a function, a list, a stack, a TensorArray or a variable
      is bad because what was put in is: the origin lies before;
    - a variable, a constant and what is fed are computed from nothing: if they are bad, they are
      origins;
    - the mask of -inf in front of a softmax is an origin like any other, which counts only where
      the loss or a gradient is bad by it.

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
      reproduced: whether the loss, run again, is the one that the program has seen; None if that
        is not known. Where it is False, `Program.random_ops` may say why.
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
        self.reproduced: Optional[bool] = _reproduced(step, self.recording)
        self._of_loss = program.wiring.ancestors([program.loss.op.name], effects=False)
        self._trace = Trace(program, self.recording)
        self._ends = [r for name in program.targets for r in self.recording.of(name) if r.is_bad]
        reached = reaching(self._trace, self._ends)
        of_loss = reaching(self._trace, self.recording.of(program.loss.name))
        self._readers: Optional[Dict[int, List[TensorRecord]]] = None
        self.origins: List[Origin] = []
        self.dropped: List[Origin] = []
        for record in _origins(self.recording, self._trace, reached):
            in_gradient = not self.needed_by_loss(record.name)
            inputs = self._trace.slots(record)
            origin = Origin(record, inputs, in_gradient, id(record) in of_loss)
            (self.origins if id(record) in reached else self.dropped).append(origin)
        self._copy = copy
        self._own: Optional[OwnRun] = None
        self._problem: Optional[List[Optional[Problem]]] = None
        self._hiding: Optional[List[Optional[Hiding]]] = None

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

    @property
    def hiding(self) -> Optional[Hiding]:
        """The op that hides NaN from the loss, or None if none does."""
        if self._hiding is None:
            self._hiding = [find_hiding(self)]
        return self._hiding[0]

    def close(self) -> None:
        """Closes the session of the copy."""
        if self._copy is not None:
            self._copy.close()

    def op(self, name: str) -> Optional[Operation]:
        """Returns the op that a name, or the name of a tensor, means; None inside a function."""
        found = self.program.wiring.nodes.get(name.rpartition(":")[0] if ":" in name else name)
        if found is None or found.place:
            return None
        return self.program.graph.get_operation_by_name(found.name)

    def tensor(self, name: str) -> Optional[Tensor]:
        """Returns a tensor by name, or None inside a function."""
        op = self.op(name)
        return None if op is None else op.outputs[int(name.rpartition(":")[2])]

    def needed_by_loss(self, name: str) -> bool:
        """Tells whether the loss is computed from a tensor or an op."""
        return (name.rpartition(":")[0] if ":" in name else name) in self._of_loss

    def inputs_of(self, record: TensorRecord) -> List[TensorRecord]:
        """Returns the records that a record was computed from, of the same round."""
        return self._trace.inputs(record)

    def input_at(self, record: TensorRecord, position: int) -> Optional[TensorRecord]:
        """Returns the record behind one input of a record's op; None if it has none."""
        slots = self._trace.slots(record)
        return slots[position] if position < len(slots) else None

    def readers_of(self, record: TensorRecord) -> List[TensorRecord]:
        """Returns the records that are computed from a bad one."""
        if self._readers is None:
            self._readers = {}
            for reader in self.recording.records:
                for read in self.inputs_of(reader):
                    if read.is_bad:
                        self._readers.setdefault(id(read), []).append(reader)
        return self._readers.get(id(record), [])

    def path(self, origin: Origin) -> List[TensorRecord]:
        """Returns the bad records from an origin to the loss or a gradient; or only the origin.

        The first record is the origin's; each is computed from the one before it.
        """
        waiting = list(self._ends)
        after: Dict[int, Optional[TensorRecord]] = {id(record): None for record in waiting}
        for record in waiting:  # grows: the nearest come first
            if record is origin.record:
                break
            for found in self._trace.bad_inputs(record):
                if id(found) not in after:
                    after[id(found)] = record
                    waiting.append(found)
        path, record = [origin.record], origin.record
        while after.get(id(record)) is not None:
            record = after[id(record)]  # type: ignore[assignment]
            path.append(record)
        return path


def _origins(recording: Recording, trace: Trace, reached: Set[int]) -> List[TensorRecord]:
    """Returns one origin of each tensor: the first that was reached, or else the first."""
    found: Dict[str, TensorRecord] = {}
    for record in recording.records:
        if not record.is_bad or trace.bad_inputs(record):
            continue
        known = found.get(record.name)
        if known is None or (id(known) not in reached and id(record) in reached):
            found[record.name] = record
    return sorted(found.values(), key=trace.position)


def _reproduced(step: Step, recording: Recording) -> Optional[bool]:
    if step.loss is None:
        return None
    if recording.loss is None:
        return False
    known, again = float(np.sum(step.loss)), float(np.sum(recording.loss))
    if not (np.isfinite(known) and np.isfinite(again)):
        return np.isfinite(known) == np.isfinite(again)
    return abs(known - again) <= _TOLERANCE * max(abs(known), 1e-6)
