"""A loss and a gradient that float32 rounds to 0 although the true ones are not."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.finding import Cause, Finding, Trial
from tf1xent.diagnostics.judging.cross_entropies import Site, exact_rows, rows_at, sites, true_rows
from tf1xent.diagnostics.judging.evidence import Evidence
from tf1xent.diagnostics.replaying.copies import gradient_names, norm, total

# Of the true gradient of the parameters, the share that has to be missing.
_MISSING = 0.5
# A loss of so little is made of a few units in the last place of 1 - p.
_LAST_DIGITS = 1e-5
_OFF = 0.05
# Below this, float32 rounds 1 - p to 0.
_ROUNDED_AWAY = 2.0**-24


class _Lost(NamedTuple):
    """What rounding has taken from a cross-entropy.

    Attributes:
      site: the `Site`.
      rows: the rows whose loss is 0 although the true one is a normal number of the dtype.
      num_rows: of all.
      true_loss: the largest true loss of these rows.
      gap: of that row, the largest logit less the second.
      trial: the step with exact rows.
      dtype: of the logits.
    """

    site: Site
    rows: np.ndarray
    num_rows: int
    true_loss: float
    gap: float
    trial: Trial
    dtype: str


def _probe(evidence: Evidence) -> Optional[Finding]:
    lost = _what_is_lost(evidence)
    if lost is None:
        return None
    row = int(lost.rows[0])
    what = (
        f"The loss is rounded away in {len(lost.rows)} of {lost.num_rows} rows of "
        f"`{lost.site.op.name}`, where the true one is up to {lost.true_loss:.3g}: {lost.dtype} "
        "rounds 1 - p to 0 from a gap of about 17 between the logits on (here up to "
        f"{lost.gap:.3g}), and so the gradient."
    )
    numbers: Dict[str, Any] = {
        "rows": [int(r) for r in lost.rows[:20]],
        "count": len(lost.rows),
        "true_loss": lost.true_loss,
        "gap": lost.gap,
    }
    op = lost.site.op
    return Finding(
        COLLAPSE.name,
        what,
        op.outputs[0].name,
        op.type,
        evidence.program.line_of(op.name),
        row,
        numbers,
        COLLAPSE.remedy,
        lost.trial,
    )


def _what_is_lost(evidence: Evidence) -> Optional[_Lost]:
    """Returns what rounding takes from the loss, if it takes most of it or of its gradient."""
    loss, problem = evidence.own.together, evidence.problem
    if loss is None or problem is None or not np.isfinite(loss):
        return None
    # Where the loss stays the same at its last digit, the gradient need not be 0.
    is_flat = problem.kind == "still" and abs(loss) < _LAST_DIGITS
    for site in sites(evidence.program):
        rows = rows_at(evidence, site)
        if rows is None or (site.labels is None and loss != 0 and not is_flat):
            continue
        logits, labels = rows
        losses = true_rows(logits, labels).losses
        lost = (losses >= np.finfo(logits.dtype).tiny) & _is_off(evidence, site, losses, is_flat)
        if not lost.any():
            continue
        exact = exact_rows(logits, labels)
        if site.labels is None:
            trial: Optional[Trial] = _rows(exact, loss)
        else:
            trial = _whole_step(evidence, site, exact, is_flat)
        if trial is not None:
            return _lost(site, logits, losses, np.flatnonzero(lost), trial)
    return None


def _is_off(evidence: Evidence, site: Site, losses: np.ndarray, is_flat: bool) -> np.ndarray:
    """Returns which rows' losses are computed as 0; where the loss is flat, or not right."""
    if site.labels is None and site.op.type != "LogSoftmax":
        return losses < _ROUNDED_AWAY
    (computed,) = evidence.copy.run(evidence.step, [site.op.outputs[0].name])
    if site.labels is None:
        computed = -computed.reshape(-1, computed.shape[-1]).max(axis=1)
    off = np.abs(computed.astype(np.float64) - losses) > _OFF * losses
    return (computed == 0) | off if is_flat else computed == 0


def _whole_step(
    evidence: Evidence, site: Site, exact: Tuple[np.ndarray, np.ndarray], is_flat: bool
) -> Optional[Trial]:
    """Runs the step with other outputs of the fused op; None if that makes no difference."""
    feeds = dict(zip([tensor.name for tensor in site.op.outputs], exact))
    before, after = _gradients(evidence, {}), _gradients(evidence, feeds)
    missing = norm(np.array([norm(a - b) for a, b in zip(after, before)]))
    if not is_flat and (missing == 0 or missing < _MISSING * _norm_of(after)):
        return None
    loss = total(evidence.copy.run(evidence.step, [evidence.program.loss.name], feeds)[0])
    return Trial(
        "the same step with tf1xent's cross-entropy",
        f"loss {evidence.own.together:.3g}, norm of the gradient {_norm_of(before):.3g}",
        f"loss {loss:.3g}, norm of the gradient {_norm_of(after):.3g}",
        True,
    )


def _rows(exact: Tuple[np.ndarray, np.ndarray], loss: float) -> Trial:
    return Trial(
        "tf1xent's cross-entropy of the same logits",
        f"loss {loss:.3g}",
        f"loss {float(np.mean(exact[0])):.3g}, the mean of the rows",
        bool(np.any(exact[0] > 0)),
    )


def _lost(
    site: Site, logits: np.ndarray, losses: np.ndarray, rows: np.ndarray, trial: Trial
) -> _Lost:
    rows = rows[np.argsort(-losses[rows], kind="stable")]
    top = np.sort(logits[rows[0]].astype(np.float64))
    gap = float(top[-1] - top[-2]) if len(top) > 1 else 0.0
    true_loss = float(losses[rows[0]])
    return _Lost(site, rows, len(logits), true_loss, gap, trial, logits.dtype.name)


def _gradients(evidence: Evidence, feeds: Dict[str, np.ndarray]) -> List[np.ndarray]:
    names = list(gradient_names(evidence.program).values())
    return [np.asarray(g, np.float64) for g in evidence.copy.run(evidence.step, names, feeds)]


def _norm_of(gradients: List[np.ndarray]) -> float:
    return norm(np.array([norm(gradient) for gradient in gradients]))


COLLAPSE = Cause(
    "float32 collapse",
    "Loss and gradient are rounded to 0 although the true ones are not: learning ends there.",
    "Call tf1xent.patch() before the model is built: value and gradients are exact then.",
    _probe,
)
