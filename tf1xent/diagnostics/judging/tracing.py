"""Follows numbers that are not finite from record to record, back to where they come from."""

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from tf1xent.diagnostics.program.program import Program
from tf1xent.diagnostics.program.state import VARIABLES, is_root
from tf1xent.diagnostics.program.wiring import SWITCHES, Node
from tf1xent.diagnostics.replaying.recording import Recording, TensorRecord

_HANDLES = ("resource", "variant")


class _Behind(NamedTuple):
    """The tensors with records behind one that is read.

    Attributes:
      values: those that it is equal to, or one of which it is.
      kept: those that a list, a stack or a variable may have kept for it, from any round.
    """

    values: Tuple[str, ...]
    kept: Tuple[str, ...]


class Trace:
    """What each record of a recording was computed from.

    What has no record is looked through: switches, handles and lists. The record that a value was
    computed from is the last one before it, since the replay runs one round after the other. Of
    what a stack, a list, a TensorArray or a variable has kept, any earlier round may be meant.
    """

    def __init__(self, program: Program, recording: Recording) -> None:
        self._program, self._recording = program, recording
        self._behind: Dict[str, _Behind] = {}
        self._position = {id(record): n for n, record in enumerate(recording.records)}

    def position(self, record: TensorRecord) -> int:
        """Returns where a record stands in the order of the computation."""
        return self._position[id(record)]

    def inputs(self, record: TensorRecord) -> List[TensorRecord]:
        """Returns the records that a record was computed from."""
        return self._read(record, False)

    def slots(self, record: TensorRecord) -> List[Optional[TensorRecord]]:
        """Returns one record for each input of a record's op; None for one that has none."""
        before, found = self._position[id(record)], []
        for tensor in self._read_by(record.name):
            behind = self._behind_of(tensor)
            earlier = [self._earlier(n, before)[-1:] for n in (*behind.values, *behind.kept)]
            records = [r for some in earlier for r in some]
            found.append(max(records, key=self.position) if records else None)
        return found

    def bad_inputs(self, record: TensorRecord) -> List[TensorRecord]:
        """Returns the records that a record was computed from, or may have been, that are bad."""
        return self._read(record, True)

    def _read(self, record: TensorRecord, bad: bool) -> List[TensorRecord]:
        before = self._position[id(record)]
        found: Dict[int, TensorRecord] = {}
        for tensor in self._read_by(record.name):
            behind = self._behind_of(tensor)
            for name in behind.values:
                earlier = self._earlier(name, before)
                found.update((id(r), r) for r in earlier[-1:] if r.is_bad or not bad)
            for name in behind.kept:
                earlier = self._earlier(name, before)
                earlier = [r for r in earlier if r.is_bad] if bad else earlier[-1:]
                found.update((id(r), r) for r in earlier)
        return list(found.values())

    def _earlier(self, name: str, before: int) -> List[TensorRecord]:
        return [r for r in self._recording.of(name) if self._position[id(r)] < before]

    def _read_by(self, tensor: str) -> List[str]:
        """Returns what the op of a tensor reads; for what stays in variables, what is written."""
        wiring = self._program.wiring
        node = wiring.node_of(tensor)
        if is_root(node.op_type):
            return []
        return self._sources(tensor, node)

    def _sources(self, tensor: str, node: Node) -> List[str]:
        sources = self._program.wiring.sources(tensor)
        instead = self._program.pushed
        return [instead[tensor]] if tensor in instead else sources

    def _behind_of(self, tensor: str) -> _Behind:
        if tensor not in self._behind:
            self._behind[tensor] = self._look_through(tensor)
        return self._behind[tensor]

    def _look_through(self, tensor: str) -> _Behind:
        wiring, recording = self._program.wiring, self._recording
        values: Dict[str, None] = {}
        kept: Dict[str, None] = {}
        waiting: List[Tuple[str, bool]] = [(tensor, False)]
        seen: Set[str] = set()
        while waiting:
            name, through = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            node = wiring.node_of(name)
            if node.op_type in VARIABLES:
                values[node.name + ":0"] = None
            if is_root(node.op_type):
                waiting += [(written, True) for written in self._written(node.name)]
            elif recording.of(name):
                (kept if through else values)[name] = None
            elif self._carries(name):
                waiting += [(source, True) for source in self._sources(name, node)]
            elif node.op_type in SWITCHES or node.op_type in _LOOKED_THROUGH:
                waiting += [(source, through) for source in self._sources(name, node)]
        return _Behind(tuple(values), tuple(kept))

    def _carries(self, tensor: str) -> bool:
        """Tells whether a tensor is no number, but leads to numbers."""
        wiring = self._program.wiring
        return wiring.dtype_of(tensor).name in _HANDLES or tensor in wiring.flows

    def _written(self, root: str) -> List[str]:
        wiring = self._program.wiring
        writers = (wiring.nodes[name] for name in self._program.roots.writers.get(root, ()))
        return [tensor for node in writers for tensor in node.inputs[1:]]


_LOOKED_THROUGH = ("Enter", "RefEnter", "NextIteration", "RefNextIteration")


def reaching(trace: Trace, ends: List[TensorRecord]) -> Set[int]:
    """Returns the ids of all bad records that bad ones come from, themselves included."""
    waiting, found = [record for record in ends if record.is_bad], set()
    while waiting:
        record = waiting.pop()
        if id(record) not in found:
            found.add(id(record))
            waiting += trace.bad_inputs(record)
    return found
