"""Which formula a side computes, told by its values on benign batches."""

import itertools
from typing import Any, Callable, Dict, Iterator, Sequence

import numpy as np

from tf1xent._modes import LABEL_KINDS
from tf1xent.verification.batches import BENIGN, Batch
from tf1xent.verification.forms import FLOATS, FORMS, Derivatives
from tf1xent.verification.formulas import (
    DENOMINATORS,
    ROW_WEIGHTS,
    Arrays,
    Exact,
    Formula,
    point_of,
    reduced,
)
from tf1xent.verification.measurement import Measurement

# Added to probabilities in the log by hand-written losses.
EPSILONS = tuple(10.0**-n for n in range(3, 17))
# How near, in relative terms, values must be to a formula's, by the precision of the side.
_NEAR = {"float64": 1e-11, "float32": 2e-5}
_SOFTMAX, _PROBABILITIES = "softmax cross-entropy", "cross-entropy of probabilities"
_LINEAR_IN_LABELS = (_SOFTMAX, _PROBABILITIES)
# Of what cannot have the form.
_NONE = Derivatives(np.full(0, np.nan), None, None, None, None)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# What programs give for logits that is none.
MISTAKES: Dict[str, Callable[[Arrays], np.ndarray]] = {
    "softmax(logits)": lambda arrays: _softmax(arrays["logits"]),
    "logits * class weights": lambda arrays: arrays["logits"] * arrays["class-weights"],
}


def candidates(kinds: Sequence[str], is_scalar: bool) -> Iterator[Formula]:
    """Yields the formulas of some inputs: their sums and means, or the losses by row."""
    labels = [kind for kind in kinds if kind in LABEL_KINDS]
    present = [kind for kind in ROW_WEIGHTS if kind in kinds]
    weights = [c for n in range(len(present) + 1) for c in itertools.combinations(present, n)]
    denominators = [
        name
        for name in (DENOMINATORS if is_scalar else [None])
        if name is None
        or all(
            kind in kinds
            for kind, word in (("mask", "mask"), ("weights", "weights"), ("class-weights", "class"))
            if word in name and not (word == "weights" and "class" in name)
        )
    ]
    for form, name in itertools.product(FORMS.values(), labels):
        if form.scores not in kinds:
            continue
        for row_weights, denominator in itertools.product(weights, denominators):
            yield Formula(form.name, name, row_weights, False, denominator)
            if "class-weights" in present and "class-weights" not in row_weights:
                yield Formula(form.name, name, row_weights, True, denominator)


def recognise(measured: Measurement, batches: Sequence[Batch]) -> Iterator[Formula]:
    """Yields the formulas whose values a side has on all benign batches, the likeliest first.

    Args:
      measured: of the side.
      batches: what was fed.

    Yields:
      `Formula`s. Those of p and of p / sum(p) have the same values and other gradients.
    """
    dtype = next(iter(measured.precisions))
    near = _NEAR.get(measured.precisions[dtype])
    chosen = [b for b in batches if b.dtype == dtype and b.name in BENIGN and b.size]
    # A program for one batch size raises on others.
    pairs = [(b, measured.results[b.key].value) for b in chosen]
    pairs = [(b, value) for b, value in pairs if value is not None]
    if near is None or not pairs:
        return
    is_scalar = pairs[0][1].ndim == 0  # type: ignore[union-attr]
    known: Dict[Any, Derivatives] = {}

    def fits(formula: Formula) -> bool:
        return all(_has_value(formula, batch, value, near, known) for batch, value in pairs)

    plain = list(candidates(measured.kinds, is_scalar))
    tried = itertools.chain(
        plain,
        (f._replace(epsilon=e) for e in EPSILONS if near < _NEAR["float32"] for f in plain),
        (f._replace(smoothing=_smoothing(f, *pairs[0], known)) for f in plain),
        (f._replace(mistake=m) for m in MISTAKES for f in plain),
    )
    yield from filter(fits, tried)


def _smoothing(formula: Formula, batch: Batch, value: Any, known: Dict[Any, Derivatives]) -> float:
    """The label smoothing that gives a formula a value on a batch; 0 if none does."""
    if formula.form not in _LINEAR_IN_LABELS or formula.labels == "soft":
        return 0.0
    sharp, even = (
        reduced(formula, batch, _known(formula._replace(smoothing=s), batch, known).loss).sum()
        for s in (0.0, 1.0)
    )
    share = (value.sum() - sharp) / (even - sharp) if even != sharp else 0.0
    # To so many digits a program gives it.
    return round(float(share), 4) if 0.0 < share < 1.0 else 0.0


def has_gradients(
    measured: Measurement, batches: Sequence[Batch], exact: Exact, formula: Formula
) -> bool:
    """Whether a side whose values are a formula's has its gradients too, on the random batch.

    A stop_gradient that a program wants changes gradients and no value.
    """
    near = 0.2 if formula.epsilon else 1e-4
    for batch in batches:
        found = measured.results.get(batch.key)
        if batch.name != "random" or found is None:
            continue
        for kind, gradient in found.gradients.items():
            truth = exact[batch.key].gradients[kind]
            if not (abs(gradient.reshape(truth.shape) - truth) <= near * abs(truth).max()).all():
                return False
    return True


def _has_value(
    formula: Formula, batch: Batch, value: Any, near: float, known: Dict[Any, Derivatives]
) -> bool:
    """Whether a formula, in float64, has a value on a batch."""
    found = reduced(formula, batch, _known(formula, batch, known).loss)
    if found.size != value.size:
        return False
    return bool(np.all(abs(found.ravel() - value.ravel()) <= near * (abs(found.ravel()) + near)))


def _known(formula: Formula, batch: Batch, known: Dict[Any, Derivatives]) -> Derivatives:
    """The losses of rows, computed once for all weights and denominators."""
    key = (formula._replace(row_weights=(), denominator=None), batch.name)
    if key not in known:
        known[key] = _losses(formula, batch)
    return known[key]


def _losses(formula: Formula, batch: Batch) -> Derivatives:
    """The rows' losses in float64, with the formula's epsilon."""
    arrays = {k: a.astype(np.float64) for k, a in batch.arrays.items()}
    form = FORMS[formula.form]
    if formula.mistake:
        if form.name != _SOFTMAX:
            return _NONE
        arrays["logits"] = MISTAKES[formula.mistake](arrays)
    if not formula.epsilon:
        with np.errstate(all="ignore"):
            return form.derivatives(FLOATS, point_of(formula, arrays))
    if form.name not in _LINEAR_IN_LABELS:
        return _NONE
    # The form of probabilities at p + epsilon, whatever the p come from.
    p = arrays[form.scores]
    if form.scores == "logits":
        p = _softmax(p)
    at = point_of(formula, arrays)._replace(scores=p + formula.epsilon)
    return FORMS[_PROBABILITIES].derivatives(FLOATS, at)
