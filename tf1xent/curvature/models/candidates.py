"""Finds the losses of a graph that somebody else has built, and what they depend on."""

import dataclasses
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Operation, Tensor
from tf1xent.curvature.behind import changed_variables
from tf1xent.curvature.products.differentiation import as_list
from tf1xent.curvature.products.missing_derivatives import in_the_way
from tf1xent.errors import MissingDerivativeError
from tf1xent.second_order.auditing.auditing import audited

__all__ = ["LossCandidate", "loss_candidates"]

# The name scope in which `tf.gradients` builds, and in it the one for the gradient of an op.
_GRADIENTS = re.compile(r"(?:^|.*/)gradients(?:_\d+)?/(.+)")
_GRADIENT_OF = re.compile(r"(.+)_grad/")
_NAMED = re.compile(r"loss|cost|xent|entropy|objective|likelihood|nll", re.IGNORECASE)
# Ops that write their input somewhere: no loss, though what they return depends on the variables.
_WRITES = re.compile(r"Assign|Apply|Scatter(Nd)?(Update|Add|Sub|Mul|Div)|Summary|Print")
# Gradient functions of these add no op for an addend, so no scope tells that they were called.
_SUMS = ("Add", "AddN", "AddV2", "Identity")
MOST_CANDIDATES = 5


@dataclasses.dataclass(frozen=True)
class LossCandidate:
    """A tensor that may be the loss that a graph was trained with.

    Attributes:
      tensor: a scalar of a floating type that depends on the variables.
      reason: why it is likely, in a few words; empty if only its place in the graph is known.
    """

    tensor: Tensor
    reason: str

    def __str__(self) -> str:
        described = f"{self.tensor.name} {shape_text(self.tensor)}"
        return f"{described} ({self.reason})" if self.reason else described


def shape_text(tensor: Tensor) -> str:
    """Returns a static shape as in "[?, 10]"."""
    if tensor.shape.ndims is None:
        return "of unknown shape"
    sizes = ("?" if size is None else str(size) for size in tensor.shape.as_list())
    return f"[{', '.join(sizes)}]"


def loss_candidates(
    graph: Graph, xs: Any = None, *, most: int = MOST_CANDIDATES
) -> List[LossCandidate]:
    """Lists the scalars of a graph that may be its loss, the likeliest first.

    Use it on a graph whose program is not at hand. A candidate is a scalar of a floating type on a
    path from the variables that gradients may follow. In front stand tensors that the graph's own
    gradients start from, then those of the collection ``losses``, then names such as loss, cost,
    xent or objective; among equals, what no other candidate reads.

    Args:
      graph: a `tf.Graph`.
      xs: variables or tensors of the graph. Default: its trainable variables.
      most: the largest number of candidates.

    Returns:
      A list of `LossCandidate`, perhaps empty.

    Example:

    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import loss_candidates
    >>> with tf.Graph().as_default() as graph:
    ...     weights = tf.Variable([1.0, 2.0], name="weights")
    ...     penalty = tf.reduce_sum(weights**2, name="penalty")
    ...     loss = tf.add(tf.reduce_sum(weights), penalty, name="loss")
    ...     print([str(candidate) for candidate in loss_candidates(graph)][0])
    loss:0 [] (its name)
    """
    if xs is None:
        xs = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    with graph.as_default():
        reached = _reached(graph, [_tf.tensor_of(x) for x in as_list(list(xs))])
    scalars = [t for op in reached.values() for t in op.outputs if _is_loss_like(t)]
    scalar_ops = {tensor.op.name for tensor in scalars}
    differentiated = _differentiated(reached)
    listed = {getattr(t, "name", None) for t in graph.get_collection(tf.GraphKeys.LOSSES)}
    ranked = []
    for number, tensor in enumerate(scalars):
        readers = {op.name for op in tensor.consumers()} & set(reached)
        reasons = {
            "the graph's gradients start here": tensor.op.name in differentiated
            and not readers & differentiated,
            "in the collection `losses`": tensor.name in listed,
            "its name": _is_named(tensor.op),
            # Parts of a loss that a function of a library computes.
            "": _NAMED.search(tensor.op.name) is not None,
        }
        order = [not found for found in reasons.values()]
        reason = ", ".join(reason for reason, found in reasons.items() if found and reason)
        key = (*order, bool(readers & scalar_ops), -number)
        ranked.append((key, LossCandidate(tensor, reason)))
    found = [candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0])][:most]
    # What a training loop calls, with updates of moving averages; operators refuse it.
    return sorted(found, key=lambda candidate: bool(changed_variables([candidate.tensor])))


def _is_named(op: Operation) -> bool:
    """Whether a program has named an op like a loss; the name of L2Loss is that of its type."""
    name = op.name.rpartition("/")[2]
    return _NAMED.search(name) is not None and re.sub(r"_\d+$", "", name) != op.type


def _reached(graph: Graph, xs: Sequence[Tensor]) -> Dict[str, Operation]:
    """Returns the ops on paths from some tensors, in the graph's order, by name.

    Paths end at tensors that gradients do not follow, at writes, and where gradients were built.
    """
    starts = {x.op.name for x in xs}
    seen = set(starts)
    waiting = [x.op for x in xs]
    while waiting:
        for output in waiting.pop().outputs:
            if not _tf.carries_gradients(output):
                continue
            for op in output.consumers():
                if op.name not in seen and not _is_off_the_path(op):
                    seen.add(op.name)
                    waiting.append(op)
    seen -= starts
    return {op.name: op for op in graph.get_operations() if op.name in seen}


def _is_off_the_path(op: Operation) -> bool:
    return bool(_WRITES.search(op.type) or _GRADIENTS.match(op.name))


def _is_loss_like(tensor: Tensor) -> bool:
    return bool(
        tensor.shape.ndims == 0
        and tensor.dtype.base_dtype.is_floating
        and not _tf.has_context(tensor.op)
        and tensor.graph.is_fetchable(tensor)
    )


def _differentiated(reached: Dict[str, Operation]) -> Set[str]:
    """Returns the names of ops that `tf.gradients` was called on the way through."""
    if not reached:
        return set()
    graph = next(iter(reached.values())).graph
    found = set()
    for op in graph.get_operations():
        inside = _GRADIENTS.match(op.name)
        about = inside and _GRADIENT_OF.match(inside.group(1))
        if about:
            found.add(about.group(1))
    for op in reached.values():
        if op.type in _SUMS and any(tensor.op.name in found for tensor in op.inputs):
            found.add(op.name)
    return found & set(reached)


def find_loss(graph: Graph, name: Optional[str], xs: Any, caller: str, where: str) -> Tensor:
    """Returns a loss by name.

    Args:
      graph: a `tf.Graph`.
      name: of a tensor, or of an op with one output; None for an error that lists candidates.
      xs: the variables that it must depend on, for the candidates.
      caller: names the function or command in errors.
      where: names the graph in errors.

    Returns:
      The tensor, a scalar of a floating type.

    Raises:
      ValueError: there is no such tensor, or it is no scalar of a floating type.
    """
    if name is None:
        raise ValueError(f"{caller}: {where}: the loss must be named.{_listed(graph, xs)}")
    try:
        found = graph.as_graph_element(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        found = None
    if not isinstance(found, tf.Tensor):
        raise ValueError(f"{caller}: {where}: the graph has no `{name}`.{_listed(graph, xs)}")
    if not found.dtype.base_dtype.is_floating:
        raise ValueError(
            f"{caller}: {where}: the loss must be of a floating type, got `{found.name}` of "
            f"{found.dtype.base_dtype.name}.{_listed(graph, xs)}"
        )
    if found.shape.ndims != 0:
        scalars = [f"`{tensor.name}`" for tensor in _scalars_of(found)]
        remedy = (
            f"Give a scalar that is computed from it: {', '.join(scalars)}."
            if scalars
            else "Give its mean: no scalar is computed from it in this graph, so build "
            "`tf.reduce_mean` of it in `load_model(...).graph`."
        )
        raise ValueError(
            f"{caller}: {where}: the loss must be a scalar, got `{found.name}` "
            f"{shape_text(found)}. {remedy}"
        )
    return found


def _scalars_of(tensor: Tensor) -> List[Tensor]:
    """Returns the scalars nearest behind a tensor that may be losses."""
    reached = _reached(tensor.graph, [tensor])
    scalars = [t for op in reached.values() for t in op.outputs if _is_loss_like(t)]
    scalars.sort(key=lambda t: not _is_named(t.op))
    return scalars[:3]


def _listed(graph: Graph, xs: Any) -> str:
    candidates = loss_candidates(graph, xs)
    if not candidates:
        return " No scalar of a floating type in it depends on the variables."
    return f" Candidates, likeliest first: {', '.join(map(str, candidates))}."


class Reached(NamedTuple):
    """What a loss depends on.

    Attributes:
      variables: those that gradients of the loss reach.
      left_out: the others.
    """

    variables: List[Tensor]
    left_out: List[Tensor]


def reached_variables(
    ys: Sequence[Tensor], xs: Sequence[Tensor], source: str, caller: str = "reached_variables"
) -> Reached:
    """Sorts variables by whether a loss depends on them, and checks its second derivative.

    Args:
      ys: the loss, or outputs of a model.
      xs: variables or tensors of its graph.
      source: names the graph in errors.
      caller: names the function or command in errors.

    Returns:
      `Reached`: the variables that are reached, and those that are left out.

    Raises:
      ValueError: none is reached.
      tf1xent.errors.MissingDerivativeError: TensorFlow has no second derivative of the loss, as for
        v1 while loops; the message has the remedy.
    """
    names = ", ".join(f"`{y.name}`" for y in ys)
    with ys[0].graph.as_default():
        tensors: List[Any] = [_tf.tensor_of(x) for x in xs]
        audit = audited(list(ys), tensors, source, from_file=True)
    unreached = set(audit.unreached)
    left_out = [x for x, tensor in zip(xs, tensors) if tensor.name in unreached]
    if len(left_out) == len(xs):
        there = ", ".join(x.name for x in xs[:3]) + (" and others" if len(xs) > 3 else "")
        raise ValueError(
            f"{caller}: {source}: no path of gradients leads from {there} to {names}. "
            "Name another loss, or other variables."
        )
    obstacles = in_the_way(audit)
    if obstacles:
        first, more = obstacles[0], len(obstacles) - 1
        others = f" {more} more stand in the way: see `tf1xent inspect --loss`." if more else ""
        raise MissingDerivativeError(
            f"{caller}: {source}: {names} has no second derivative, because of "
            f"`{first.name}` ({first.op_type}): {first.reason} {first.remedy}{others}"
        )
    reached = [x for x, tensor in zip(xs, tensors) if tensor.name not in unreached]
    return Reached(reached, left_out)
