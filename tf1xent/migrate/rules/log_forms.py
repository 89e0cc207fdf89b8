"""What is read of labels times the log of probabilities: the log, its guard, the sums around it."""

import enum
import math
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import libcst as cst

from tf1xent.migrate.context import Context, arguments
from tf1xent.migrate.rules import reading
from tf1xent.migrate.rules.reading import Reduction, Softmax, bare

# A bound or an epsilon above this is no guard: it shapes the loss.
_LARGEST_GUARD = 1e-3


class Guard(enum.Enum):
    """What keeps the argument of a log from 0; each is a rule's."""

    NONE = "nothing, the softmax has a name"
    CLIPPED = "clip_by_value"
    EPSILON = "an epsilon"
    IN_PLACE = "nothing, the softmax stands in the log"
    LOG_SOFTMAX = "log_softmax, which needs no guard"
    UNSEEN = "anything; where the probabilities come from is not in sight"


class Log(NamedTuple):
    """The log of probabilities.

    Attributes:
      call: the call of log, or of log_softmax.
      guard: what keeps it finite.
      bound: the least probability or the epsilon, where the source says it.
      bound_as_written: its expression; that of the log where there is none.
      probabilities: without the guard.
      softmax: what they are, if that is certain.
      upper: the upper bound of a clip, where the source says it.
    """

    call: cst.Call
    guard: Guard
    bound: Optional[float]
    bound_as_written: cst.BaseExpression
    probabilities: cst.BaseExpression
    softmax: Optional[Softmax]
    upper: Optional[float] = None


class Form(NamedTuple):
    """``reduce_sum(labels * log(p))``, with a sign."""

    sign: int
    reduction: Reduction
    labels: cst.BaseExpression
    log: Log


def read_log(node: cst.CSTNode, context: Context) -> Optional[Log]:
    already = reading.softmax(node, context, reading.LOG_SOFTMAXES)
    if already is not None:
        return Log(already.call, Guard.LOG_SOFTMAX, None, already.call, already.logits, already)
    if context.called(node) not in reading.LOGS:
        return None
    assert isinstance(node, cst.Call)
    given = arguments(node, ("x", "name"))
    if given is None or set(given) != {"x"}:
        return None
    operand = given["x"]
    guarded = _guarded(operand, context) or _guarded(context.value(operand), context)
    if guarded is None:
        guarded = _Guarded(Guard.NONE, None, node, operand)
    probabilities = guarded.probabilities
    found = reading.softmax(context.value(probabilities), context)
    guard = guarded.guard
    if guard is Guard.NONE and found is not None and found.call is probabilities:
        guard = Guard.IN_PLACE
    return Log(
        node, guard, guarded.bound, guarded.bound_as_written, probabilities, found, guarded.upper
    )


class _Guarded(NamedTuple):
    """What is guarded, and how; as in Log."""

    guard: Guard
    bound: Optional[float]
    bound_as_written: cst.BaseExpression
    probabilities: cst.BaseExpression
    upper: Optional[float] = None


def _guarded(node: cst.BaseExpression, context: Context) -> Optional[_Guarded]:
    """Returns the guard, its bounds and what it guards; None where there is none."""
    called = context.called(node)
    if called == "tf.clip_by_value":
        assert isinstance(node, cst.Call)
        given = arguments(node, ("t", "clip_value_min", "clip_value_max", "name"))
        if given is None or not {"t", "clip_value_min", "clip_value_max"} <= set(given):
            return None
        upper = reading.number(given["clip_value_max"], context)
        if upper is not None and upper < 1 - _LARGEST_GUARD:
            return None
        found = _small(Guard.CLIPPED, given["clip_value_min"], given["t"], context)
        return None if found is None else found._replace(upper=upper)
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        sides, guard = (node.left, node.right), Guard.EPSILON
    elif called in ("tf.add", "tf.math.add", "tf.maximum", "tf.math.maximum"):
        assert isinstance(node, cst.Call)
        given = arguments(node, ("x", "y", "name"))
        if given is None or not {"x", "y"} <= set(given):
            return None
        sides = (given["x"], given["y"])
        guard = Guard.EPSILON if str(called).endswith("add") else Guard.CLIPPED
    else:
        return None
    for small, other in (sides, sides[::-1]):
        found = _small(guard, small, other, context)
        if found is not None:
            return found
    return None


def _small(
    guard: Guard,
    bound: cst.BaseExpression,
    probabilities: cst.BaseExpression,
    context: Context,
) -> Optional[_Guarded]:
    value = reading.number(bound, context)
    if value is None:
        is_small = bool(reading.words(bound) & reading.EPSILON_WORDS)
    else:
        is_small = 0 <= value <= _LARGEST_GUARD
    return _Guarded(guard, value, bound, probabilities) if is_small else None


def read_form(node: cst.CSTNode, context: Context) -> Optional[Form]:
    """Reads a reduction of labels times one log."""
    found = reading.reduction(node, context)
    if found is None:
        return None
    sign, factors = reading.product(found.operand, context)
    labels, log = apart(factors, context)
    if log is None or len(labels) != 1 or not are_labels(labels[0], log, context):
        return None
    return Form(sign, found, labels[0], log)


def apart(
    factors: List[cst.BaseExpression], context: Context
) -> Tuple[List[cst.BaseExpression], Optional[Log]]:
    """Splits factors into the one log and the others; without a log if there is not just one."""
    others, logs = [], []
    for factor in factors:
        log = read_log(factor, context) or read_log(context.value(factor), context)
        if log is None:
            others.append(factor)
        else:
            logs.append(log)
    return others, logs[0] if len(logs) == 1 else None


def are_labels(node: cst.BaseExpression, log: Log, context: Context) -> bool:
    """Whether an expression is plainly labels: by its name, or a one_hot; never what is learned."""
    held = context.value(node)
    called = context.called(held)
    if called in reading.SOFTMAXES or context.code(bare(node)) in (
        context.code(bare(log.probabilities)),
        "" if log.softmax is None else context.code(bare(log.softmax.logits)),
    ):
        return False  # an entropy, or a distillation
    if called == "tf.one_hot":
        return True
    wrapping = ("tf.cast", "tf.to_float", "tf.stop_gradient", "tf.convert_to_tensor", "tf.reshape")
    if context.called(node) in wrapping:
        assert isinstance(node, cst.Call)
        return bool(node.args) and are_labels(node.args[0].value, log, context)
    words = reading.words(node)
    return bool(words & reading.LABEL_WORDS) and not words & reading.NO_LABEL_WORDS


class Signed(NamedTuple):
    """A form with what stands around it: a sign, a mean of the sums."""

    form: Form
    negative: bool
    rebuilt: Callable[[cst.BaseExpression], cst.BaseExpression]


def read_signed(node: cst.CSTNode, context: Context) -> Optional[Signed]:
    """Reads a form, ``-`` before it and a reduction around it, in place."""
    inner: Any = None
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = node.expression
    elif isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        sides = (node.left, node.right)
        inner = next((b for a, b in (sides, sides[::-1]) if _is_minus_one(a, context)), None)
    elif context.called(node) in ("tf.negative", "tf.math.negative", "tf.neg"):
        assert isinstance(node, cst.Call)
        inner = node.args[0].value if len(node.args) == 1 else None
    if inner is not None:
        found = read_signed(inner, context)
        return None if found is None else found._replace(negative=not found.negative)
    form = context.once(read_form, node)
    if form is not None:
        return Signed(form, form.sign < 0, lambda new: new)
    around = reading.reduction(node, context)
    if around is None:
        return None
    found = read_signed(around.operand, context)
    if found is None:
        return None
    inside = found.rebuilt

    def rebuilt(new: cst.BaseExpression) -> cst.BaseExpression:
        return with_operand(around, inside(new))

    return found._replace(rebuilt=rebuilt)


def _is_minus_one(node: cst.CSTNode, context: Context) -> bool:
    return isinstance(node, cst.UnaryOperation) and reading.number(node, context) == -1


def with_operand(around: Any, new: cst.BaseExpression) -> cst.Call:
    assert isinstance(around, Reduction)
    args = [
        one.with_changes(value=new) if one.value is around.operand else one
        for one in around.call.args
    ]
    return around.call.with_changes(args=args)


def around(
    node: cst.BaseExpression, context: Context
) -> Tuple[Optional[cst.CSTNode], List[cst.BaseExpression]]:
    """Returns what a product in which a node stands belongs to, and the product's factors.

    That is a reduction, or the line that gives it a name; None for anything else, such as a sum.
    """
    top, outer = reading.product_around(node, context)
    factors = reading.product(top, context)[1]
    if reading.reduction(outer, context) is not None or isinstance(
        outer, (cst.Assign, cst.AnnAssign, cst.Return)
    ):
        return outer, factors
    return None, factors


def reason(log: Log) -> str:
    if log.guard is Guard.CLIPPED:
        if log.bound is None or log.bound == 0:
            zero = "a clip at" if log.bound is None else "a lower bound that Python reads as"
            what = "its bound: the gradient is 0 below it" if log.bound is None else "0.0: no guard"
            return f"{zero} {what}"
        ends = f"from a loss of {-math.log(log.bound):.1f} on"
        return f"clipped at {log.bound:g}: {ends} the gradient is 0"
    if log.guard is Guard.EPSILON:
        if not log.bound:
            return "an epsilon in the log: the loss saturates and its gradient fades"
        return (
            f"log(p + {log.bound:g}): the loss ends at {-math.log(log.bound):.1f}, "
            "and its gradient fades on the way"
        )
    if log.guard is Guard.LOG_SOFTMAX:
        return "a cross-entropy from log_softmax: the loss loses its digits near 0"
    if log.guard is Guard.IN_PLACE:
        return "log(softmax(x)) is -inf, and its gradient NaN, from a gap of 87 between logits on"
    return "log(p) is -inf where p rounds to 0, and 0 * -inf = NaN"
