"""Where functions, or their derivatives, are infinite or do not exist: one row an op type."""

from typing import Callable, Dict, NamedTuple, Optional

import numpy as np

from tf1xent.diagnostics.finding import Trial
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.judging.suspects import Suspect, operand
from tf1xent.diagnostics.judging.trials import with_values
from tf1xent.diagnostics.replaying.recording import TensorRecord

Test = Callable[[np.ndarray], np.ndarray]


class Point(NamedTuple):
    """The singular points of a function.

    Attributes:
      operand: which input has them.
      is_singular: which values are; takes an array.
      safe: a value that is not.
      words: the function, as in "the logarithm of".
      remedy: how a program keeps away from them.
      is_two_sided: whether there are such points on both sides of 0.
    """

    operand: int
    is_singular: Test
    safe: float
    words: str
    remedy: str
    is_two_sided: bool = False


_LEAST = float(np.finfo(np.float32).tiny)


def _at_most(bound: float) -> Test:
    return lambda x: x <= bound


def _outside(bound: float) -> Test:
    return lambda x: np.abs(x) >= bound


# TensorFlow's kernels take numbers below the least normal one as 0.
def _is_zero(x: np.ndarray) -> np.ndarray:
    return np.abs(x) < _least_normal(x)


def _is_not_positive(x: np.ndarray) -> np.ndarray:
    return x < _least_normal(x)


def _least_normal(x: np.ndarray) -> float:
    return 6e-8 if np.asarray(x).dtype == np.float16 else _LEAST


_LOG = "Compute the loss from the logits: tf.nn.softmax_cross_entropy_with_logits_v2."
_ROOT = "Keep the root's input above 0: tf.sqrt(tf.maximum(x, 1e-12))."
_DIVISION = (
    "Divide by a number that is never 0: tf.math.divide_no_nan(x, y), or x / tf.maximum(y, 1), in "
    "the branch that is dropped too."
)
_POWER = "Keep the base above 0: tf.pow(tf.maximum(x, 1e-6), y)."
_ARC = "Keep the input inside: tf.clip_by_value(x, -1 + 1e-6, 1 - 1e-6)."
_ANGLE = "Keep one of the two away from 0: tf.atan2(y, tf.where(x == 0, 1e-6 + x, x))."
_ROUND_ONE = 1 - 1e-3

POINTS: Dict[str, Point] = {
    "Log": Point(0, _is_not_positive, 1e-6, "the logarithm of", _LOG),
    "Log1p": Point(0, _at_most(-1.0), -1 + 1e-6, "log(1 + x) of", _LOG),
    "Xlogy": Point(1, _is_not_positive, 1e-6, "the logarithm of", _LOG),
    "Xlog1py": Point(1, _at_most(-1.0), -1 + 1e-6, "log(1 + x) of", _LOG),
    "Sqrt": Point(0, _is_not_positive, 1e-6, "the square root of", _ROOT),
    "Rsqrt": Point(0, _is_not_positive, 1e-6, "1 / sqrt(x) of", _ROOT),
    "Pow": Point(0, _is_not_positive, 1e-6, "a power of", _POWER),
    "RealDiv": Point(1, _is_zero, 1.0, "a division by", _DIVISION),
    "Div": Point(1, _is_zero, 1.0, "a division by", _DIVISION),
    "Xdivy": Point(1, _is_zero, 1.0, "a division by", _DIVISION),
    "FloorMod": Point(1, _is_zero, 1.0, "a remainder of a division by", _DIVISION),
    "Mod": Point(1, _is_zero, 1.0, "a remainder of a division by", _DIVISION),
    "Reciprocal": Point(0, _is_zero, 1.0, "1 / x of", _DIVISION),
    "Inv": Point(0, _is_zero, 1.0, "1 / x of", _DIVISION),
    "Acos": Point(0, _outside(1.0), _ROUND_ONE, "the arc cosine of", _ARC, True),
    "Asin": Point(0, _outside(1.0), _ROUND_ONE, "the arc sine of", _ARC, True),
    "Atanh": Point(0, _outside(1.0), _ROUND_ONE, "the area tangent of", _ARC, True),
    "Erfinv": Point(0, _outside(1.0), _ROUND_ONE, "the inverse error function of", _ARC, True),
    "Acosh": Point(0, _at_most(1.0), 1 + 1e-3, "the area cosine of", _ARC),
    "Atan2": Point(1, _is_zero, 1e-6, "the angle to", _ANGLE),
    "Lgamma": Point(0, _at_most(0.0), 1e-6, "log(gamma(x)) of", _POWER),
    "Digamma": Point(0, _at_most(0.0), 1e-6, "the digamma function of", _POWER),
}


def holds_singular(point: Point, record: Optional[TensorRecord]) -> bool:
    """Tells whether a recorded tensor holds a singular value."""
    if record is None:
        return False
    dtype = np.float16 if record.dtype == "float16" else np.float32
    values = [record.smallest, record.largest] + ([0.0] if record.zeros else [])
    with np.errstate(over="ignore"):
        return bool(point.is_singular(np.array(values).astype(dtype)).any())


def singular_operand(evidence: Evidence, suspect: Suspect) -> Optional[TensorRecord]:
    """Returns the record of the suspect's input that holds a singular value, or None."""
    point = POINTS.get(suspect.record.op_type)
    if point is None:
        return None
    read = operand(evidence, suspect, point.operand)
    if suspect.record.op_type == "Pow" and not suspect.record.nans:
        exponents = operand(evidence, suspect, 1)
        if exponents is not None and exponents.smallest > 0:
            return None  # such a power of 0 is 0: inf is of large numbers
    return read if holds_singular(point, read) else None


def kept_away(evidence: Evidence, op_type: str, read: Optional[TensorRecord]) -> Optional[Trial]:
    """Tries the step with the input of an op held away from the singular points of its type."""
    point = POINTS.get(op_type)
    if point is None or read is None:
        return None

    def move(value: np.ndarray) -> np.ndarray:
        safe = np.asarray(point.safe, value.dtype)
        side = np.sign(value) if point.is_two_sided else 1
        return np.where(point.is_singular(value), safe * side, value)

    change = f"`{read.name}` is {point.safe:g} where it was singular"
    return with_values(evidence, change, {read.name: move})
