"""`audit`: whether a loss in a live graph has a second derivative."""

from typing import Any, List, Sequence, Union

from tf1xent import _tf
from tf1xent._typing import Graph, Tensor
from tf1xent.second_order.auditing.probing import EXISTS, SECOND
from tf1xent.second_order.auditing.report import Audit, Finding
from tf1xent.second_order.auditing.sweep import sweep
from tf1xent.second_order.auditing.verdicts import finding
from tf1xent.second_order.auditing.walk import place

__all__ = ["audit"]

# Tensors or variables.
_Tensors = Union[Tensor, Sequence[Tensor]]


def audit(ys: _Tensors, xs: _Tensors) -> Audit:
    """Says whether a loss has a second derivative, and what stands in its way.

    Use it before `tf.hessians`, or before a Hessian-vector product by two `tf.gradients`, on a
    graph that is built already. It follows every path from `xs` to `ys`, through functions,
    branches and loops, and names each op at which the second derivative fails or is wrong, with the
    line of the program that made it and with a remedy. Nothing is run, and no op is added to the
    graph.

    The answer is for the whole Hessian, with the blocks between different `xs`. For one block on
    the diagonal, as `tf.hessians` computes it, give that variable alone.

    Args:
      ys: a tensor or a list of them, of any shape: the loss. As in `tf.gradients`, the sum of all
        elements is differentiated.
      xs: a tensor, a variable or a list of them, in the same graph.

    Returns:
      An `Audit`. ``str()`` says yes or no in its first line, and lists the ops below it;
      ``to_json()`` gives the same to programs.

    Raises:
      TypeError: `ys` or `xs` hold something else than tensors and variables.
      ValueError: `ys` or `xs` are empty, have no dtype of numbers, or are of different graphs.
      RuntimeError: eagerly, where tensors have no graph.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.second_order import audit
    >>> with tf.Graph().as_default():
    ...     image = tf.placeholder(tf.float32, [1, 2, 2, 1])
    ...     loss = tf.reduce_sum(tf.square(tf.nn.lrn(image)))
    ...     report = audit(loss, image)
    >>> [(found.op_type, found.meets) for found in report.findings]
    [('LRN', 'LRNGrad')]
    """
    return audited(_tensors(ys, "ys"), _tensors(xs, "xs"), "live graph")


def audited(
    ys: List[Tensor], xs: List[Tensor], source: str, tags: Any = None, from_file: bool = False
) -> Audit:
    """Does what `audit` does, with tensors."""
    graph = _graph(ys, xs)
    swept = sweep(graph, xs, ys)
    bits = {place(x): swept.cotangents.get(place(x), 0) for x in xs}
    positions = {op.name: number for number, op in enumerate(graph.get_operations())}
    findings = [finding(meeting, from_file) for meeting in swept.meetings]
    findings.sort(key=lambda found: positions[_outermost(found)])
    return Audit(
        source=source,
        graph=tags,
        tensorflow=_tf.version(),
        ys=tuple(y.name for y in ys),
        xs=tuple(x.name for x in xs),
        unreached=tuple(x.name for x in xs if not bits[place(x)] & EXISTS),
        is_zero=not any(each & SECOND for each in bits.values()),
        findings=tuple(findings),
        ops=swept.ops,
        asked=swept.asked,
    )


def _outermost(found: Finding) -> str:
    """The name of the op of the graph itself that a finding is about, or that leads to it."""
    return found.path[0].split(": ")[0] if found.path else found.name


def _tensors(values: Any, name: str) -> List[Tensor]:
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    if not values:
        raise ValueError(f"audit: `{name}` must hold a tensor, got an empty list. Name one.")
    found = [_tf.tensor_of(value) for value in values]
    for value, tensor in zip(values, found):
        if tensor is None:
            raise TypeError(
                f"audit: `{name}` must hold tensors or variables, got {type(value).__name__}. "
                "Give what tf.gradients takes."
            )
        if not hasattr(tensor, "graph"):
            raise RuntimeError(
                f"audit: `{name}` must hold tensors of a graph, got one of eager execution. "
                "Build the loss in a tf.Graph."
            )
    return found


def _graph(ys: List[Tensor], xs: List[Tensor]) -> Graph:
    graphs = {id(tensor.graph): tensor.graph for tensor in ys + xs}
    if len(graphs) > 1:
        raise ValueError(
            f"audit: `xs` must be in the graph of `ys`, got {len(graphs)} graphs. "
            "Take all tensors from one."
        )
    for tensor in ys:
        if not _tf.carries_gradients(tensor):
            raise ValueError(
                f"audit: `ys` must hold tensors of numbers with a fraction, got {tensor.name} of "
                f"{tensor.dtype.name}. Take the loss before it is cast."
            )
    (graph,) = graphs.values()
    return graph
