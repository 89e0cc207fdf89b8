"""What `inspect_graph` finds, as data, as a table and as JSON."""

import dataclasses
import enum
import json
import textwrap
from typing import Any, Dict, List, Optional, Sequence, Tuple

from tf1xent import _table, _tf
from tf1xent.graphs.kernel_ops import KERNEL_OPS
from tf1xent.graphs.primitive_ops import LOSSES, PRIMITIVES


class Verdict(str, enum.Enum):
    """What it takes until a cross-entropy op can be differentiated twice, exactly.

    >>> Verdict.REWRITE.value
    'rewrite'
    """

    AS_IT_IS = "as it is"
    OVERRIDE = "override_gradients"
    REWRITE = "rewrite"
    NOT = "not"


@dataclasses.dataclass(frozen=True)
class CrossEntropyOp:
    """A cross-entropy op of a graph: TensorFlow's fused ones, or tf1xent's own.

    Attributes:
      name: its name, in the function if it is in one.
      op_type: ``SparseSoftmaxCrossEntropyWithLogits``, ``SoftmaxCrossEntropyWithLogits``, or one
        of the native library's, ``Tf1xentKernel...``; of a loss that `tf1xent.patch` or
        `tf1xent.nn` built of stock ops, ``Tf1xentSparseLoss`` or ``Tf1xentDenseLoss``.
      graph: the tags of the graph, where a SavedModel has several; else None.
      function: the function of the graph's library that holds it; None in the graph itself.
      dtype: of the logits.
      shape: of the logits, as far as the graph tells, None for an unknown size; None if it tells
        not even the rank.
      gradients: the nodes that read its second output, which is or leads to its gradient: what of
        first derivatives the graph holds already.
      guards: those of them that forbid a second derivative, PreventGradient nodes of TF 1.x.
      gradient_attribute: the gradient name that it carries, or None.
      gradient_registered: whether a gradient of that name is registered now; None without a name.
      context: "while" where a v1 loop is around it, else "cond" where a v1 branch is, or None.
      verdict: what it takes until it can be differentiated twice.
      reason: why, and what to do, in a sentence.
    """

    name: str
    op_type: str
    graph: Optional[str]
    function: Optional[str]
    dtype: str
    shape: Optional[Tuple[Optional[int], ...]]
    gradients: Tuple[str, ...]
    guards: Tuple[str, ...]
    gradient_attribute: Optional[str]
    gradient_registered: Optional[bool]
    context: Optional[str]
    verdict: Verdict
    reason: str


@dataclasses.dataclass(frozen=True)
class GradientAttribute:
    """A node of another type that carries a gradient name: where, which, and whether registered."""

    name: str
    op_type: str
    graph: Optional[str]
    function: Optional[str]
    gradient: str
    registered: bool


@dataclasses.dataclass(frozen=True)
class GraphReport:
    """The cross-entropy ops of a graph, and what else bears on its derivatives.

    Attributes:
      source: what was inspected.
      tensorflow: the version of the TensorFlow that the verdicts are for.
      ops: the cross-entropy ops.
      gradient_attributes: other nodes that carry a gradient name.
      unknown_ops: the op types that this TensorFlow does not know, and so cannot import; without
        those of tf1xent's native library, whose own reasons say what they need.
    """

    source: str
    tensorflow: str
    ops: Tuple[CrossEntropyOp, ...]
    gradient_attributes: Tuple[GradientAttribute, ...]
    unknown_ops: Tuple[str, ...]

    @property
    def needs_rewrite(self) -> bool:
        """Whether `override_gradients` alone leaves an op without a second derivative."""
        return any(op.verdict in (Verdict.REWRITE, Verdict.NOT) for op in self.ops)

    def to_json(self) -> str:
        """The report as a JSON object with the names of the attributes."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def to_text(self, width: Optional[int] = 80) -> str:
        """A table of the ops, the reasons below it, and the rest.

        No line has more than `width` columns, at least 60: names are shortened in the middle. With
        None nothing is shortened.
        """
        width = None if width is None else max(width, 60)
        found = f": {_count(len(self.ops), 'cross-entropy op')}, for TensorFlow {self.tensorflow}"
        lines = [shortened(self.source, None if width is None else width - len(found)) + found]
        if self.ops:
            lines += ["", *_ops_table(self.ops, width), ""]
        reasons: Dict[str, List[int]] = {}
        for number, op in enumerate(self.ops, 1):
            reasons.setdefault(f"{op.verdict.value}: {op.reason}", []).append(number)
        notes = [f"[{_runs(numbers)}] {reason}" for reason, numbers in reasons.items()]
        missing = sorted({a.gradient for a in self.gradient_attributes if not a.registered})
        missing += sorted(
            {str(op.gradient_attribute) for op in self.ops if op.gradient_registered is False}
        )
        if missing:
            notes.append(
                f"Gradients that the graph names and nobody registered: {', '.join(missing)}"
            )
        if self.unknown_ops:
            notes.append(f"Ops that this TensorFlow does not know: {', '.join(self.unknown_ops)}")
        lines += [line for note in notes for line in _wrapped(note, width)]
        return "\n".join(lines)

    def __str__(self) -> str:
        """`to_text` of 80 columns."""
        return self.to_text()


_KINDS = {_tf.SPARSE_OP: "sparse", _tf.DENSE_OP: "dense"}
_KINDS.update({op_type: f"{op.kind}, kernel" for op_type, op in KERNEL_OPS.items()})
_KINDS.update({name: f"{PRIMITIVES[name].kind}, tf1xent" for name in LOSSES})
_HEADINGS = ("", "op", "verdict")
_LEAST_NAME = 8


def _ops_table(ops: Sequence[CrossEntropyOp], width: Optional[int]) -> List[str]:
    """Two lines an op: its name and what it takes; what it is, and where."""
    rows = [(f"[{n}]", shortened(op.name, None), op.verdict.value) for n, op in enumerate(ops, 1)]
    widths = _table.column_widths([_HEADINGS, *rows])
    if width is not None:
        others = widths[0] + widths[2] + 2 * len(_table.GAP)
        widths[1] = max(_LEAST_NAME, min(widths[1], width - others))
    indent = " " * (widths[0] + len(_table.GAP))
    fitting = [(number, shortened(name, widths[1]), judged) for number, name, judged in rows]
    heading, *lines = _table.aligned([_HEADINGS, *fitting], widths)
    below = [indent + _what(op, None if width is None else width - len(indent)) for op in ops]
    return [heading, *(line for pair in zip(lines, below) for line in pair)]


def _what(op: CrossEntropyOp, width: Optional[int]) -> str:
    """What an op is, what reads its gradient, and where it is if not in the graph itself."""
    shape = "[...]"
    if op.shape is not None:
        shape = "[" + ", ".join("?" if size is None else str(size) for size in op.shape) + "]"
    parts = [_KINDS.get(op.op_type, op.op_type), f"{op.dtype} {shape}"]
    hanging = ((op.gradients, "gradient"), (op.guards, "guard"))
    parts += [_count(len(names), what) for names, what in hanging if names]
    text = ", ".join(parts)
    where = ", ".join(part for part in (op.graph, op.function, op.context) if part)
    if not where:
        return shortened(text, width)
    room = None if width is None else max(_LEAST_NAME, width - len(text) - len(", in "))
    return shortened(f"{text}, in {shortened(where, room)}", width)


def shortened(text: str, width: Optional[int]) -> str:
    """A text of at most so many characters, all printable; its middle is left out for that."""
    return _cut(_printable(text), width)


def _cut(text: str, width: Optional[int]) -> str:
    if width is None or len(text) <= width:
        return text
    width = max(width, len("..."))
    end = (width - len("...")) // 2
    begin = width - len("...") - end
    return f"{text[:begin]}...{text[len(text) - end :]}"


def _wrapped(text: str, width: Optional[int]) -> List[str]:
    """A text as lines. What is between backquotes stays on one line, since it may be a command."""
    text = _printable(text)
    if width is None:
        return [text]
    parts = text.split("`")
    parts[1::2] = [_cut(part, width - 6).replace(" ", "\0") for part in parts[1::2]]
    words = [_cut(word, width - 4) for word in "`".join(parts).split(" ")]
    lines = textwrap.wrap(
        " ".join(words),
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _printable(text: str) -> str:
    """A text without what would do something to a terminal: names in files can be anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _runs(numbers: Sequence[int]) -> str:
    """Numbers in increasing order, runs of three and more as first-last.

    >>> _runs([1, 2, 4, 5, 6, 9])
    '1, 2, 4-6, 9'
    """
    runs: List[List[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{r[0]}-{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def report_of(source: str, tensorflow: str, parts: Any) -> GraphReport:
    """One report of the findings (ops, gradient attributes, unknown ops) of several graphs."""
    ops, attributes, unknown = [], [], set()
    for part_ops, part_attributes, part_unknown in parts:
        ops += part_ops
        attributes += part_attributes
        unknown |= part_unknown
    return GraphReport(source, tensorflow, tuple(ops), tuple(attributes), tuple(sorted(unknown)))
