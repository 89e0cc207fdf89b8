"""Compares arrays entry by entry, within what rounding explains."""

from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent.verification.batches import Batch
from tf1xent.verification.findings import (
    BEFORE_WRONG,
    BOTH_WRONG,
    DIFFERENT,
    EQUAL,
    VERDICTS,
    Finding,
)

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
_SMALLEST = {"float64": 2.0**-1022, "float16": 2.0**-24}
# How many times the accuracy that tf1xent keeps itself two ways to compute the same may differ by.
_FACTOR = 8.0
# Beyond, exp of a gap is 0 in every dtype.
_LARGEST_GAP = 800.0
# Beyond, a textbook formula has no digits left; differences must show on other batches.
_LARGEST_LOGIT = 1e5


class Tolerance(NamedTuple):
    """What a batch allows: the unit roundoff, and factors for each row, [R]."""

    unit: float
    smallest: float
    exact: np.ndarray
    textbook: np.ndarray


def tolerance_of(batch: Batch, precision: str) -> Tolerance:
    """`exact` is the contract of tf1xent's own losses; `textbook` knows no small entries."""
    logits = batch.arrays["logits"].astype(np.float64)
    logits = np.where(np.isfinite(logits), logits, 0.0)
    gaps = np.minimum(np.ptp(logits, axis=1), _LARGEST_GAP)
    sizes = abs(logits).max(axis=1)
    unit = max(UNIT_ROUNDOFF[precision], UNIT_ROUNDOFF[batch.dtype])
    contract = 16.0 * (1.0 + gaps) + np.sqrt(logits.shape[1])
    return Tolerance(
        unit,
        4.0 * _SMALLEST.get(precision if unit > UNIT_ROUNDOFF[batch.dtype] else batch.dtype, 2e-38),
        _FACTOR * unit * contract,
        _FACTOR * unit * (contract + np.minimum(sizes, _LARGEST_LOGIT)),
    )


def compared(
    finding: Finding,
    tolerance: Tolerance,
    before: Any,
    after: Any,
    truth: Any,
    terms: float = 0.0,
    by_row: bool = False,
) -> Finding:
    """Fills in what arrays of a quantity tell.

    Args:
      finding: names the quantity and the batch.
      tolerance: of the batch.
      before, after, truth: arrays of one shape; the truth may be None.
      terms: the size of terms that a textbook's sum cancels.
      by_row: whether the sizes of rows have nothing to do with each other.

    Returns:
      The finding with its verdict, numbers, and the worst entry.
    """
    before, after = (np.asarray(a, dtype=np.float64) for a in (before, after))
    sizes = finite(abs(before if truth is None else truth))
    rows = len(tolerance.textbook)
    scale: Any = max(largest_of(sizes), terms)
    if by_row and sizes.size:
        scale = _by_row(sizes.reshape(rows, -1).max(axis=1, initial=0.0), sizes.shape)
    near = _by_row(tolerance.textbook, sizes.shape) * (sizes + scale) + tolerance.smallest
    alike = _close(after, before, near)
    size = np.maximum(scale, tolerance.smallest)
    difference = _difference(after, before)
    finding = finding._replace(
        relative=_largest_ratio(difference, size),
        ulp=_largest_ratio(difference, _ulp(np.fmax(abs(before), abs(after)), tolerance)),
    )
    if truth is None:
        verdicts = _verdicts_without_truth(before, after, alike)
        return _with_worst(finding, verdicts, before, after, None)
    right = [_close(side, truth, near) for side in (before, after)]
    near_exact = _by_row(tolerance.exact, sizes.shape) * sizes + tolerance.smallest
    finding = finding._replace(
        before_error=_largest_ratio(_difference(before, truth), size),
        after_error=_largest_ratio(_difference(after, truth), size),
        before_exact=bool(_close(before, truth, near_exact).all()),
        after_exact=bool(_close(after, truth, near_exact).all()),
    )
    verdicts = _verdicts(before, right[0], after, right[1], truth, alike)
    return _with_worst(finding, verdicts, before, after, truth)


def _with_worst(
    finding: Finding, verdicts: np.ndarray, before: np.ndarray, after: np.ndarray, truth: Any
) -> Finding:
    """Fills in the worst verdict, and its worst entry."""
    worst = next((v for v in VERDICTS if (verdicts == VERDICTS.index(v)).any()), EQUAL)
    if worst == EQUAL:
        return finding
    wrong = after if worst == DIFFERENT else before
    other = truth if truth is not None else before if worst == DIFFERENT else after
    errors = np.where(verdicts == VERDICTS.index(worst), _difference(wrong, other), -1.0)
    index = np.unravel_index(int(np.argmax(errors)), errors.shape)
    entry = [None if a is None else float(a[index]) for a in (before, after, truth)]
    return finding._replace(
        verdict=worst, example=_example(index, *entry), reason=_reason(worst, *entry)
    )


def _verdicts(
    before: np.ndarray,
    before_right: np.ndarray,
    after: np.ndarray,
    after_right: np.ndarray,
    truth: np.ndarray,
    alike: np.ndarray,
) -> np.ndarray:
    """The verdict of each entry, as its number in VERDICTS."""
    # Where the truth is not finite, and neither is BEFORE, a finite number may be what was wanted.
    guarded = ~np.isfinite(truth) & ~np.isfinite(before) & np.isfinite(after)
    return np.select(
        [before_right & after_right, after_right | guarded, before_right & alike, alike],
        [VERDICTS.index(v) for v in (EQUAL, BEFORE_WRONG, EQUAL, BOTH_WRONG)],
        VERDICTS.index(DIFFERENT),
    )


def _verdicts_without_truth(before: np.ndarray, after: np.ndarray, alike: np.ndarray) -> np.ndarray:
    breaks = ~np.isfinite(before) & np.isfinite(after)
    return np.select(
        [alike, breaks],
        [VERDICTS.index(EQUAL), VERDICTS.index(BEFORE_WRONG)],
        VERDICTS.index(DIFFERENT),
    )


def _by_row(factors: np.ndarray, shape: Tuple[int, ...]) -> Any:
    """Factors of rows for an array of a shape: each its own where the array has rows."""
    rows, count = len(factors), 1
    for number, size in enumerate(shape):
        count *= size
        if count == rows and rows:
            return factors.reshape(shape[: number + 1] + (1,) * (len(shape) - number - 1))
    return factors.max() if rows else 0.0


def finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.0)


def largest_of(values: np.ndarray) -> float:
    """The largest entry; 0 of none."""
    return float(np.max(values, initial=0.0))


def _largest_ratio(values: np.ndarray, sizes: Any) -> float:
    with np.errstate(over="ignore"):
        return largest_of(values / sizes)


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|one - other|; 0 where both are the same inf or NaN, inf where only one is finite."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    finite = np.isfinite(one) & np.isfinite(other)
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.where(finite, abs(one - other), np.inf))


def _close(one: np.ndarray, other: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return _difference(one, other) <= allowed


def _ulp(size: np.ndarray, tolerance: Tolerance) -> np.ndarray:
    """The unit of the last place of numbers of a size."""
    _, exponent = np.frexp(finite(size))
    least = tolerance.smallest * tolerance.unit
    return np.maximum(np.ldexp(tolerance.unit, exponent), least)


def _example(
    index: Tuple[Any, ...], before: Optional[float], after: Optional[float], truth: Optional[float]
) -> str:
    place = f" [{', '.join(map(str, index))}]" if index else ""
    exact = "" if truth is None else f", exact {truth:.8g}"
    return f"{place}: BEFORE {before:.8g}, AFTER {after:.8g}{exact}"


def _reason(
    verdict: str, before: Optional[float], after: Optional[float], truth: Optional[float]
) -> str:
    """What a wrong entry looks like, in a few words."""
    side, wrong = ("AFTER", after) if verdict == DIFFERENT else ("BEFORE", before)
    assert wrong is not None and before is not None and after is not None
    if not np.isfinite(wrong):
        return f"{side} is not finite"
    right = before if truth is None else truth
    if truth is None and before == 0.0 and after != 0.0:
        return "BEFORE is exactly 0: is it saturated?"
    if wrong == 0.0 and right != 0.0:
        return f"{side} is exactly 0: saturated"
    if np.isfinite(right) and right != 0.0 and abs(wrong / right + 1.0) < 1e-3:
        return f"{side} has the other sign"
    return ""
