"""Compares what was measured of both sides, against exact results where the formula is known."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent.verification.batches import Batch
from tf1xent.verification.kinds import KINDS
from tf1xent.verification.measurement import Measurement, Result

EQUAL = "equal"
BEFORE_WRONG = "BEFORE is wrong"
BOTH_WRONG = "both are wrong alike"
# Of Hessian-vector products: those of old TensorFlows.
MISSING = "AFTER has none"
DIFFERENT = "different"
# From what is worst to report.
VERDICTS = (DIFFERENT, MISSING, BEFORE_WRONG, BOTH_WRONG, EQUAL)

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
_SMALLEST = {"float64": 2.0**-1022, "float16": 2.0**-24}
# How many times the accuracy that tf1xent keeps itself two ways to compute the same may differ by.
_FACTOR = 8.0
# Beyond, exp of a gap is 0 in every dtype.
_LARGEST_GAP = 800.0
# Beyond, a textbook formula has no digits left; differences must show on other batches.
_LARGEST_LOGIT = 1e5


class Finding(NamedTuple):
    """One quantity on one batch.

    Attributes:
      quantity: "value", "gradient by KIND" or "product by KIND".
      dtype: of the inputs.
      batch: its name.
      verdict: one of VERDICTS.
      relative: the largest difference of both sides, divided by the largest entry.
      ulp: the largest difference, in units of the last place of the entry itself.
      before_error, after_error: the largest error of each, divided by the largest entry; None
        where the exact result is not known.
      before_exact, after_exact: whether each entry, however small, is accurate; None likewise.
      example: the entry that is worst: its index, and its numbers.
      reason: what is to be said about it; may be empty.
    """

    quantity: str
    dtype: str
    batch: str
    verdict: str
    relative: float = 0.0
    ulp: float = 0.0
    before_error: Optional[float] = None
    after_error: Optional[float] = None
    before_exact: Optional[bool] = None
    after_exact: Optional[bool] = None
    example: str = ""
    reason: str = ""


class _Tolerance(NamedTuple):
    """What a batch allows: the unit roundoff, and factors for each row, [R]."""

    unit: float
    smallest: float
    exact: np.ndarray
    textbook: np.ndarray


def _tolerance(batch: Batch, precision: str) -> _Tolerance:
    """`exact` is the contract of tf1xent's own losses; `textbook` knows no small entries."""
    logits = batch.arrays["logits"].astype(np.float64)
    logits = np.where(np.isfinite(logits), logits, 0.0)
    gaps = np.minimum(np.ptp(logits, axis=1), _LARGEST_GAP)
    sizes = abs(logits).max(axis=1)
    unit = max(UNIT_ROUNDOFF[precision], UNIT_ROUNDOFF[batch.dtype])
    contract = 16.0 * (1.0 + gaps) + np.sqrt(logits.shape[1])
    return _Tolerance(
        unit,
        4.0 * _SMALLEST.get(precision if unit > UNIT_ROUNDOFF[batch.dtype] else batch.dtype, 2e-38),
        _FACTOR * unit * contract,
        _FACTOR * unit * (contract + np.minimum(sizes, _LARGEST_LOGIT)),
    )


def judge(
    before: Measurement,
    after: Measurement,
    batches: Sequence[Batch],
    exact: Dict[Tuple[str, str], Result],
) -> List[Finding]:
    """Returns a finding for each quantity on each batch.

    Args:
      before, after: of both sides, on the same batches.
      batches: what was fed.
      exact: the exact results by dtype and name of the batch; empty where none are known.

    Returns:
      `Finding`s, in the order of the batches.
    """
    kinds = {*before.kinds, *after.kinds}
    differentiated = [k for k, kind in KINDS.items() if kind.differentiated and k in kinds]
    found: List[Finding] = []
    refused = set()
    for batch in batches:
        if batch.dtype not in before.precisions:
            continue
        if batch.needs and not kinds.intersection(batch.needs):
            continue
        if kinds.intersection(batch.without):
            continue
        if batch.dtype in after.refusals:
            if batch.dtype not in refused:
                refused.add(batch.dtype)
                reason = f"AFTER does not take {batch.dtype}: {after.refusals[batch.dtype]}"
                found.append(Finding("value", batch.dtype, batch.name, DIFFERENT, reason=reason))
            continue
        found += _Comparison(before, after, batch, exact.get(batch.key)).findings(differentiated)
    return found


class _Comparison:
    """Both sides on one batch."""

    def __init__(
        self, before: Measurement, after: Measurement, batch: Batch, exact: Optional[Result]
    ) -> None:
        self._batch = batch
        self._measured = before, after
        self._before, self._after = before.results[batch.key], after.results[batch.key]
        self._exact = exact
        self._tolerance = _tolerance(batch, before.precisions[batch.dtype])

    def findings(self, kinds: Sequence[str]) -> List[Finding]:
        """Of the value, the gradients and the products."""
        failed = self._failed("value", self._before.value is None, self._after.value is None)
        if failed is not None:
            return failed
        found = [self._value()]
        for what in ("gradient", "product"):
            failed = self._without(what)
            if failed is None:
                failed = [self._derivative(what, kind) for kind in kinds]
            found += failed
        return found

    def _finding(self, quantity: str, verdict: str, reason: str) -> Finding:
        return Finding(quantity, self._batch.dtype, self._batch.name, verdict, reason=reason)

    def _failed(self, what: str, before: bool, after: bool) -> Optional[List[Finding]]:
        """A finding if a side raises; None if none does."""
        if not before and not after:
            return None
        if before and after:
            reason = f"both raise: {self._before.error}"
            return [self._finding(what, EQUAL, reason)]
        side = "BEFORE" if before else "AFTER"
        error = self._before.error if before else self._after.error
        verdict = BEFORE_WRONG if before else DIFFERENT
        return [self._finding(what, verdict, f"{side} raises {error}")]

    def _without(self, what: str) -> Optional[List[Finding]]:
        """What is to be said where a side has no derivatives of this order; None if both have."""
        dtype = self._batch.dtype
        reasons = [getattr(side, f"why_no_{what}")[dtype] for side in self._measured]
        if all(reasons):
            return []
        if reasons[1]:
            reason = f"BEFORE has one; {reasons[1]}"
            return [self._finding(what, MISSING if what == "product" else DIFFERENT, reason)]
        results = self._before, self._after
        # A run that fails fails by the product first, then by the gradient.
        stopped = [
            bool(r.error) and not (r.products if what == "product" else r.gradients)
            for r in results
        ]
        if reasons[0]:
            if self._exact is None or stopped[1]:
                return []
            return None
        return self._failed(what, *stopped)

    def _value(self) -> Finding:
        before, after = np.asarray(self._before.value), np.asarray(self._after.value)
        if before.shape != after.shape:
            shapes = f"{list(after.shape)}, BEFORE {list(before.shape)}"
            return self._finding("value", DIFFERENT, f"AFTER returns the shape {shapes}")
        truth: Any = None if self._exact is None else self._exact.value
        truth = None if truth is None else np.reshape(truth, before.shape)
        return self._compared("value", before, after, truth, self._terms())

    def _terms(self) -> float:
        """The size of the terms that a textbook sums up for the value."""
        gradients = (self._before if self._exact is None else self._exact).gradients
        size = 0.0
        for kind, gradient in gradients.items():
            x = _finite(abs(self._batch.arrays[kind].astype(np.float64)))
            gradient = _finite(abs(np.reshape(gradient, x.shape)))
            # Of logits also those whose terms cancel: log sum exp(x) - x_y.
            all_cancel = _largest(gradient) * x.max(axis=1).sum() if kind == "logits" else 0.0
            size += max(float((x * gradient).sum()), all_cancel)
        return size

    def _derivative(self, what: str, kind: str) -> Finding:
        """A derivative that does not depend on an input is one of zeros."""
        name = what + "s"
        before, after = getattr(self._before, name), getattr(self._after, name)
        exact = None if self._exact is None else getattr(self._exact, name)
        shape = next((d[kind].shape for d in (before, after) if kind in d), None)
        if shape is None:
            return self._finding(f"{what} by {kind}", EQUAL, "")
        zeros = np.zeros(shape)
        truth = None if exact is None else np.reshape(exact.get(kind, zeros), shape)
        has_none = what == "product" and self._measured[0].why_no_product[self._batch.dtype]
        first: Any = truth if has_none else before.get(kind, zeros)
        second: Any = after.get(kind, zeros)
        if np.shape(first) != second.shape:
            first = np.reshape(first, second.shape) if np.size(first) == second.size else first
        finding = self._compared(
            f"{what} by {kind}", first, second, truth, 0.0, by_row=kind == "probabilities"
        )
        if finding.verdict == DIFFERENT and (kind in before) != (kind in after):
            reaches, stops = ("AFTER", "BEFORE") if kind in after else ("BEFORE", "AFTER")
            reason = f"the gradient of {reaches} reaches the {kind} input, {stops} stops it"
            return finding._replace(reason=reason)
        return finding

    def _compared(
        self,
        quantity: str,
        before: Any,
        after: Any,
        truth: Any,
        terms: float,
        by_row: bool = False,
    ) -> Finding:
        """`by_row`: the sizes of rows have nothing to do with each other."""
        before, after = (np.asarray(a, dtype=np.float64) for a in (before, after))
        reference = before if truth is None else truth
        tolerance, rows = self._tolerance, len(self._batch.arrays["logits"])
        sizes = _finite(abs(reference))
        scale: Any = max(_largest_of(sizes), terms)
        if by_row and sizes.size:
            scale = _by_row(sizes.reshape(rows, -1).max(axis=1, initial=0.0), sizes.shape, rows)
        textbook = _by_row(tolerance.textbook, reference.shape, rows)
        near = textbook * (sizes + scale) + tolerance.smallest
        alike = _close(after, before, near)
        size = np.maximum(scale, tolerance.smallest)
        difference = _difference(after, before)
        finding = Finding(
            quantity,
            self._batch.dtype,
            self._batch.name,
            EQUAL,
            _largest_ratio(difference, size),
            _largest_ratio(difference, _ulp(np.fmax(abs(before), abs(after)), tolerance)),
        )
        if truth is None:
            verdicts = _verdicts_without_truth(before, after, alike)
        else:
            before_right, after_right = (_close(s, truth, near) for s in (before, after))
            verdicts = _verdicts(before, before_right, after, after_right, truth, alike)
            exact = _by_row(tolerance.exact, truth.shape, rows) * _finite(abs(truth))
            finding = finding._replace(
                before_error=_largest_ratio(_difference(before, truth), size),
                after_error=_largest_ratio(_difference(after, truth), size),
                before_exact=bool(_close(before, truth, exact + tolerance.smallest).all()),
                after_exact=bool(_close(after, truth, exact + tolerance.smallest).all()),
            )
        worst = next((v for v in VERDICTS if (verdicts == VERDICTS.index(v)).any()), EQUAL)
        if worst == EQUAL:
            return finding
        chosen = verdicts == VERDICTS.index(worst)
        errors = np.where(
            chosen, _difference(after if worst == DIFFERENT else before, reference), -1
        )
        if truth is None:
            errors = np.where(chosen, difference, -1)
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


def _by_row(factors: np.ndarray, shape: Tuple[int, ...], rows: int) -> Any:
    """Factors of rows for an array of a shape: each its own where the array has rows."""
    sizes, count = list(shape), 1
    for number, size in enumerate(shape):
        count *= size
        if count == rows and rows:
            return factors.reshape(shape[: number + 1] + (1,) * (len(sizes) - number - 1))
    return factors.max() if rows else 0.0


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.0)


def _largest(values: Any) -> float:
    return _largest_of(_finite(abs(np.asarray(values, dtype=np.float64))))


def _largest_of(values: np.ndarray) -> float:
    """The largest entry; 0 of none."""
    return float(np.max(values, initial=0.0))


def _largest_ratio(values: np.ndarray, sizes: Any) -> float:
    with np.errstate(over="ignore"):
        return _largest_of(values / sizes)


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|one - other|; 0 where both are the same inf or NaN, inf where only one is finite."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    finite = np.isfinite(one) & np.isfinite(other)
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.where(finite, abs(one - other), np.inf))


def _close(one: np.ndarray, other: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return _difference(one, other) <= allowed


def _ulp(size: np.ndarray, tolerance: _Tolerance) -> np.ndarray:
    """The unit of the last place of numbers of a size."""
    _, exponent = np.frexp(_finite(size))
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
