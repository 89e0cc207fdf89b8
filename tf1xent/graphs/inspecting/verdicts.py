"""What it takes until a cross-entropy op can be differentiated twice, and why."""

import dataclasses
from typing import Any, Optional, Tuple

from tf1xent import _probes, _tf
from tf1xent.gradients import GRADIENT_NAMES
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.graphs.formula.primitive_ops import is_loss
from tf1xent.graphs.inspecting.report import Verdict
from tf1xent.graphs.shapes import Broadcast
from tf1xent.graphs.wiring import Wiring

# What a parameter is read from, and what no derivative goes through on the way to it.
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_EXITS = ("Exit", "RefExit")
_NO_DERIVATIVE = frozenset(
    "StopGradient OneHot ArgMax ArgMin Equal NotEqual Greater GreaterEqual Less LessEqual Shape "
    "Size Rank Round Rint Floor Ceil Sign ZerosLike OnesLike".split()
)


@dataclasses.dataclass(frozen=True)
class Site:
    """A cross-entropy op in its graph, as far as verdicts ask.

    Attributes:
      node: the op.
      in_loop: whether a v1 while loop is around it, or around a call that leads to it.
      obstacle: what on the way to it has no second derivative, nor after a rewrite, or None.
      is_guarded: whether PreventGradient forbids to differentiate its recorded gradient.
      labels_vary: whether its labels depend on variables.
      broadcast: whether its logits and labels, of a dense op, are broadcast to one shape.
      behind_loop: whether its logits depend on what comes out of a v1 while loop.
      behind_call: whether they depend on calls of functions in a file's graph.
      in_opaque_call: whether it is in a function that something calls without TensorFlow knowing a
        gradient of the call.
      kernels_are_there: whether the native library is built for this TensorFlow, or loaded.
    """

    node: Any
    in_loop: bool
    obstacle: Optional[str]
    is_guarded: bool
    labels_vary: bool
    broadcast: Broadcast
    behind_loop: bool
    behind_call: bool
    in_opaque_call: bool
    kernels_are_there: bool


def labels_vary(wiring: Wiring) -> bytearray:
    """By position: whether a derivative of a node's outputs in a variable can be other than 0."""
    return wiring.depending_on(_VARIABLES, ends=_NO_DERIVATIVE)


def behind_loop(wiring: Wiring) -> bytearray:
    """By position: whether a node depends on what comes out of a v1 while loop."""
    return wiring.depending_on(_EXITS)


def verdict(site: Site) -> Tuple[Verdict, str]:
    """The verdict on an op, and the reason in a sentence or two."""
    found = _foreign_gradient(site) or _surroundings(site) or _own_derivatives(site)
    return found[0], found[1] + _before_the_logits(site) + _without_the_library(site)


def _foreign_gradient(site: Site) -> Optional[Tuple[Verdict, str]]:
    name = _tf.gradient_attribute(site.node)
    if name is None or name == GRADIENT_NAMES.get(site.node.op, site.node.op):
        return None
    if is_loss(site.node):
        return None
    if _tf.has_gradient(name):
        return Verdict.AS_IT_IS, f"its derivatives are those of its own gradient, `{name}`."
    return (
        Verdict.UNSUPPORTED,
        f"it carries the gradient `{name}`, which nothing has registered: "
        "import the program that does, and inspect again.",
    )


def _surroundings(site: Site) -> Optional[Tuple[Verdict, str]]:
    if site.obstacle is not None:
        return Verdict.UNSUPPORTED, site.obstacle
    if site.in_loop:
        return (
            Verdict.UNSUPPORTED,
            "it runs in a v1 while loop, of which TensorFlow has no second derivatives: build the "
            "graph anew after tf.enable_control_flow_v2(), or with TF 2.x.",
        )
    if site.in_opaque_call:
        return (
            Verdict.REWRITE,
            "TensorFlow has no gradient for the call of the function that holds it: "
            "`tf1xent rewrite` puts the function's body in the place of the call.",
        )
    return None


def _own_derivatives(site: Site) -> Tuple[Verdict, str]:
    if site.node.op in KERNEL_OPS:
        if site.kernels_are_there:
            return Verdict.AS_IT_IS, "it has tf1xent's gradients: import tf1xent first."
        return (
            Verdict.REWRITE,
            "it is an op of tf1xent's native library, which is not built for this TensorFlow.",
        )
    if is_loss(site.node):
        return Verdict.AS_IT_IS, "it has tf1xent's gradients: import tf1xent first."
    if site.broadcast is Broadcast.MISSED:
        return (
            Verdict.REWRITE,
            "its logits and labels may be broadcast, and TensorFlow takes a size of 1 for that of "
            "the loss: the gradient of a mean is then too large by the number of rows. `tf1xent "
            "rewrite` broadcasts them first; a gradient that the graph holds already stays, so "
            "build it anew.",
        )
    if site.is_guarded:
        return (
            Verdict.OVERRIDE,
            "the gradient that the graph holds already is guarded by PreventGradient, as TF 1.x "
            "writes it.",
        )
    if _tf.gradient_attribute(site.node) is not None:
        return Verdict.AS_IT_IS, "it carries tf1xent's gradient: import tf1xent first."
    if site.node.op == _tf.SPARSE_OP:
        if _probes.sparse_op_has_second_derivative():
            return Verdict.AS_IT_IS, "this TensorFlow has its second derivative."
        return Verdict.OVERRIDE, "this TensorFlow refuses its second derivative."
    if site.broadcast is Broadcast.SEEN:
        return (
            Verdict.OVERRIDE,
            "its logits and labels are broadcast, and TensorFlow refuses its gradient then.",
        )
    if site.labels_vary:
        return (
            Verdict.OVERRIDE,
            "its labels depend on variables, and TensorFlow's derivative of its gradient in the "
            "labels is silently wrong.",
        )
    return (
        Verdict.AS_IT_IS,
        "TensorFlow's second derivative is right for labels that sum to 1 and depend on no "
        "variable.",
    )


def _before_the_logits(site: Site) -> str:
    text = ""
    if site.behind_loop and not site.in_loop:
        text += (
            " Its logits come out of a v1 while loop, of which TensorFlow has no second "
            "derivatives: those by what is behind the loop exist."
        )
    if site.behind_call:
        text += (
            " Its logits depend on calls of functions without cross-entropy ops, for which "
            "TensorFlow has no gradient in an imported graph: derivatives by what is behind them "
            "exist."
        )
    return text


def _without_the_library(site: Site) -> str:
    if site.node.op not in KERNEL_OPS:
        return ""
    return (
        " Wherever the graph is imported, tf1xent's native library must be loaded before "
        "(tf1xent.kernels.library()): `tf1xent rewrite --mode logsumexp` makes stock ops of it."
    )
