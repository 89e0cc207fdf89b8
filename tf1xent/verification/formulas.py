"""Which formula a side computes, told by its values, and the exact results of that formula."""

import functools
import itertools
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent.verification.batches import BENIGN, VECTOR, Batch
from tf1xent.verification.forms import FLOATS, FORMS, Derivatives, Numbers, Point
from tf1xent.verification.kinds import LABEL_KINDS
from tf1xent.verification.measurement import Measurement, Result

# Digits of the exact results, beyond every cancellation that is left in the forms.
DIGITS = 60
# Added to probabilities in the log by hand-written losses.
EPSILONS = tuple(10.0**-n for n in range(3, 17))
# How near, in relative terms, values must be to a formula's, by the precision of the side.
_NEAR = {"float64": 1e-11, "float32": 2e-5}

Arrays = Dict[str, np.ndarray]
# Exact results by dtype and name of the batch.
Exact = Dict[Tuple[str, str], Result]


def _nonzero(values: np.ndarray) -> Any:
    return np.count_nonzero(values)


# What a sum of weighted losses is divided by: of the batch's arrays, and of B.
DENOMINATORS: Dict[str, Callable[[Arrays, int], Any]] = {
    "sum": lambda arrays, size: 1,
    "mean over the rows": lambda arrays, size: len(arrays["logits"]),
    "mean over all entries": lambda arrays, size: arrays["logits"].size,
    "sum by the batch size": lambda arrays, size: size,
    "mean by the mask": lambda arrays, size: arrays["mask"].sum(),
    "mean by the weights": lambda arrays, size: arrays["weights"].sum(),
    "mean by the number of weights that are not 0": lambda arrays, size: _nonzero(
        arrays["weights"]
    ),
    "mean by the masked weights": lambda arrays, size: (arrays["mask"] * arrays["weights"]).sum(),
    "mean by the number of masked weights that are not 0": lambda arrays, size: _nonzero(
        arrays["mask"] * arrays["weights"]
    ),
    "mean by the labels' class weights": lambda arrays, size: _of_labels(arrays).sum(),
    "mean by the masked labels' class weights": lambda arrays, size: (
        arrays["mask"] * _of_labels(arrays)
    ).sum(),
}


def _of_labels(arrays: Arrays) -> np.ndarray:
    """The class weight of each row's label."""
    return arrays["class-weights"][arrays["sparse"]]


# What the loss of a row is multiplied by, by the kind of input that it needs.
_ROW_WEIGHTS: Dict[str, Callable[[Arrays], np.ndarray]] = {
    "mask": lambda arrays: arrays["mask"],
    "weights": lambda arrays: arrays["weights"],
    "class-weights": _of_labels,
}


class Formula(NamedTuple):
    """A known formula.

    Attributes:
      form: a name of FORMS.
      labels: the kind of the labels.
      row_weights: names of _ROW_WEIGHTS, multiplied onto the rows.
      weighs_classes: whether class weights are inside the sum over the classes.
      denominator: a name of DENOMINATORS; None where the rows' losses are not summed.
      epsilon: what the side adds to probabilities in the log; the exact results are without.
    """

    form: str
    labels: str
    row_weights: Tuple[str, ...] = ()
    weighs_classes: bool = False
    denominator: Optional[str] = None
    epsilon: float = 0.0

    def __str__(self) -> str:
        weights = [*self.row_weights, *(["class-weights"] if self.weighs_classes else [])]
        by = f" times {', '.join(weights)}" if weights else ""
        return f"{self.denominator or 'each'}, {self.form} with {self.labels} labels{by}"


def candidates(kinds: Sequence[str], is_scalar: bool) -> Iterator[Formula]:
    """Yields the formulas of some inputs: their sums and means, or the losses by row."""
    labels = [kind for kind in kinds if kind in LABEL_KINDS]
    present = [kind for kind in _ROW_WEIGHTS if kind in kinds]
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


def recognise(measured: Measurement, batches: Sequence[Batch]) -> Optional[Formula]:
    """Returns the formula whose values a side has on all benign batches, or None.

    Args:
      measured: of the side.
      batches: what was fed.

    Returns:
      A `Formula`; with an epsilon only if the values are not those of a formula without.
    """
    dtype = next(iter(measured.precisions))
    near = _NEAR.get(measured.precisions[dtype])
    chosen = [b for b in batches if b.dtype == dtype and b.name in BENIGN and b.size]
    # A program for one batch size raises on others.
    pairs = [(b, measured.results[b.key].value) for b in chosen]
    pairs = [(b, value) for b, value in pairs if value is not None]
    if near is None or not pairs:
        return None
    is_scalar = pairs[0][1].ndim == 0  # type: ignore[union-attr]
    epsilons = EPSILONS if measured.precisions[dtype] == "float64" else ()
    known: Dict[Any, Derivatives] = {}
    for epsilon in (0.0, *epsilons):
        for formula in candidates(measured.kinds, is_scalar):
            tried = formula._replace(epsilon=epsilon)
            if all(_has_value(tried, batch, value, near, known) for batch, value in pairs):
                return tried
    return None


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
    key = (formula.form, formula.labels, formula.weighs_classes, formula.epsilon, batch.name)
    if key not in known:
        known[key] = _losses(formula, batch)
    found = _reduced(formula, batch, known[key].loss)
    if found.size != value.size:
        return False
    return bool(np.all(abs(found.ravel() - value.ravel()) <= near * (abs(found.ravel()) + near)))


def _losses(formula: Formula, batch: Batch) -> Derivatives:
    """The rows' losses in float64, with the formula's epsilon."""
    arrays = {k: a.astype(np.float64) for k, a in batch.arrays.items()}
    form = FORMS[formula.form]
    if not formula.epsilon:
        with np.errstate(all="ignore"):
            return form.derivatives(FLOATS, _point(formula, arrays))
    if form.name not in ("softmax cross-entropy", "cross-entropy of probabilities"):
        return Derivatives(np.full(0, np.nan), None, None, None, None)
    # The form of probabilities at p + epsilon, whatever the p come from.
    p = arrays[form.scores]
    if form.scores == "logits":
        p = np.exp(p - p.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
    at = _point(formula, arrays)._replace(scores=p + formula.epsilon)
    return FORMS["cross-entropy of probabilities"].derivatives(FLOATS, at)


def _point(formula: Formula, arrays: Arrays, of: Callable[[np.ndarray], Any] = np.asarray) -> Point:
    """The arrays that the form of a formula takes, without directions."""
    labels = "one-hot" if formula.labels == "sparse" else formula.labels
    weights = arrays["class-weights"] if formula.weighs_classes else np.ones(1)
    return Point(of(arrays[FORMS[formula.form].scores]), of(arrays[labels]), of(weights))


def _coefficients(formula: Formula, batch: Batch, of: Callable[[np.ndarray], Any]) -> Any:
    """What each row's loss is multiplied by, [R]; 0 where the denominator is 0."""
    arrays = {k: of(batch.arrays[k]) for k in ("mask", "weights", "class-weights")}
    arrays["logits"], arrays["sparse"] = batch.arrays["logits"], batch.arrays["sparse"]
    result = of(np.ones(len(arrays["logits"])))
    for name in formula.row_weights:
        result = result * _ROW_WEIGHTS[name](arrays)
    if formula.denominator is None:
        return result
    denominator = DENOMINATORS[formula.denominator](arrays, batch.size)
    return result / denominator if denominator != 0 else result * 0


def _reduced(formula: Formula, batch: Batch, losses: Any) -> np.ndarray:
    """The value of a formula from the losses of rows, or of entries."""
    if len(losses) != len(batch.arrays["logits"]):
        return np.full(0, np.nan)
    coefficients = _coefficients(formula, batch, lambda a: a.astype(np.float64))
    weighted = losses * (coefficients[:, None] if losses.ndim == 2 else coefficients)
    return np.asarray(weighted if formula.denominator is None else weighted.sum())


def exact(formula: Formula, batch: Batch, connected: Sequence[str]) -> Result:
    """Returns the exact results of a formula on a batch, rounded once, to float64.

    Args:
      formula: its epsilon is left out.
      batch: NaN and inf in a row that counts make the row's results NaN.
      connected: the kinds of inputs that gradients reach; others' are left out.

    Returns:
      A `Result`.
    """
    import mpmath

    with mpmath.workdps(DIGITS):
        return _exact(formula, batch, connected, _mpmath_numbers())


@functools.lru_cache(maxsize=None)
def _mpmath_numbers() -> Numbers:
    """Elementwise functions of arrays of mpmath's numbers."""
    import mpmath

    def elementwise(function: Any) -> Callable[[Any], Any]:
        inner = np.frompyfunc(function, 1, 1)
        return lambda values: np.asarray(inner(values), dtype=object)

    of = elementwise(lambda value: mpmath.mpf(float(value)))
    exp, log, log1p = map(elementwise, (mpmath.exp, mpmath.log, mpmath.log1p))
    return Numbers(exp, log, log1p, of)


def _exact(formula: Formula, batch: Batch, connected: Sequence[str], numbers: Numbers) -> Result:
    scores, labels = FORMS[formula.form].scores, formula.labels
    coefficients = _coefficients(formula, batch, numbers.of)
    raw = batch.arrays["logits"]
    counts = np.asarray(coefficients != 0, dtype=bool)
    sound = ~(np.isnan(raw) | np.isposinf(raw)).any(axis=1)
    rows = np.flatnonzero(counts & sound)
    chosen = {k: a[rows] if len(a) == len(raw) and a.ndim else a for k, a in batch.arrays.items()}
    chosen["class-weights"] = batch.arrays["class-weights"]
    at = _point(formula, chosen, numbers.of)._replace(
        direction=numbers.of(chosen[VECTOR + scores]),
        labels_direction=numbers.of(chosen[VECTOR + labels]) if labels in connected else None,
    )
    found = FORMS[formula.form].derivatives(numbers, at)
    factors = coefficients[rows]
    unsound = np.flatnonzero(counts & ~sound)

    def spread(values: Any) -> np.ndarray:
        """Of all rows: 0 for those that do not count, NaN for those that are not finite."""
        inner = values * (factors[:, None] if values.ndim == 2 else factors)
        result = np.zeros((len(raw), *values.shape[1:]))
        result[rows] = rounded(inner)
        result[unsound] = np.nan
        return result

    if formula.denominator is None:
        value = spread(found.loss)
    else:
        weighted = found.loss * (factors[:, None] if found.loss.ndim == 2 else factors)
        value = rounded(np.asarray(weighted.sum() if weighted.size else 0.0, dtype=object))
        value = np.asarray(np.nan) if len(unsound) else value
    by_scores = {scores: spread(found.by_scores), labels: spread(found.by_labels)}
    products = {scores: spread(found.product), labels: spread(found.labels_product)}
    return Result(value, _kept(by_scores, connected), _kept(products, connected), None)


def _kept(arrays: Arrays, kinds: Sequence[str]) -> Arrays:
    return {kind: array for kind, array in arrays.items() if kind in kinds}


def rounded(values: Any) -> np.ndarray:
    """Rounds an array of mpmath's numbers to float64."""
    result = np.empty(values.shape)
    for index, value in np.ndenumerate(values):
        result[index] = float(value)
    return result


def is_installed() -> bool:
    """Whether mpmath is there."""
    try:
        import mpmath  # noqa: F401
    except ImportError:
        return False
    return True


__all__: List[str] = ["DENOMINATORS", "Formula", "exact", "recognise"]
