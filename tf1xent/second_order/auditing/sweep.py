"""Follows cotangents from ys back to xs, and collects what the second derivative meets.

`tf.gradients` makes a cotangent for each tensor on the way. The second derivative goes through the
ops that compute those cotangents which depend on xs. So whether an op's gradient needs a gradient
of its own depends on what is between the op and the loss, and only an op where it does is met.
"""

from typing import Dict, List, Optional, Sequence, Set, Tuple

from tf1xent import _tf
from tf1xent._typing import Graph, Operation, Tensor
from tf1xent.second_order.auditing import facts
from tf1xent.second_order.auditing.meetings import Body, Meeting, Swept
from tf1xent.second_order.auditing.probing import (
    EXISTS,
    SECOND,
    SLICES,
    TRULY_VARIES,
    VARIES,
    Answer,
    Prober,
    Question,
    Trouble,
)
from tf1xent.second_order.auditing.report import Kind
from tf1xent.second_order.auditing.walk import Place, place, walk
from tf1xent.second_order.moments import stops_a_mean

_ALL = EXISTS | VARIES | TRULY_VARIES


def sweep(
    graph: Graph, xs: Sequence[Tensor], ys: Sequence[Tensor], inside: Optional[Body] = None
) -> Swept:
    """Collects what the second derivative of `ys` by `xs` meets.

    A loop through which a cotangent varies is met as a whole. Then the ops inside it are asked for
    as if it were a functional loop, where every cotangent varies.
    """
    body = inside or Body((), None, EXISTS, {})
    entered = dict(body.entered)
    found = _Sweep(graph, xs, ys, body, set())
    swept = found.run()
    loops = found.loops_in_the_way()
    if not loops:
        return swept
    again = _Sweep(graph, xs, ys, body._replace(entered=entered), loops).run()
    body.entered.update(entered)
    meetings = again.meetings + [found.loop_meeting(name) for name in sorted(loops)]
    return again._replace(meetings=meetings, asked=swept.asked + again.asked)


class _Sweep:
    """The way back through one graph; `loops` are those that are treated as functional."""

    def __init__(
        self,
        graph: Graph,
        xs: Sequence[Tensor],
        ys: Sequence[Tensor],
        body: Body,
        loops: Set[str],
    ) -> None:
        self._body, self._loops = body, loops
        self._walk = walk(xs, ys)
        self._walked = set(self._walk.order)
        self._prober = Prober(graph, xs)
        self._truly = self._truly_reached(xs)
        self._bits: Dict[Place, int] = {}
        self._meetings: List[Meeting] = []
        self._met: Set[Operation] = set()
        self._inner_ops = self._inner_asked = 0
        # By outermost loop: an op to show for it, and whether a cotangent in it varies.
        self._shown: Dict[str, Operation] = {}
        self._varying_loops: Set[str] = set()
        # A GraphDef records no contexts, so TensorFlow does not know the loops of its nodes.
        self._lost_loops = any(
            op.type in facts.LOOP_EXITS and not _tf.has_context(op) for op in self._walk.order
        )
        for tensor in ys:
            if _tf.carries_gradients(tensor):
                self._give(tensor, body.cotangents)
        if self._lost_loops:
            for op in self._walk.order:
                if op.type in facts.NEXT_ITERATIONS:
                    self._give(op.outputs[0], _ALL)

    def run(self) -> Swept:
        """Goes back from ys to xs."""
        for op in self._walk.order:
            cotangents = tuple(self._bits.get((op, i), 0) for i in range(len(op.outputs)))
            if any(cotangents) and any(self._is_between(t) for t in op.inputs):
                self._visit(op, cotangents)
        for op in self._walk.cuts:
            if op.type not in facts.WITHOUT_VALUES:
                self._meet(op, Kind.NOT_DIFFERENTIABLE)
        ops = len(self._walk.order) + self._inner_ops
        asked = self._prober.asked + self._inner_asked
        return Swept(self._meetings, ops, asked, self._bits)

    def loops_in_the_way(self) -> Set[str]:
        """Returns the names of the outermost loops through which a cotangent varies."""
        return set(self._varying_loops)

    def loop_meeting(self, name: str) -> Meeting:
        """Returns what to report of a loop."""
        body = self._body
        return Meeting(self._shown[name], body.path, body.caller, Kind.LOOP, in_loop=name)

    # --- single ops ---

    def _visit(self, op: Operation, cotangents: Tuple[int, ...]) -> None:
        op_type = op.type
        loop = _tf.loop_around(op)
        if loop is not None:
            cotangents = self._through_loop(op, loop, cotangents)
        is_v1 = op_type in facts.V1_CONTROL_FLOW
        if is_v1 and self._lost_loops and op_type in facts.LOOP_EXITS:
            self._meet(op, Kind.LOOP, in_loop=op.name)
        if is_v1 and (self._lost_loops or _tf.has_context(op)):
            self._hand_on(op, cotangents)
        elif op_type in facts.TENSOR_ARRAYS:
            self._through_array(op, cotangents)
        elif _tf.runs_functions(op):
            self._enter(op, _joined(cotangents))
        elif _tf.is_defun_call(op):
            self._meet(op, Kind.CALL)
            self._give_inputs(op, _ALL | SECOND)
        else:
            meaning = _tf.meaning(op)
            if op_type == "Identity" == meaning.gradient:
                self._hand_on(op, cotangents)
            elif _joined(cotangents) & EXISTS:
                self._ask(op, meaning, cotangents)
            else:
                self._ask_for_first(op, meaning, cotangents)

    def _through_array(self, op: Operation, cotangents: Tuple[int, ...]) -> None:
        """Follows a v1 TensorArray, whose gradients depend on its flow, and so on xs.

        In a loop, the loop is in the way. Elsewhere it is the array: a session refuses the second
        derivative.
        """
        self._hand_on(op, tuple(bits | VARIES if bits else 0 for bits in cotangents))
        readers = {reader.type for reader in op.inputs[0].consumers()}
        if _tf.loop_around(op) is None and not readers & facts.LOOP_ENTERS:
            trouble = Trouble("InvalidArgumentError", "Wrong input container", "TensorArrayGradV3")
            self._meet(op, Kind.NO_SECOND_DERIVATIVE, trouble)

    def _question(
        self, op: Operation, meaning: _tf.Meaning, cotangents: Tuple[int, ...]
    ) -> Question:
        between, truly = self._walk.between, self._truly
        inputs = []
        for tensor in op.inputs:
            bits = 0
            if tensor.op in between and _tf.carries_gradients(tensor):
                bits = VARIES | TRULY_VARIES if tensor.op in truly else VARIES
            inputs.append(bits)
        return Question(op, meaning.content, cotangents, tuple(inputs))

    def _ask(self, op: Operation, meaning: _tf.Meaning, cotangents: Tuple[int, ...]) -> None:
        """Follows the cotangents of an op's outputs to its inputs."""
        question = self._question(op, meaning, tuple([bits & ~SECOND for bits in cotangents]))
        if not self._has_function(op, meaning.gradient, question):
            return
        answer = self._prober.ask(question)
        trouble = answer.first or answer.second
        if trouble is not None or answer.left_out:
            kind = Kind.LEFT_OUT if trouble is None else Kind.NO_SECOND_DERIVATIVE
            kind = kind if answer.first is None else Kind.NO_GRADIENT
            overridden = self._prober.ask(question, overridden=True)
            self._meet(op, kind, trouble, answer.left_out, overridden)
        if answer.first is not None:
            self._give_inputs(op, _ALL | SECOND)
            return
        for tensor in answer.outside:
            if self._is_between(tensor):
                self._give(tensor, SECOND)
        second = SECOND if answer.second is not None else _joined(cotangents) & SECOND
        for tensor, wanted, bits in zip(op.inputs, question.inputs, answer.cotangents):
            if not wanted:
                continue
            if bits:
                self._give(tensor, bits | (second if bits & EXISTS else 0))
            else:
                self._not_by(op, tensor)

    def _ask_for_first(
        self, op: Operation, meaning: _tf.Meaning, cotangents: Tuple[int, ...]
    ) -> None:
        """Follows the second derivative by an output, of which the loss has no first one."""
        if not _tf.has_gradient(meaning.gradient):
            self._meet(op, Kind.NO_GRADIENT)
        if _tf.gradient_to_call(meaning.gradient) is None:
            return
        asked = tuple(EXISTS if bits else 0 for bits in cotangents)
        question = self._question(op, meaning, asked)
        answer = self._prober.ask(question)
        if answer.first is not None:
            overridden = self._prober.ask(question, overridden=True)
            self._meet(op, Kind.NO_GRADIENT, answer.first, (), overridden)
        for tensor, bits in zip(op.inputs, answer.cotangents):
            if bits & EXISTS and self._is_between(tensor):
                self._give(tensor, SECOND)

    def _has_function(self, op: Operation, name: str, question: Question) -> bool:
        """Tells whether an op has a gradient function; notes what it is if it has none."""
        if _tf.gradient_to_call(name) is not None:
            return True
        overridden = None
        if self._prober.is_overridden(op.type):
            overridden = self._prober.ask(question, overridden=True)
        if not _tf.has_gradient(name):
            self._meet(op, Kind.NO_GRADIENT, overridden=overridden)
            self._give_inputs(op, _ALL | SECOND)
        elif facts.leaves_out(op.type) and any(self._is_true(t) for t in op.inputs):
            self._meet(op, Kind.LEFT_OUT, None, (op.type,), overridden)
            self._give_inputs(op, _ALL | SECOND)
        elif stops_a_mean(op, self._walked):
            self._meet(op, Kind.LEFT_OUT, None, (op.type,), overridden)
        elif op.type not in facts.WITHOUT_VALUES:
            self._meet(op, Kind.NOT_DIFFERENTIABLE)
        return False

    def _not_by(self, op: Operation, tensor: Tensor) -> None:
        """Notes that TensorFlow's gradient of an op is None for an input."""
        if facts.leaves_out(op.type) and self._is_true(tensor):
            self._meet(op, Kind.LEFT_OUT, left_out=(op.type,))
        elif op.type in facts.PIECEWISE_CONSTANT:
            self._meet(op, Kind.NOT_DIFFERENTIABLE)

    def _judge(self, op: Operation, question: Question, answer: Answer, second: bool) -> None:
        trouble = answer.first or (answer.second if second else None)
        if trouble is None and not (second and answer.left_out):
            return
        overridden = self._prober.ask(question, overridden=True)
        kind = Kind.LEFT_OUT if trouble is None else Kind.NO_SECOND_DERIVATIVE
        if answer.first is not None:
            kind = Kind.NO_GRADIENT
        self._meet(op, kind, trouble, answer.left_out, overridden)

    def _meet(
        self,
        op: Operation,
        kind: Kind,
        trouble: Optional[Trouble] = None,
        left_out: Tuple[str, ...] = (),
        overridden: Optional[Answer] = None,
        in_loop: Optional[str] = None,
    ) -> None:
        loop = _tf.loop_around(op)
        in_loop = loop.outermost if loop is not None and in_loop is None else in_loop
        body = self._body
        if op not in self._met:
            self._met.add(op)
            self._meetings.append(
                Meeting(op, body.path, body.caller, kind, trouble, left_out, overridden, in_loop)
            )

    # --- what is around them ---

    def _is_between(self, tensor: Tensor) -> bool:
        return tensor.op in self._walk.between and _tf.carries_gradients(tensor)

    def _is_true(self, tensor: Tensor) -> bool:
        return tensor.op in self._truly and _tf.carries_gradients(tensor)

    def _truly_reached(self, xs: Sequence[Tensor]) -> Set[Operation]:
        """Returns the ops between that have a derivative by xs which is not zero everywhere."""
        truly = {tensor.op for tensor in xs}
        for op in reversed(self._walk.order):
            if op in truly or op.type in facts.WITHOUT_DERIVATIVE and op.type != "Cast":
                continue
            if any(t.op in truly and _tf.carries_gradients(t) for t in op.inputs):
                truly.add(op)
        return truly

    def _give(self, tensor: Tensor, bits: int) -> None:
        """Adds a part to the cotangent of a tensor: it is IndexedSlices only if all parts are."""
        before = self._bits.get(place(tensor))
        if before is not None and before & EXISTS and bits & EXISTS:
            both = before & bits & SLICES
            bits = (before | bits) & ~SLICES | both
        elif before is not None:
            bits |= before
        self._bits[place(tensor)] = bits

    def _give_inputs(self, op: Operation, bits: int) -> None:
        for tensor in op.inputs:
            if self._is_between(tensor):
                self._give(tensor, bits)

    def _hand_on(self, op: Operation, cotangents: Tuple[int, ...]) -> None:
        inputs = op.inputs[:1] if op.type in facts.SWITCHES else op.inputs
        for tensor in inputs:
            if self._is_between(tensor) and not (
                op.type in facts.TENSOR_ARRAYS and _tf.has_handle(tensor)
            ):
                self._give(tensor, _joined(cotangents))

    def _through_loop(
        self, op: Operation, loop: _tf.Loop, cotangents: Tuple[int, ...]
    ) -> Tuple[int, ...]:
        """Notes a loop whose cotangents vary; returns the cotangents to go on with."""
        name = loop.outermost
        if op.type in facts.LOOP_EXITS:
            self._shown.setdefault(name, op)
            if name in self._loops:
                cotangents = tuple(bits | _ALL if bits else 0 for bits in cotangents)
            for tensor in self._turns_of(loop):
                self._give(tensor, _joined(cotangents) & ~SLICES)
        if any(bits & VARIES for bits in cotangents) or not loop.back_prop:
            self._shown.setdefault(name, op)
            self._varying_loops.add(name)
        return cotangents

    def _turns_of(self, loop: _tf.Loop) -> List[Tensor]:
        """Returns the tensors that a loop hands to its next turn."""
        if not hasattr(self, "_turns"):
            self._turns: Dict[str, List[Tensor]] = {}
            for op in self._walk.order:
                if op.type in facts.NEXT_ITERATIONS:
                    around = _tf.loop_around(op)
                    if around is not None and _tf.carries_gradients(op.outputs[0]):
                        self._turns.setdefault(around.name, []).append(op.outputs[0])
        return self._turns.get(loop.name, [])

    def _enter(self, op: Operation, cotangents: int) -> None:
        """Goes into the functions that an op runs.

        TensorFlow differentiates the gradient of a function by all its inputs at once, the
        cotangents and what the forward function hands it. So every cotangent in it varies if one
        does, or if one of those from outside does.
        """
        is_call = op.type in _tf.TRACED_CALLS
        if is_call and not _tf.call_can_be_differentiated(op):
            self._meet(op, Kind.CALL)
        elif not is_call and not _tf.has_gradient(_tf.gradient_in_use(op)):
            self._meet(op, Kind.NO_GRADIENT)
        varies = bool(cotangents & VARIES)
        for body in _tf.bodies(op):
            if not varies:
                varies = self._enter_body(op, body, EXISTS)
            if varies:
                self._enter_body(op, body, _ALL)
        if is_call and varies and not _tf.TRACED_FUNCTIONS_HAVE_HESSIANS:
            self._meet(op, Kind.CALL)
        self._give_inputs(op, _ALL | SECOND if varies else EXISTS)

    def _enter_body(self, op: Operation, body: _tf.Body, cotangents: int) -> bool:
        """Sweeps a function; tells whether a cotangent varies in it. Only then its ops count."""
        entered = self._body.entered
        if (body.name, cotangents) in entered:
            return entered[body.name, cotangents]
        entered[body.name, cotangents] = True  # of a function that calls itself
        path = (*self._body.path, f"{op.name}: {body.name}")
        caller = self._body.caller or op
        inner = dict(entered)
        xs = [t for t in body.graph.inputs if _tf.carries_gradients(t)]
        ys = [t for t in body.graph.outputs if _tf.carries_gradients(t)]
        swept = sweep(body.graph, xs, ys, Body(path, caller, cotangents, inner))
        varies = any(bits & VARIES for bits in swept.cotangents.values())
        entered[body.name, cotangents] = varies
        self._inner_asked += swept.asked
        if varies == bool(cotangents & VARIES):
            entered.update(inner)
            entered[body.name, cotangents] = varies
            self._meetings += swept.meetings
            self._inner_ops += swept.ops
        return varies


def _joined(cotangents: Sequence[int]) -> int:
    bits = 0
    for each in cotangents:
        bits |= each
    return bits
