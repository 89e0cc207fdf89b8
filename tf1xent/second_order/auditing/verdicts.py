"""Says what each op that the second derivative meets takes, why, and what to do."""

from typing import Optional, Tuple

from tf1xent import _tf
from tf1xent.second_order.auditing import facts
from tf1xent.second_order.auditing.meetings import Meeting
from tf1xent.second_order.auditing.probing import Answer
from tf1xent.second_order.auditing.report import Finding, Kind, Verdict
from tf1xent.second_order.table import REFUSED

_OVERRIDE = "Call tf1xent.override_gradients() before tf.gradients or tf.hessians."
_FUNCTIONAL = "`tf1xent rewrite --loops functional` makes a function of it."
_STOPPED_MEAN = (
    "tf.nn.moments stops the gradient from the variance to the mean. It is 0 there, but the second "
    "derivative is not: its part is left out without a word."
)
_COMPLETE_MOMENTS = (
    "The products and operators of tf1xent.curvature let it through; or compute the variance as "
    "tf.reduce_mean(tf.square(x - mean))."
)
# Verdict, reason, remedy.
_Judgement = Tuple[Verdict, str, str]


def finding(meeting: Meeting, from_file: bool) -> Finding:
    """Returns the finding about a meeting; `from_file`: the graph was read from a file."""
    verdict, reason, remedy = _judged(meeting, from_file)
    op = meeting.op
    source = _tf.line_of(op)
    if source is None and meeting.caller is not None:
        source = _tf.line_of(meeting.caller)
    return Finding(
        name=op.name,
        op_type=op.type,
        path=meeting.path,
        source=None if from_file else source,
        kind=meeting.kind,
        meets=_meets(meeting),
        verdict=verdict,
        reason=reason,
        remedy=remedy,
    )


def _meets(meeting: Meeting) -> Optional[str]:
    if meeting.trouble is not None and meeting.trouble.op_type is not None:
        return meeting.trouble.op_type
    if meeting.left_out:
        return ", ".join(meeting.left_out)
    return meeting.op.type if meeting.kind is Kind.NO_GRADIENT else None


def _judged(meeting: Meeting, from_file: bool) -> _Judgement:
    if meeting.kind is Kind.LOOP:
        return _loop(meeting, from_file)
    if meeting.kind is Kind.CALL:
        return _call(meeting, from_file)
    if meeting.kind is Kind.NOT_DIFFERENTIABLE:
        return Verdict.FINE, _constant(meeting), ""
    if meeting.op.type in facts.STOPS:
        return Verdict.NEVER, _STOPPED_MEAN, _COMPLETE_MOMENTS
    reason = _what_is_missing(meeting)
    if meeting.op.type in facts.V1_CONTROL_FLOW and not _tf.has_context(meeting.op):
        reason += " A GraphDef does not say which nodes a v1 branch has; a .meta file does."
        if _tf.control_flow_v2_refusal() is None:
            return Verdict.REWRITE, reason, _FUNCTIONAL
    answer = meeting.overridden
    if answer is not None and _is_fine(answer):
        return Verdict.OVERRIDE, reason, _OVERRIDE
    why, remedy = _why_never(meeting)
    verdict = Verdict.NEVER
    if meeting.op.type in facts.TENSOR_ARRAYS and not from_file:
        if _tf.control_flow_v2_refusal() is None:
            verdict = Verdict.CONTROL_FLOW_V2
    return verdict, f"{reason} {why}", remedy


def _is_fine(answer: Answer) -> bool:
    return answer.first is None and answer.second is None and not answer.left_out


def _what_is_missing(meeting: Meeting) -> str:
    op, meets = meeting.op, _meets(meeting)
    if meeting.kind is Kind.LEFT_OUT:
        if meets == _tf.DENSE_OP == op.type:
            return (
                "its labels depend on the variables too, and TensorFlow differentiates its "
                "gradient as if they were constant: part of the second derivative is silently 0."
            )
        if meets == op.type:
            return f"TensorFlow takes {meets} as not differentiable, which it is: its part is None."
        return (
            f"TensorFlow takes {meets}, its gradient, as not differentiable, which it is: its part "
            "of the second derivative is left out without a word."
        )
    if meeting.kind is Kind.NO_GRADIENT:
        name = _tf.gradient_attribute(op)
        if name is not None and not _tf.has_gradient(name):
            return f"it names the gradient `{name}`, which is not registered."
        if meeting.trouble is not None and meets is None:
            return f"TensorFlow's gradient raises {meeting.trouble.error}: {_message(meeting)}."
        return f"TensorFlow has no gradient for {meets or op.type}."
    if meets == _tf.GUARD_OP:
        return "TensorFlow refuses its second derivative."
    if meets is not None:
        return f"its gradient uses {meets}, for which TensorFlow has no gradient."
    assert meeting.trouble is not None
    return f"its second derivative raises {meeting.trouble.error}: {_message(meeting)}."


def _message(meeting: Meeting) -> str:
    return meeting.trouble.message.rstrip(".") if meeting.trouble is not None else ""


def _why_never(meeting: Meeting) -> Tuple[str, str]:
    """Returns why nothing is supplied, and what to do instead."""
    name = _tf.gradient_attribute(meeting.op)
    if name is not None and not _tf.has_gradient(name):
        return "tf1xent supplies none.", "Import the program that registers it first."
    answer = meeting.overridden
    op_types = [_meets(meeting), meeting.op.type]
    if answer is not None:
        trouble = answer.first or answer.second
        if trouble is not None:
            op_types.insert(0, trouble.op_type)
        op_types += answer.left_out
    for op_type in op_types:
        if op_type in REFUSED:
            why, _, remedy = REFUSED[op_type].partition(". ")
            return f"tf1xent supplies none: {why}.", remedy
    return (
        "tf1xent supplies none.",
        "Write the op out in others, or keep it out of the path by tf.stop_gradient.",
    )


def _constant(meeting: Meeting) -> str:
    op_type = meeting.op.type
    if op_type in facts.STOPS:
        return f"{op_type} ends the path on purpose."
    if op_type in facts.PIECEWISE_CONSTANT:
        return f"{op_type} is constant piece by piece: its derivative is 0 and ends the path."
    return f"TensorFlow takes {op_type} as not differentiable: the path ends there."


def _loop(meeting: Meeting, from_file: bool) -> _Judgement:
    reason = (
        "it ends a v1 while loop. TensorFlow refuses its second derivative, or, where that goes "
        "only through values saved for the way back, leaves it out without a word."
    )
    if not _tf.has_context(meeting.op):
        reason = (
            "it ends a v1 while loop. A GraphDef does not say which nodes a loop has, so "
            "TensorFlow cannot differentiate it, not even once."
        )
    refusal = _tf.control_flow_v2_refusal()
    if refusal is not None:
        return Verdict.NEVER, f"{reason} This TensorFlow {refusal}.", "Take a later TensorFlow."
    if from_file:
        return Verdict.REWRITE, reason, _FUNCTIONAL
    return (
        Verdict.CONTROL_FLOW_V2,
        reason,
        "Build the graph after tf1xent.patch(control_flow_v2=True), or export it and "
        "`tf1xent rewrite --loops functional`.",
    )


def _call(meeting: Meeting, from_file: bool) -> _Judgement:
    op = meeting.op
    if _tf.is_defun_call(op):
        reason = "it calls a tf.Defun, which TensorFlow differentiates once, by SymbolicGradient."
    elif from_file:
        reason = "it calls a function; TensorFlow has no gradient for calls in imported graphs."
    elif _tf.TRACED_FUNCTIONS_HAVE_HESSIANS:
        reason = "it calls a function whose gradient is not in this process."
    else:
        reason = "it calls a traced function, whose second derivative this TensorFlow makes 0."
    if from_file and _tf.op_types_called(op) & set(_tf.FUSED_OPS):
        return Verdict.REWRITE, reason, "`tf1xent rewrite` replaces the call by the nodes in it."
    return Verdict.NEVER, reason, "Call the Python function itself while the graph is built."
