"""Compares what was measured of both sides, against exact results where the formula is known."""

from typing import Any, List, Optional, Sequence

import numpy as np

from tf1xent.verification.batches import Batch
from tf1xent.verification.entries import compared, finite, largest_of, tolerance_of
from tf1xent.verification.findings import (
    BEFORE_WRONG,
    BOTH_WRONG,
    DIFFERENT,
    EQUAL,
    MISSING,
    Finding,
)
from tf1xent.verification.formulas import Exact
from tf1xent.verification.kinds import KINDS
from tf1xent.verification.measurement import Measurement, Result


def judge(
    before: Measurement,
    after: Measurement,
    batches: Sequence[Batch],
    exact: Exact,
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
        self._tolerance = tolerance_of(batch, before.precisions[batch.dtype])
        self._has_no_product = bool(before.why_no_product[batch.dtype])

    def findings(self, kinds: Sequence[str]) -> List[Finding]:
        """Of the value, the gradients and the products."""
        failed = self._failed("value", self._before.value is None, self._after.value is None)
        if failed is not None:
            return failed
        without = self._without("gradient")
        if without is None:
            gradients = [self._derivative("gradient", kind) for kind in kinds]
            without = self._without("product")
            if without is None:
                products = [self._derivative("product", kind) for kind in kinds]
                without = [self._excused(p, g) for p, g in zip(products, gradients)]
            without = gradients + without
        return [self._value(), *without]

    def _excused(self, product: Finding, gradient: Finding) -> Finding:
        """The finding of a product, which says nothing where both gradients are wrong alike.

        Of NaN and inf each TensorFlow makes its own in products; and where BEFORE has no products,
        AFTER's may miss the exact ones as far as the gradients do.
        """
        excused = self._has_no_product or gradient.before_error == np.inf
        if product.verdict == DIFFERENT and gradient.verdict == BOTH_WRONG and excused:
            return product._replace(verdict=BOTH_WRONG, reason="the gradients are wrong alike too")
        return product

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
        finding = self._finding("value", EQUAL, "")
        return compared(finding, self._tolerance, before, after, truth, self._terms())

    def _terms(self) -> float:
        """The size of the terms that a textbook sums up for the value."""
        gradients = (self._before if self._exact is None else self._exact).gradients
        size = 0.0
        for kind, gradient in gradients.items():
            x = finite(abs(self._batch.arrays[kind].astype(np.float64)))
            gradient = finite(abs(np.reshape(gradient, x.shape)))
            # Of logits also those whose terms cancel: log sum exp(x) - x_y.
            all_cancel = largest_of(gradient) * x.max(axis=1).sum() if kind == "logits" else 0.0
            size += max(float((x * gradient).sum()), all_cancel)
        return size

    def _derivative(self, what: str, kind: str) -> Finding:
        """A derivative that does not depend on an input is one of zeros."""
        name = what + "s"
        before, after = getattr(self._before, name), getattr(self._after, name)
        exact = None if self._exact is None else getattr(self._exact, name)
        known = [array for array in (before, after, exact or {}) if kind in array]
        shape = known[0][kind].shape if known else None
        if shape is None:
            return self._finding(f"{what} by {kind}", EQUAL, "")
        zeros = np.zeros(shape)
        truth = None if exact is None else np.reshape(exact.get(kind, zeros), shape)
        has_none = what == "product" and self._has_no_product
        first: Any = truth if has_none else before.get(kind, zeros)
        second: Any = after.get(kind, zeros)
        if np.shape(first) != second.shape:
            first = np.reshape(first, second.shape) if np.size(first) == second.size else first
        finding = compared(
            self._finding(f"{what} by {kind}", EQUAL, ""),
            self._tolerance,
            first,
            second,
            truth,
            by_row=kind == "probabilities",
        )
        if has_none:
            # What stood for BEFORE's was the exact product.
            said = (
                "" if finding.verdict == EQUAL else "BEFORE has none, the exact one stands for it"
            )
            return finding._replace(before_error=None, before_exact=None, reason=said)
        if finding.verdict == DIFFERENT and (kind in before) != (kind in after):
            reaches, stops = ("AFTER", "BEFORE") if kind in after else ("BEFORE", "AFTER")
            reason = f"the gradient of {reaches} reaches the {kind} input, {stops} stops it"
            return finding._replace(reason=reason)
        return finding
