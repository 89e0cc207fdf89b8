"""Losses of rows with their derivatives, for any kind of numbers: float64, or mpmath's.

Every formula here subtracts nothing that is nearly equal, but where the exact result does. With
mpmath's numbers at some digits more than those of float64 it is the truth that both sides are
judged by; with float64 it is what tells which formula a side computes.

For a row with logits x, labels l, class weights a, and directions v of x and m of l::

    d_j = x_j - max x      s = sum of exp(d_j) without one largest      t = log1p(s)
    p_j = exp(d_j) / (1 + s)               S = sum_j a_j l_j
    loss = sum_j a_j l_j (t - d_j)
    d loss / d x_j = S p_j - a_j l_j       d loss / d l_j = a_j (t - d_j)
    product in x: S p_j (v_j - <p, v>) + M p_j - a_j m_j,  M = sum_j a_j m_j
    product in l: a_j (<p, v> - v_j)
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

# Arrays of float64, or of objects that are mpmath's numbers.
Array = Any


class Numbers(NamedTuple):
    """Elementwise functions of arrays of one kind of numbers."""

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    log1p: Callable[[Array], Array]
    of: Callable[[np.ndarray], Array]


FLOATS = Numbers(np.exp, np.log, np.log1p, np.asarray)


class Point(NamedTuple):
    """Where a loss is computed; [R, C] each.

    Attributes:
      scores: logits or probabilities; finite, or for logits -inf.
      labels: distributions, or one-hot rows.
      class_weights: [C].
      direction: of the scores, for products; None for none.
      labels_direction: of the labels; None where no gradient reaches them.
    """

    scores: Array
    labels: Array
    class_weights: Array
    direction: Optional[Array] = None
    labels_direction: Optional[Array] = None


class Derivatives(NamedTuple):
    """Of losses; [R] or, where each entry has its own loss, [R, C]; derivatives [R, C]."""

    loss: Array
    by_scores: Array
    by_labels: Array
    product: Optional[Array]
    labels_product: Optional[Array]


def softmax(numbers: Numbers, at: Point) -> Derivatives:
    """Cross-entropy of labels and softmax(logits)."""
    weighted = at.class_weights * at.labels
    rows = np.arange(len(at.scores))
    pivots = at.scores.argmax(axis=1)
    largest = at.scores[rows, pivots][:, None]
    ruled_out = _where(at.scores == -np.inf)
    gaps = np.where(ruled_out, largest, at.scores) - largest
    powers = np.where(ruled_out, 0, numbers.exp(gaps))
    others = _others(powers, pivots)
    whole = 1 + others
    p = powers / whole
    # 1 - p: for the largest without a subtraction.
    rest = 1 - p
    rest[rows, pivots] = (others / whole)[:, 0]
    surprisal = numbers.log1p(others) - gaps
    surprisal = np.where(ruled_out & _where(weighted != 0), np.inf, surprisal)
    gradient = _centered(weighted, p, rest)
    product = labels_product = None
    if at.direction is not None:
        w = at.direction - at.direction[rows, pivots][:, None]
        mean = _sum(p * w)
        product = _sum(weighted) * p * (w - mean)
        labels_product = at.class_weights * (mean - w)
        if at.labels_direction is not None:
            product = product + _centered(at.class_weights * at.labels_direction, p, rest)
    losses = (weighted * surprisal).sum(axis=1)
    return Derivatives(losses, gradient, at.class_weights * surprisal, product, labels_product)


def _where(condition: Array) -> np.ndarray:
    """A condition as an array of bool: what mpmath's numbers are compared to is of objects."""
    return np.asarray(condition, dtype=bool)


def _sum(values: Array) -> Array:
    return values.sum(axis=1)[:, None]


def _others(powers: Array, pivots: Array) -> Array:
    """The sum of each row without the entry at the pivot."""
    without = powers.copy()
    without[np.arange(len(powers)), pivots] = 0
    return _sum(without)


def _centered(labels: Array, p: Array, rest: Array) -> Array:
    """S p - labels, as (S - l_j) p_j - l_j (1 - p_j)."""
    return (_sum(labels) - labels) * p - labels * rest


def _times(labels: Array, values: Array) -> Array:
    """The product, 0 where the label is 0, whatever the value."""
    without = _where(labels == 0)
    return np.where(without, 0, labels * np.where(without, 0, values))


def probabilities(numbers: Numbers, at: Point) -> Derivatives:
    """Cross-entropy of labels and probabilities as they are: sum_j a_j l_j (-log p_j)."""
    weighted = at.class_weights * at.labels
    surprisal, inverse = _surprisal(numbers, at.scores)
    product = labels_product = None
    if at.direction is not None:
        product = _times(weighted, inverse * inverse * at.direction)
        labels_product = -at.class_weights * inverse * at.direction
        if at.labels_direction is not None:
            product = product - at.class_weights * at.labels_direction * inverse
    return Derivatives(
        _times(weighted, surprisal).sum(axis=1),
        -_times(weighted, inverse),
        at.class_weights * surprisal,
        product,
        labels_product,
    )


def _surprisal(numbers: Numbers, p: Array) -> Tuple[Array, Array]:
    """-log p and 1 / p; inf where p is 0."""
    zero = _where(p == 0)
    inner = np.where(zero, 1, p)
    return np.where(zero, np.inf, -numbers.log(inner)), np.where(zero, np.inf, 1 / inner)


def normalised_probabilities(numbers: Numbers, at: Point) -> Derivatives:
    """The same of p / sum(p)."""
    raw = probabilities(numbers, at)
    weighted = at.class_weights * at.labels
    total, mass = _sum(at.scores), _sum(weighted)
    product, labels_product = raw.product, raw.labels_product
    if at.direction is not None:
        along = _sum(at.direction)
        product = product - mass / total**2 * along
        labels_product = labels_product + at.class_weights * along / total
        if at.labels_direction is not None:
            product = product + _sum(at.class_weights * at.labels_direction) / total
    log_total = numbers.log(total)
    return Derivatives(
        raw.loss + (mass * log_total)[:, 0],
        raw.by_scores + mass / total,
        raw.by_labels + at.class_weights * log_total,
        product,
        labels_product,
    )


def sigmoid_entries(numbers: Numbers, at: Point) -> Derivatives:
    """Binary cross-entropy of each entry and its logit; each class with its weight."""
    size = abs(at.scores)
    small = numbers.exp(-size)
    soft = numbers.log1p(small)
    positive = _where(at.scores > 0)
    # log(1 + exp(x)) and log(1 + exp(-x)); sigmoid(x) and sigmoid(-x).
    plus = soft + np.where(positive, at.scores, 0)
    minus = soft + np.where(positive, 0, -at.scores)
    high, low = 1 / (1 + small), small / (1 + small)
    on, off = np.where(positive, high, low), np.where(positive, low, high)
    product = labels_product = None
    if at.direction is not None:
        product = at.class_weights * on * off * at.direction
        labels_product = -at.class_weights * at.direction
        if at.labels_direction is not None:
            product = product - at.class_weights * at.labels_direction
    return Derivatives(
        at.class_weights * (at.labels * minus + (1 - at.labels) * plus),
        at.class_weights * ((1 - at.labels) * on - at.labels * off),
        -at.class_weights * at.scores,
        product,
        labels_product,
    )


def by_row(form: Callable[[Numbers, Point], Derivatives], mean: bool) -> Any:
    """Returns the form of the sum, or the mean, over the classes."""

    def summed(numbers: Numbers, at: Point) -> Derivatives:
        entries = form(numbers, at)
        share = at.scores.shape[1] if mean else 1
        parts = [None if part is None else part / share for part in entries]
        return Derivatives(*parts)._replace(loss=parts[0].sum(axis=1))  # type: ignore[union-attr]

    return summed


class Form(NamedTuple):
    """A loss of rows: what it is called, what it takes, and how it is computed."""

    name: str
    scores: str
    derivatives: Callable[[Numbers, Point], Derivatives]


FORMS: Dict[str, Form] = {
    form.name: form
    for form in (
        Form("softmax cross-entropy", "logits", softmax),
        Form("cross-entropy of probabilities", "probabilities", probabilities),
        Form("cross-entropy of p / sum(p)", "probabilities", normalised_probabilities),
        Form("sigmoid cross-entropy of entries", "logits", sigmoid_entries),
        Form("sigmoid cross-entropy", "logits", by_row(sigmoid_entries, False)),
        Form("mean of sigmoid cross-entropies", "logits", by_row(sigmoid_entries, True)),
    )
}
