"""Asks TensorFlow for the derivatives of a single op, on a copy of it in a graph beside its own.

Nothing is run, and nothing is added to the graph of the op. Answers are kept for the process: ops
of equal types, attributes, dtypes and kinds of shapes are asked for once.
"""

import contextlib
import re
import warnings
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Tensor
from tf1xent.second_order.auditing import facts
from tf1xent.second_order.auditing.walk import Walk, place, walk

# What is known of the cotangent of a tensor, as bits.
EXISTS = 1  # tf.gradients makes one
VARIES = 2  # it depends on xs, as far as tensors that carry gradients tell
TRULY_VARIES = 4  # and not only by way of ops whose derivative is zero
SECOND = 8  # a second derivative by the tensor itself exists
SLICES = 16  # it is tf.IndexedSlices

# The largest constant that a copy gets instead of a placeholder.
_SMALL = 64


class Trouble(NamedTuple):
    """Why a derivative cannot be built.

    Attributes:
      error: the type of TensorFlow's error.
      message: its first line.
      op_type: the type of the op that it names, or None.
    """

    error: str
    message: str
    op_type: Optional[str]


class Answer(NamedTuple):
    """What TensorFlow makes of the first and second derivative of an op.

    Attributes:
      first: why there is no first derivative, or None.
      second: why there is no second derivative, or None.
      cotangents: by input, the bits of its cotangent (EXISTS, VARIES, TRULY_VARIES, SLICES) and
        SECOND if the op itself has a second derivative by it.
      left_out: the op types whose derivative is left out of the second derivative.
      entries: the op types that were asked for, with what the registry had for each.
      outside: tensors of the op's graph that its gradient function reads by itself, and by which
        there is a second derivative.
    """

    first: Optional[Trouble] = None
    second: Optional[Trouble] = None
    cotangents: Tuple[int, ...] = ()
    left_out: Tuple[str, ...] = ()
    entries: Tuple[Tuple[str, Any], ...] = ()
    outside: Tuple[Tensor, ...] = ()


class Question(NamedTuple):
    """An op, and what is known around it.

    Attributes:
      op: the op, in its own graph.
      content: what it computes, of `_tf.meaning`.
      cotangents: by output, bits.
      inputs: by input, 0 if no cotangent is asked for; else VARIES, with TRULY_VARIES if the
        dependence on xs is a real one.
    """

    op: Operation
    content: bytes
    cotangents: Tuple[int, ...]
    inputs: Tuple[int, ...]


_ANSWERS: Dict[Any, Answer] = _tf.kept_in_process("answers about second derivatives", dict)


class Prober:
    """Answers questions about the ops of one graph.

    Attributes:
      asked: how many ops were differentiated for an answer, because none was known.
    """

    def __init__(self, graph: Graph, xs: Sequence[Tensor]) -> None:
        self.asked = 0
        self._graph, self._xs = graph, xs
        self._trusted: Set[Any] = set()
        self._override = dict(_tf.GRADIENT_NAMES)
        self._override.update({t: _tf.gradient_name(t) for t in _tf.filled_gaps()})

    def ask(self, question: Question, overridden: bool = False) -> Answer:
        """Returns the answer as things are, or as they would be after `override_gradients`."""
        key = (_key(question), overridden)
        known = _ANSWERS.get(key)
        if known is not None and (key in self._trusted or self._still_holds(known)):
            self._trusted.add(key)
            return known
        self.asked += 1
        override = self._override if overridden else {}
        with _quiet():
            probe = _Probe(_tf.graph_beside(self._graph), question, override, self._reached)
            answer = probe.answer()
        if not probe.reads_outside():
            _ANSWERS[key] = answer
            self._trusted.add(key)
        return answer

    def is_overridden(self, op_type: str) -> bool:
        """Whether `override_gradients` concerns an op type itself."""
        return op_type in self._override

    @staticmethod
    def _still_holds(answer: Answer) -> bool:
        return all(_entry(name) is entry for name, entry in answer.entries)

    def _reached(self, tensor: Tensor) -> bool:
        """Tells whether a tensor that a gradient function reads depends on xs."""
        found: Walk = walk(self._xs, [tensor])
        return tensor.op in found.between


_NO_ENTRY, _NONE = "no entry", "not differentiable"


def _entry(name: str) -> Any:
    """Returns a gradient function, or which kind of nothing the registry has in its place."""
    if not _tf.has_gradient(name):
        return _NO_ENTRY
    return _tf.gradient_to_call(name) or _NONE


def _key(question: Question) -> Tuple[Any, ...]:
    """Returns what an answer depends on: shapes count by their ranks and by which sizes agree."""
    sizes: Dict[Any, int] = {None: -1, 0: 0, 1: 1}
    inputs: List[Any] = []
    for tensor in question.op.inputs:
        shape = tensor.shape
        known: Any = None
        if shape.dims is not None:
            known = tuple([sizes.setdefault(size, len(sizes)) for size in shape.as_list()])
        inputs.append((known, tensor.dtype, tensor.op.type == "Const"))
    return question.content, tuple(inputs), question.cotangents, question.inputs


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what TensorFlow warns of when it makes gradients dense."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Probe:
    """A copy of an op in a graph of its own, with its first and second derivative."""

    def __init__(
        self, graph: Graph, question: Question, override: Dict[str, str], reached: Any
    ) -> None:
        self._graph, self._question, self._reached = graph, question, reached
        own = _tf.gradient_attribute(question.op)
        self._override = {t: n for t, n in override.items() if t != question.op.type or not own}
        self._entries: Dict[str, Any] = {}
        self._outside: Dict[Any, Tensor] = {}

    def reads_outside(self) -> bool:
        """Whether the gradient function reads tensors of the op's graph by itself."""
        return bool(self._outside)

    def answer(self) -> Answer:
        """Builds both derivatives, and looks at what they are made of."""
        question = self._question
        with self._graph.as_default(), tf.device(None), self._graph.gradient_override_map(
            self._override
        ):
            wanted = [i for i, bits in enumerate(question.inputs) if bits]
            try:
                inputs = self._inputs()
                self._copy = _tf.copied(question.op, inputs, self._graph)
                outputs, cotangents = self._cotangents(self._copy)
                first = tf.gradients(outputs, [inputs[i] for i in wanted], grad_ys=cotangents)
            except Exception as error:  # TensorFlow's gradient functions raise what they like
                return self._with_entries(Answer(first=_trouble(error)))
            sources = {place(inputs[i]): question.inputs[i] for i in wanted}
            for bits, cotangent in zip([b for b in question.cotangents if b], cotangents):
                sources[place(_values(cotangent))] = bits
            for outer, inner in _tf.read_from_outside(self._graph):
                self._outside[place(inner)] = outer
                if _tf.carries_gradients(outer) and self._reached(outer):
                    sources[place(inner)] = VARIES | TRULY_VARIES
            return self._second(dict(zip(wanted, first)), sources)

    def _second(self, first: Dict[int, Any], sources: Dict[Any, int]) -> Answer:
        varying = [p for p, bits in sources.items() if bits & VARIES]
        varies = self._reached_from(varying, truly=False)
        truly = [p for p, bits in sources.items() if bits & TRULY_VARIES]
        truly_varies = self._reached_from(truly, truly=True)
        bits_of = [0] * len(self._question.inputs)
        targets = []
        for index, gradient in first.items():
            if gradient is None:
                continue
            values = _values(gradient)
            bits_of[index] = EXISTS
            bits_of[index] |= SLICES if isinstance(gradient, tf.IndexedSlices) else 0
            if not self._question.inputs[index] & TRULY_VARIES:
                continue  # no gradient by xs depends on it
            bits_of[index] |= TRULY_VARIES if _is_in(values, truly, truly_varies) else 0
            if _is_in(values, varying, varies):
                bits_of[index] |= VARIES
                targets.append(values)
        left_out = self._left_out(targets, truly_varies) + self._labels()
        tensors = [op.outputs[number] for op, number in varying]
        trouble = None
        try:
            grad_ys = [tf.placeholder(t.dtype.base_dtype, t.shape) for t in targets]
            second = tf.gradients(targets, tensors, grad_ys=grad_ys) if targets else []
        except Exception as error:
            trouble, second = _trouble(error), []
        found = {p for p, tensor in zip(varying, second) if tensor is not None}
        for index, bits in enumerate(self._question.inputs):
            if bits and (self._placeholders[index], 0) in found:
                bits_of[index] |= SECOND
        outside = tuple(outer for inner, outer in self._outside.items() if inner in found)
        answer = Answer(None, trouble, tuple(bits_of), left_out, outside=outside)
        return self._with_entries(answer)

    def _labels(self) -> Tuple[str, ...]:
        """Tells whether the op is a dense cross-entropy whose derivative by its labels is wrong.

        TensorFlow differentiates ``p - l``, the gradient in the logits, as if l were constant.
        """
        if self._copy.type != _tf.DENSE_OP or not all(self._question.inputs):
            return ()
        function = _tf.gradient_to_call(_tf.gradient_in_use(self._copy))
        stock = function is _tf.STOCK_GRADIENTS[_tf.DENSE_OP]
        return (_tf.DENSE_OP,) if stock and self._question.inputs[1] & TRULY_VARIES else ()

    def _with_entries(self, answer: Answer) -> Answer:
        for op in self._graph.get_operations():
            name = _tf.gradient_in_use(op)
            self._entries[name] = _entry(name)
        return answer._replace(entries=tuple(sorted(self._entries.items(), key=lambda e: e[0])))

    def _inputs(self) -> List[Tensor]:
        inputs = []
        for tensor, bits in zip(self._question.op.inputs, self._question.inputs):
            stand_in = None if bits else _constant(tensor)
            inputs.append(_stand_in(tensor, self._question.op, self._graph, stand_in))
        self._placeholders = [tensor.op for tensor in inputs]
        return inputs

    def _cotangents(self, copy: Operation) -> Tuple[List[Tensor], List[Any]]:
        outputs, cotangents = [], []
        for output, bits in zip(copy.outputs, self._question.cotangents):
            if not bits:
                continue
            outputs.append(output)
            cotangent: Any = tf.placeholder(output.dtype.base_dtype, output.shape)
            if bits & SLICES:
                shape = output.shape.dims
                rows = None if shape is None else [None, *output.shape.as_list()[1:]]
                cotangent = tf.IndexedSlices(
                    tf.placeholder(output.dtype.base_dtype, rows),
                    tf.placeholder(tf.int32, [None]),
                    tf.shape(output),
                )
            cotangents.append(cotangent)
        return outputs, cotangents

    def _reached_from(self, places: Sequence[Any], truly: bool) -> Set[Any]:
        """Returns the ops that depend on some tensors; `truly`: with a derivative that is not 0."""
        found: Set[Operation] = set()
        waiting = [op.outputs[number] for op, number in places]
        while waiting:
            for op in waiting.pop().consumers():
                if op not in found and not (truly and _has_zero_derivative(op)):
                    found.add(op)
                    waiting += [t for t in op.outputs if _tf.carries_gradients(t)]
        return found

    @staticmethod
    def _left_out(targets: Sequence[Tensor], varying: Set[Any]) -> Tuple[str, ...]:
        """Returns the op types behind `targets` whose derivative the registry denies wrongly."""
        seen, waiting = set(), [tensor.op for tensor in targets]
        found = set()
        while waiting:
            op = waiting.pop()
            if op in seen or op not in varying:
                continue
            seen.add(op)
            if _entry(_tf.gradient_in_use(op)) is _NONE and facts.leaves_out(op.type):
                found.add(op.type)
            waiting += [tensor.op for tensor in op.inputs]
        return tuple(sorted(found))


def _has_zero_derivative(op: Operation) -> bool:
    if op.type in facts.WITHOUT_DERIVATIVE and op.type != "Cast":
        return True
    return _entry(_tf.gradient_in_use(op)) is _NONE and not facts.leaves_out(op.type)


def _values(gradient: Any) -> Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _is_in(tensor: Tensor, places: Sequence[Any], ops: Set[Any]) -> bool:
    return tensor.op in ops or place(tensor) in places


def _constant(tensor: Tensor) -> Any:
    if not tensor.shape.is_fully_defined() or tensor.shape.num_elements() > _SMALL:
        return None
    return None if _tf.has_handle(tensor) else _tf.static_value(tensor)


def _stand_in(tensor: Tensor, op: Operation, graph: Graph, value: Any) -> Tensor:
    """Returns a tensor for an input of the copy of `op`: a constant, variable or placeholder."""
    dtype = tensor.dtype.base_dtype
    if value is not None:
        return tf.constant(value, dtype, tensor.shape)
    if dtype == tf.resource:
        return _variable(tensor, op, graph)
    if tensor.dtype != dtype:  # of the kind "ref": a variable of TF 1.x
        attributes = {
            "dtype": tf.AttrValue(type=dtype.as_datatype_enum),
            "shape": tf.AttrValue(shape=tensor.shape.as_proto()),
        }
        return graph.create_op("VariableV2", [], [tensor.dtype], attrs=attributes).outputs[0]
    if dtype == tf.variant:
        return tf.placeholder(dtype)
    return tf.placeholder(dtype, tensor.shape)


def _variable(handle: Tensor, reader: Operation, graph: Graph) -> Tensor:
    """Returns the handle of a variable as the one behind `handle`, which `reader` reads."""
    source = handle.op
    while source.type in ("Identity", "Switch", "Enter") and source.inputs:
        source = source.inputs[0].op
    if source.type == "VarHandleOp":
        attributes = {name: source.node_def.attr[name] for name in ("dtype", "shape")}
    else:
        node = reader.node_def
        attributes = {"dtype": node.attr["dtype"]} if "dtype" in node.attr else {}
        attributes.setdefault("dtype", tf.AttrValue(type=tf.float32.as_datatype_enum))
        attributes["shape"] = tf.AttrValue(shape=tf.TensorShape(None).as_proto())
    return graph.create_op("VarHandleOp", [], [tf.resource], attrs=attributes).outputs[0]


_OP_TYPE = re.compile(r"\(op type: (\w+)\)")


def _trouble(error: Exception) -> Trouble:
    message = str(error)
    named = _OP_TYPE.search(message)
    op_type = named.group(1) if named else None
    if op_type is None and "Gradient explicitly disabled" in message:
        op_type = _tf.GUARD_OP
    return Trouble(type(error).__name__, message.split("\n", 1)[0], op_type)
