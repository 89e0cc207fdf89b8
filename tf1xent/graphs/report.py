"""What `inspect_graph` finds, as data, as a table and as JSON."""

import dataclasses
import enum
import json
from typing import Any, Dict, List, Optional, Tuple

from tf1xent import _tf
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

    def __str__(self) -> str:
        """A table of the ops, the reasons below it, and the rest."""
        title = f"{self.source}: {_count(len(self.ops), 'cross-entropy op')}"
        lines = [f"{title}, for TensorFlow {self.tensorflow}"]
        if self.ops:
            lines += ["", *_table([_row(number, op) for number, op in enumerate(self.ops, 1)]), ""]
        reasons: Dict[str, List[str]] = {}
        for number, op in enumerate(self.ops, 1):
            reasons.setdefault(f"{op.verdict.value}: {op.reason}", []).append(str(number))
        lines += [f"[{', '.join(numbers)}] {reason}" for reason, numbers in reasons.items()]
        missing = sorted({a.gradient for a in self.gradient_attributes if not a.registered})
        missing += sorted(
            {str(op.gradient_attribute) for op in self.ops if op.gradient_registered is False}
        )
        if missing:
            lines.append(
                f"Gradients that the graph names and nobody registered: {', '.join(missing)}"
            )
        if self.unknown_ops:
            lines.append(f"Ops that this TensorFlow does not know: {', '.join(self.unknown_ops)}")
        return "\n".join(lines)


_KINDS = {_tf.SPARSE_OP: "sparse", _tf.DENSE_OP: "dense"}
_KINDS.update({op_type: f"{op.kind}, kernel" for op_type, op in KERNEL_OPS.items()})
_KINDS.update({name: f"{PRIMITIVES[name].kind}, tf1xent" for name in LOSSES})
_HEADINGS = ("", "op", "where", "type", "dtype", "logits", "gradients", "guards", "verdict")


def _row(number: int, op: CrossEntropyOp) -> Tuple[str, ...]:
    where = ", ".join(part for part in (op.graph, op.function, op.context) if part)
    shape = "?" if op.shape is None else str([size if size else "?" for size in op.shape])
    sizes = str(len(op.gradients)), str(len(op.guards))
    shape = shape.replace("'", "")
    return (
        f"[{number}]",
        op.name,
        where,
        _KINDS[op.op_type],
        op.dtype,
        shape,
        *sizes,
        op.verdict.value,
    )


def _table(rows: List[Tuple[str, ...]]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in (_HEADINGS, *rows)
    ]


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
