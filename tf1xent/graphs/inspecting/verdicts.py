"""Judges what it takes to differentiate a cross-entropy op twice, and says why."""

import dataclasses
from typing import Optional, Tuple

from tf1xent import _probes, _tf
from tf1xent._typing import NodeDef
from tf1xent.gradients import GRADIENT_NAMES
from tf1xent.graphs.formula.kernel_ops import KERNEL_OPS
from tf1xent.graphs.formula.primitive_ops import is_loss
from tf1xent.graphs.inspecting.report import Verdict
from tf1xent.graphs.shapes import Broadcast
from tf1xent.graphs.wiring import Wiring

_EXITS = ("Exit", "RefExit")
# No derivative goes through these ops.
_NO_DERIVATIVE = frozenset(
    "StopGradient OneHot ArgMax ArgMin Equal NotEqual Greater GreaterEqual Less LessEqual Shape "
    "Size Rank Round Rint Floor Ceil Sign ZerosLike OnesLike".split()
)


# What v1 loops are rewritten to. Where TensorFlow has a gradient of it, it has second ones too.
_LOOP_OP = "StatelessWhile"
_FUNCTIONAL = "makes a While op of it, which has them"


@dataclasses.dataclass(frozen=True)
class Site:
    """A cross-entropy op and the facts about its surroundings that verdicts need.

    Attributes:
      node: the op.
      in_loop: whether it is in a v1 while loop, or in a function called from one.
      obstacle: what keeps a second derivative away even after a rewrite, in a sentence; or None.
      is_guarded: whether a PreventGradient guards its recorded gradient.
      labels_vary: whether its labels depend on variables.
      broadcast: whether it is a dense op that broadcasts its logits and labels.
      after_loop: whether its logits depend on the result of a v1 while loop.
      after_call: whether its logits depend on function calls in the graph of a file.
      in_opaque_call: whether it is in a function whose call has no gradient in TensorFlow.
      kernels_are_there: whether the native library is built for this TensorFlow, or loaded.
    """

    node: NodeDef
    in_loop: bool
    obstacle: Optional[str]
    is_guarded: bool
    labels_vary: bool
    broadcast: Broadcast
    after_loop: bool
    after_call: bool
    in_opaque_call: bool
    kernels_are_there: bool


def labels_vary(wiring: Wiring) -> bytearray:
    """Returns, by position, whether a node can have a non-zero derivative by a variable."""
    return wiring.depending_on(_tf.VARIABLES, ends=_NO_DERIVATIVE)


def after_loop(wiring: Wiring) -> bytearray:
    """Returns, by position, whether a node depends on the result of a v1 while loop."""
    return wiring.depending_on(_EXITS)


def verdict(site: Site) -> Tuple[Verdict, str]:
    """Returns the verdict on an op, and the reason in one or more sentences."""
    found = _named_gradient(site) or _surroundings(site) or _own_derivatives(site)
    return found[0], found[1] + _before_the_logits(site) + _without_the_library(site)


def _named_gradient(site: Site) -> Optional[Tuple[Verdict, str]]:
    """The verdict on an op that names a gradient which is not tf1xent's."""
    name = _tf.gradient_attribute(site.node)
    if name is None or name == GRADIENT_NAMES.get(site.node.op, site.node.op):
        return None
    if is_loss(site.node):
        return None
    if _tf.has_gradient(name):
        return Verdict.AS_IT_IS, f"it is differentiated by the gradient that it names, `{name}`."
    return (
        Verdict.UNSUPPORTED,
        f"it names the gradient `{name}`, which is not registered: import the program that "
        "registers it, and inspect again.",
    )


def _surroundings(site: Site) -> Optional[Tuple[Verdict, str]]:
    if site.obstacle is not None:
        return Verdict.UNSUPPORTED, site.obstacle
    if site.in_loop:
        reason = "it runs in a v1 while loop, through which TensorFlow has no second derivatives: "
        if _tf.can_be_differentiated(_LOOP_OP):
            return Verdict.REWRITE, f"{reason}`tf1xent rewrite --loops functional` {_FUNCTIONAL}."
        return (
            Verdict.UNSUPPORTED,
            f"{reason}`tf1xent rewrite --loops functional` with TF 1.15 or later {_FUNCTIONAL}.",
        )
    if site.in_opaque_call:
        return (
            Verdict.REWRITE,
            "TensorFlow has no gradient for the call of the function that holds it: "
            "`tf1xent rewrite` replaces the call by the nodes of the function.",
        )
    return None


_OVERRIDE = ": call tf1xent.override_gradients()."
_IMPORT = "import tf1xent before you differentiate the graph."


def _own_derivatives(site: Site) -> Tuple[Verdict, str]:
    if site.node.op in KERNEL_OPS:
        if site.kernels_are_there:
            return Verdict.AS_IT_IS, f"it has tf1xent's gradients: {_IMPORT}"
        return (
            Verdict.REWRITE,
            "it is an op of tf1xent's native library, which is not built for this TensorFlow.",
        )
    if is_loss(site.node):
        return Verdict.AS_IT_IS, f"it has tf1xent's gradients: {_IMPORT}"
    if site.broadcast is Broadcast.MISSED:
        return (
            Verdict.REWRITE,
            "its logits and labels may be broadcast, and then TensorFlow infers a batch size of 1: "
            "the gradient of a mean is too large by the number of rows. `tf1xent rewrite` "
            "broadcasts them explicitly. It does not change the gradients that the graph holds "
            "already: build these anew.",
        )
    if site.is_guarded:
        return (
            Verdict.OVERRIDE,
            "TF 1.x guards the gradient that the graph holds already by PreventGradient, which "
            f"refuses a second derivative{_OVERRIDE}",
        )
    if _tf.gradient_attribute(site.node) is not None:
        return Verdict.AS_IT_IS, f"it names tf1xent's gradient: {_IMPORT}"
    if site.node.op == _tf.SPARSE_OP:
        if _probes.sparse_op_has_second_derivative():
            return Verdict.AS_IT_IS, "this TensorFlow has its second derivative."
        return Verdict.OVERRIDE, f"this TensorFlow refuses its second derivative{_OVERRIDE}"
    if site.broadcast is Broadcast.SEEN:
        return (
            Verdict.OVERRIDE,
            f"its logits and labels are broadcast, and TensorFlow then refuses its gradient"
            f"{_OVERRIDE}",
        )
    if site.labels_vary:
        return (
            Verdict.OVERRIDE,
            "its labels depend on variables, and TensorFlow's derivative of its gradient with "
            f"respect to the labels is silently wrong{_OVERRIDE}",
        )
    return (
        Verdict.AS_IT_IS,
        "TensorFlow's second derivative is right for labels that sum to 1 and depend on no "
        "variable.",
    )


def _before_the_logits(site: Site) -> str:
    text = ""
    if site.after_loop and not site.in_loop:
        text += (
            " Its logits come out of a v1 while loop: second derivatives exist only for variables "
            f"used after the loop. `tf1xent rewrite --loops functional` {_FUNCTIONAL}."
        )
    if site.after_call:
        text += (
            " Its logits depend on calls of functions without cross-entropy ops, for which "
            "TensorFlow has no gradient in an imported graph: derivatives exist only for variables "
            "used after the calls."
        )
    return text


def _without_the_library(site: Site) -> str:
    if site.node.op not in KERNEL_OPS:
        return ""
    return (
        " tf1xent's native library must be loaded (tf1xent.kernels.library()) before the graph is "
        "imported. `tf1xent rewrite --mode logsumexp` turns the op into stock ops, which do not "
        "need the library."
    )
