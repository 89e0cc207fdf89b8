"""The ops between xs and ys, as `tf.gradients` finds them, in an order for the way back."""

import collections
from typing import Deque, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

from tf1xent import _tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.auditing import facts

# A tensor: the op that makes it, and the number of the output.
Place = Tuple[Operation, int]


def place(tensor: Tensor) -> Place:
    """The key of a tensor; tensors themselves cannot be keys on TF 2.x."""
    return tensor.op, tensor.value_index


class Walk(NamedTuple):
    """What lies between xs and ys.

    Attributes:
      order: the ops on a path from xs to ys along tensors that carry gradients; an op stands behind
        all ops that read it, but for the way round a v1 loop.
      between: the same ops, for look-ups.
      reached: the ops that can be reached from xs, of those that lead to ys.
      cuts: the ops that read a reached tensor and lead to ys, but return nothing that carries
        gradients.
    """

    order: List[Operation]
    between: Set[Operation]
    reached: Set[Operation]
    cuts: List[Operation]


def walk(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Walk:
    """Finds the ops between `xs` and `ys`, in time linear in their number."""
    sources = {tensor.op for tensor in xs}
    leading = _ancestors([tensor.op for tensor in ys])
    readers: Dict[Operation, List[Operation]] = collections.defaultdict(list)
    for op in leading:
        for tensor in op.inputs:
            if _tf.carries_gradients(tensor):
                readers[tensor.op].append(op)
    reached = _closure(sources & leading.keys(), readers)
    between = _between([tensor.op for tensor in ys], reached)
    cuts = [op for op in leading if _cuts(op, reached)]
    return Walk(_order([op for op in leading if op in between], between), between, reached, cuts)


def _ancestors(ops: Iterable[Operation]) -> Dict[Operation, None]:
    """Returns the ops and all that they depend on, in a fixed order."""
    found: Dict[Operation, None] = dict.fromkeys(ops)
    waiting: Deque[Operation] = collections.deque(found)
    while waiting:
        for tensor in waiting.popleft().inputs:
            if tensor.op not in found:
                found[tensor.op] = None
                waiting.append(tensor.op)
    return found


def _closure(
    sources: Iterable[Operation], readers: Dict[Operation, List[Operation]]
) -> Set[Operation]:
    reached = set(sources)
    waiting = list(reached)
    while waiting:
        for reader in readers.get(waiting.pop(), ()):
            if reader not in reached:
                reached.add(reader)
                waiting.append(reader)
    return reached


def _between(targets: Iterable[Operation], reached: Set[Operation]) -> Set[Operation]:
    """Returns the reached ops that lead to the targets by way of reached ops.

    Inputs that carry no gradients are followed too if their op is reached, as `tf.gradients` does.
    """
    between = {op for op in targets if op in reached}
    waiting = list(between)
    while waiting:
        for tensor in waiting.pop().inputs:
            if tensor.op in reached and tensor.op not in between:
                between.add(tensor.op)
                waiting.append(tensor.op)
    return between


def _cuts(op: Operation, reached: Set[Operation]) -> bool:
    if op.type in facts.WITHOUT_VALUES or any(_tf.carries_gradients(t) for t in op.outputs):
        return False
    return any(t.op in reached and _tf.carries_gradients(t) for t in op.inputs)


def _order(ops: Sequence[Operation], between: Set[Operation]) -> List[Operation]:
    """Orders ops so that readers come first; a loop's Exits come before its NextIterations."""
    pending = dict.fromkeys(ops, 0)
    turns: Dict[str, List[Operation]] = collections.defaultdict(list)
    exits: Dict[str, int] = collections.Counter()
    for op in ops:
        for source in _sources(op, between):
            pending[source] += 1
        loop = _tf.loop_around(op) if op.type in facts.V1_CONTROL_FLOW else None
        if loop is not None and op.type in facts.NEXT_ITERATIONS:
            turns[loop.name].append(op)
        if loop is not None and op.type in facts.LOOP_EXITS:
            exits[loop.name] += 1
    for name, last in turns.items():
        for op in last:
            pending[op] += exits[name]
    ready: Deque[Operation] = collections.deque(op for op in ops if not pending[op])
    order: List[Operation] = []
    while ready:
        op = ready.popleft()
        order.append(op)
        sources = list(_sources(op, between))
        if op.type in facts.LOOP_EXITS:
            loop = _tf.loop_around(op)
            sources += turns.get(loop.name, []) if loop is not None else []
        for source in sources:
            pending[source] -= 1
            if not pending[source]:
                ready.append(source)
    return order


def _sources(op: Operation, between: Set[Operation]) -> Iterable[Operation]:
    """Yields the ops that an op reads, once for each input, without the way round a loop."""
    for tensor in op.inputs:
        source = tensor.op
        is_way_round = op.type in facts.MERGES and source.type in facts.NEXT_ITERATIONS
        if source in between and not is_way_round:
            yield source
