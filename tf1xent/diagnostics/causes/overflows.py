"""Numbers above the range of their type, made of finite ones: what no other cause explains."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.causes.masked_rows import masked_row
from tf1xent.diagnostics.causes.singular_gradients import is_dropped, singular_input
from tf1xent.diagnostics.causes.singular_points import POINTS, singular_operand
from tf1xent.diagnostics.causes.zero_divisions import is_of_nothing, is_sum_of_exponentials
from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.rows import row_of
from tf1xent.diagnostics.judging.suspects import Suspect, line_of, operand, operands, suspects
from tf1xent.diagnostics.judging.trials import held_at, with_values
from tf1xent.diagnostics.replaying.recording import TensorRecord

_EXPONENTIALS = ("Exp", "Expm1", "Cosh", "Sinh")
# Above these, an exponential is inf.
_GREATEST_EXPONENT = {"float16": 11.0, "float64": 709.0}
_GREATEST_OF_FLOAT32 = 88.0
_CONSTANTS = ("Const", "Fill", "BroadcastTo", "ZerosLike", "OnesLike")
_SOFTMAX = "Subtract the maximum before exp, or use tf.nn.softmax, which does."
_EXPONENT = "Hold the exponent: tf.exp(tf.minimum(x, 80.))."
_CONSTANT = "Use a large finite number such as -1e9 in the place of -inf."


def _probe(evidence: Evidence) -> Optional[Finding]:
    for suspect in suspects(evidence):
        if not _is_explained(evidence, suspect):
            return _finding(evidence, suspect)
    return None


def _is_explained(evidence: Evidence, suspect: Suspect) -> bool:
    """Tells whether another cause explains a suspect."""
    record = suspect.record
    if suspect.is_given and record.op_type not in _CONSTANTS:
        return True
    if masked_row(evidence, suspect) is not None:
        return True
    if record.dtype == "float16" and _is_within_float32(evidence, suspect):
        return True
    if not suspect.loss_is_bad:
        if suspect.origin.in_gradient:
            return singular_input(evidence, suspect) is not None
        return is_dropped(evidence, record)
    if is_of_nothing(record, operand(evidence, suspect, 0)):
        return True
    if is_sum_of_exponentials(evidence, suspect):
        return False
    return singular_operand(evidence, suspect) is not None


def _is_within_float32(evidence: Evidence, suspect: Suspect) -> bool:
    """Tells whether the numbers are so small that float32 would have what is made of them."""
    exponential = suspect.record.op_type in _EXPONENTIALS
    most = _GREATEST_OF_FLOAT32 if exponential else 1e18
    return all(_magnitude(record) < most for record in operands(evidence, suspect))


def _finding(evidence: Evidence, suspect: Suspect) -> Finding:
    record, reads = suspect.record, operands(evidence, suspect)
    of_zeros = is_sum_of_exponentials(evidence, suspect)
    numbers: Dict[str, Any] = {
        "nans": record.nans,
        "infinities": record.infinities,
        "largest_of_inputs": max((_magnitude(r) for r in reads), default=None),
        "largest_parameter": _largest(evidence.step.variables),
        "largest_of_the_data": _largest(evidence.step.feeds),
    }
    if of_zeros:
        what = (
            f"`{record.name}` is 0/0: every exponential that `{reads[-1].name}` sums is 0, since "
            f"the exponents are far below 0 and their maximum was not subtracted."
        )
    else:
        what = _words(suspect, reads)
    remedy, trial = _cure(evidence, suspect, of_zeros)
    line, row = line_of(evidence, suspect), row_of(evidence, record)
    name = OVERFLOW.name
    return Finding(name, what, record.name, record.op_type, line, row, numbers, remedy, trial)


def _words(suspect: Suspect, reads: List[TensorRecord]) -> str:
    record = suspect.record
    value = "inf" if record.infinities else "NaN"
    where = "the loss" if suspect.loss_is_bad else "the gradient"
    of = " and ".join(f"`{r.name}` (up to {_magnitude(r):.4g})" for r in reads[:2])
    if record.op_type in _CONSTANTS:
        return f"The constant `{record.name}` is {value}, and it reaches {where}."
    return (
        f"`{record.name}` ({record.op_type}), on the way to {where}, is {value} in "
        f"{record.nans + record.infinities} of {int(np.prod(record.shape))} entries, made of "
        f"{of or 'finite numbers'}: {_limit(record)}."
    )


def _limit(record: TensorRecord) -> str:
    if record.op_type in _EXPONENTIALS:
        most = _GREATEST_EXPONENT.get(record.dtype, _GREATEST_OF_FLOAT32)
        return f"above {most:g} an exponential is inf in {record.dtype}"
    dtype = np.dtype("float32" if record.dtype == "bfloat16" else record.dtype)
    return f"the largest number of {record.dtype} is {float(np.finfo(dtype).max):.3g}"


def _magnitude(record: TensorRecord) -> float:
    return max(abs(record.smallest), abs(record.largest))


def _largest(values: Dict[str, np.ndarray]) -> Optional[float]:
    kinds = {name: np.asarray(value) for name, value in values.items()}
    found = [
        float(np.abs(value[np.isfinite(value)]).max())
        for value in kinds.values()
        if value.dtype.kind == "f" and np.isfinite(value).any()
    ]
    return max(found, default=None)


def _cure(evidence: Evidence, suspect: Suspect, of_zeros: bool) -> Tuple[str, Optional[Trial]]:
    kind = suspect.record.op_type
    if kind in _CONSTANTS:
        name = suspect.record.name
        change = f"`{name}` is 1e9 where it was inf"
        return _CONSTANT, with_values(evidence, change, {name: _without_infinities})
    exponential = _exponential_of(evidence, suspect, of_zeros)
    exponent = None if exponential is None else evidence.input_at(exponential, 0)
    if exponential is None or exponent is None:
        return _rest(evidence, suspect)
    name = exponent.name
    nodes = evidence.program.wiring.nodes.values()
    if any(n.op_type == "Sum" and exponential.name in n.inputs for n in nodes):
        change = f"the maximum is subtracted from `{name}`"
        return _SOFTMAX, with_values(evidence, change, {name: _without_maximum})
    return _EXPONENT, with_values(evidence, f"`{name}` is held at 80", {name: held_at(80)})


def _exponential_of(evidence: Evidence, suspect: Suspect, of_zeros: bool) -> Optional[TensorRecord]:
    record = suspect.record
    if of_zeros:
        total = operand(evidence, suspect, POINTS[record.op_type].operand)
        return None if total is None else evidence.input_at(total, 0)
    return record if record.op_type in _EXPONENTIALS else None


def _rest(evidence: Evidence, suspect: Suspect) -> Tuple[str, Optional[Trial]]:
    """Tries smaller inputs: so small that their products and sums are numbers of the type."""
    reads, bound = operands(evidence, suspect), 1000.0
    if suspect.record.op_type == "Pow" and len(reads) == 2:
        exponents = reads.pop()
        bound = min(bound, 10.0 ** (30.0 / max(exponents.largest, 1.0)))
    names = [record.name for record in reads]
    between = f" held between {-bound:.6g} and {bound:.6g}"
    change = " and ".join(f"`{name}`" for name in names) + between
    cure = {name: held_at(bound) for name in names}
    return OVERFLOW.remedy, with_values(evidence, change, cure)


def _without_infinities(value: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(value), np.copysign(value.dtype.type(1e9), value), value)


def _without_maximum(value: np.ndarray) -> np.ndarray:
    return np.asarray(value - value.max(axis=-1, keepdims=True))


OVERFLOW = Cause(
    "overflow",
    "A number is above the range of its type, though all that it is made of is finite.",
    "Scale the data, normalise the activations, or clip the gradients by their global norm.",
    _probe,
)
