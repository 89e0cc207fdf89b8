"""A loss and a gradient that float32 rounds to 0 although the true ones are not."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent.diagnostics.copies import gradient_names, norm, total
from tf1xent.diagnostics.cross_entropies import Site, exact_rows, rows_at, sites, true_rows
from tf1xent.diagnostics.evidence import Evidence
from tf1xent.diagnostics.finding import Cause, Finding, Trial

# Of the true gradient of the parameters, the share that has to be missing.
_MISSING = 0.5


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
    lost = None if evidence.problem is None else _what_is_lost(evidence)
    if lost is None:
        return None
    row = int(lost.rows[0])
    what = (
        f"The loss is exactly 0 in {len(lost.rows)} of {lost.num_rows} rows of "
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
    """Returns what rounding takes from the loss, if it takes most of its gradient."""
    loss = evidence.own.together
    if loss is None or not np.isfinite(loss):
        return None
    for site in sites(evidence.program):
        rows = rows_at(evidence, site)
        if rows is None or (site.labels is None and loss != 0):
            continue
        logits, labels = rows
        losses = true_rows(logits, labels).losses
        lost = losses >= np.finfo(logits.dtype).tiny
        if site.labels is not None:
            lost &= evidence.copy.run(evidence.step, [site.op.outputs[0].name])[0] == 0
        if not lost.any():
            continue
        exact = exact_rows(logits, labels)
        trial = _whole_step(evidence, site, exact) if site.labels is not None else _rows(exact)
        if trial is not None:
            return _lost(site, logits, losses, np.flatnonzero(lost), trial)
    return None


def _whole_step(
    evidence: Evidence, site: Site, exact: Tuple[np.ndarray, np.ndarray]
) -> Optional[Trial]:
    """Runs the step with other outputs of the fused op; None if the gradient stays as it is."""
    feeds = dict(zip([tensor.name for tensor in site.op.outputs], exact))
    before, after = _gradients(evidence, {}), _gradients(evidence, feeds)
    missing = norm(np.array([norm(a - b) for a, b in zip(after, before)]))
    if missing == 0 or missing < _MISSING * _norm_of(after):
        return None
    loss = total(evidence.copy.run(evidence.step, [evidence.program.loss.name], feeds)[0])
    return Trial(
        "the same step with tf1xent's cross-entropy",
        f"loss {evidence.own.together:.3g}, norm of the gradient {_norm_of(before):.3g}",
        f"loss {loss:.3g}, norm of the gradient {_norm_of(after):.3g}",
        True,
    )


def _rows(exact: Tuple[np.ndarray, np.ndarray]) -> Trial:
    return Trial(
        "tf1xent's cross-entropy of the same logits",
        "loss 0",
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
