"""The softmax cross-entropies of a loss, recomputed from their logits without cancellation.

One row of logits x, label y, k = argmax x, d = x - x_k, s = sum over j != k of exp(d_j):

    loss = log1p(s) - d_y
    d loss / d x_j = exp(d_j) / (1 + s),   at y: -(1 - p_y) = expm1(-loss)

Nothing here is lost where 1 - p_k is far below the roundoff of float32.
"""

from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.diagnostics.program.program import Program, ancestors
from tf1xent.nn import (
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)

if TYPE_CHECKING:
    from tf1xent.diagnostics.judging.evidence import Evidence


class Site(NamedTuple):
    """Where a loss computes a softmax cross-entropy.

    Attributes:
      op: the fused op; or the softmax, log_softmax or log of which a hand-written one is made.
      logits: the tensor with the logits, or with the logits less a number for each row.
      labels: the tensor with the labels, or None in a hand-written loss.
    """

    op: Operation
    logits: Tensor
    labels: Optional[Tensor]


class Rows(NamedTuple):
    """Losses and gradients of rows, in float64.

    Attributes:
      losses: [rows].
      gradients: [rows, classes], with respect to the logits.
    """

    losses: np.ndarray
    gradients: np.ndarray


def sites(program: Program) -> List[Site]:
    """Returns the cross-entropies that a loss is computed from, the fused ones first."""
    ops = ancestors([program.loss])
    fused = [Site(op, op.inputs[0], op.inputs[1]) for op in ops if op.type in _tf.FUSED_OPS]
    written = [Site(op, op.inputs[0], None) for op in ops if op.type == "LogSoftmax"]
    for op in ops:
        if op.type != "Log":
            continue
        behind = ancestors([op])
        written += [Site(o, o.inputs[0], None) for o in behind if o.type == "Softmax"]
        written += [Site(op, x, None) for x in _exponents(op)]
    return fused + [site for site in written if _tf.loop_around(site.op) is None]


def true_rows(logits: np.ndarray, labels: np.ndarray) -> Rows:
    """Returns the losses of rows and their gradients.

    Args:
      logits: [rows, classes] of any floating dtype, finite.
      labels: [rows] classes, or [rows, classes] distributions.
    """
    x = logits.astype(np.float64)
    rows, pivot = np.arange(len(x)), x.argmax(axis=1)
    d = x - x[rows, pivot][:, None]
    weights = np.exp(d)
    weights[rows, pivot] = 0.0
    s = weights.sum(axis=1)
    weights[rows, pivot] = 1.0
    p = weights / (1.0 + s)[:, None]
    if labels.ndim == 1:
        losses = np.log1p(s) - d[rows, labels]
        gradients = p.copy()
        gradients[rows, labels] = np.expm1(-losses)
        return Rows(losses, gradients)
    soft = np.broadcast_to(labels.astype(np.float64), x.shape)
    mass = soft.sum(axis=1)
    losses = -(soft * d).sum(axis=1) + mass * np.log1p(s)
    gradients = mass[:, None] * p - soft
    others = mass - mass * s / (1.0 + s)  # mass * p at the pivot
    exact = (mass - soft[rows, pivot]) - mass * s / (1.0 + s)
    gradients[rows, pivot] = np.where(s < 1, exact, others - soft[rows, pivot])
    return Rows(losses, gradients)


def exact_rows(logits: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns (losses, gradients) by this library's own function, in the dtype of the logits."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(logits.dtype, logits.shape)
        y = tf.placeholder(labels.dtype, labels.shape)
        if labels.ndim == 1:
            losses = sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)
        else:
            losses = softmax_cross_entropy_with_logits_v2(labels=y, logits=x)
        gradients = tf.gradients(losses, x)[0]
        found = session.run([losses, gradients], {x: logits, y: labels})
    return found[0], found[1]


def rows_at(evidence: "Evidence", site: Site) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Returns (logits, labels) of a cross-entropy in a step; None if they cannot be told.

    Where a hand-written loss is 0, the labels are the classes with the largest logits.
    """
    names = [site.logits.name] + ([] if site.labels is None else [site.labels.name])
    try:
        found = evidence.copy.run(evidence.step, names)
    except (tf.errors.OpError, ValueError):  # in a branch, or in a loop
        return None
    logits = found[0]
    if site.labels is None and logits.ndim:
        logits = logits.reshape(-1, logits.shape[-1])
    if logits.ndim != 2 or not logits.size or logits.dtype.kind != "f":
        return None
    labels = logits.argmax(axis=1) if site.labels is None else found[1]
    if labels.ndim == 1 and not ((labels >= 0) & (labels < logits.shape[1])).all():
        return None
    return (logits, labels) if np.isfinite(logits).all() else None


def is_perfect_fit(evidence: "Evidence") -> bool:
    """Tells whether the true losses of all rows are below the smallest normal number."""
    for site in sites(evidence.program):
        rows = rows_at(evidence, site)
        if rows is not None:
            losses = true_rows(*rows).losses
            return bool((losses < np.finfo(rows[0].dtype).tiny).all())
    return False


def _exponents(log: Operation) -> List[Tensor]:
    """Returns x where an op is log(sum(exp(x))), also log1p aside."""
    op = log.inputs[0].op
    while op.type in ("Reshape", "Squeeze", "ExpandDims", "Identity"):
        op = op.inputs[0].op
    if op.type != "Sum" or op.inputs[0].op.type != "Exp":
        return []
    return [op.inputs[0].op.inputs[0]]
