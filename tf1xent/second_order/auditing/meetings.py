"""What a sweep collects, and where it is."""

from typing import Dict, List, NamedTuple, Optional, Tuple

from tf1xent._typing import Operation
from tf1xent.second_order.auditing.probing import Answer, Trouble
from tf1xent.second_order.auditing.report import Kind
from tf1xent.second_order.auditing.walk import Place


class Meeting(NamedTuple):
    """An op that the second derivative meets.

    Attributes:
      op: the op.
      path: the ops, and their functions, through which a body is reached.
      caller: the op of the graph itself that leads to it, or None.
      kind: what is wrong.
      trouble: TensorFlow's error, or None where it raises none.
      left_out: the op types whose derivative is left out.
      overridden: what TensorFlow would answer after `override_gradients`, or None if not asked.
      in_loop: the name of the outermost v1 loop around it, or None.
    """

    op: Operation
    path: Tuple[str, ...]
    caller: Optional[Operation]
    kind: Kind
    trouble: Optional[Trouble] = None
    left_out: Tuple[str, ...] = ()
    overridden: Optional[Answer] = None
    in_loop: Optional[str] = None


class Swept(NamedTuple):
    """What one graph, with the functions that it runs, holds.

    Attributes:
      meetings: the ops that are met.
      ops: the number of ops on the paths.
      asked: how many TensorFlow was asked about.
      cotangents: by tensor, the bits of its cotangent.
    """

    meetings: List[Meeting]
    ops: int
    asked: int
    cotangents: Dict[Place, int]


class Body(NamedTuple):
    """Where a function's body is.

    Attributes:
      path, caller: as of `Meeting`.
      cotangents: the bits of the cotangents of its outputs.
      entered: by (name, cotangents), the functions that were entered already: whether a cotangent
        varies in them.
    """

    path: Tuple[str, ...]
    caller: Optional[Operation]
    cotangents: int
    entered: Dict[Tuple[str, int], bool]
