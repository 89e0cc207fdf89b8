"""The result of `inspect_graph`: as data, as text and as JSON."""

import dataclasses
import enum
import json
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from tf1xent import _table, _tf
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.graphs.formula.primitive_ops import LOSSES, PRIMITIVES


class Verdict(str, enum.Enum):
    """What it takes to differentiate a cross-entropy op twice, exactly.

    AS_IT_IS: second derivatives exist and are right. OVERRIDE: after
    `tf1xent.override_gradients()`. REWRITE: after `rewrite_graph_def` or its like. UNSUPPORTED: not
    by these means; the op's reason says why and what helps.

    >>> Verdict.REWRITE.value
    'rewrite'
    """

    AS_IT_IS = "as it is"
    OVERRIDE = "override_gradients"
    REWRITE = "rewrite"
    UNSUPPORTED = "unsupported"
    # The older name of the member; `Verdict("not")`, the older value, is accepted too.
    NOT = "unsupported"

    @classmethod
    def _missing_(cls, value: object) -> Optional["Verdict"]:
        return cls.UNSUPPORTED if value == "not" else None


@dataclasses.dataclass(frozen=True)
class CrossEntropyOp:
    """A cross-entropy op of a graph: a fused op of TensorFlow, or an op or loss of tf1xent.

    Attributes:
      name: the node's name, inside the function if there is one.
      op_type: ``SparseSoftmaxCrossEntropyWithLogits`` or ``SoftmaxCrossEntropyWithLogits``;
        ``Tf1xentKernel...`` for an op of the native library; ``Tf1xentSparseLoss`` or
        ``Tf1xentDenseLoss`` for a loss that `tf1xent.patch` or `tf1xent.nn` built of stock ops.
      graph: the tags of its graph, if a SavedModel has several graphs; else None.
      function: the function of the graph's library that holds it; None in the graph itself.
      dtype: the dtype of the logits.
      shape: the shape (batch_size, num_classes) of the logits, None for an unknown size; None as a
        whole if the op's inputs cannot be followed.
      gradients: the nodes of its first derivatives that the graph holds already; of a fused op, the
        nodes that read its second output.
      guards: the PreventGradient nodes of TF 1.x that refuse to differentiate these.
      gradient_attribute: the gradient name that the op has as an attribute, or None.
      gradient_registered: whether a gradient of that name is registered now; None without a name.
      context: "while" inside a v1 loop, else "cond" inside a v1 branch, else None.
      verdict: what it takes to differentiate the op twice.
      reason: why, and what to do, in one or more sentences.
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
    """A node that is no cross-entropy op and names a gradient.

    Attributes:
      name, op_type, graph, function: the node, as in `CrossEntropyOp`.
      gradient: the name of the gradient.
      registered: whether a gradient of that name is registered now.
    """

    name: str
    op_type: str
    graph: Optional[str]
    function: Optional[str]
    gradient: str
    registered: bool


@dataclasses.dataclass(frozen=True)
class GraphReport:
    """The cross-entropy ops of a graph, and other facts that affect its derivatives.

    Attributes:
      source: what was inspected.
      tensorflow: the version of the TensorFlow that the verdicts are for.
      ops: the cross-entropy ops.
      gradient_attributes: other nodes that name a gradient.
      unknown_ops: the op types that this TensorFlow does not know and cannot import. Ops of
        tf1xent's native library are not among them; their reasons say what they need.
    """

    source: str
    tensorflow: str
    ops: Tuple[CrossEntropyOp, ...]
    gradient_attributes: Tuple[GradientAttribute, ...]
    unknown_ops: Tuple[str, ...]

    @property
    def needs_rewrite(self) -> bool:
        """Whether an op has no second derivative even after `override_gradients`."""
        return any(op.verdict in (Verdict.REWRITE, Verdict.UNSUPPORTED) for op in self.ops)

    def to_json(self) -> str:
        """Returns the report as a JSON object whose keys are the attributes' names."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def to_text(self, width: Optional[int] = 80) -> str:
        """Returns a table of the ops, then the reasons of the verdicts, then other findings.

        Lines have at most `width` columns; widths below 60 count as 60. Long names are shortened
        in the middle. With None nothing is shortened.
        """
        width = None if width is None else max(width, 60)
        found = f": {_table.count(len(self.ops), 'cross-entropy op')}, judged for TensorFlow "
        found += self.tensorflow
        lines = [
            _table.shortened(self.source, None if width is None else width - len(found)) + found
        ]
        if self.ops:
            lines += ["", *_ops_table(self.ops, width), ""]
        reasons: Dict[str, List[int]] = {}
        for number, op in enumerate(self.ops, 1):
            reasons.setdefault(f"{op.verdict.value}: {op.reason}", []).append(number)
        notes = [f"[{_table.runs(numbers)}] {reason}" for reason, numbers in reasons.items()]
        missing = sorted({a.gradient for a in self.gradient_attributes if not a.registered})
        missing += sorted(
            {str(op.gradient_attribute) for op in self.ops if op.gradient_registered is False}
        )
        if missing:
            notes.append(
                f"Gradients that the graph names, but are not registered: {', '.join(missing)}"
            )
        if self.unknown_ops:
            notes.append(f"Ops that this TensorFlow does not know: {', '.join(self.unknown_ops)}")
        lines += [line for note in notes for line in _table.wrapped(note, width)]
        return "\n".join(lines)

    def __str__(self) -> str:
        """Returns `to_text()`."""
        return self.to_text()


_KINDS = {_tf.SPARSE_OP: "sparse", _tf.DENSE_OP: "dense"}
_KINDS.update({op_type: f"{op.kind}, kernel" for op_type, op in KERNEL_OPS.items()})
_KINDS.update({name: f"{PRIMITIVES[name].kind}, tf1xent" for name in LOSSES})
_HEADINGS = ("", "op", "verdict")
_LEAST_NAME = 8


def _ops_table(ops: Sequence[CrossEntropyOp], width: Optional[int]) -> List[str]:
    """Returns two lines an op: name and verdict; then kind, dtype, shape and place."""
    rows = [
        (f"[{n}]", _table.shortened(op.name, None), op.verdict.value) for n, op in enumerate(ops, 1)
    ]
    widths = _table.column_widths([_HEADINGS, *rows])
    if width is not None:
        others = widths[0] + widths[2] + 2 * len(_table.GAP)
        widths[1] = max(_LEAST_NAME, min(widths[1], width - others))
    indent = " " * (widths[0] + len(_table.GAP))
    fitting = [(number, _table.shortened(name, widths[1]), judged) for number, name, judged in rows]
    heading, *lines = _table.aligned([_HEADINGS, *fitting], widths)
    below = [
        indent + _description(op, None if width is None else width - len(indent)) for op in ops
    ]
    return [heading, *(line for pair in zip(lines, below) for line in pair)]


_CONTEXTS = {"while": "v1 loop", "cond": "v1 branch"}


def _description(op: CrossEntropyOp, width: Optional[int]) -> str:
    """Says what an op is, how many gradients it has, and where it is if not simply in the graph."""
    shape = "[...]"
    if op.shape is not None:
        shape = "[" + ", ".join("?" if size is None else str(size) for size in op.shape) + "]"
    parts = [_KINDS.get(op.op_type, op.op_type), f"{op.dtype} {shape}"]
    if op.gradients:
        parts.append(_table.count(len(op.gradients), "gradient"))
    if op.guards:
        parts.append(f"{len(op.guards)} guarded")
    text = ", ".join(parts)
    places = [
        f"graph {op.graph}" if op.graph else "",
        f"function {op.function}" if op.function else "",
        _CONTEXTS.get(op.context or "", ""),
    ]
    where = ", ".join(filter(None, places))
    if not where:
        return _table.shortened(text, width)
    room = None if width is None else max(_LEAST_NAME, width - len(text) - len(", in "))
    return _table.shortened(f"{text}, in {_table.shortened(where, room)}", width)


# What is found in one graph: ops, other gradient attributes, op types that TensorFlow lacks.
Findings = Tuple[List[CrossEntropyOp], List[GradientAttribute], Set[str]]


def report_of(source: str, tensorflow: str, parts: Iterable[Findings]) -> GraphReport:
    """Joins the findings of several graphs in one report."""
    ops: List[CrossEntropyOp] = []
    attributes: List[GradientAttribute] = []
    unknown: Set[str] = set()
    for part_ops, part_attributes, part_unknown in parts:
        ops += part_ops
        attributes += part_attributes
        unknown |= part_unknown
    return GraphReport(source, tensorflow, tuple(ops), tuple(attributes), tuple(sorted(unknown)))
