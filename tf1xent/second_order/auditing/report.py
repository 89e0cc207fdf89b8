"""The result of `audit`: as data, as text and as JSON."""

import dataclasses
import enum
import json
from typing import Dict, List, Optional, Tuple

from tf1xent import _table


class Verdict(str, enum.Enum):
    """What it takes until TensorFlow's second derivative of an op is there and right.

    FINE: nothing; the op is listed because the path ends there, as it should. OVERRIDE:
    `tf1xent.override_gradients()`. CONTROL_FLOW_V2: a graph built with ``control_flow_v2=True``.
    REWRITE: `tf1xent rewrite`. NEVER: none of these; the reason says why.

    >>> Verdict.OVERRIDE.value
    'override_gradients'
    """

    FINE = "fine"
    OVERRIDE = "override_gradients"
    CONTROL_FLOW_V2 = "control_flow_v2"
    REWRITE = "rewrite"
    NEVER = "never"


class Kind(str, enum.Enum):
    """What is met.

    NO_GRADIENT: an op without a gradient of any order. NO_SECOND_DERIVATIVE: an op whose gradient
    has none; TensorFlow raises. LEFT_OUT: TensorFlow leaves the part of an op out of the second
    derivative without a word. LOOP: a v1 while loop. CALL: a function call. NOT_DIFFERENTIABLE: an
    op through which no derivative goes.
    """

    NO_GRADIENT = "no gradient"
    NO_SECOND_DERIVATIVE = "no second derivative"
    LEFT_OUT = "left out"
    LOOP = "v1 loop"
    CALL = "function call"
    NOT_DIFFERENTIABLE = "not differentiable"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the second derivative meets at one op.

    Attributes:
      name: the op's name, inside the function if there is one.
      op_type: its type.
      path: the calls, loops and branches that lead to it, from the outermost on, as
        ``name of the op: function``; empty in the graph itself.
      source: the program's line that made the op, as ``file:line, in function``, or None.
      kind: what is met.
      meets: the type of the op that lacks a gradient, or whose gradient is wrong; None otherwise.
      verdict: what it takes.
      reason: why, in a sentence.
      remedy: what to do, in a sentence; empty if there is nothing to do.
    """

    name: str
    op_type: str
    path: Tuple[str, ...]
    source: Optional[str]
    kind: Kind
    meets: Optional[str]
    verdict: Verdict
    reason: str
    remedy: str

    @property
    def scope(self) -> str:
        """The name scope of the op; empty for none."""
        return self.name.rpartition("/")[0]


@dataclasses.dataclass(frozen=True)
class Audit:
    """Whether a loss has a second derivative, and what stands in the way.

    Attributes:
      source: what was audited: a live graph, or a file.
      graph: the tags of the graph, if a SavedModel has several; else None.
      tensorflow: the version of the TensorFlow that the answer is for.
      ys, xs: the names of the tensors.
      unreached: those of `xs` that no path of gradients leads from.
      is_zero: whether the gradient does not depend on xs.
      findings: what the second derivative meets.
      ops: the number of ops on the paths, functions included.
      asked: how many of them TensorFlow had to be asked about.
    """

    source: str
    graph: Optional[str]
    tensorflow: str
    ys: Tuple[str, ...]
    xs: Tuple[str, ...]
    unreached: Tuple[str, ...]
    is_zero: bool
    findings: Tuple[Finding, ...]
    ops: int
    asked: int

    @property
    def obstacles(self) -> Tuple[Finding, ...]:
        """The findings that stand in the way."""
        return tuple(f for f in self.findings if f.verdict is not Verdict.FINE)

    @property
    def has_second_derivative(self) -> bool:
        """Whether TensorFlow's second derivative is there and right, as things are."""
        return not self.obstacles and len(self.unreached) < len(self.xs)

    @property
    def needs_more_than_override(self) -> bool:
        """Whether there is none even after `override_gradients`."""
        rest = [f for f in self.obstacles if f.verdict is not Verdict.OVERRIDE]
        return bool(rest) or len(self.unreached) == len(self.xs)

    @property
    def answer(self) -> str:
        """The answer in one sentence."""
        if len(self.unreached) == len(self.xs):
            return "no, because no path of gradients leads from the variables to the loss."
        if not self.obstacles:
            if self.is_zero:
                return (
                    "yes, and it is zero: the gradient does not depend on the variables. "
                    "tf.hessians raises ValueError, because tf.gradients returns None for zero."
                )
            return "yes."
        counts = {v: sum(f.verdict is v for f in self.obstacles) for v in Verdict}
        text = f"no, because of {_table.count(len(self.obstacles), 'op')}"
        if counts[Verdict.NEVER] == len(self.obstacles):
            return text + ", for which there is no remedy here."
        if counts[Verdict.NEVER]:
            return text + f"; for {counts[Verdict.NEVER]} of them there is no remedy here."
        steps = [_STEPS[v] for v in Verdict if v in _STEPS and counts[v]]
        return text + f"; yes after {' and '.join(steps)}."

    def to_json(self) -> str:
        """Returns the report as a JSON object: the attributes, and ``answer``."""
        content = dict(answer=self.answer, has_second_derivative=self.has_second_derivative)
        content.update(dataclasses.asdict(self))
        return json.dumps(content, indent=2)

    def to_text(self, width: Optional[int] = 80) -> str:
        """Returns the answer, then the places in the order of the graph, then the reasons.

        Lines have at most `width` columns; widths below 60 count as 60. Long names are shortened
        in the middle. With None nothing is shortened.
        """
        width = None if width is None else max(width, 60)
        tags = f", graph {self.graph}" if self.graph else ""
        lines = _table.wrapped(f"Second derivative of {', '.join(self.ys)}: {self.answer}", width)
        judged = f": {_table.count(self.ops, 'op')} between, "
        judged += f"{_table.count(len(self.xs), 'variable')}, TensorFlow {self.tensorflow}"
        room = None if width is None else max(_LEAST_SOURCE, width - len(judged))
        lines.append(_table.shortened(self.source + tags, room) + judged)
        if self.unreached and len(self.unreached) < len(self.xs):
            named = ", ".join(self.unreached[:_MOST_NAMES])
            more = len(self.unreached) - _MOST_NAMES
            named += f" and {more} more" if more > 0 else ""
            lines += _table.wrapped(f"No path leads from {named}.", width)
        if not self.findings:
            return "\n".join(lines)
        numbers: Dict[str, List[int]] = {}
        places: List[str] = []
        for number, finding in enumerate(self.findings, 1):
            places += _place(number, finding, width)
            reason = f"{finding.verdict.value}: {finding.reason} {finding.remedy}".rstrip()
            numbers.setdefault(reason, []).append(number)
        lines += ["", *places, ""]
        for reason, found in numbers.items():
            lines += _table.wrapped(f"[{_table.runs(found)}] {reason}", width)
        return "\n".join(lines)

    def __str__(self) -> str:
        """Returns `to_text()`."""
        return self.to_text()


_MOST_NAMES = 8
_LEAST_SOURCE = 8
_STEPS = {
    Verdict.OVERRIDE: "tf1xent.override_gradients()",
    Verdict.CONTROL_FLOW_V2: "building the graph with tf1xent.patch(control_flow_v2=True)",
    Verdict.REWRITE: "`tf1xent rewrite`",
}


def _place(number: int, finding: Finding, width: Optional[int]) -> List[str]:
    """Returns up to three lines: the op and its type, what leads to it, and who made it."""
    head = f"[{number}]  "
    room = None if width is None else width - len(head)
    type_ = f", {finding.op_type}"
    name_room = None if room is None else max(8, room - len(type_))
    lines = [head + _table.shortened(_table.shortened(finding.name, name_room) + type_, room)]
    indent = " " * len(head)
    if finding.path:
        lines.append(indent + _table.shortened("in " + " > ".join(finding.path), room))
    if finding.source:
        lines.append(indent + _table.shortened(finding.source, room))
    return lines
