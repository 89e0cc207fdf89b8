"""Known formulas of losses, and their exact results."""

import functools
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent.verification.batches import VECTOR, Batch
from tf1xent.verification.forms import FORMS, Numbers, Point
from tf1xent.verification.measurement import Result

# Digits of the exact results, beyond every cancellation that is left in the forms.
DIGITS = 60
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
ROW_WEIGHTS: Dict[str, Callable[[Arrays], np.ndarray]] = {
    "mask": lambda arrays: arrays["mask"],
    "weights": lambda arrays: arrays["weights"],
    "class-weights": _of_labels,
}


class Formula(NamedTuple):
    """A known formula.

    Attributes:
      form: a name of FORMS.
      labels: the kind of the labels.
      row_weights: names of ROW_WEIGHTS, multiplied onto the rows.
      weighs_classes: whether class weights are inside the sum over the classes.
      denominator: a name of DENOMINATORS; None where the rows' losses are not summed.
      smoothing: the share of the labels that is spread over all classes.
      epsilon: what the side adds to probabilities in the log; the exact results are without.
      mistake: what the side takes for logits; the exact results of that are not known here.
    """

    form: str
    labels: str
    row_weights: Tuple[str, ...] = ()
    weighs_classes: bool = False
    denominator: Optional[str] = None
    smoothing: float = 0.0
    epsilon: float = 0.0
    mistake: str = ""

    def __str__(self) -> str:
        weights = [*self.row_weights, *(["class-weights"] if self.weighs_classes else [])]
        by = f" times {', '.join(weights)}" if weights else ""
        form = f"{self.form} of {self.mistake}" if self.mistake else self.form
        smoothed = f" smoothed by {self.smoothing:g}" if self.smoothing else ""
        return f"{self.denominator or 'each'}, {form} with {self.labels} labels{smoothed}{by}"


def point_of(
    formula: Formula, arrays: Arrays, of: Callable[[np.ndarray], Any] = np.asarray
) -> Point:
    """The arrays that the form of a formula takes, without directions."""
    labels = arrays["one-hot" if formula.labels == "sparse" else formula.labels]
    if formula.smoothing:
        smoothing = of(np.asarray(formula.smoothing))
        labels = of(labels) * (1 - smoothing) + smoothing / labels.shape[1]
    weights = arrays["class-weights"] if formula.weighs_classes else np.ones(1)
    return Point(of(arrays[FORMS[formula.form].scores]), of(labels), of(weights))


def _coefficients(formula: Formula, batch: Batch, of: Callable[[np.ndarray], Any]) -> Any:
    """What each row's loss is multiplied by, [R]; 0 where the denominator is 0."""
    arrays = {k: of(batch.arrays[k]) for k in ("mask", "weights", "class-weights")}
    arrays["logits"], arrays["sparse"] = batch.arrays["logits"], batch.arrays["sparse"]
    result = of(np.ones(len(arrays["logits"])))
    for name in formula.row_weights:
        result = result * ROW_WEIGHTS[name](arrays)
    if formula.denominator is None:
        return result
    denominator = DENOMINATORS[formula.denominator](arrays, batch.size)
    return result / denominator if denominator != 0 else result * 0


def reduced(formula: Formula, batch: Batch, losses: Any) -> np.ndarray:
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
    at = point_of(formula, chosen, numbers.of)._replace(
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
